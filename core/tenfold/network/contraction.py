"""Contract named tensors: find the path once, run it many times.

The path is opt_einsum's (Smith and Gray 2018, doi:10.21105/joss.00753); each of its steps is one
`torch.einsum` of two tensors, so nothing is searched while a network runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product
from math import prod
from string import ascii_letters
from typing import Any

import opt_einsum
import torch
from torch import Tensor

from .product import Dot, Product, large

Modes = tuple[str, ...]
MOST_TURNED = 4  # steps, of which every way is looked at


@dataclass(frozen=True)
class Contraction:
    """A fixed sequence of pairwise einsums that turns some tensors into one.

    Each of the `steps` takes the tensors at its positions off the list, contracts them by its
    equation and puts the result at the end; those of `dots` are one product of matrices. `macs` are
    the multiply-accumulates of all steps. `order` is that of the axes where one tensor is permuted,
    and nothing else is done. Made by `plan_contraction`.

    >>> Contraction((((0, 1), "ab,bc->ac"),), 24)([torch.ones(4, 2), torch.ones(2, 3)]).shape
    torch.Size([4, 3])
    """

    steps: tuple[tuple[tuple[int, ...], str], ...]
    macs: int
    order: tuple[int, ...] | None = field(init=False, repr=False, compare=False)
    dots: tuple[Dot | None, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dots", tuple(Dot.of(equation) for _, equation in self.steps))
        object.__setattr__(self, "order", _reordering(self.steps))

    def __call__(self, tensors: Sequence[Tensor]) -> Tensor:
        """Contract `tensors`, whose shapes are those the contraction was planned for."""
        if self.order is not None:
            return tensors[0] if self.order == () else tensors[0].permute(self.order)
        pending = list(tensors)
        for (positions, equation), dot in zip(self.steps, self.dots, strict=True):
            taken = [pending[position] for position in positions]
            for position in sorted(positions, reverse=True):
                pending.pop(position)
            pending.append(torch.einsum(equation, *taken) if dot is None else dot(*taken))
        return pending[0]


def _reordering(steps: Sequence[tuple[tuple[int, ...], str]]) -> tuple[int, ...] | None:
    """The axes of one tensor in their new order, `()` for that which it has, where no more is
    done to it than to permute it: `torch.einsum` takes its time for that."""
    if len(steps) != 1 or len(steps[0][0]) != 1:
        return None
    given, _, wanted = steps[0][1].partition("->")
    if sorted(given) != sorted(wanted):
        return None
    return () if given == wanted else tuple(given.index(letter) for letter in wanted)


def check_modes(name: str, value: Any) -> None:
    """Refuse what is no sequence of sequences of names, with a `TypeError`."""
    plain = type(value) is tuple and all(type(modes) is tuple for modes in value)
    if plain and all(type(mode) is str for modes in value for mode in modes):
        return  # as nearly always, and sooner known
    if not (
        isinstance(value, Sequence)
        and all(isinstance(modes, Sequence) for modes in value)
        and all(isinstance(mode, str) for modes in value for mode in modes)
    ):
        raise TypeError(f"{name}={value!r} must be names, or tuples of names, of modes")


def plan_contraction(
    inputs: Sequence[Modes], output: Modes, sizes: Mapping[str, int]
) -> Contraction:
    """Find the cheapest sequence of pairwise contractions from `inputs` to `output`.

    `inputs` are the modes of each tensor and `sizes` those of every mode. A name that is in several
    inputs and not in `output` is summed over. The path is opt_einsum's (Smith and Gray 2018,
    doi:10.21105/joss.00753).

    Raises `ValueError` for a mode of `output` that no input has, and one without a size;
    `TypeError` for what is no names or sizes.

    >>> plan = plan_contraction([("a", "r"), ("r", "b")], ("b", "a"), {"a": 4, "b": 3, "r": 2})
    >>> plan([torch.ones(4, 2), torch.ones(2, 3)]).shape
    torch.Size([3, 4])
    """
    check_modes("inputs", inputs)
    check_modes("output", (output,))
    if not isinstance(sizes, Mapping):
        raise TypeError(f"sizes={type(sizes).__name__} must map each mode to its size")
    names = _ordered(inputs)
    if not set(output) <= set(names):
        raise ValueError(f"output={tuple(output)} must be of the inputs' modes, {names}")
    if not set(names) <= set(sizes):
        raise ValueError(f"sizes={dict(sizes)} must have every mode of inputs, {names}")
    named = tuple((mode, sizes[mode]) for mode in names)
    return _planned(tuple(map(tuple, inputs)), tuple(output), named)


@lru_cache(maxsize=4096)
def _planned(
    inputs: tuple[Modes, ...], output: Modes, named: tuple[tuple[str, int], ...]
) -> Contraction:
    sizes = dict(named)
    symbols = {mode: opt_einsum.get_symbol(i) for i, mode in enumerate(sizes)}
    equation = ",".join(_spell(modes, symbols) for modes in inputs) + "->" + _spell(output, symbols)
    shapes = [tuple(sizes[mode] for mode in modes) for modes in inputs]
    path, _ = opt_einsum.contract_path(equation, *shapes, shapes=True)

    arranged = (_arranged(inputs, output, sizes, path, t) for t in _turns(len(path)))
    return min(arranged, key=lambda one: one[0])[1]


def _turns(steps: int) -> Iterable[tuple[bool, ...]]:
    """Which steps take their second tensor first: all ways, or of many steps a few."""
    if steps <= MOST_TURNED:
        return product((False, True), repeat=steps)
    return [(False,) * steps, (True,) * steps]


def _arranged(
    inputs: Sequence[Modes],
    output: Modes,
    sizes: Mapping[str, int],
    path: Sequence[tuple[int, ...]],
    turns: Sequence[bool],
) -> tuple[int, Contraction]:
    """The steps, with the tensors in some order, and how many elements they copy."""
    pending = list(inputs)
    steps, macs, copied = [], 0, 0
    for positions, turned in zip(path, turns, strict=True):
        positions = tuple(positions)[:: -1 if turned else 1]
        taken = [pending[position] for position in positions]
        pending = [modes for i, modes in enumerate(pending) if i not in positions]
        wanted = set(output).union(*pending)
        made = tuple(mode for mode in _ordered(taken) if mode in wanted)
        if len(taken) == 2:
            macs += prod(sizes[mode] for mode in _ordered(taken))
            parts = Product.of(taken[0], taken[1], made if pending else output)
            made = parts.made
            copied += parts.copied(sizes)
        if not pending:
            copied += _rearranging(large(made, sizes), large(output, sizes), sizes)
            made = output
        letters = dict(zip(_ordered(taken), ascii_letters, strict=False))
        left = ",".join(_spell(modes, letters) for modes in taken)
        steps.append((positions, f"{left}->{_spell(made, letters)}"))
        pending.append(made)
    return copied, Contraction(tuple(steps), macs)


def _rearranging(made: Modes, output: Modes, sizes: Mapping[str, int]) -> int:
    """What it costs to bring modes to another order: twice as much where what lies together, the
    last of them, does not stay so."""
    if made == output:
        return 0
    return prod(sizes[mode] for mode in made) * (1 if made[-1] == output[-1] else 2)


def _ordered(inputs: Sequence[Modes]) -> Modes:
    return tuple(dict.fromkeys(mode for modes in inputs for mode in modes))


def _spell(modes: Modes, symbols: Mapping[str, str]) -> str:
    return "".join(symbols[mode] for mode in modes)
