"""A budget spent on the bonds of any network: trees, loops, and bonds of many factors."""

from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold import Factorization, FactorizedKernel, factorizations, relative_error
from tenfold.network import cuts

NETWORKS = {
    "a bond of many and a small one": [
        ("out", "r"), ("in", "r"), ("s", "r"), ("k0", "s"), ("k1", "r"),
    ],
    "a bond of three": [("out", "r"), ("in", "r"), ("r", "s"), ("s", "k0", "k1")],
    "a ring": [("z", "in", "b0"), ("b0", "k0", "b1"), ("b1", "k1", "b2"), ("b2", "out", "z")],
    "a small loop": [("out", "r", "q"), ("in", "r"), ("q", "k0", "r"), ("k1", "q")],
    "a tree": [("out", "a"), ("in", "b"), ("a", "b", "t"), ("k0", "c"), ("t", "c", "k1")],
}  # fmt: skip


def format_of(name: str) -> Factorization:
    class Named(Factorization):
        def factors(self, order, rank):
            return NETWORKS[name]

    return Named(sweeps=60)


def decaying(shape: tuple[int, ...], decay: float, seed: int) -> torch.Tensor:
    """A kernel whose unfoldings have singular values that fall by a power."""
    generator = torch.Generator().manual_seed(seed)
    kernel = torch.randn(*shape, generator=generator, dtype=torch.float64)
    for axis, size in enumerate(shape):
        turn = torch.linalg.qr(torch.randn(size, size, generator=generator).double())[0]
        turn = turn * torch.arange(1, size + 1).double() ** -decay
        kernel = torch.tensordot(turn, kernel, ([1], [axis])).movedim(0, axis)
    return kernel


def error_at(kernel: torch.Tensor, factorization: Factorization | str, rank: float) -> float:
    made = FactorizedKernel.from_tensor(
        kernel, rank=rank, factorization=factorization, generator=torch.Generator().manual_seed(0)
    )
    return relative_error(kernel, made.to_tensor())


@pytest.mark.parametrize("name", [*NETWORKS, *factorizations.names()])
@settings(max_examples=4, deadline=None)
@given(
    budgets=st.tuples(st.floats(0.05, 1.0), st.floats(0.05, 1.0)),
    decay=st.sampled_from([0.3, 0.7, 1.0]),
    seed=st.integers(0, 9),
)
def test_at_more_budget_the_error_is_not_larger(name, budgets, decay, seed):
    kernel = decaying((16, 12, 3, 3), decay, seed)
    factorization = format_of(name) if name in NETWORKS else name
    less, more = (error_at(kernel, factorization, rank) for rank in sorted(budgets))
    assert more <= less + 0.02  # the solver's noise


def test_a_bond_of_many_factors_leaves_a_small_one_its_share():
    kernel = decaying((48, 32, 3, 3), 1.0, 0)
    assert error_at(kernel, format_of("a bond of many and a small one"), 0.25) < 0.06


@pytest.mark.parametrize("name", NETWORKS)
def test_a_fresh_kernel_spends_the_budget_and_starves_no_bond(name):
    shape, plugin = (48, 32, 3, 3), format_of(name)
    most = plugin.network(shape, 10**9)
    for fraction in (0.25, 0.5):
        bought = plugin.network(shape, fraction)
        assert 0.9 * fraction * prod(shape) <= bought.numel <= fraction * prod(shape)
        assert all(bought.sizes[b] > 1 for b in bought.bonds if most.sizes[b] > 1)


def test_a_cut_crosses_as_few_bonds_as_part_the_network():
    ring = cuts(tuple(NETWORKS["a ring"]))
    assert {cut.bonds for cut in ring} == {
        ("z", "b0"), ("z", "b1"), ("z", "b2"), ("b0", "b1"), ("b0", "b2"), ("b1", "b2"),
    }  # fmt: skip
    many, small = cuts(tuple(NETWORKS["a bond of many and a small one"]))
    assert (many.bonds, len(many.parts)) == (("r",), 4)
    assert (small.bonds, small.parts) == (("s",), (("k0",), ("out", "in", "k1")))


def test_factors_that_share_an_open_mode_are_cut_at_each_place_of_it_or_together():
    (separable,) = cuts((("in", "k0", "m"), ("in", "m", "out")))
    assert (separable.shared, separable.parts) == (("in",), (("k0",), ("out",)))
    (product,) = cuts((("out", "r"), ("in", "r"), ("out", "s"), ("in", "s")))
    assert (product.bonds, product.parts) == (("r", "s"), (("out",), ("in",)))
