"""What the plain arguments of the public calls must be; each refusal says what to give instead."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
DTYPES = (*FLOATS, torch.complex64, torch.complex128)  # what PyTorch convolves in


def check_dtype(dtype: torch.dtype | None) -> torch.dtype | None:
    """Refuse what is no dtype, or one that no convolution is trained in, with a `TypeError`."""
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype in DTYPES):
        raise TypeError(
            f"dtype={dtype!r} must be a floating-point or complex one, as torch.float32"
        )
    return dtype


def check_model(name: str, value: Any) -> nn.Module:
    """Refuse what is no module, with a `TypeError`."""
    if not isinstance(value, nn.Module):
        raise TypeError(f"{name}={type(value).__name__} must be an nn.Module")
    return value


def check_kind(name: str, value: Any, kind: type) -> None:
    """Refuse what is no `kind`, with a `TypeError`."""
    if not isinstance(value, kind):
        raise TypeError(f"{name}={type(value).__name__} must be a {kind.__name__}")


def check_path(name: str, value: Any) -> Path:
    """Refuse what is no path, with a `TypeError`, or one that no file can have."""
    if not isinstance(value, str | PathLike):
        raise TypeError(f"{name}={type(value).__name__} must be a path")
    if "\0" in str(value):
        raise ValueError(f"{name}={str(value)!r} has a null character: give another path")
    return Path(value)


def check_batches(name: str, value: Any) -> Iterable[Any]:
    """Refuse what is no list, loader or generator of inputs, with a `TypeError`."""
    several = isinstance(value, Iterable) or hasattr(type(value), "__getitem__")
    one = isinstance(value, Tensor | Mapping | str | bytes | nn.Module | np.generic | np.ndarray)
    if one or not several:
        raise TypeError(f"{name}={type(value).__name__} must be batches, as a list or a DataLoader")
    return value  # type: ignore[no-any-return]


def check_names(name: str, value: Any) -> Collection[str]:
    """Refuse what is no list of strings, with a `TypeError`."""
    several = isinstance(value, Collection) and not isinstance(value, str | bytes | Tensor)
    if not several or not all(isinstance(one, str) for one in value):
        raise TypeError(f"{name}={type(value).__name__} must be a list of names")
    return value  # type: ignore[no-any-return]


def check_indices(name: str, value: Any) -> None:
    """Refuse what is no tuple of ints, with a `TypeError`."""
    several = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    if not several or not all(_is_int(one) for one in value):
        raise TypeError(f"{name}={type(value).__name__} must be a tuple of ints")


def check_number(name: str, value: Any) -> None:
    """Refuse what is no real number, with a `TypeError`."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name}={type(value).__name__} must be a number")


def check_count(name: str, value: Any) -> None:
    """Refuse what is no int of at least 1; raises `ValueError` or `TypeError`."""
    if not _is_int(value):
        raise TypeError(f"{name}={type(value).__name__} must be an int of at least 1")
    if value < 1:
        raise ValueError(f"{name}={value} must be at least 1")


def check_device(device: Any) -> torch.device | str | int | None:
    """Refuse a device that this machine does not have, with a `ValueError`."""
    if isinstance(device, bool) or not isinstance(device, torch.device | str | Integral | None):
        raise TypeError(
            f"device={device!r} must be a name, as 'cpu' or 'cuda:0', or a torch.device"
        )
    try:
        torch.empty(0, device=device)  # type: ignore[arg-type]
    except (RuntimeError, AssertionError, TypeError, ValueError) as fault:
        reason = str(fault).splitlines()[0]
        raise ValueError(f"device={device!r} cannot be used here ({reason}): use 'cpu'") from None
    return device  # type: ignore[return-value]


def check_generator(generator: Any) -> None:
    """Refuse what is no `torch.Generator`, with a `TypeError`."""
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(
            f"generator={generator!r} must be a torch.Generator, as "
            "torch.Generator().manual_seed(0), or None"
        )


def check_flag(name: str, value: Any) -> bool:
    """Refuse what is neither True nor False, with a `TypeError`."""
    if not isinstance(value, bool):
        raise TypeError(f"{name}={value!r} must be True or False")
    return value


def check_tensor(name: str, value: Any) -> Tensor:
    """Refuse what is no floating-point or complex tensor, with a `TypeError`."""
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{name}={type(value).__name__} must be a tensor: torch.as_tensor makes one"
        )
    if value.dtype not in DTYPES:
        raise TypeError(
            f"{name} of dtype {value.dtype} must be a floating-point or complex one: use .float()"
        )
    if value.layout != torch.strided:
        raise TypeError(f"{name} of layout {value.layout} must be dense: use .to_dense()")
    return value


def check_sizes(name: str, value: Any, count: int) -> tuple[int, ...]:
    """Refuse what is not `count` positive ints; raises `ValueError` or `TypeError`."""
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
        raise TypeError(f"{name}={value!r} must be a tuple of {count} ints")
    if len(value) != count:
        raise ValueError(f"{name}={tuple(value)!r} must have {count} numbers")
    if not all(_is_int(one) and one >= 1 for one in value):
        raise ValueError(f"{name}={tuple(value)!r} must be ints of at least 1")
    return tuple(int(one) if isinstance(one, Integral) else one for one in value)


def check_options(
    options: Any, defaults: Mapping[str, Any], owner: str, name: str = "decomposition_kwargs"
) -> dict[str, Any]:
    """Refuse options that `owner` does not take; an int stays a whole number, a float a number.

    Raises `ValueError` or `TypeError`.
    """
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise TypeError(f"{name}={options!r} must be a dict of {owner}'s options")
    for option, value in options.items():
        if option not in defaults:
            raise ValueError(
                f"{name} has {option!r}, which {owner} does not take: "
                f"it takes {', '.join(defaults)}"
            )
        default = defaults[option]
        counts = isinstance(default, int) and not isinstance(default, bool)
        if counts and not (_is_int(value) and value >= 0):
            raise ValueError(f"{name} has {option}={value!r}: it must be an int of at least 0")
        number = isinstance(value, Real) and not isinstance(value, bool)
        if isinstance(default, float) and not (number and value >= 0):
            raise ValueError(f"{name} has {option}={value!r}: it must be a number of at least 0")
    return dict(options)


def _is_int(value: Any) -> bool:
    return isinstance(value, (Integral, torch.SymInt)) and not isinstance(value, bool)
