"""How often the network is run: it does not grow with the depth."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tenfold import Moment, compress
from tenfold.compression import account
from tenfold.compression.candidates.candidate import Candidate
from tenfold.compression.candidates.speed import Speed
from tenfold.compression.candidates.table import LayerTable, Table
from tenfold.compression.choice import refinement
from tenfold.compression.correction import blocks
from tenfold.compression.measurement import Judges
from tenfold.compression.measurement.prediction import calibrated, interpolated
from tenfold.compression.moments.patches import Patches
from tenfold.compression.request.config import CompressionConfig
from tenfold.compression.running.counting import counted, size
from tenfold.compression.running.inference import call
from tenfold.compression.survey.apart import Apart
from tenfold.compression.survey.calibration import thinned
from tenfold.compression.survey.layers import survey
from tenfold.compression.survey.parting import neighbours
from tenfold.compression.survey.subject import surveyed


def chain(depth):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1)]
    for _ in range(depth - 1):
        layers += [nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)]
    return nn.Sequential(*layers).eval()


def run(depth):
    """Items that went through the network's first layer, and the report."""
    model, seen = chain(depth), []
    x = torch.randn(16, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    model.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    found = compress(
        model, budget=0.6, example_inputs=x[:1], calibration=x.split(4), progress=False,
        factorizations="spatial_svd", never_slower=False,
    )  # fmt: skip
    return sum(seen) / 16, found.report.passes


def test_a_deeper_network_is_not_run_more_often(monkeypatch):
    speed = Speed(before=1.0, after=1.0, layers={})
    monkeypatch.setattr(account, "time_in_place", lambda *_: speed)
    monkeypatch.setattr(account, "better", lambda model, _, example: (model, example))
    for room, name in ((blocks, "BLOCKS"), (refinement, "TOGETHER")):
        monkeypatch.setattr(room, name, 3)  # so that few layers are a deep network
    counts, reported = zip(*(run(depth) for depth in (4, 12)), strict=True)
    assert 0 < counts[1] < 1.3 * counts[0]
    assert counts == reported


def test_the_report_counts_what_went_through_the_network():
    with counted() as outer:
        with counted() as runs:
            call(nn.Identity(), torch.zeros(3, 2))
            call(nn.Identity(), (torch.zeros(2),))
        call(nn.Identity(), torch.zeros(()))
    assert (runs.items, outer.items) == (5, 1)
    assert [size(batch) for batch in ({"x": torch.zeros(4)}, ["a"], "text", 7)] == [4, 1, 1, 1]
    nested = ({"mode": "x", "pair": (torch.zeros(5, 2), torch.zeros(2))},)
    images = ([torch.zeros(3, 8, 8), torch.zeros(3, 6, 8)],)
    assert [size(batch) for batch in (nested, images, ([1, 2],))] == [5, 2, 1]


@given(st.lists(st.integers()), st.integers(1, 9))
def test_neighbours_are_parted_in_order_and_evenly(items, most):
    parts = neighbours(items, most)
    assert [one for part in parts for one in part] == items
    assert len(parts) == min(most, len(items))
    assert not parts or max(map(len, parts)) - min(map(len, parts)) <= 1


@given(count=st.integers(1, 4), length=st.integers(1, 6), items=st.integers(1, 30))
@settings(deadline=None, max_examples=40)
def test_few_items_are_first_parts_of_some_batches(count, length, items):
    batches = list(torch.arange(float(count * length)).reshape(count, length, 1))
    found = thinned(batches, items, Apart(nn.Identity(), batches))
    assert sum(map(len, found)) >= 1
    assert sum(map(len, found)) <= max(items + len(found), 1)
    assert all(any(torch.equal(one, b[: len(one)]) for b in batches) for one in found)


def test_batches_of_a_network_that_mixes_their_items_stay_whole():
    class Mixing(nn.Module):
        def forward(self, x):
            return x - x.mean(0)

    batches = list(torch.randn(4, 6, 3))
    found = thinned(batches, 7, Apart(Mixing(), batches))
    assert len(found) < 4
    assert all(len(one) == 6 for one in found)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("mode", ["zeros", "circular"])
@settings(deadline=None, max_examples=12)
@given(
    order=st.integers(1, 3),
    stride=st.integers(1, 2),
    groups=st.integers(1, 2),
    seed=st.integers(0, 99),
)
def test_patches_at_some_places_are_those_of_all_places(
    transposed, mode, order, stride, groups, seed
):
    if transposed and mode != "zeros":
        return
    kinds = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    kind = (kinds if transposed else (nn.Conv1d, nn.Conv2d, nn.Conv3d))[order - 1]
    conv = kind(4, 6, 3, stride=stride, padding=1, groups=groups, padding_mode=mode)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(3, 4, *(5, 4, 6)[:order], generator=generator)
    (layer,) = survey(nn.Sequential(conv).eval(), x)
    whole = torch.cat(list(Moment(conv).patches_of(x)), 2)
    where = torch.randperm(whole.shape[2], generator=generator)[:7].sort().values
    parts = [(patches, where[some]) for patches, some in Patches(layer).at(x, where)]
    for patches, places in parts:
        torch.testing.assert_close(patches, whole[:, :, places])
    assert sum(len(places) for _, places in parts) == len(where)


def row(weighted, error=None):
    return Candidate(parameters=1, macs=1, weighted=weighted, error=error)


def test_what_was_not_measured_is_as_gradients_tell_scaled_by_what_was():
    measured = LayerTable("a", [row(0.0), row(0.1, 0.3), row(0.2, 0.6)], {}, sensitivity=1.5)
    other = LayerTable("b", [row(0.0), row(0.2)], {}, sensitivity=4.0)
    gain = calibrated(Table("x", layers={"a": measured, "b": other}))
    assert gain == pytest.approx(2)
    assert interpolated(other, gain) == pytest.approx([0, 2 * 4 * 0.2])


def test_whole_choices_are_judged_on_the_inputs_of_single_layers_which_keep_nothing_then():
    x = torch.randn(12, 3, 8, 8)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3))
    config = CompressionConfig(budget=0.5, progress=False)
    judges = Judges(surveyed(model, config, (x[:2], x.split(2), None), False), config, None)
    assert judges.single.replay is not None
    with counted() as runs:
        assert judges.whole is judges.single
    assert runs.items == 0
    assert judges.single.replay is None
