"""Many threads and processes at once: construction, conversion, registries, forward."""

import multiprocessing
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest
import torch
from torch import nn

from tenfold import FactorizedConv, factorizations, implementations, relative_error
from tenfold.plugin.hooks import plugin_manager

PAIRS = [("cp", "factorized"), ("tucker", "factorized"), ("tt", "reconstructed"), ("cp", "fft")]
MATRIX = """
import time
time.sleep(0.05)
from tenfold import Factorization

class Matrix(Factorization):
    def factors(self, order, rank):
        return [("out", "r"), ("r", "in", *(f"k{axis}" for axis in range(order)))]
"""


def converted(job: int) -> torch.Tensor:
    """Convert a layer made from the job's number and run it; only numbers decide the result."""
    factorization, implementation = PAIRS[job % len(PAIRS)]
    generator = torch.Generator().manual_seed(job)
    conv = nn.Conv2d(4, 6, 3, padding=1)
    with torch.no_grad():
        for parameter in conv.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    layer = FactorizedConv.from_conv(
        conv,
        rank=0.5,
        factorization=factorization,
        implementation=implementation,
        generator=torch.Generator().manual_seed(job),
    )
    x = torch.randn(2, 4, 7, 7, generator=generator)
    return layer.eval()(x).detach()


def in_threads(work, jobs, count=8):
    """Run all jobs in threads that start together."""
    barrier = threading.Barrier(count)

    def started(job):
        if job < count:
            barrier.wait(30)
        return work(job)

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(started, range(jobs)))


@pytest.fixture
def nothing_is_loaded(install):
    """The registries and the plugin manager as in a process that has just begun."""
    return install


@pytest.mark.usefixtures("nothing_is_loaded")
def test_threads_that_begin_with_nothing_loaded_get_the_results_of_one():
    together = in_threads(converted, 24)
    for job, y in enumerate(together):
        assert relative_error(converted(job), y) < 1e-6


def test_a_class_is_imported_once_for_all_threads(install):
    install("acme", {"tenfold.factorizations": {"matrix": "acme_slow:Matrix"}}, acme_slow=MATRIX)
    classes = in_threads(lambda _: factorizations["matrix"], 8)
    assert {id(cls) for cls in classes} == {id(sys.modules["acme_slow"].Matrix)}


def test_a_name_is_registered_by_one_of_many_threads(monkeypatch):
    monkeypatch.setattr(implementations, "_registered", {})
    cls = implementations["factorized"]

    def register(_):
        try:
            implementations.register("contested", cls)
        except ValueError as taken:
            return "is taken" in str(taken)
        return None

    results = in_threads(register, 8)
    assert sorted(map(str, results)) == ["None", *["True"] * 7]


def test_the_plugin_manager_is_one_for_all_threads(install):
    source = (
        "import time, tenfold; time.sleep(.05)\n\n"
        "@tenfold.hookimpl\ndef tenfold_rank(request): pass\n"
    )
    install("acme", {"tenfold.hooks": {"acme": "acme_hooks"}}, acme_hooks=source)
    managers = in_threads(lambda _: plugin_manager(), 8)
    assert len({id(manager) for manager in managers}) == 1


def test_one_layer_runs_in_many_threads_while_it_is_evaluated():
    layer = FactorizedConv(4, 6, (3, 3), padding=1, rank=4, factorization="tucker").eval()
    inputs = [torch.randn(1 + job % 3, 4, 6 + job % 4, 7) for job in range(32)]
    with torch.inference_mode():
        alone = [layer.to_conv()(x) for x in inputs]
        together = in_threads(lambda job: layer(inputs[job]), 32)
    for one, y in zip(alone, together, strict=True):
        assert relative_error(one, y) < 1e-5


def test_gradients_of_layers_trained_in_threads_are_their_own():
    def trained(job):
        layer = FactorizedConv(4, 4, (3, 3), rank=3, generator=torch.Generator().manual_seed(job))
        x = torch.ones(2, 4, 6, 6)
        layer(x).square().sum().backward()
        return [parameter.grad for parameter in layer.parameters()]

    for job, gradients in enumerate(in_threads(trained, 16)):
        for one, another in zip(trained(job), gradients, strict=True):
            assert relative_error(one, another) < 1e-5


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # fork, in one with threads
def test_processes_get_the_results_of_one(method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {method}")
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(
        2, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        found = list(pool.map(converted, range(4)))
    for job, y in enumerate(found):
        assert relative_error(converted(job), y) < 1e-6


class Windows(torch.utils.data.Dataset):
    """Items that a factorized layer makes, in the worker that loads them."""

    def __init__(self) -> None:
        self.layer = FactorizedConv(1, 2, (5,), rank=1).eval().requires_grad_(False)

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.layer(torch.full((1, 9), float(index)))


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_data_loader_s_workers_run_it(method):
    data = Windows()
    loader = torch.utils.data.DataLoader(
        data, batch_size=3, num_workers=2, multiprocessing_context=method
    )
    found = torch.cat(list(loader))
    assert torch.allclose(found, torch.stack([data[index] for index in range(6)]), atol=1e-6)
