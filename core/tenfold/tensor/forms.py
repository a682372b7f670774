"""The factors of a tensor as the field writes them, and TensorLy with it.

CP is weights and one matrix `(size, rank)` for each axis; Tucker a core and one such matrix for
each; a tensor train one factor `(rank, size, rank)` for each, with a rank of 1 at both ends. A term
that was indexed is brought to that form where it still has it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..network import Modes
from .term import Term


def factors(name: str, term: Term) -> list[Tensor] | None:
    """One factor for each axis; None where the term is of no such form."""
    if name == "tt":
        return _train(term) if all(len(axis) == 1 for axis in term.axes) else None
    bonds = bonds_of(name, term)
    if bonds is None:
        return None
    pairs = zip(term.axes, bonds, strict=True)
    return [_holding(term, mode).contracted((mode, bond)) for (mode,), bond in pairs]


def weights(term: Term, bonds: Modes) -> Tensor:
    """Of a CP what multiplies each of its products: what axes without a factor have left."""
    left = _without_axes(term)
    if not left.modes:
        return term.tensors[0].new_ones(term.sizes[bonds[0]])
    return left.contracted(bonds[:1])


def core(term: Term, bonds: Modes) -> Tensor:
    """Of a Tucker what stands between its factors, with a mode for each axis."""
    return _without_axes(term).contracted(bonds)


def bonds_of(name: str, term: Term) -> Modes | None:
    """The mode that joins each axis to the others: CP's one, or each of Tucker's.

    None where the term is of no such form: an axis is split or new, or is joined by several.
    """
    if name not in ("cp", "tucker"):
        return None
    found: list[str] = []
    for axis in term.axes:
        others = {m for modes in term.modes if set(axis) & set(modes) for m in modes} - set(axis)
        if len(axis) != 1 or len(others) != 1:
            return None
        found += others
    count = len(set(found))
    return tuple(found) if count == (1 if name == "cp" else len(found)) else None


def _without_axes(term: Term) -> Term:
    opens = {mode for axis in term.axes for mode in axis}
    return _part(term, [n for n, modes in enumerate(term.modes) if not opens.intersection(modes)])


def _holding(term: Term, mode: str) -> Term:
    return _part(term, [n for n, modes in enumerate(term.modes) if mode in modes])


def _part(term: Term, places: Sequence[int]) -> Term:
    return Term(
        tuple(term.modes[place] for place in places),
        tuple(term.tensors[place] for place in places),
        (),
    )


def _train(term: Term) -> list[Tensor] | None:
    """The chain as `(rank, size, rank)` for each axis, what has none taken into its neighbours."""
    links: list[Term] = []
    for place, modes in enumerate(term.modes):
        link = _part(term, [place])
        bare = not any((mode,) in term.axes for mode in modes)
        after = bool(links) and not any((m,) in term.axes for m in links[-1].modes[0])
        if links and (bare or after):
            link = _joined(links.pop(), link)
        links.append(link)
    order = [mode for link in links for mode in link.modes[0] if (mode,) in term.axes]
    if [(mode,) for mode in order] != list(term.axes) or len(order) != len(links):
        return None
    found = []
    for place, (mode, link) in enumerate(zip(order, links, strict=True)):
        before = links[place - 1].modes[0] if place else ()
        left = tuple(one for one in link.modes[0] if one in before and one != mode)
        right = tuple(one for one in link.modes[0] if one != mode and one not in left)
        if len(left) != bool(place) or len(right) != (place + 1 < len(links)):
            return None
        one = link.contracted((*left, mode, *right))
        one = one if left else one.unsqueeze(0)
        found.append(one if right else one.unsqueeze(-1))
    return found


def _joined(first: Term, second: Term) -> Term:
    """Two neighbours as one: the bond between them is summed over."""
    shared = set(first.modes[0]) & set(second.modes[0])
    output = tuple(m for m in (*first.modes[0], *second.modes[0]) if m not in shared)
    both = Term((*first.modes, *second.modes), (*first.tensors, *second.tensors), ())
    return Term((output,), (both.contracted(output),), ())


def nothing(name: str, wanted: str) -> AttributeError:
    """The error of a form that a tensor has not."""
    return AttributeError(
        f"a tensor of format {name!r} has no {wanted} as it stands: read its `terms`, or "
        "to_tensor()"
    )


def dense_of(terms: Sequence[Term]) -> Tensor:
    """The sum of the terms."""
    first, *rest = (term.whole() for term in terms)
    for one in rest:
        first = torch.add(first, one)
    return first
