"""A runtime that works keeps the laws of runtimes; faults planted in one are caught by the law."""

import pytest
import torch
from hypothesis import Phase, settings

from tenfold import Runtime
from tenfold.testing import LawError, conformance
from tenfold.testing.laws import RUNTIME_LAWS

GIVES, REPEATS = "it_gives_what_the_network_gives", "it_repeats_itself"
LEAVES = "it_leaves_the_network_and_its_input_alone"


class Plain(Runtime):
    """PyTorch."""

    def prepare(self, module, example):
        return module


class Rounded(Plain):
    """It runs in eight bits of a float."""

    def prepare(self, module, example):
        return lambda x: [y.to(torch.bfloat16).float() for y in module(x)]


class Frozen(Plain):
    """It gives what the example gave."""

    def prepare(self, module, example):
        found = module(*example)
        return lambda x: found


class First(Plain):
    """It gives one output alone."""

    def prepare(self, module, example):
        return lambda x: module(x)[:1]


class Reusing(Plain):
    """It gives the same memory each time."""

    def prepare(self, module, example):
        kept = [torch.empty_like(y) for y in module(*example)]

        def run(x):
            for place, y in zip(kept, module(x), strict=True):
                place.copy_(y)
            return kept

        return run


class Noisy(Plain):
    """It gives other numbers each time."""

    def prepare(self, module, example):
        return lambda x: [y + torch.rand_like(y) for y in module(x)]


class Writing(Plain):
    """It works in the input."""

    def prepare(self, module, example):
        def run(x):
            found = module(x.clone())
            x.zero_()
            return found

        return run


class Training(Plain):
    """It leaves the network in another mode."""

    def prepare(self, module, example):
        return module.train()


class Rescaling(Plain):
    """It changes the network for good, and puts it right in what it gives."""

    def prepare(self, module, example):
        for parameter in module.parameters():
            parameter.data.mul_(0.5)
        return module


class Refusing(Plain):
    """It takes nothing."""

    def prepare(self, module, example):
        raise ValueError("it has no device: connect one")


def kept(runtime):
    """Which laws a runtime keeps, and the words for those that it breaks."""
    cls = conformance(runtime=runtime, max_examples=4)(type("Test", (), {}))
    words = {}
    for law in RUNTIME_LAWS:
        try:
            with torch.no_grad():
                getattr(cls(), f"test_{law.__name__}")()
        except LawError as fault:
            words[law.__name__] = str(fault)
    return words


@pytest.fixture(autouse=True)
def _without_shrinking():
    before = settings.get_profile(settings._current_profile)
    settings.register_profile("quick", before, phases=[Phase.generate], database=None)
    settings.load_profile("quick")
    yield
    settings.register_profile("before", before)
    settings.load_profile("before")


def test_a_runtime_that_works_keeps_them():
    assert kept(Plain) == {}


@pytest.mark.parametrize(
    ("runtime", "law", "words"),
    [
        (Rounded, GIVES, "output 0 is off by"),
        (Frozen, GIVES, "output 0 is off by"),
        (First, GIVES, "gave 1 outputs of 2"),
        (Reusing, REPEATS, "output 0 is written over later"),
        (Noisy, REPEATS, "output 0 differs"),
        (Writing, LEAVES, "the input was written to: work on x.clone()"),
        (Training, LEAVES, "the network is in training mode"),
        (Rescaling, LEAVES, "the network gives other numbers"),
        (Refusing, GIVES, "takes none of the convolutions that were drawn"),
    ],
)
def test_a_fault_is_caught_by_the_law_that_it_breaks(runtime, law, words):
    found = kept(runtime)
    assert law in found
    assert words in found[law]


def test_a_runtime_is_judged_alone():
    with pytest.raises(ValueError, match="or runtime=, or hook="):
        conformance(runtime=Plain, factorization="cp")
