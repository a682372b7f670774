"""Index a factorized tensor by indexing its factors, as PyTorch indexes the dense one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from ..network import Modes
from .term import Term

Entry = int | slice | Tensor | None  # of a tensor of ints, or a new axis


def parsed(indices: Any, shape: Sequence[int], device: torch.device) -> list[Entry]:
    """An entry for each axis in order, and None for each new one, with `...` written out.

    Raises `IndexError` for too many or one outside its axis, and `TypeError` for what is no index.
    """
    given = indices if _is_tuple(indices) else (indices,)
    entries = [_entry_of(one, device) for one in given]
    count = sum(map(_width, entries))
    if count > len(shape):
        raise IndexError(f"indices={indices!r} are {count}, for a tensor of {len(shape)} axes")
    dots = [place for place, one in enumerate(entries) if one is Ellipsis]
    if len(dots) > 1:
        raise IndexError(f"indices={indices!r} have `...` twice: give it once")
    place = dots[0] if dots else len(entries)
    rest = [slice(None)] * (len(shape) - count)
    found: list[Entry] = []
    axis = 0
    for one in [*entries[:place], *rest, *entries[place + 1 :]]:
        found += [None] if one is None else _within(one, axis, shape)
        axis += _width(one)
    return found


def _is_tuple(indices: Any) -> bool:
    """Whether they are for several axes: as a list that has slices among its members is too."""
    if isinstance(indices, list):
        return any(one is None or one is Ellipsis or isinstance(one, slice) for one in indices)
    return isinstance(indices, tuple)


def _width(entry: Any) -> int:
    """How many axes an entry takes."""
    if entry is None or entry is Ellipsis:
        return 0
    return entry.dim() if isinstance(entry, Tensor) and entry.dtype == torch.bool else 1


def _entry_of(index: Any, device: torch.device) -> Any:
    """One index as an int, a slice, a tensor of ints or a mask; None and `...` are themselves."""
    if index is None or index is Ellipsis or isinstance(index, slice):
        return index
    if isinstance(index, Tensor) and index.dim() == 0:
        index = index.item()
    if isinstance(index, Integral) and not isinstance(index, bool):
        return int(index)
    several = isinstance(index, Sequence) and not isinstance(index, str | bytes)
    if several or hasattr(index, "__array__"):
        found = torch.as_tensor(index, device=device)
        if found.numel() == 0 and not isinstance(index, Tensor):
            found = found.long()
        if found.dim() and not found.is_floating_point() and not found.is_complex():
            return found
    raise TypeError(
        f"index={index!r} must be an int, a slice, a list or tensor of ints, a mask, None or `...`"
    )


def _within(index: int | slice | Tensor, axis: int, shape: Sequence[int]) -> list[Entry]:
    """The same index, counted from the start; a mask as the places of its Trues."""
    size = shape[axis]
    if isinstance(index, Tensor):
        if index.dtype == torch.bool:
            if tuple(index.shape) != tuple(shape[axis : axis + index.dim()]):
                raise IndexError(
                    f"a mask of shape {tuple(index.shape)} at axis {axis} must have the tensor's, "
                    f"{tuple(shape[axis : axis + index.dim()])}"
                )
            return list(index.nonzero(as_tuple=True))
        if not bool(((index >= -size) & (index < size)).all()):
            raise IndexError(f"an index is out of range for axis {axis}, of size {size}")
        return [torch.where(index < 0, index + size, index).long()]
    if isinstance(index, int):
        if not -size <= index < size:
            raise IndexError(f"index {index} is out of range for axis {axis}, of size {size}")
        return [index % size]
    if index.step is not None and index.step < 1:
        raise ValueError(f"{index!r} must have a step above 0, as PyTorch's")
    return [index]


@dataclass
class Reading:
    """What is done to the modes of a term, and its axes after it."""

    term: Term
    chosen: dict[str, int] = field(default_factory=dict)
    cut: dict[str, slice] = field(default_factory=dict)
    gathers: list[tuple[dict[str, Tensor], Modes]] = field(default_factory=list)
    axes: list[Modes] = field(default_factory=list)

    def fresh(self, count: int) -> Modes:
        """So many names of new modes."""
        taken = {mode for modes in self.term.modes for mode in modes}
        taken.update(mode for _, made in self.gathers for mode in made)
        names = (f"i{number}" for number in range(len(taken) + count))
        return tuple([name for name in names if name not in taken][:count])


def take(term: Term, entries: Sequence[Entry]) -> Term:
    """Index a term by an entry for each of its axes; ints first, as PyTorch does."""
    if _is_all(entries, term.shape):
        return term
    sizes, reading = term.sizes, Reading(term)
    together: dict[str, Tensor] = {}
    places, several = [], [one for one in entries if isinstance(one, Tensor)]
    shared = list(torch.broadcast_tensors(*several)) if several else []
    axes = iter(term.axes)
    for entry in entries:
        if entry is None:
            reading.axes.append(())
            continue
        axis = next(axes)
        if isinstance(entry, int):
            reading.chosen |= _apart(entry, axis, sizes)
        elif isinstance(entry, Tensor):
            places.append(len(reading.axes))
            together |= _apart(shared[len(places) - 1], axis, sizes)
            reading.axes.append(axis)
        else:
            reading.axes.append(_sliced(reading, entry, axis, sizes))
    if several:
        _gather(reading, together, shared[0].dim(), places)
    return _done(reading)


def _is_all(entries: Sequence[Entry], shape: Sequence[int]) -> bool:
    """Whether they leave the tensor as it is."""
    slices = [one for one in entries if isinstance(one, slice)]
    if len(slices) < len(entries) or len(slices) < len(shape):
        return False
    return all(_is_whole(one, size) for one, size in zip(slices, shape, strict=True))


def _is_whole(entry: slice, size: int) -> bool:
    return range(size)[entry] == range(size)


def _apart(index: Any, axis: Modes, sizes: dict[str, int]) -> dict[str, Any]:
    """An index along an axis, as one along each of its modes."""
    found = {}
    for mode in reversed(axis):
        found[mode] = index % sizes[mode] if len(axis) > 1 else index
        index = index // sizes[mode] if len(axis) > 1 else index
    return found


def _sliced(reading: Reading, entry: slice, axis: Modes, sizes: dict[str, int]) -> Modes:
    """The axis after a slice; of one that is split, the places in it are gathered."""
    size = prod([sizes[mode] for mode in axis])
    if _is_whole(entry, size):
        return axis
    if len(axis) == 1:
        reading.cut[axis[0]] = entry
        return axis
    device = reading.term.tensors[0].device
    places = torch.arange(size, device=device)[entry]
    (made,) = reading.fresh(1)
    reading.gathers.append((_apart(places, axis, sizes), (made,)))
    return (made,)


def _gather(reading: Reading, together: dict[str, Tensor], count: int, places: list[int]) -> None:
    """Put the axes of lists where PyTorch puts them: at the first of neighbours, else in front."""
    made = reading.fresh(count)
    reading.gathers.append((together, made))
    first = places[0] if places == list(range(places[0], places[-1] + 1)) else 0
    left = [axis for place, axis in enumerate(reading.axes) if place not in places]
    reading.axes = [*left[:first], *((mode,) for mode in made), *left[first:]]


def _done(reading: Reading) -> Term:
    modes, tensors = list(reading.term.modes), list(reading.term.tensors)
    for place, some in enumerate(modes):
        named = [_entry(reading, mode) for mode in some]
        if any(one != slice(None) for one in named):
            tensors[place] = tensors[place][tuple(named)]
            modes[place] = tuple(mode for mode in some if mode not in reading.chosen)
        for indices, made in reading.gathers:
            modes[place], tensors[place] = _gathered(modes[place], tensors[place], indices, made)
    return Term(tuple(modes), tuple(tensors), tuple(reading.axes))


def _entry(reading: Reading, mode: str) -> int | slice:
    return reading.chosen.get(mode, reading.cut.get(mode, slice(None)))


def _gathered(
    modes: Modes, tensor: Tensor, indices: dict[str, Tensor], made: Modes
) -> tuple[Modes, Tensor]:
    """A tensor with the modes `made` in front for those that are indexed."""
    mine = [mode for mode in modes if mode in indices]
    if not mine:
        return modes, tensor
    rest = [mode for mode in modes if mode not in indices]
    front = tensor.permute([modes.index(mode) for mode in (*mine, *rest)])
    return (*made, *rest), front[tuple(indices[mode] for mode in mine)]
