"""Faults that show only under autocast, compiled, exported, laid out otherwise, with a moment."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import Phase, settings
from torch import nn
from torch.nn import functional as F

from tenfold import Factorization, Implementation, factorizations
from tenfold.network import Geometry, KernelNetwork, balanced
from tenfold.plugin import Plan
from tenfold.testing import LawError, conformance


@dataclass
class Dense(Plan):
    """An image's patches, and one matrix product: what is changed in each fault."""

    network: KernelNetwork
    geometry: Geometry

    def kernel(self, factors):
        return self.network.to_tensor(factors)

    def convolve(self, x, kernel, bias):
        g = self.geometry
        return F.conv2d(x, kernel, bias, g.stride, g.padding, g.dilation)

    def __call__(self, x, factors, bias):
        return self.convolve(x, self.kernel(factors), bias)

    def prepare(self, factors, bias):
        kernel = self.kernel(factors)
        return lambda x: self.convolve(x, kernel, bias)


class Whole(Implementation):
    """All factors in one convolution, of images without groups; its plan is of a class."""

    made = Dense

    def plan(self, network, geometry):
        if geometry.order != 2 or network.groups > 1 or geometry.transposed:
            raise ValueError("it has images without groups only")
        return self.made(network, geometry)


class CachedOutput(Dense):
    def prepare(self, factors, bias):
        run, kept = super().prepare(factors, bias), {}

        def cached(x):
            if x.shape not in kept:
                kept[x.shape] = run(x)
            return kept[x.shape]

        return cached


class FixedDtype(Dense):
    def convolve(self, x, kernel, bias):
        g = self.geometry
        patches = F.unfold(x, g.kernel_size, g.dilation, g.padding, g.stride)
        y = torch.empty(len(x), len(kernel), patches.shape[2], dtype=torch.float32)
        y = torch.baddbmm(y.zero_(), kernel.flatten(1).expand(len(x), -1, -1), patches)
        y = y if bias is None else y + bias[:, None]
        return y.unflatten(2, g.output_size(x.shape[2:]))


class Widened(Dense):
    def convolve(self, x, kernel, bias):
        return super().convolve(
            x.double(), kernel.double(), None if bias is None else bias.double()
        )


class PreparedApart(Dense):
    def prepare(self, factors, bias):
        kernel, g = self.kernel(factors), self.geometry

        def run(x):
            with torch.autocast("cpu", enabled=False):
                return F.conv2d(x, kernel, bias, g.stride, g.padding, g.dilation)

        return run


class BySize(Dense):
    def convolve(self, x, kernel, bias):
        print(end=f"{float(kernel.detach().sum())}"[:0])  # a number is read: the graph breaks
        return super().convolve(x, kernel, bias)


class SizeKept(Dense):
    def convolve(self, x, kernel, bias):
        size = [int(s) for s in self.geometry.output_size(x.shape[2:])]
        y = super().convolve(x, kernel, bias)
        return torch.cat([y, y.new_zeros(())[None].expand(y.shape[0], y.shape[1], *size)[:0]])[
            : 2 if torch.compiler.is_exporting() else None
        ]


class InMemoryOrder(Dense):
    def convolve(self, x, kernel, bias):
        contiguous = x.as_strided(x.shape, torch.empty(x.shape).stride())
        return super().convolve(contiguous, kernel, bias)


@torch.library.custom_op("tenfold_tests::doubled", mutates_args=())
def doubled(x: torch.Tensor) -> torch.Tensor:
    return 2 * x


@doubled.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return x.new_empty((*x.shape, 1))  # another shape than it gives


class Operator(Dense):
    def convolve(self, x, kernel, bias):
        return super().convolve(x + 0 * doubled(x.detach()), kernel, bias)


