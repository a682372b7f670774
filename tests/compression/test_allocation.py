"""The multiple-choice knapsack."""

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.compression.choice.allocation import CELLS, allocate, uniform

LAYERS = st.lists(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 100)), min_size=1, max_size=5),
    min_size=1,
    max_size=5,
)


def parted(layers):
    return [[c for c, _ in layer] for layer in layers], [[e for _, e in layer] for layer in layers]


def total(table, chosen):
    return sum(row[index] for row, index in zip(table, chosen, strict=True))


def best_of_all(costs, losses, budget):
    choices = product(*(range(len(layer)) for layer in costs))
    return min((total(losses, one) for one in choices if total(costs, one) <= budget), default=None)


@settings(max_examples=200, deadline=None)
@given(LAYERS, st.integers(0, 150))
def test_it_finds_what_trying_everything_finds(layers, budget):
    costs, losses = parted(layers)
    found = allocate(costs, losses, budget)
    wanted = best_of_all(costs, losses, budget)
    assert (found is None) == (wanted is None)
    if found is not None:
        assert total(costs, found) <= budget
        assert total(losses, found) == pytest.approx(wanted)


@settings(max_examples=100, deadline=None)
@given(LAYERS, st.floats(0.01, 1.0), st.floats(1e3, 1e9))
def test_a_large_budget_is_kept_and_nearly_best(layers, fraction, scale):
    costs, losses = parted(layers)
    costs = [[cost * scale * 1.2345 for cost in layer] for layer in costs]
    budget = fraction * sum(map(max, costs))
    found = allocate(costs, losses, budget)
    if found is None:
        assert best_of_all(costs, losses, budget) is None
        return
    assert total(costs, found) <= budget * (1 + 1e-9)
    tighter = budget * (1 - (len(costs) + 1) / CELLS)
    wanted = best_of_all(costs, losses, tighter)
    if wanted is not None:
        assert total(losses, found) <= wanted + 1e-9


def test_what_is_left_of_the_budget_is_spent():
    assert allocate([[10.5, 3.1], [8.4, 2.2]], [[0, 5], [0, 6]], 18.9) == [0, 0]


@given(LAYERS, st.integers(0, 150))
def test_uniform_choices_keep_the_budget(layers, budget):
    costs, _ = parted(layers)
    found = uniform(costs, budget)
    if found is None:
        assert sum(map(min, costs)) > budget
    else:
        assert total(costs, found) <= budget


def test_uniform_takes_the_same_fraction_of_every_layer():
    assert uniform([[100, 80, 50, 20], [10, 8, 5, 2]], 60) == [2, 2]
