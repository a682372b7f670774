"""How TensorLy-Torch spells formats and options, and what they are here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..plugin import factorizations
from ..solve import with_options

OPTIONS = {"n_iter_max": "sweeps", "tol": "tolerance"}
STARTS = ("random", "svd")
MATRICES = {"cp": "cp_matrix", "tucker": "tucker_matrix", "blocktt": "tt_matrix"}


def spelled(factorization: Any) -> tuple[Any, bool]:
    """The format here, and whether its name says that the numbers are complex; None is dense."""
    if factorization is None:
        return "dense", False
    if not isinstance(factorization, str):
        return factorization, False
    name = factorization.lower()
    return name.removeprefix("complex"), name.startswith("complex")


def matrix(factorization: Any, **parts: Any) -> Any:
    """The format here of a matrix whose sides are products of `parts`."""
    name, _ = spelled(factorization)
    if not isinstance(name, str) or name == "dense":
        return name
    return with_options(factorizations.choose(MATRICES.get(name, name)).plugin, parts)


def options_of(kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    """The options of a decomposition by the names they have here.

    `init` is where the iteration starts, which a format here chooses by itself. Raises `ValueError`
    for one that is neither `"svd"` nor `"random"`.
    """
    given = dict(kwargs or {})
    init = given.pop("init", "svd")
    if init not in STARTS:
        raise ValueError(f"init={init!r} must be 'svd' or 'random': formats start by themselves")
    return {OPTIONS.get(name, name): one for name, one in given.items()}


def is_undecomposed(kwargs: Mapping[str, Any] | None) -> bool:
    """Whether the options of a decomposition are those that leave random factors as they are."""
    given = kwargs or {}
    return given.get("init") == "random" and given.get("n_iter_max") == 0