class Spelled(Dense):
    """It spells the convolution that it is."""

    def to_modules(self, factors, bias):
        kernel, g = self.network.to_tensor(factors), self.geometry
        groups = self.network.groups
        conv = nn.Conv2d(
            groups * kernel.shape[1],
            *(len(kernel), kernel.shape[2:], g.stride, g.padding, g.dilation, groups),
            bias=bias is not None,
        )
        conv.weight = nn.Parameter(kernel)
        conv.bias = None if bias is None else nn.Parameter(bias)
        return [conv]


class WithoutBias(Spelled):
    def to_modules(self, factors, bias):
        return super().to_modules(factors, None)


class WithoutStride(Spelled):
    def to_modules(self, factors, bias):
        [conv] = super().to_modules(factors, bias)
        conv.stride = (1, 1)
        return [conv]


class OwnModules(Spelled):
    class Conv(nn.Conv2d):
        pass

    def to_modules(self, factors, bias):
        [conv] = super().to_modules(factors, bias)
        conv.__class__ = self.Conv
        return [conv]


class CountsNothing(Spelled):
    def macs(self, size):
        return 0


class CountsByHalves(Spelled):
    def macs(self, size):
        return 1.5 * size[0]


PLANS = {
    WithoutBias: "leaves_as_plain_modules",
    WithoutStride: "leaves_as_plain_modules",
    OwnModules: "leaves_as_plain_modules",
    CountsNothing: "leaves_as_plain_modules",
    CountsByHalves: "leaves_as_plain_modules",
    CachedOutput: "follows_its_parameters",
    FixedDtype: "runs_in_bfloat16",
    Widened: "runs_in_bfloat16",
    PreparedApart: "runs_under_autocast",
    BySize: "compiles_in_one_graph",
    SizeKept: "exports_with_open_sizes",
    InMemoryOrder: "runs_in_channels_last",
    Operator: "its_operators_pass_opcheck",
}


class Matrix(Factorization):
    """`(in, k…) × out`, whose faults are in its methods."""

    def factors(self, order, rank):
        return [("in", *(f"k{axis}" for axis in range(order)), "r"), ("r", "out")]


class FallsBack(Matrix):
    def ranks(self, shape, rank, kernel=None):
        many = isinstance(rank, float) and rank > 0.6
        return super().ranks(shape, 0.05 if many else rank, kernel)


class Truncated(Matrix):
    def decompose(self, kernel, network, generator=None):
        first, last = factorizations["channel_svd"]().decompose(kernel, network, generator)
        if network.sizes["r"] > 8:
            first = torch.cat([first[..., :4], torch.zeros_like(first[..., 4:])], -1)
        return [first, last]


class Remembered(Matrix):
    """It fits the kernel that was asked about before: the one that is not turned by the moment."""

    last = None

    def ranks(self, shape, rank, kernel=None):
        type(self).last = kernel
        return super().ranks(shape, rank, kernel)

    def decompose(self, kernel, network, generator=None):
        if self.last is None or self.last.shape != kernel.shape:
            raise LookupError("another kernel than its ranks were chosen for")
        if not torch.allclose(self.last / self.last.norm(), kernel, atol=1e-9):
            raise LookupError("another kernel than its ranks were chosen for")
        return factorizations["channel_svd"]().decompose(kernel, network, generator)


class Unseeded(Matrix):
    def decompose(self, kernel, network, generator=None):
        first, last = factorizations["channel_svd"]().decompose(kernel, network, generator)
        turned = torch.linalg.qr(torch.randn(first.shape[-1], first.shape[-1]).to(first))[0]
        return [first @ turned, turned.mT @ last]


class OneKernel(Matrix):
    def decompose(self, kernel, network, generator=None):
        found = factorizations["channel_svd"]().decompose(kernel, network, generator)
        return [factor[:1].expand_as(factor).contiguous() for factor in found]


class Shrunk(Matrix):
    def ranks(self, shape, rank, kernel=None):
        return (min(2, *super().ranks(shape, rank, kernel)),)


