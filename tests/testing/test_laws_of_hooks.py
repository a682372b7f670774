"""Hooks that work keep the laws of hooks; faults planted in them are caught by the law meant."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import Phase, settings
from torch import nn

from tenfold import factorizations, hookimpl
from tenfold.testing import LawError, conformance
from tenfold.testing.laws import HOOK_LAWS

TAKEN, OTHERS = "its_ranks_are_taken", "it_leaves_other_requests_to_others"
ALONE, KERNEL = "its_ranks_depend_on_the_arguments_alone", "it_leaves_the_kernel_alone"
CHOICE, CHOSEN = "its_choice_is_taken", "its_choice_depends_on_the_arguments_alone"
LAYER, WORSE = "it_leaves_the_layer_alone", "it_decomposes_no_worse"
SEED = "its_factors_follow_the_seed"


class Rank:
    """A rank rule, of a function of the kernel."""

    def __init__(self, answer: Callable, own: Callable = lambda request: request == "mine"):
        self.answer, self.own, self.kept = answer, own, {}

    @hookimpl
    def tenfold_rank(self, request, shape, kernel):
        return self.answer(self, shape, kernel) if self.own(request) else None


class Select:
    def __init__(self, answer: Callable):
        self.answer, self.asked = answer, []

    @hookimpl
    def tenfold_select(self, name, module):
        self.asked.append(name)
        return self.answer(self, name, module)


class Cache:
    """Decompositions kept by a key."""

    def __init__(self, key: Callable):
        self.key, self.kept = key, {}

    @hookimpl
    def tenfold_decompose(self, factorization, kernel, network, generator):
        key = self.key(factorization, kernel, network)
        if key not in self.kept:
            self.kept[key] = factorization.decompose(kernel, network, generator)
        return self.kept[key]


class Wrapper:
    def __init__(self, change: Callable):
        self.change = change

    @hookimpl(wrapper=True)
    def tenfold_decompose(self, kernel):
        return self.change(kernel, (yield))


def whole(format_, kernel, network):
    return repr(format_), str(network), kernel.numpy().tobytes()


def energy(self, shape, kernel):
    """One for each large singular value; half without a kernel."""
    if kernel is None:
        return 0.5
    values = torch.linalg.svdvals(kernel.flatten(2)[0])
    return max(1, int((values > 0.5 * values[0]).sum()))


def once(self, shape, kernel):
    return self.kept.setdefault(shape, energy(self, shape, kernel))


def chosen(self, name, module):
    if name == "mine":
        return {"rank": 2, "factorization": "tucker"}
    return False if name == "head" else None


GOOD = {
    "a rank rule": Rank(energy),
    "a selector": Select(chosen),
    "a cache": Cache(whole),
    "a wrapper": Wrapper(lambda kernel, factors: factors),
}
FAULTS = {
    "a rank that is a word": (Rank(lambda *_: "half"), TAKEN),
    "a rank that is no number": (Rank(lambda *_: float("nan")), TAKEN),
    "a rank of too many numbers": (Rank(lambda self, shape, kernel: (2,) * 9), TAKEN),
    "no answer without a kernel": (
        Rank(lambda self, shape, kernel: None if kernel is None else 2),
        TAKEN,
    ),
    "a kernel that is taken to be there": (Rank(lambda self, s, k: max(1, int(k.norm()))), TAKEN),
    "an answer to everything": (Rank(energy, own=lambda request: True), OTHERS),
    "requests taken to be words": (
        Rank(energy, own=lambda request: request.lower() == "mine"),
        OTHERS,
    ),
    "a rank kept by the shape": (Rank(once), ALONE),
    "a rank by chance": (Rank(lambda *_: int(torch.randint(1, 99, ()))), ALONE),
    "a kernel scaled in place by a rule": (
        Rank(lambda self, shape, kernel: 2 if kernel is None else (kernel.mul_(2), 2)[1]),
        KERNEL,
    ),
    "a choice that is a word": (Select(lambda *_: "cp"), CHOICE),
    "a choice of what from_conv does not take": (Select(lambda *_: {"ranks": 2}), CHOICE),
    "a choice that cannot be made": (Select(lambda *_: {"implementation": "mobilnet"}), CHOICE),
    "layers taken to be images": (
        Select(lambda self, name, module: False if module.kernel_size == (1, 1) else None),
        CHOICE,
    ),
    "every second layer": (
        Select(lambda self, *_: False if len(self.asked) % 2 else None),
        CHOSEN,
    ),
    "a layer halved": (Select(lambda self, name, module: module.half() and None), LAYER),
    "a layer put in eval": (Select(lambda self, name, module: module.eval() and None), LAYER),
    "a cache by the format's name": (
        Cache(lambda f, k, n: (type(f), str(n), k.numpy().tobytes())),
        WORSE,
    ),
    "a cache by shape": (Cache(lambda f, k, n: (repr(f), str(n))), WORSE),
    "a cache that forgets the rank": (
        Cache(lambda f, k, n: (repr(f), k.numpy().tobytes(), k.shape)),
        WORSE,
    ),
    "a wrapper that loses what it wraps": (Wrapper(lambda kernel, factors: None), WORSE),
    "a wrapper that drops a factor": (Wrapper(lambda kernel, factors: factors[1:]), WORSE),
    "a wrapper that rounds away": (
        Wrapper(lambda kernel, factors: [f.round() for f in factors]),
        WORSE,
    ),
    "a wrapper with noise": (
        Wrapper(lambda kernel, factors: [f + 1e-9 * torch.randn(f.shape) for f in factors]),
        SEED,
    ),
    "a kernel written to by a wrapper": (
        Wrapper(lambda kernel, factors: (kernel.zero_(), factors)[1]),
        KERNEL,
    ),
}


@pytest.fixture(autouse=True)
def _examples_are_found_and_not_made_smaller():
    settings.register_profile("before", settings.default)
    settings.register_profile("found", phases=[Phase.generate], database=None)
    settings.load_profile("found")
    yield
    settings.load_profile("before")


def judge(hook: object, law: str, orders=(1,), examples: int = 12) -> None:
    cls = conformance(hook=hook, asks=["mine"], orders=orders, max_examples=examples)
    getattr(cls(type("Judged", (), {}))(), f"test_{law}")()


@pytest.mark.parametrize("name", GOOD)
def test_a_hook_that_works_keeps_every_law(name):
    hook = GOOD[name]
    mine = next(kind for kind in HOOK_LAWS if hasattr(hook, kind))
    for law in HOOK_LAWS[mine]:
        judge(hook, law.__name__, orders=(0, 2), examples=8)


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_caught(name):
    hook, law = FAULTS[name]
    with pytest.raises(LawError, match=rf"hook={type(hook).__name__} breaks the law {law}: "):
        judge(hook, law, orders=(0,) if "images" in name else (1,))


@pytest.mark.parametrize("fault", [Cache(lambda *_: 0)])
def test_the_randomness_of_a_decomposition_does_not_hide_behind_a_cache(fault, monkeypatch):
    """A format that draws without its generator, with a cache installed in this process."""
    from tenfold.plugin.hooks import plugin_manager

    class Random(factorizations["tt"]):
        def decompose(self, kernel, network, generator=None):
            sign = torch.randn(()).sign()
            first, *rest = super().decompose(kernel, network, generator)
            return [first * sign, rest[0] * sign, *rest[1:]]

    plugin_manager().register(fault)
    try:
        law = "the_same_request_gives_the_same_layer"
        cls = conformance(factorization=Random, orders=(1,))(type("Judged", (), {}))
        with pytest.raises(LawError, match=law):
            getattr(cls(), f"test_{law}")()
    finally:
        plugin_manager().unregister(fault)


@conformance(hook="vbmf", asks=["vbmf"], max_examples=8)
class TestVBMF:
    """The rank rule that comes with tenfold."""


class TestRefusals:
    def test_a_plugin_without_hooks_is_refused(self):
        with pytest.raises(ValueError, match=r"has no function marked with tenfold\.hookimpl"):
            conformance(hook=nn)

    def test_a_name_that_is_not_installed_is_refused(self):
        with pytest.raises(ValueError, match=r"'vmbf' is not installed.* vbmf"):
            conformance(hook="vmbf")

    def test_a_rank_rule_without_requests_is_refused(self):
        with pytest.raises(ValueError, match="give asks="):
            conformance(hook=GOOD["a rank rule"])

    @pytest.mark.parametrize("given", [{}, {"hook": GOOD["a cache"], "factorization": "tt"}])
    def test_nothing_to_judge_and_two_kinds_at_once_are_refused(self, given):
        with pytest.raises(ValueError, match="needs factorization=, implementation="):
            conformance(**given)
