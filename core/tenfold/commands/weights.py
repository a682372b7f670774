"""The numbers of a network, from a file as people have them."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import typer
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

WITHIN = ("state_dict", "model_state_dict", "model", "net", "network")  # of a checkpoint
PREFIXES = ("module.", "_orig_mod.", "model.")  # of what a network was wrapped in
FAULTS = (SafetensorError, RuntimeError, OSError, TypeError, EOFError, ValueError)


def fill(model: nn.Module, path: Path) -> None:
    """Give a network the numbers of a file, refusing by its option what is none of its."""
    try:
        model.load_state_dict(unwrapped(_numbers(path), model.state_dict()))
    except pickle.UnpicklingError:
        raise typer.BadParameter(
            f"{path} holds more than numbers, as a pickled module, which is code: load it where it "
            "was made, and save model.state_dict() by torch.save or safetensors",
            param_hint="--weights",
        ) from None
    except FAULTS as fault:
        raise typer.BadParameter(f"{path}: {fault}", param_hint="--weights") from None


def unwrapped(found: Any, wanted: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state in a checkpoint, under the names that a network has for it.

    Raises `ValueError` where there is none.
    """
    while isinstance(found, Mapping) and not any(isinstance(v, Tensor) for v in found.values()):
        inner = next((name for name in WITHIN if isinstance(found.get(name), Mapping)), None)
        if inner is None:
            raise ValueError(
                f"it has {', '.join(map(repr, found)) or 'nothing'}, and no state_dict among "
                "them: save model.state_dict()"
            )
        found = found[inner]
    if not isinstance(found, Mapping):
        raise ValueError(f"it holds a {type(found).__name__}: save model.state_dict()")
    for prefix in PREFIXES:
        if not set(found) & set(wanted) and all(name.startswith(prefix) for name in found):
            found = {name.removeprefix(prefix): value for name, value in found.items()}
    return dict(found)


def _numbers(path: Path) -> Any:
    if path.suffix == ".safetensors":
        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)
