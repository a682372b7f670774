"""Higher-order orthogonal iteration: bases, what they keep, and its acceleration."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold import decompose
from tenfold.demo.data import load_cnn
from tenfold_plugins import hooi


@st.composite
def problems(draw):
    """A kernel `(groups, out, in, *k)` of norm 1 a group, in float64, and ranks of some modes."""
    groups, order = draw(st.integers(1, 3)), draw(st.integers(0, 2))
    shape = [draw(st.integers(2, 9)), draw(st.integers(2, 9)), *[draw(st.integers(1, 3))] * order]
    modes = draw(st.sampled_from([2, len(shape)]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    kernel = torch.randn(groups, *shape, generator=generator, dtype=torch.float64)
    if draw(st.booleans()):  # with modes that matter more than others
        kernel *= 0.5 ** torch.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    kernel /= kernel.flatten(1).norm(dim=1).reshape(-1, *[1] * len(shape))
    ranks = [draw(st.integers(1, size)) for size in shape[:modes]]
    for mode in range(modes):  # none above what its unfolding holds
        others = [ranks[m] if m < modes else shape[m] for m in range(len(shape)) if m != mode]
        ranks[mode] = min(ranks[mode], int(torch.tensor(others).prod()))
    return kernel, ranks


def kept(kernel, bases):
    """The energy of the kernel's projection on bases, of each group."""
    for mode, basis in enumerate(bases, start=1):
        kernel = hooi.project(kernel, mode, basis)
    return kernel.square().flatten(1).sum(1)


@settings(deadline=None)
@given(problem=problems(), sweeps=st.integers(0, 12))
def test_bases_are_orthonormal_and_the_core_is_the_projection(problem, sweeps):
    kernel, ranks = problem
    bases, core = hooi.decompose(kernel, ranks, sweeps, 1e-6)
    for basis, rank in zip(bases, ranks, strict=True):
        torch.testing.assert_close(
            basis.mT @ basis, torch.eye(rank).double().expand(len(kernel), -1, -1)
        )
    torch.testing.assert_close(core.square().flatten(1).sum(1), kept(kernel, bases))


@settings(deadline=None)
@given(problem=problems(), sweeps=st.integers(1, 12))
def test_sweeps_keep_no_less_than_the_start(problem, sweeps):
    kernel, ranks = problem
    start, _ = hooi.decompose(kernel, ranks, 0, 1e-6)
    bases, _ = hooi.decompose(kernel, ranks, sweeps, 1e-6)
    assert (kept(kernel, bases) >= kept(kernel, start) - 1e-6).all()  # of float32's sweeps


@settings(deadline=None)
@given(problem=problems())
def test_two_tensors_side_by_side_are_swept_as_each_alone(problem):
    kernel, ranks = problem
    together = hooi.Problem(kernel, ranks)
    start = together.truncated()[0][1:]
    found = together.descend(start, 5, 0.0)
    for group in range(len(kernel)):
        alone = hooi.Problem(kernel[group : group + 1], ranks)
        single = alone.descend([basis[group : group + 1] for basis in start], 5, 0.0)
        for one, other in zip(found, single, strict=True):
            torch.testing.assert_close(
                one[group] @ one[group].mT, other[0] @ other[0].mT, rtol=0, atol=1e-5
            )


@pytest.mark.parametrize(("name", "ranks"), [("conv2", (31, 21)), ("conv4", (40, 65))])
def test_accelerated_sweeps_keep_more_of_a_trained_kernel_than_as_many_plain_ones(name, ranks):
    kernel = load_cnn().get_submodule(name).weight.detach().double()[None]
    kernel /= kernel.norm()
    problem = hooi.Problem(kernel, ranks)
    plain = start = problem.truncated()[0]
    for _ in range(7):
        plain, _ = problem.swept(plain[1:])
    fast, _ = problem.swept(problem.descend(start[1:], 6, 0.0))
    gained, plainly = (float(kept(kernel, one) - kept(kernel, start)) for one in (fast, plain))
    assert gained > plainly > 0


@pytest.mark.parametrize("name", ["tucker", "tt", "spatial_svd"])
@pytest.mark.parametrize("seed", range(12))
def test_a_kernel_with_channels_of_zeros_is_decomposed(name, seed):
    """As of a pruned layer: LAPACK's float32 eigenvalues of its Gram matrix may not converge."""
    generator = torch.Generator().manual_seed(seed)
    kernel = torch.randn(180 - seed, 150, 3, 3, generator=generator)
    kernel[torch.rand(len(kernel), generator=generator) < 0.7] = 0
    kernel *= (0.7 ** torch.arange(len(kernel)))[:, None, None, None] if seed % 2 else 1
    found = decompose(kernel, rank=0.25, factorization=name)
    assert found.error < 1
    assert all(factor.isfinite().all() for factor in found.kernel.factors)
