"""The laws of a format: what its ranks buy, what its decomposition keeps, what it draws."""

from __future__ import annotations

from math import prod

import torch
from hypothesis import strategies as st
from torch import Tensor

from .. import FactorizedConv, FactorizedKernel, Moment, relative_error
from .example import Example
from .strategies import fractions
from .subject import Subject

BUDGETS = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0)
NOISE = 0.03  # of a solver: by so much an error may be larger by its luck
LARGE = {0: (24, 16), 1: (20, 12, 3), 2: (16, 10, 3, 3), 3: (8, 6, 2, 3, 2)}  # kernels


def full_rank_is_exact(subject: Subject, example: Example) -> None:
    """At bonds of their exact sizes any kernel comes back, group by group."""
    groups = example.draw("groups", st.integers(1, 3))
    kernel = subject.draw_kernel(example, groups)
    made = subject.decomposed(kernel, 10**9, groups)
    error = relative_error(kernel, made.to_tensor())
    assert error < 1e-5, f"{made!r}: relative error {error:.1e} at full rank"


def error_does_not_rise_with_rank(subject: Subject, example: Example) -> None:
    """A larger budget is not decomposed worse, but for the luck of a random start."""
    kernel = subject.draw_kernel(example)
    small = example.draw("rank", fractions())
    more_of_it = example.draw("more", fractions())
    fewer = subject.decomposed(kernel, small)
    more = subject.decomposed(kernel, small + more_of_it)
    errors = [relative_error(kernel, made.to_tensor()) for made in (fewer, more)]
    assert errors[1] <= errors[0] + NOISE, f"{fewer!r} has error {errors[0]}, {more!r} {errors[1]}"
    assert errors[0] < 1 + 1e-6, f"{fewer!r} is worse than a kernel of zeros: {errors[0]}"


def the_budget_is_kept(subject: Subject, example: Example) -> None:
    """A fraction is never exceeded, but where every bond is 1; `numel` counts all parameters."""
    shape = subject.draw_shape(example, 32)
    fraction = example.draw("rank", fractions())
    made = FactorizedKernel.new(shape, rank=fraction, factorization=subject.factorization)
    real = sum(parameter.numel() for parameter in made.parameters())
    assert made.numel() == made.network.numel == real, f"{made!r} counts {made.numel()}, has {real}"
    ranks = made.rank if isinstance(made.rank, tuple) else (made.rank,)
    within = real <= fraction * prod(shape) * (1 + 1e-9)
    assert within or set(ranks) == {1}, f"{made!r} has {real} of {prod(shape)} parameters"


def the_same_request_gives_the_same_layer(subject: Subject, example: Example) -> None:
    """One seed gives one kernel, and the realised rank, asked for, gives the same shapes."""
    kernel = subject.draw_kernel(example)
    fraction = example.draw("rank", st.one_of(st.integers(2, 9), fractions()))
    first = subject.decomposed(kernel, fraction)
    second = subject.decomposed(kernel, fraction)
    for a, b in zip(first.factors, second.factors, strict=True):
        assert torch.equal(a, b), f"{first!r} differs from itself under the same seed"
    again = FactorizedKernel.new(kernel.shape, rank=first.rank, factorization=subject.factorization)
    shapes = [tuple(f.shape) for f in first.factors]
    assert [tuple(f.shape) for f in again.factors] == shapes, f"rank={first.rank} is not stable"


def fresh_kernels_have_the_dense_variance(subject: Subject, example: Example) -> None:
    """The mean square of a fresh kernel is that of `nn.ConvNd`'s own, `1 / (3 * fan_in)`."""
    shape = subject.draw_shape(example)
    rank = example.draw("rank", st.one_of(fractions(), st.integers(1, 9)))
    made = FactorizedKernel.new(shape, rank=rank, factorization=subject.factorization)
    ratio = float(made.to_tensor().detach().square().mean()) * 3 * prod(shape[1:])
    assert 0.7 < ratio < 1.4, f"{made!r} has {ratio:.2f} times the variance"


def more_budget_is_never_worse(subject: Subject, example: Example) -> None:
    """Of a kernel whose spectra decay, as trained ones' do, each larger budget keeps more."""
    kernel = _decaying(subject, example)
    least, bought = 1.0, "nothing"
    for budget in BUDGETS:
        made = subject.decomposed(kernel, budget)
        error = relative_error(kernel, made.to_tensor())
        assert error <= least + NOISE, (
            f"rank={budget} buys {made!r} with error {error:.3f}; {bought} had {least:.3f}"
        )
        if error < least:
            least, bought = error, f"rank={budget}"


def a_moment_lowers_the_error_of_the_output(subject: Subject, example: Example) -> None:
    """With the moment of what a layer sees, its output is decomposed no worse than without."""
    kernel = _decaying(subject, example)
    order = kernel.dim() - 2
    conv = FactorizedConv(kernel.shape[1], kernel.shape[0], tuple(kernel.shape[2:]), bias=False)
    moment = Moment(conv.to_conv())
    generator = torch.Generator().manual_seed(example.draw("seed of the input", st.integers(0, 99)))
    x = torch.randn(8, kernel.shape[1], *(6,) * order, generator=generator)
    scale = torch.logspace(0, -2, kernel.shape[1]).reshape(-1, *(1,) * order)
    moment.update(x.cumsum(-1) * scale if order else x * scale)
    budget = example.draw("rank", st.sampled_from((0.25, 0.5)))
    plain = subject.decomposed(kernel, budget)
    seen = subject.decomposed(kernel, budget, moment=moment)
    errors = [moment.output_error(kernel, made.to_tensor()) for made in (plain, seen)]
    assert errors[1] <= errors[0] + NOISE, (
        f"{seen!r} has output error {errors[1]:.3f}; without the moment it is {errors[0]:.3f}"
    )
    most = max(budget * kernel.numel(), plain.numel())
    assert seen.numel() <= most, f"{seen!r} has {seen.numel()} parameters of {most} allowed"


def _decaying(subject: Subject, example: Example) -> Tensor:
    """A kernel whose every unfolding has a decaying spectrum, turned at random."""
    (order,) = subject.orders
    shape = LARGE.get(order, (6, 4, *(2,) * order))
    if subject.drawn is not None:
        shape = subject.draw_shape(example)
    generator = torch.Generator().manual_seed(example.draw("seed", st.integers(0, 2**16)))
    kernel = torch.randn(shape, generator=generator, dtype=torch.float64)
    for mode, size in enumerate(shape):
        turned, _ = torch.linalg.qr(torch.randn(size, size, generator=generator).double())
        falling = turned * 0.7 ** torch.arange(size)
        kernel = (kernel.movedim(mode, -1) @ falling.mT).movedim(-1, mode)
    return kernel
