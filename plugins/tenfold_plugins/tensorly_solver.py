"""TensorLy's own algorithms as solvers of the formats that it has.

Each call enters TensorLy's PyTorch backend for its thread alone, and leaves the user's as it was
(Kossaifi et al. 2019, "TensorLy: tensor learning in Python", JMLR 20).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tenfold import Factorization

PREFIX = "tensorly"


@dataclass(frozen=True, kw_only=True)
class TensorLySolved(Factorization):
    """A format that TensorLy can decompose too, by `solver="tensorly"` or `"tensorly:function"`."""

    solver: str = "tenfold"
    solver_options: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.solver != "tenfold" and self.solver.partition(":")[0] != PREFIX:
            raise ValueError(
                f"solver={self.solver!r} must be 'tenfold', 'tensorly' or 'tensorly:' and a "
                "function of tensorly.decomposition, as 'tensorly:non_negative_parafac'"
            )

    def by_tensorly(
        self,
        default: str,
        kernel: Tensor,  # (groups, …)
        rank: Any,
        generator: torch.Generator | None,
        **fixed: Any,
    ) -> list[Any]:
        """What TensorLy makes of each group's kernel; `fixed` are arguments of its function."""
        options = {**(self.solver_options or {}), **fixed}
        return [solve(self.solver, default, one, rank, generator, options) for one in kernel]


def solve(
    solver: str,
    default: str,
    kernel: Tensor,  # of one group
    rank: Any,
    generator: torch.Generator | None,
    options: Mapping[str, Any],
) -> Any:
    """What a function of `tensorly.decomposition` makes of `kernel`, without its list of errors.

    `solver` is `"tensorly"`, for the function `default`, or `"tensorly:function"`. The random
    state follows `generator`, or `torch.manual_seed`. Raises `ValueError` where TensorLy is not
    installed, has no such function or does not take an option.
    """
    try:
        import tensorly
        from tensorly import decomposition
    except ImportError:
        raise ValueError(
            f"solver={solver!r} needs TensorLy: pip install 'tenfold[tensorly]'"
        ) from None
    name = solver.partition(":")[2] or default
    function = getattr(decomposition, name, None)
    if not callable(function):
        raise ValueError(f"solver={solver!r}: tensorly.decomposition has no function {name!r}")
    seed = int(torch.randint(2**31 - 1, (), generator=generator, device=_device(generator)))
    random = "random_state" in inspect.signature(function).parameters  # not of TT-SVD's of 0.8
    given = {"random_state": seed, **options} if random else dict(options)
    with tensorly.backend_context("pytorch", local_threadsafe=True):
        try:
            return function(kernel, rank, **given)
        except TypeError as fault:
            raise ValueError(f"solver_options={dict(options)!r}: {fault}") from fault


def _device(generator: torch.Generator | None) -> torch.device | str:
    return "cpu" if generator is None else generator.device
