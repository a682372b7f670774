"""Images of one column: convolved as one row while a network is measured, not while it is timed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ...network import Geometry
from ...run import is_column

_AS_ROWS: ContextVar[bool] = ContextVar("as_rows", default=False)


@contextmanager
def as_rows(wanted: bool) -> Iterator[None]:
    """Whether `turned` turns anything, until the end."""
    token = _AS_ROWS.set(wanted)
    try:
        yield
    finally:
        _AS_ROWS.reset(token)


def turn_columns() -> None:
    """Turn them from here on, until the end of the `as_rows` that this is in."""
    _AS_ROWS.set(True)


def turned() -> AbstractContextManager[Any]:
    """PyTorch's own convolutions of columns run as factorized ones do: see `run.is_column`."""
    return _Rows() if _AS_ROWS.get() else nullcontext()


class _Rows(TorchFunctionMode):
    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if function is torch.conv2d and len(args) == 7 and not kwargs:
            made = _as_a_row(*args)
            if made is not None:
                return made
        return function(*args, **(kwargs or {}))


def _as_a_row(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> Tensor | None:
    """What `nn.Conv2d` asks for; None for all but one column."""
    if (
        x.dim() != 4
        or x.shape[3] != 1
        or not all(isinstance(one, tuple) for one in (stride, padding, dilation))
    ):
        return None
    geometry = Geometry(tuple(weight.shape[2:]), stride, padding, dilation, (0, 0))
    if not is_column(x, geometry):
        return None
    where = (stride[::-1], padding[::-1], dilation[::-1], groups)
    return torch.conv2d(x.mT, weight.mT, bias, *where).mT
