"""Faults planted in copies of real plugins: the conformance kit catches every one."""

import sys
import types
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import Phase, settings

from tenfold import factorizations, implementations
from tenfold.testing import LawError, conformance

RUNS, FOLLOWS = "runs_as_the_dense_convolution", "follows_its_parameters"
FULL, SAME = "full_rank_is_exact", "the_same_request_gives_the_same_layer"
BUDGET, TRAVEL = "the_budget_is_kept", "it_survives_the_ways_layers_travel"


@dataclass(frozen=True)
class Fault:
    """Text of a plugin's source, what it becomes, and the law that this breaks."""

    plugin: str
    old: str
    new: str
    law: str
    more: str = ""  # source to add at the end


FAULTS = {
    "a transposed factor": Fault(
        "tucker",
        "return [*bases, core]",
        "return [*bases, core.transpose(1, 2).reshape(core.shape)]",
        FULL,
    ),
    "singular values left out": Fault("depthwise_separable", "s[..., :kept, None] * v", "v", FULL),
    "the first group's factors for all": Fault(
        "depthwise_separable",
        "return [depthwise, s[..., :kept, None] * v[..., :kept, :]]",
        "rest = s[..., :kept, None] * v[..., :kept, :]\n"
        "        return [one[:1].expand_as(one).contiguous() for one in (depthwise, rest)]",
        FULL,
    ),
    "a rank one too large": Fault(
        "tucker",
        "return super().ranks(shape, rank, kernel)",
        "return tuple(size + 1 for size in super().ranks(shape, rank, kernel))",
        BUDGET,
    ),
    "a rank one too small": Fault(
        "tucker",
        "return super().ranks(shape, rank, kernel)",
        "return tuple(max(1, size - 1) for size in super().ranks(shape, rank, kernel))",
        FULL,
    ),
    "a decomposition that is not deterministic": Fault(
        "depthwise_separable",
        "return [depthwise, s",
        "sign = torch.randn(()).sign()\n        return [sign * depthwise, sign * s",
        SAME,
    ),
    "a dropped bias": Fault("fft", "if bias is not None:", "if False:", RUNS),
    "a missing stride": Fault(
        "fft", "slice(0, n - reach + 1, stride)", "slice(0, n - reach + 1)", RUNS
    ),
    "the first axis's stride for all": Fault(
        "fft",
        "slice(0, n - reach + 1, stride)",
        "slice(0, n - reach + 1, geometry.stride[0])",
        RUNS,
    ),
    "wrong padding on one axis": Fault(
        "fft",
        "for s, p in zip(x.shape[2:], geometry.padding,",
        "for s, p in zip(x.shape[2:], (*geometry.padding[:-1], 0),",
        RUNS,
    ),
    "the first axis's dilation for all": Fault(
        "fft", "geometry.dilation[axis]", "geometry.dilation[0]", RUNS
    ),
    "ignored groups": Fault("fft", "(network.groups, *(", "(1, *(", RUNS),
    "a convolution turned round": Fault("fft", "angles.sin()", "-angles.sin()", RUNS),
    "an odd length taken for even": Fault(
        "fft", "[cyclic[axis] for axis in self.axes], dim=dims", "dim=dims", RUNS
    ),
    "a gradient that is lost": Fault("fft", "factor.to(", "factor.detach().to(", RUNS),
    "single precision inside": Fault(
        "fft", "torch.promote_types(x.dtype, torch.float32)", "torch.float32", RUNS
    ),
    "an input that is written to": Fault(
        "fft",
        "geometry, order, network =",
        "x.detach().mul_(1.5)\n        geometry, order, network =",
        RUNS,
    ),
    "a stale cache": Fault(
        "fft",
        "parts = [*(factor.to(spectrum.dtype) for factor in factors), *waves]",
        "kept = KEPT.setdefault(id(factors[0]), [f.to(spectrum.dtype) for f in factors])\n"
        "        parts = [*kept, *waves]",
        FOLLOWS,
        "KEPT: dict = {}\n",
    ),
    "parameters uncounted": Fault(
        "fft",
        "return FourierConvolution.of(network, geometry)",
        "return Scaled(FourierConvolution.of(network, geometry))",
        "owns_factors_and_bias_alone",
        "class Scaled(torch.nn.Module):\n"
        "    def __init__(self, inner):\n"
        "        super().__init__()\n"
        "        self.inner, self.gain = inner, torch.nn.Parameter(torch.ones(()))\n"
        "    def forward(self, *given):\n"
        "        return self.gain * self.inner(*given)\n",
    ),
    "a plan that does not pickle": Fault(
        "fft",
        "return FourierConvolution.of(network, geometry)",
        "run = FourierConvolution.of(network, geometry)\n        return lambda *given: run(*given)",
        TRAVEL,
    ),
}


