"""Save a network that holds factorized layers, and load it into a fresh dense one."""

from __future__ import annotations

import copy
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from ...arguments import check_model, check_path
from ..reporting import Compression, Report
from ..running import Batch
from ..survey import format_of
from .directory import written_whole
from .entries import build, check_installed, entries, find, origins
from .joint import build_joint, joint_entries
from .manifest import MANIFEST, PLAIN, REPORT, WEIGHTS, Manifest, read_bounded, read_manifest
from .plain import read_plain, write_plain
from .weights import check_whole, fill, fingerprint, read_stored, write_weights


def save(
    made: Compression | nn.Module, directory: str | Path, *, example_inputs: Batch | None = None
) -> None:
    """Write a compression, with its report, or any model that holds `FactorizedConv` layers.

    Of a compiled model, and of one in `DataParallel`, `DistributedDataParallel` or
    `AveragedModel`, the model inside is written; of masks and parametrizations on factors, the
    factors that they give.

    The directory gets `tenfold.json` (what the layers are), `model.safetensors` (all numbers) and
    `report.json`; other files in it stay. It is written whole or not at all. What is `made` here,
    `load` reads.

    With `example_inputs`, a tensor, a tuple of arguments or a dict of keywords, the network is
    written once more as it runs, in eval mode and for any batch, by `torch.export` to `plain.pt2`:
    it needs neither the class of the model nor tenfold, and `load(directory)` reads it.

    Raises `ValueError`, naming the layer, for a factorization or implementation without an
    installed name and for a state that is no tensor, `TypeError` for what is no model, and
    `FileExistsError` for a directory of other things. `RuntimeError` for a network that
    `torch.export` cannot write.

    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     save(nn.Sequential(FactorizedConv(3, 8, (3, 3), rank=4)), f"{directory}/small")
    ...     sorted(os.listdir(f"{directory}/small"))
    ['model.safetensors', 'tenfold.json']
    """
    if not isinstance(made, Compression | nn.Module):
        raise TypeError(f"made={type(made).__name__} must be a Compression or an nn.Module")
    place = check_path("directory", directory)
    model, report = (made.model, made.report) if isinstance(made, Compression) else (made, None)
    model = unwrapped(model)
    layers, joint = tuple(entries(model)), tuple(joint_entries(model))
    versions = {
        "tenfold": version("tenfold"),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    with written_whole(place, (MANIFEST, WEIGHTS, REPORT, PLAIN)) as folder:
        if example_inputs is not None:
            write_plain(model, example_inputs, folder / PLAIN)
        aliases = write_weights(model, folder / WEIGHTS)
        size, sha256 = fingerprint(folder / WEIGHTS)
        manifest = Manifest(
            layers=layers,
            joint=joint,
            aliases=aliases,
            weights_bytes=size,
            weights_sha256=sha256,
            written_with=versions,
            plugins=origins([*layers, *(layer for one in joint for layer in one.layers)]),
        )
        (folder / MANIFEST).write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
        if report is not None:
            (folder / REPORT).write_text(report.to_json(), encoding="utf-8")


def load(directory: str | Path, dense_model: nn.Module | None = None) -> nn.Module:
    """Rebuild the network in `directory` from a freshly built dense one, which is left unchanged.

    `dense_model` is built as the original was before it was compressed; its numbers do not matter,
    its training mode and `requires_grad` are kept, and layers are made on its devices. What comes
    back is neither compiled nor wrapped. Without `dense_model` it is the plain form that `save`
    wrote for its `example_inputs`, which runs and is not for training; it is read by
    `torch.export.load`, so take it from where you would take code. Else nothing is unpickled, and
    nothing imported but the installed plugins that the file names.

    Raises `FileNotFoundError` for a file that is missing; `ValueError`, naming what differs, for
    one that is damaged or foreign, an unknown plugin or another architecture; `PluginError` for a
    plugin that is broken. All of it comes before the first number is read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     save(nn.Sequential(FactorizedConv(3, 8, (3, 3), rank=4)), f"{directory}/small")
    ...     load(f"{directory}/small", nn.Sequential(nn.Conv2d(3, 8, 3)))[0]
    FactorizedConv(3, 8, (3, 3), rank=4, factorization='cp')
    """
    place = check_path("directory", directory)
    if dense_model is None:
        return read_plain(place / PLAIN)
    dense_model = unwrapped(check_model("dense_model", dense_model))
    manifest = read_manifest(place)
    check_whole(place / WEIGHTS, manifest.weights_bytes, manifest.weights_sha256)
    stored = read_stored(place / WEIGHTS, manifest.aliases)
    _check_device(dense_model)
    layers: dict[int, Any] = {}
    try:
        check_installed(manifest.all_layers, manifest.plugins)
        for entry in manifest.layers:
            old = find(dense_model, entry)
            layers[id(old)] = build(entry, old, stored)
        for one in manifest.joint:
            olds = [find(dense_model, entry) for entry in one.layers]
            made = build_joint(one, olds, stored)
            layers |= {id(old): layer for old, layer in zip(olds, made, strict=True)}
    except ValueError as fault:
        raise ValueError(f"{place / MANIFEST}: {fault}") from None
    model: nn.Module = copy.deepcopy(dense_model, layers)
    fill(model, place / WEIGHTS, stored, manifest.aliases)
    orders = {entry.config.order for entry in manifest.all_layers if entry.channels_last}
    apart = {entry.config.order for entry in manifest.all_layers if not entry.channels_last}
    format_ = format_of(orders - apart)
    if format_ is not None:  # so has the rest of the network
        model.to(memory_format=format_)  # type: ignore[call-overload]
    return model


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside of what runs it in parallel, averages or compiles it."""
    inner: Any = model
    while True:
        if isinstance(inner, nn.DataParallel | DistributedDataParallel | AveragedModel):
            inner = inner.module
        elif hasattr(inner, "_orig_mod"):
            inner = inner._orig_mod
        else:
            found: nn.Module = inner
            return found


def load_report(directory: str | Path) -> Report:
    """The report that was saved with a network.

    Raises `FileNotFoundError` where there is none, `ValueError` where it is damaged.
    """
    path = check_path("directory", directory) / REPORT
    try:
        return Report.from_json(read_bounded(path).decode())
    except ValueError as fault:
        raise ValueError(f"{path} is damaged: {fault}") from None


def _check_device(model: nn.Module) -> None:
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_meta:
            raise ValueError(f"{name!r} is on the meta device: build the model on a real one")
