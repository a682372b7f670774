"""The numbers of a network, as one safetensors file that is checked before it is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ...layer import FactorizedConv

BLOCK = 2**20  # bytes hashed at a time
PAIRS = "complex128"  # in a file's header: what is written as pairs of real numbers
# As safetensors names them in a file; C128 it has not.
DTYPES = {
    torch.complex128: "C128",
    torch.complex64: "C64",
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
Stored = Mapping[str, tuple[tuple[int, ...], str]]  # of each tensor of a file, shape and dtype


def write_weights(model: nn.Module, path: Path) -> dict[str, str]:
    """Write a model's state; the answer says which tensors are another one, by its name.

    Factors that are made of others, by a mask or a parametrization, are written as what they are.

    Raises `ValueError` for a state that is no tensor, or has no values.
    """
    names: dict[int, str] = {}
    memories: set[int] = set()
    kept: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    for name, value in _state(model).items():
        _check_writable(name, value)
        if id(value) in names:
            aliases[name] = names[id(value)]
            continue
        names[id(value)] = name
        kept[name] = _apart(value.detach(), memories)
    pairs = sorted(name for name, value in kept.items() if value.dtype == torch.complex128)
    kept |= {name: torch.view_as_real(kept[name].resolve_conj()) for name in pairs}
    save_file(kept, path, {PAIRS: json.dumps(pairs)} if pairs else None)
    return aliases


def _state(model: nn.Module) -> dict[str, Any]:
    """A model's state, with the factors and biases of its layers as they are used."""
    state: dict[str, Any] = model.state_dict(keep_vars=True)
    layers: dict[nn.Module, dict[str, Tensor]] = {}
    for name, layer in model.named_modules(remove_duplicate=False):
        if not isinstance(layer, FactorizedConv):
            continue
        if layer not in layers:
            layers[layer] = _used(layer)
        start = f"{name}." if name else ""
        made_of = tuple(start + part for part in ("weight.", "bias", "parametrizations."))
        state = {key: one for key, one in state.items() if not key.startswith(made_of)}
        state |= {start + key: one for key, one in layers[layer].items()}
    return state


def _used(layer: FactorizedConv) -> dict[str, Tensor]:
    used = {f"weight.factors.{index}": one for index, one in enumerate(layer.weight.current())}
    return used if layer.bias is None else {**used, "bias": layer.bias}


def _check_writable(name: str, value: object) -> None:
    if not isinstance(value, Tensor):
        raise ValueError(
            f"the state {name!r} is a {type(value).__name__}: only tensors are saved, so make it "
            "one, or no part of the state"
        )
    if value.is_meta:
        raise ValueError(f"{name!r} is on the meta device: it has no values to save")
    if value.dtype not in DTYPES or value.layout != torch.strided:
        raise ValueError(
            f"{name!r} is {value.dtype} with layout {value.layout}, which safetensors does not "
            "hold: convert it first"
        )


def _apart(value: Tensor, memories: set[int]) -> Tensor:
    """The tensor alone in its memory, and in it row by row; `memories` are those in use."""
    memory = value.untyped_storage()
    alone = memory.data_ptr() not in memories
    if alone and memory.nbytes() == value.numel() * value.element_size():
        memories.add(memory.data_ptr())
        return value.contiguous()
    return value.clone(memory_format=torch.contiguous_format)


def fingerprint(path: Path) -> tuple[int, str]:
    """A file's size in bytes, and its SHA-256."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return path.stat().st_size, digest.hexdigest()


def check_whole(path: Path, size: int, sha256: str) -> None:
    """Refuse, with a `ValueError`, a file that is not byte for byte the one that was written."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: copy the whole directory")
    found = path.stat().st_size
    if found != size:
        raise ValueError(
            f"{path} has {found} bytes, and {size} were written: it is truncated or another file"
        )
    if fingerprint(path)[1] != sha256:
        raise ValueError(f"{path} is damaged or another file: its SHA-256 is not the written one")


def read_stored(path: Path, aliases: Mapping[str, str]) -> Stored:
    """The shape and the dtype of each tensor, by every name that it has; none is read.

    Raises `ValueError` for what is no safetensors file, and for aliases of what is not in it.
    """
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            there = {name: (tuple(s.get_shape()), s.get_dtype()) for name, s in slices.items()}
            there |= {name: (there[name][0][:-1], "C128") for name in _pairs(file)}
    except (SafetensorError, json.JSONDecodeError, KeyError) as fault:
        raise ValueError(f"{path} is not a safetensors file, or damaged: {fault}") from None
    for name, kept in aliases.items():
        if name in there or kept not in there:
            raise ValueError(
                f"{path} has no {kept!r} that alone stands for {name!r}: it is damaged"
            )
    return there | {name: there[kept] for name, kept in aliases.items()}


def _pairs(file: Any) -> list[str]:
    """The names of the tensors that are written as pairs of real numbers."""
    found: list[str] = json.loads((file.metadata() or {}).get(PAIRS, "[]"))
    return found


def fill(model: nn.Module, path: Path, stored: Stored, aliases: Mapping[str, str]) -> None:
    """Copy a file's tensors into a model's, and make those that are another one the same again.

    Raises `ValueError`, naming a tensor, before anything is copied, where the two differ.
    """
    state = model.state_dict(keep_vars=True)
    _compare(stored, state, path)
    _check_ties(state, aliases, path)
    values = load_file(path)
    for name, (_, dtype) in stored.items():
        if dtype == "C128" and name in values:
            apart = values[name].clone()  # in the file it may lie where no complex number may
            values[name] = torch.view_as_complex(apart)
    with torch.no_grad():
        for name, value in state.items():
            value.copy_(values[aliases.get(name, name)])
    for name, kept in aliases.items():
        _tie(model, name, kept)


def _compare(stored: Stored, state: Mapping[str, Tensor], path: Path) -> None:
    for wanting, having, what in (
        (state, stored, f"{path} has no"),
        (stored, state, "the model has no"),
    ):
        missing = sorted(set(wanting) - set(having))
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise ValueError(
                f"{what} {missing[0]!r}{more}: the model is not the one that {path} was saved "
                "from; build it with the same arguments"
            )
    for name, value in state.items():
        shape, dtype = stored[name]
        if shape != tuple(value.shape):
            raise ValueError(
                f"{name!r} has shape {shape} in {path} and {tuple(value.shape)} in the model: "
                "build it with the same arguments"
            )
        if dtype != DTYPES.get(value.dtype):
            raise ValueError(
                f"{name!r} is {dtype} in {path} and {value.dtype} in the model: convert the "
                "model by .to(dtype) first"
            )


def _check_ties(state: Mapping[str, Tensor], aliases: Mapping[str, str], path: Path) -> None:
    """Two names of one tensor of the model must not be two tensors of the file."""
    owners: dict[int, str] = {}
    for name, value in state.items():
        kept = aliases.get(name, name)
        other = owners.setdefault(id(value), kept)
        if other != kept:
            raise ValueError(
                f"{name!r} and {other!r} are one tensor in the model and two in {path}: build it "
                "with the same arguments"
            )


def _tie(model: nn.Module, name: str, kept: str) -> None:
    """Put the tensor `kept` in the place `name` as well."""
    (place, _, last), (other, _, same) = name.rpartition("."), kept.rpartition(".")
    owner, source = model.get_submodule(place), model.get_submodule(other)
    places: list[tuple[dict[str, Any], dict[str, Any]]] = [
        (owner._parameters, source._parameters),
        (owner._buffers, source._buffers),
    ]
    for mine, theirs in places:
        if last in mine and same in theirs:
            mine[last] = theirs[same]