@pytest.fixture
def planted(request, monkeypatch):
    """A copy of a plugin's module with a fault in it; the class of the plugin in the copy."""
    fault: Fault = request.param
    registry = implementations if fault.plugin in implementations else factorizations
    original = registry[fault.plugin]
    source = Path(sys.modules[original.__module__].__file__).read_text()
    assert fault.old in source
    copied = types.ModuleType(f"copy_of_{fault.plugin}")
    copied.__package__ = original.__module__.rpartition(".")[0]  # for its relative imports
    monkeypatch.setitem(sys.modules, copied.__name__, copied)
    text = f"{source.replace(fault.old, fault.new)}\n\n{fault.more}"
    exec(compile(text, copied.__name__, "exec"), vars(copied))
    return {registry.kind: getattr(copied, original.__name__)}, fault.law


@pytest.fixture(autouse=True)
def _examples_are_found_and_not_made_smaller():
    """Which takes seconds for each fault."""
    settings.register_profile("before", settings.default)
    settings.register_profile("found", phases=[Phase.generate], database=None)
    settings.load_profile("found")
    yield
    settings.load_profile("before")


def judge(law: str, examples: int = 60, orders: Sequence[int] = (1, 2), **subject: object) -> None:
    cls = conformance(**subject, orders=orders, max_examples=examples)(type("Judged", (), {}))
    getattr(cls(), f"test_{law}")()


@pytest.mark.parametrize("planted", FAULTS.values(), ids=FAULTS, indirect=True)
def test_a_planted_fault_is_caught_and_told_in_words(planted):
    subject, law = planted
    with pytest.raises(LawError) as caught:
        judge(law, 300, (2,), **subject)  # it stops at the first that shows the fault
    said = str(caught.value)
    ((kind, plugin),) = subject.items()
    for part in (f"{kind}={plugin.__name__} breaks the law {law}: ", "what was wrong: ", " = "):
        assert part in said


COPIES = [Fault("fft", "class", "class", law) for law in (RUNS, FOLLOWS, TRAVEL)] + [
    Fault("tucker", "class", "class", law) for law in (FULL, SAME, BUDGET)
]


@pytest.mark.parametrize(
    "planted", COPIES, ids=lambda one: f"{one.plugin} {one.law}", indirect=True
)
def test_a_copy_without_a_fault_keeps_the_law(planted):
    subject, law = planted
    judge(law, examples=8, **subject)


@pytest.mark.parametrize("planted", [FAULTS["a dropped bias"]], ids=["bias"], indirect=True)
def test_a_declared_failure_is_accepted(planted):
    subject, law = planted
    cls = conformance(**subject, orders=(1, 2), fails={law: "no bias yet"})(type("Judged", (), {}))
    getattr(cls(), f"test_{law}")()


@pytest.mark.parametrize("planted", [FAULTS["a dropped bias"]], ids=["bias"], indirect=True)
def test_the_example_that_is_shown_is_a_small_one(planted):
    settings.load_profile("default")
    subject, law = planted
    with pytest.raises(LawError, match="output is off by") as caught:
        judge(law, **subject)
    shown = str(caught.value)
    assert "in_channels=1, out_channels=1" in shown
    assert "stride" not in shown.split("the example")[1]
