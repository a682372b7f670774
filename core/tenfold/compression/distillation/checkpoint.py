"""Where a training stands, in one file that is there whole or not at all."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write tensors, numbers and texts, in place of what was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        torch.save(state, partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """Read them again; nothing else is unpickled.

    Raises `ValueError`, naming the file, for a damaged or foreign one.
    """
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, EOFError, KeyError, ValueError, OSError, pickle.UnpicklingError) as fault:
        reason = str(fault).partition("\n")[0] or type(fault).__name__
        raise ValueError(f"checkpoint={path} is damaged or foreign: {reason}; delete it") from None
    if not isinstance(state, dict):
        raise ValueError(f"checkpoint={path} is no checkpoint of a distillation: delete it")
    return state
