"""Arguments of other libraries' layers, refused with what they are here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

THEIRS = "tenfold.tltorch.FactorizedConv takes TensorLy-Torch's arguments"
WORDS = {
    "has_bias": "bias= is nn.ConvNd's, and a converted layer has what its source has",
    "fixed_rank_modes": "Tucker leaves the spatial modes whole; a rank for each bond says the rest",
}


def refuse_unknown(call: str, given: Mapping[str, NoReturn]) -> None:
    """Refuse arguments that `call` does not take, with a `TypeError`."""
    unknown: dict[str, Any] = dict(given)
    for name, value in unknown.items():
        said = WORDS.get(name, "see its signature")
        raise TypeError(f"{name}={value!r} is no argument of {call}: {said}; {THEIRS}")
