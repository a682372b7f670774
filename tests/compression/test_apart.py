"""Batches in parts, where a network gives for these what it gives for the whole."""

import pytest
import torch
from torch import nn

from tenfold.compression.running import counted, size
from tenfold.compression.survey.apart import Apart, rows
from tenfold.compression.survey.calibration import pieces, thinned


class Squeezing(nn.Module):
    def forward(self, x):
        return x.squeeze()


class Asking(nn.Module):
    def forward(self, x):
        assert len(x) == 12
        return x


BATCHES = list(torch.arange(72.0).reshape(3, 12, 2))


@pytest.mark.parametrize("batch", [BATCHES[0], (BATCHES[0], "mode"), {"x": BATCHES[0], "n": 3}])
def test_rows_are_the_batch_in_order(batch):
    parts = rows(batch, 5)
    assert [size(one) for one in parts] == [3, 3, 2, 2, 2]
    firsts = [one if isinstance(one, torch.Tensor) else next(iter_of(one)) for one in parts]
    assert torch.equal(torch.cat(firsts), BATCHES[0])
    if not isinstance(batch, torch.Tensor):
        assert {list(iter_of(one))[1] for one in parts} == {list(iter_of(batch))[1]}


def iter_of(batch):
    return iter(batch.values() if isinstance(batch, dict) else batch)


@pytest.mark.parametrize("lengths", [(4, 3), (1, 1)])
def test_what_is_no_batch_of_items_stays_whole(lengths):
    batch = tuple(torch.zeros(length, 2) for length in lengths)
    assert rows(batch, 5) == [batch]
    assert not Apart(nn.Identity(), [batch]).allows([[batch]])


def test_a_network_that_drops_an_axis_of_one_is_given_two_at_least():
    apart = Apart(Squeezing(), BATCHES)
    assert [len(one) for one in pieces(BATCHES, 3, apart)] == [3] * 12
    assert pieces(BATCHES, 1, apart) == BATCHES
    assert [len(one) for one in thinned(BATCHES, 6, apart)] == [2] * 3


def test_one_that_asks_for_so_many_items_is_given_whole_batches():
    apart = Apart(Asking(), BATCHES)
    assert pieces(BATCHES, 3, apart) == BATCHES
    assert apart.few is BATCHES[0]


def test_it_is_found_out_once_on_few_items():
    apart = Apart(nn.Identity(), BATCHES)
    with counted() as runs:
        assert len(apart.few) == 4
        pieces(BATCHES, 1, apart)
        thinned(BATCHES, 6, apart)
    assert runs.items == 8
