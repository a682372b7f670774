"""Channels as products: what the formats over split modes have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tenfold import Factorization
from tenfold.network import balanced


@dataclass(frozen=True, kw_only=True)
class Tensorized(Factorization):
    """A format whose channels are products of `parts` numbers, near each other or as `outs`, `ins`.

    A part of the output and a part of the input go together, in the order given.
    """

    parts: int = 3
    outs: tuple[int, ...] = ()
    ins: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.parts < 2:
            raise ValueError(f"parts={self.parts!r} must be at least 2")
        for name, given in (("outs", self.outs), ("ins", self.ins)):
            if given and len(given) != self.parts:
                raise ValueError(f"{name}={given!r} must have parts={self.parts} numbers, or none")

    def splits(self, shape: Sequence[int]) -> Mapping[str, Sequence[int]]:
        given = zip(("out", "in"), (self.outs, self.ins), shape, strict=False)
        return {name: sizes or balanced(size, self.parts) for name, sizes, size in given}
