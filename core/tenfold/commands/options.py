"""What the commands read: ranks, numbers, models, and how they show that they work."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from torch import Tensor, nn

from ..layer import PLAIN, FactorizedKernel
from ..network import Multiple
from ..plugin import PluginError, Registry


def read_rank(text: str) -> Any:
    """Read a rank as Python would: an int, a float, or a word."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def read_numbers(text: str, option: str) -> tuple[int, ...]:
    """Read `8,3,224,224`; refuses, naming the option, what is no list of positive ints."""
    try:
        numbers = tuple(int(word) for word in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise typer.BadParameter(
            f"{text!r} must be positive whole numbers, parted by commas", param_hint=option
        )
    return numbers


def read_target(text: str, option: str, what: str) -> Any:
    """Import what `module:name` says, `what` being the name's; the folder at hand counts."""
    module, _, name = text.partition(":")
    if not module or not name:
        raise typer.BadParameter(
            f"{text!r} must be module:{what}, as torchvision.models:resnet18", param_hint=option
        )
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as fault:
        raise typer.BadParameter(f"{text!r} is not found: {fault}", param_hint=option) from None
    return found


def read_model(text: str, option: str = "--model") -> nn.Module:
    """Import and call `module:factory`, which returns an `nn.Module`."""
    factory = read_target(text, option, "factory")
    model = factory() if callable(factory) and not isinstance(factory, nn.Module) else factory
    if not isinstance(model, nn.Module):
        raise typer.BadParameter(
            f"{text!r} gives a {type(model).__name__}: it must give an nn.Module", param_hint=option
        )
    return model


def set_threads(threads: int | None) -> None:
    """Let PyTorch use this many threads; None leaves it to PyTorch."""
    if threads is not None:
        torch.set_num_threads(threads)


def progress() -> Progress:
    """A bar on stderr, gone when the work is done."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )


def check_plot(path: Path | None, svg_needs_none: bool = False) -> None:
    """Refuse, before any work, a plot that could not be drawn, without matplotlib as a rule."""
    if path is None:
        return
    if path.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise typer.BadParameter(f"{path} must end in .png, .pdf or .svg", param_hint="--plot")
    check_folder(path, "--plot")
    if not (svg_needs_none and path.suffix.lower() == ".svg"):
        check_matplotlib("--plot")


def check_matplotlib(option: str) -> None:
    """Refuse, before any work, what could not be drawn."""
    try:
        import matplotlib  # noqa: F401 - asked for before the work, so that none is lost
    except ImportError:
        raise typer.BadParameter(
            "it needs matplotlib: pip install 'tenfold[plot]'", param_hint=option
        ) from None


def check_folder(path: Path | None, option: str) -> None:
    """Refuse, before any work, a file in a folder that is not there."""
    if path is not None and not path.parent.is_dir():
        raise typer.BadParameter(f"the folder {path.parent} does not exist", param_hint=option)


class Precision(str, Enum):
    """The dtypes of convolutions, by name."""

    float32 = "float32"
    float64 = "float64"
    bfloat16 = "bfloat16"
    float16 = "float16"

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = getattr(torch, self.value)
        return dtype


Shape = Annotated[
    list[int] | None,
    typer.Argument(metavar="[IN OUT K]", help="Channels and kernel size of one layer."),
]
Size = Annotated[str, typer.Option("--size", help="Spatial size of its input, as 56 or 56,28.")]
Batch = Annotated[int, typer.Option("--batch", min=1, help="Images at once.")]
Stride = Annotated[int, typer.Option("--stride", min=1)]
Groups = Annotated[int, typer.Option("--groups", min=1)]
Model = Annotated[
    str | None,
    typer.Option("--model", help="module:factory of a model, whose layers count instead."),
]
Input = Annotated[
    list[str] | None,
    typer.Option("--input", help="Shape of the model's input, as 1,3,224,224; once for each."),
]
Ranks = Annotated[
    list[str] | None,
    typer.Option("--rank", help="'same', a fraction of the parameters or a rank; may be repeated."),
]
Align = Annotated[
    int | None, typer.Option("--align", min=1, help="Round ranks to multiples, as 16.")
]
Formats = Annotated[
    list[str] | None, typer.Option("--factorization", help="Only this one; may be repeated.")
]
Runtime = Annotated[str, typer.Option("--runtime", help="Where it runs, as onnxruntime.")]
Device = Annotated[str, typer.Option("--device", help="As cpu or cuda.")]
Dtype = Annotated[Precision, typer.Option("--dtype")]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="PyTorch's by default.")]


def read_device(text: str) -> torch.device:
    """A device that is there."""
    try:
        return torch.empty(0, device=text).device
    except (RuntimeError, AssertionError) as fault:
        words = str(fault).splitlines()[0]
        raise typer.BadParameter(f"{text!r}: {words}", param_hint="--device") from None


def read_shape(
    shape: Sequence[int] | None, size: str, batch: int, stride: int, groups: int
) -> tuple[nn.Module, tuple[int, ...]]:
    """A convolution that keeps the size but for its stride, and the shape of its input."""
    if not shape or len(shape) != 3:
        raise typer.BadParameter("give IN OUT K, as 64 64 3, or --model", param_hint="IN OUT K")
    sizes = read_numbers(size, "--size")
    sizes = sizes * 2 if len(sizes) == 1 else sizes
    if len(sizes) > len(PLAIN):
        raise typer.BadParameter(f"{size!r} has more than 3 axes", param_hint="--size")
    inner, outer, kernel = shape
    make = PLAIN[len(sizes) - 1]
    try:
        conv = make(inner, outer, kernel, stride=stride, padding=kernel // 2, groups=groups)
    except (ValueError, RuntimeError) as fault:
        raise typer.BadParameter(str(fault), param_hint="IN OUT K") from None
    return conv, (batch, inner, *sizes)


def read_ranks(ranks: Sequence[str] | None, align: int | None, default: Sequence[str]) -> list[Any]:
    """The ranks asked for, checked."""
    found = []
    for text in ranks or default:
        rank = read_rank(text)
        try:
            rank = rank if align is None or isinstance(rank, int) else Multiple(align, of=rank)
            FactorizedKernel.new((4, 4, 3, 3), rank=rank, factorization="tucker")
        except (ValueError, TypeError) as fault:
            raise typer.BadParameter(str(fault), param_hint="--rank") from None
        found.append(rank)
    return found


def read_names(names: Sequence[str] | None, registry: Registry[Any], option: str) -> list[str]:
    """The plugins asked for, by name; all without any."""
    for name in names or ():
        try:
            registry[name]
        except (ValueError, PluginError) as fault:
            raise typer.BadParameter(str(fault), param_hint=option) from None
    return [name.lower() for name in names or registry.names()]


def read_inputs(
    inputs: Sequence[str] | None, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, ...]:
    """Random inputs of a model, of the shapes asked for."""
    if not inputs:
        raise typer.BadParameter("--model needs it, as --input 1,3,224,224", param_hint="--input")
    generator = torch.Generator().manual_seed(0)
    shapes = [read_numbers(text, "--input") for text in inputs]
    return tuple(torch.randn(one, generator=generator).to(device, dtype) for one in shapes)


@contextmanager
def check_inputs() -> Iterator[None]:
    """Refuse, by their option, inputs that the model does not run on."""
    try:
        yield
    except (RuntimeError, TypeError, ValueError, IndexError) as fault:
        raise typer.BadParameter(
            f"the model does not run on them: {fault}", param_hint="--input"
        ) from None
