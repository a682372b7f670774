"""A network written for other programs: the recipe, one step after another."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from os import PathLike
from pathlib import Path

import torch
from torch import nn

from ..arguments import check_batches, check_flag, check_model, check_path
from ..compression import Compression
from ..compression.running import Batch, Flat, check_runs, copied, parted, undisturbed
from ..plugin import runtimes
from .checking import all_inputs, open_of
from .exported import Exported
from .files import RUNTIMES, Inputs, aside, put
from .work import Work


def export(
    made: Compression | nn.Module,
    path: str | PathLike[str],
    *,
    example_inputs: Batch,
    calibration: Iterable[Batch] | None = None,
    int8: bool = False,
    max_error: float | None = None,
    runtime: str | None = None,
) -> Exported:
    """Write a network to a file for another program; check and time it there.

    `made` is what `compress` gave, or any model; `path` ends in `.onnx` (ONNX), `.xml` (OpenVINO's
    IR, with a `.bin` beside it) or `.pt2` (a `torch.export` archive). `example_inputs` is a tensor,
    a tuple of arguments or a dict of keywords, `calibration` a list of such, or a loader, labels
    left out; the example where there are none. In the file the network takes the tensors of a
    batch, one after another, and gives those of its output; batch and spatial sizes are open where
    the network has none of its own. Normalisation is folded into the convolution before it, of a
    factorized layer the last one, in ONNX and IR.

    The file is run in `runtime`, by default `onnxruntime`, `openvino` or `eager`, on the
    calibration, where it must give what the network gives, and timed there in turn with the network
    whose layers are dense.

    With `int8` it is quantized: statically, by ONNX Runtime, with a scale for each output channel,
    by the ranges on the calibration (Jacob et al. 2018, arXiv 1712.05877), the channels within a
    factorized layer brought to one range. Where that changes the output, relatively, by more than
    `max_error`, the layers that cost most are left in float32; it is refused where that does not
    help, or the network becomes slower.

    Raises `ValueError`, saying why, for a suffix that is none of these, for a network that cannot
    be exported so, for a file that does not give what the network gives, and for an int8 that is
    refused; `TypeError` for what is no model or no input. Nothing is written then.

    >>> import tempfile
    >>> net = nn.Sequential(nn.Conv2d(8, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3))
    >>> x = torch.randn(4, 8, 12, 12)
    >>> made = compress(net, budget=0.5, example_inputs=x, progress=False)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     written = export(made, f"{folder}/small.onnx", example_inputs=x)
    ...     written.path.exists(), written.variants[-1].error < 1e-3
    (True, True)
    """
    place = _place(path, int8, max_error)
    model = made.model if isinstance(made, Compression) else made
    where = runtimes.choose(RUNTIMES[place.suffix] if runtime is None else runtime)
    network, batches = _network(check_model("made", model), example_inputs, calibration)
    with undisturbed(), torch.no_grad(), aside(place) as folder:
        work = Work(network, batches, folder, place.name, where.name)
        work.write()
        if int8:
            work.quantize(max_error)
        variants = work.variants()
        put(work.files[variants[-1].name], place)
        return Exported(
            path=place,
            runtime=where.name,
            place=where.plugin.description or where.name,
            variants=variants,
            left=work.left,
            open=open_of(work.runs[work.own], network, batches[0]),
            inputs=tuple(tuple(x.shape) for x in batches[0]),
        )


def _place(path: str | PathLike[str], int8: bool, max_error: float | None) -> Path:
    """Where the file goes; refuses what no file can be."""
    place = check_path("path", path)
    if place.suffix not in RUNTIMES:
        raise ValueError(f"path={str(place)!r} must end in {', '.join(RUNTIMES)}")
    if not place.parent.is_dir():
        raise ValueError(f"path={str(place)!r}: the folder {place.parent} does not exist")
    if check_flag("int8", int8) and place.suffix == ".pt2":
        raise ValueError("int8=True is of .onnx and .xml files: torch.export archives have none")
    if max_error is not None and not (int8 and 0 < max_error < inf):
        raise ValueError(f"max_error={max_error!r} must be above 0, and goes with int8=True")
    return place


def _network(
    model: nn.Module, example: Batch, calibration: Iterable[Batch] | None
) -> tuple[Flat, list[Inputs]]:
    """A copy of the model as a function of tensors, on the CPU; the example's and the others."""
    example, _ = parted(model, example, "example_inputs")
    several = () if calibration is None else check_batches("calibration", calibration)
    names = {f"calibration[{index}]": batch for index, batch in enumerate(several)}
    found = {name: parted(model, batch, name)[0] for name, batch in names.items()}
    check_runs(model, {"example_inputs": example, **found})
    network = Flat(copied(model).cpu(), example).eval()
    return network, all_inputs([example, *found.values()])