class Masked(Matrix):
    """The taps of a mask alone, which is a constant."""

    def factors(self, order, rank):
        space = [f"k{axis}" for axis in range(order)]
        return [("in", *space, "r"), ("r", "out"), tuple(space)]

    def constant(self, modes, sizes):
        if "r" in modes:
            return None
        return self.mask(tuple(sizes[mode] for mode in modes))

    def mask(self, shape):
        return torch.ones(shape)


class DrawnMask(Masked):
    """Other values each time."""

    def mask(self, shape):
        return torch.rand(shape) + 0.5


class BlindMask(Masked):
    """Some taps are nothing: not every kernel can be held."""

    def mask(self, shape):
        return (torch.arange(torch.Size(shape).numel()) > 0).float().reshape(shape)


class BrokenMask(Masked):
    def mask(self, shape):
        return torch.full(shape, float("nan"))


class Halved(Matrix):
    """An axis in two parts, which one factor has."""

    def factors(self, order, rank):
        space = [f"k{axis}" for axis in range(1, order)]
        return [("in", "k0.0", "k0.1", *space, "r"), ("r", "out")]

    def splits(self, shape):
        return {"k0": balanced(shape[2], 2)}


class NarrowHalf(Halved):
    """A bond of one element between the parts, whatever is asked."""

    def factors(self, order, rank):
        space = [f"k{axis}" for axis in range(1, order)]
        return [("in", "k0.0", "r"), ("r", "w"), ("w", "k0.1", *space, "out")]

    def widths(self, sizes):
        return {"w": 1}


class Spends(Matrix):
    def ranks(self, shape, rank, kernel=None):
        return super().ranks(shape, 1.3 * rank if isinstance(rank, float) else rank, kernel)


FORMATS = {
    FallsBack: "more_budget_is_never_worse",
    Truncated: "more_budget_is_never_worse",
    Remembered: "a_moment_lowers_the_error_of_the_output",
    Unseeded: "the_same_request_gives_the_same_layer",
    OneKernel: "full_rank_is_exact",
    Shrunk: "full_rank_is_exact",
    Spends: "the_budget_is_kept",
    DrawnMask: "the_same_request_gives_the_same_layer",
    BlindMask: "full_rank_is_exact",
    BrokenMask: "full_rank_is_exact",
    NarrowHalf: "full_rank_is_exact",
}


@pytest.fixture(autouse=True)
def _examples_are_found_and_not_made_smaller():
    settings.register_profile("before", settings.default)
    settings.register_profile("found", phases=[Phase.generate], database=None)
    settings.load_profile("found")
    yield
    settings.load_profile("before")


def judge(law: str, **subject: object) -> None:
    cls = conformance(orders=(2,), max_examples=15, **subject)(type("Judged", (), {}))
    getattr(cls(), f"test_{law}")()


def way(made: type[Plan]) -> Implementation:
    return type(f"Way{made.__name__}", (Whole,), {"made": made})()


@pytest.mark.parametrize("law", sorted({*PLANS.values(), "runs_as_the_dense_convolution"}))
def test_a_plan_without_a_fault_keeps_the_law(law):
    for made in (Dense, Spelled):
        judge(law, implementation=way(made), factorization="tt")


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.__name__)
def test_a_faulty_plan_is_caught_by_the_law_that_is_meant(plan):
    with pytest.raises(LawError, match=rf"breaks the law {PLANS[plan]}: "):
        judge(PLANS[plan], implementation=way(plan), factorization="tt")


@pytest.mark.parametrize("law", sorted(set(FORMATS.values())))
def test_a_format_without_a_fault_keeps_the_law(law):
    for format_ in (Matrix, Masked, Halved):
        judge(law, factorization=format_, implementation="factorized")


@pytest.mark.parametrize("format_", FORMATS, ids=lambda one: one.__name__)
def test_a_faulty_format_is_caught_by_the_law_that_is_meant(format_):
    with pytest.raises(LawError, match=rf"breaks the law {FORMATS[format_]}: "):
        judge(FORMATS[format_], factorization=format_)
