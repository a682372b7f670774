"""What the run for gradients shows is what runs of their own would."""

import pytest
import torch
from torch import nn

from tenfold import compress
from tenfold.compression import groundwork
from tenfold.compression.correction.answers import Answers, answers
from tenfold.compression.moments.gathering import Moments, measure
from tenfold.compression.moments.gradients import importances
from tenfold.compression.moments.looking import Looking
from tenfold.compression.refinement.blocks import blocks
from tenfold.compression.refinement.ends import Kept, ends
from tenfold.compression.request.config import CompressionConfig
from tenfold.compression.survey.layers import survey
from tenfold.compression.survey.subject import surveyed

X = torch.randn(12, 4, 9, 9, generator=torch.Generator().manual_seed(0))
MEMORY = 2**30


class Net(nn.Module):
    """Its second layer is called twice; the first one's input is worked on afterwards, or not."""

    def __init__(self, in_place=False):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(4, 6, 3, padding=1), nn.Conv2d(6, 6, 3)
        self.in_place = in_place

    def forward(self, x):
        x = x * 1
        y = self.first(x)
        if self.in_place:
            x.mul_(2)
        return self.second(self.second(y.relu()).relu()).mean((2, 3))


def looked(model, more=()):
    """A model's layers, and what was seen of their inputs and outputs in the run for gradients."""
    layers = survey(model, X)
    moments, said = Moments(layers, 1, MEMORY), Answers([layer.name for layer in layers], 1)
    looking = Looking(layers, [moments, said, *more], 1, MEMORY, 0)
    return layers, moments, said, importances(model, layers, [X], 0, MEMORY, looking)


def test_moments_and_answers_are_those_of_runs_of_their_own():
    model = Net().eval()
    layers, moments, said, worth = looked(model)
    wanted = measure(model, layers, [X], 1, MEMORY, 0, worth)
    for name, seen in moments.seen().items():
        whole = seen.whole / seen.weight
        torch.testing.assert_close(whole, wanted[name].whole / wanted[name].weight)
    everywhere = {layer.name: 10**6 for layer in layers}
    for name, one in answers(model, layers, [X], everywhere, worth, 0).items():
        (calls,), (own,) = one.calls, said.found[name].calls
        assert len(calls) == len(own) == (2 if name == "second" else 1)
        for (items, where, _, rows), (size, places, _, given) in zip(calls, own, strict=True):
            assert items == size
            assert torch.equal(where, places)
            torch.testing.assert_close(rows, given)


def test_a_layer_whose_input_is_worked_on_afterwards_is_seen_in_a_run_of_its_own():
    model = Net(in_place=True).eval()
    _, moments, said, _ = looked(model)
    assert set(moments.seen()) == set(said.found) == {"second"}
    plain = {"budget": 0.5, "example_inputs": X, "progress": False, "never_slower": False}
    found, wanted = (compress(one, **plain) for one in (model, Net().eval()))
    assert found.report.error < 1.3 * wanted.report.error


def test_where_no_gradient_is_to_be_had_nothing_was_seen():
    class Rounded(Net):
        def forward(self, x):
            return super().forward(x).detach().round()

    _, moments, said, _ = looked(Rounded().eval())
    assert moments.seen() == {}
    assert said.found == {}


@pytest.mark.parametrize("memory", [MEMORY, 12000, 100])
def test_the_ends_of_blocks_are_kept_as_far_as_memory_goes(memory):
    config = CompressionConfig(budget=0.5, progress=False)
    subject = surveyed(Net().eval(), config, (X[:2], [X], None), False)
    kept = Kept(subject, memory)
    looking = Looking(subject.layers, [kept], len(subject.pieces), MEMORY, 0)
    importances(subject.model, subject.layers, subject.pieces, 0, MEMORY, looking)
    found = blocks(subject.every, ["first"])
    known = kept.of(found)
    if memory == 100:
        assert known is None
        return
    own, given = known
    assert (own == found) == (memory == MEMORY)
    assert len(given) == len(subject.pieces)
    for batch, one in zip(subject.pieces, given, strict=True):
        wanted = ends(subject.model, own, batch)
        assert one.keys() == wanted.keys()
        for place in one:
            torch.testing.assert_close(one[place], wanted[place])


def test_the_original_is_run_once_for_all_of_it(monkeypatch):
    seen = []
    monkeypatch.setattr(
        groundwork,
        "weighed",
        lambda *given, real=groundwork.weighed: seen.append(given[-1]) or real(*given),
    )
    compress(Net().eval(), budget=0.5, example_inputs=X, progress=False, never_slower=False)
    (looks,) = seen
    assert [type(one).__name__ for one in looks] == ["Moments", "Answers", "Kept"]
