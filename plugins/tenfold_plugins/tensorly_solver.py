"""TensorLy's own algorithms as solvers of the formats that it has.

Each call enters TensorLy's PyTorch backend for its thread alone, and leaves the user's as it was
(Kossaifi et al. 2019, "TensorLy: tensor learning in Python", JMLR 20).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

PREFIX = "tensorly"


def check_solver(solver: str) -> None:
    """Refuse what is neither tenfold's solver nor one of TensorLy's, with a `ValueError`."""
    if solver != "tenfold" and solver.partition(":")[0] != PREFIX:
        raise ValueError(
            f"solver={solver!r} must be 'tenfold', 'tensorly' or 'tensorly:' and a function of "
            "tensorly.decomposition, as 'tensorly:non_negative_parafac'"
        )


def solve(
    solver: str,
    default: str,
    kernel: Tensor,  # of one group
    rank: Any,
    generator: torch.Generator | None,
    options: Mapping[str, Any] | None,
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
    given = {"random_state": seed, **(options or {})}
    with tensorly.backend_context("pytorch", local_threadsafe=True):
        try:
            return function(kernel, rank, **given)
        except TypeError as fault:
            raise ValueError(f"solver_options={dict(options or {})!r}: {fault}") from fault


def _device(generator: torch.Generator | None) -> torch.device | str:
    return "cpu" if generator is None else generator.device
