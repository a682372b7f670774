"""Small linear algebra is on one thread, and the caller's number of threads is as before."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Thread

import pytest
import torch
from torch import nn

from tenfold import Factorization, FactorizedConv, decompose, factorizations
from tenfold.algebra import on_one_thread
from tenfold.algebra.threads import SMALL


@pytest.fixture(autouse=True)
def _three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def in_a_thread(work):
    """What `work` gives in a thread of its own."""
    found = []
    thread = Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


def test_inside_there_is_one_and_afterwards_as_many_as_before():
    with on_one_thread(SMALL):
        assert torch.get_num_threads() == 1
        with on_one_thread(1):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3
    assert in_a_thread(torch.get_num_threads) == 3


def test_large_work_keeps_its_threads():
    with on_one_thread(SMALL + 1):
        assert torch.get_num_threads() == 3


def test_an_error_inside_changes_nothing():
    with pytest.raises(KeyError), on_one_thread(1):
        raise KeyError
    assert torch.get_num_threads() == 3
    assert in_a_thread(torch.get_num_threads) == 3


def test_several_at_once_each_find_theirs_again_whoever_ends_first():
    here, there = Barrier(2, timeout=20), Barrier(2, timeout=20)

    def first():
        torch.set_num_threads(2)
        with on_one_thread(1):
            here.wait()  # both are inside
            there.wait()
            inside = torch.get_num_threads()
        return inside, torch.get_num_threads()

    def second():
        torch.set_num_threads(4)
        with on_one_thread(1):
            here.wait()
        after = torch.get_num_threads()  # the other one is inside still
        there.wait()
        return after

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.submit(first), pool.submit(second)
        assert one.result() == (1, 2)
        assert other.result() == 4
    assert torch.get_num_threads() == 3


def test_a_thread_that_is_made_meanwhile_gets_what_the_others_have():
    def work():
        with on_one_thread(1):
            pass
        return torch.get_num_threads()

    with on_one_thread(1):
        assert in_a_thread(work) == 3


def test_a_thread_that_has_one_keeps_it():
    def work():
        torch.set_num_threads(1)
        with on_one_thread(1):
            pass
        return torch.get_num_threads()

    assert in_a_thread(work) == 1
    torch.set_num_threads(3)


@pytest.mark.parametrize(("width", "wanted"), [(8, 1), (512, 3)])
def test_a_format_decomposes_on_one_thread_what_is_small(width, wanted):
    seen = []

    class Noted(type(factorizations["channel_svd"]())):
        def decompose(self, kernel, network, generator=None):
            seen.append(torch.get_num_threads())
            return [torch.zeros(shape, dtype=kernel.dtype) for shape in network.shapes]

    assert issubclass(Noted, Factorization)
    conv = nn.Conv2d(width, width, 3)
    FactorizedConv.from_conv(conv, rank=4, factorization=Noted)
    decompose(conv.weight, rank=4, factorization=Noted)
    assert seen == [wanted] * 2
    assert torch.get_num_threads() == 3
