"""Alternating least squares in the norm of what a layer sees."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tenfold import Factorization, FactorizedKernel, Moment, measure_moments
from tenfold.algebra.weighted import affordable, weighted_least_squares
from tenfold.demo.data import load_cnn, load_images
from tenfold.solve import decomposition
from tenfold.solve.decomposition import with_group
from tenfold.testing import kernel_shapes

FORMATS = ["cp", "tucker", "tt", "spatial_svd", "channel_svd", "depthwise_separable", "block_term"]


class Ring(Factorization):
    """A tensor train whose ends are joined: the simplest loop."""

    def factors(self, order, rank):
        middle = [(f"b{axis}", f"k{axis}", f"b{axis + 1}") for axis in range(order)]
        return [("z", "in", "b0"), *middle, (f"b{order}", "out", "z")]


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def lost(network, kernel, factors, moment):
    """`tr((K − K̂) M (K − K̂)ᵀ)` of kernels `(groups, out, in, *k)`, by its definition."""
    gap = (kernel - network.to_tensor(factors).reshape(kernel.shape)).flatten(2)
    return float(torch.einsum("goi,gij,goj->", gap, moment, gap))


@settings(max_examples=50, deadline=None)
@given(
    shape=kernel_shapes((0, 1, 2), largest=4),
    name=st.sampled_from([*FORMATS, Ring]),
    rank=st.sampled_from([1, 2, 3]),
    groups=st.integers(1, 2),
    seen=st.sampled_from([2, 200]),  # patches: fewer than a moment has rows, and more
)
def test_no_sweep_raises_the_error(shape, name, rank, groups, seen):
    shape = (shape[0] * groups, *shape[1:])
    made = FactorizedKernel.new(
        shape,
        rank=rank,
        factorization=name,
        groups=groups,
        dtype=torch.float64,
        generator=torch.Generator().manual_seed(0),
    )
    network = with_group(made.network)
    factors = [
        factor.detach().reshape(s) for factor, s in zip(made.factors, network.shapes, strict=True)
    ]
    kernel = normal(*shape).reshape(groups, -1, *shape[1:])
    patches = normal(groups, kernel[0, 0].numel(), seen, seed=1)
    moment = patches @ patches.mT / seen
    errors = [lost(network, kernel, factors, moment)]
    for _ in range(3):
        factors = weighted_least_squares(kernel, network, factors, moment, sweeps=1)
        errors.append(lost(network, kernel, factors, moment))
    assert all(after <= before * (1 + 1e-6) + 1e-9 for before, after in pairwise(errors))


def test_of_two_factors_it_finds_the_optimum():
    kernel, patches = normal(1, 8, 5, 3, 3), normal(1, 45, 400, seed=1)
    patches = normal(45, 45, seed=2) @ patches
    moment = patches @ patches.mT / 400
    made = FactorizedKernel.new(
        (8, 5, 3, 3), rank=3, factorization="channel_svd", dtype=torch.float64
    )
    network = with_group(made.network)
    start = [factor.detach()[None] for factor in made.factors]
    found = weighted_least_squares(kernel, network, start, moment, sweeps=500, tolerance=0.0)
    values = torch.linalg.svdvals(kernel[0].flatten(1) @ torch.linalg.cholesky(moment[0]))
    optimum = float(values[3:].square().sum())
    assert lost(network, kernel, found, moment) == pytest.approx(optimum, rel=1e-4)


@pytest.mark.parametrize("name", ["cp", "block_term", Ring, "tt", "tucker", "spatial_svd"])
@pytest.mark.parametrize("groups", [1, 2])
def test_on_what_was_seen_it_is_below_the_split_moment(name, groups, monkeypatch):
    conv = nn.Conv2d(12, 8, 3, padding=1, groups=groups, bias=False, dtype=torch.float64)
    conv.weight.data = normal(*conv.weight.shape)
    moment = Moment(conv)
    smooth = normal(16, 12, 11, 11, seed=1)
    moment.update(smooth + smooth.roll(1, -1) + smooth.roll(1, -2) + smooth.roll(1, 1))
    request = {"rank": 0.4, "factorization": name, "groups": groups, "moment": moment}

    def error():
        generator = torch.Generator().manual_seed(0)
        made = FactorizedKernel.from_tensor(conv.weight, **request, generator=generator)
        return moment.output_error(conv.weight, made.to_tensor())

    whole = error()
    monkeypatch.setattr(decomposition, "affordable", lambda *_: False)
    assert whole < 0.995 * error()


@pytest.mark.parametrize("name", ["cp", "tucker", "tt", "spatial_svd", "block_term"])
def test_on_held_out_images_it_is_well_below_the_split_moment(name, monkeypatch):
    model = load_cnn()
    images, held_out = load_images("train")[0][:128], load_images("test")[0][:128]
    seen = measure_moments(model, ["conv1"], [images])["conv1"]
    fresh = measure_moments(model, ["conv1"], [held_out])["conv1"]
    kernel = model.get_submodule("conv1").weight

    def error():
        made = FactorizedKernel.from_tensor(
            kernel,
            rank=0.25,
            factorization=name,
            moment=seen,
            generator=torch.Generator().manual_seed(0),
        )
        return fresh.output_error(kernel, made.to_tensor())

    whole = error()
    monkeypatch.setattr(decomposition, "affordable", lambda *_: False)
    assert whole < 0.85 * error()


def test_a_moment_of_few_patches_is_not_believed():
    conv = nn.Conv2d(6, 4, 3, bias=False)
    few, many = Moment(conv), Moment(conv)
    few.update(normal(1, 6, 8, 8).float())
    many.update(normal(2, 6, 8, 8).float())
    assert (few.patches, many.patches) == (36, 72)  # of 54 elements
    assert not affordable(few, conv.weight)
    assert affordable(many, conv.weight)
