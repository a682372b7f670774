"""Whether a file gives what its network gives."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..compression.running import Difference, Flat, inputs_of, tensors
from ..plugin import Ready
from .files import Inputs

CLOSE = 1e-3  # relative: the file computes in the same precision
MORE = 4  # by which a size is made larger: networks halve it a few times


def change(run: Ready, batches: Sequence[Inputs], wanted: Sequence[Sequence[Tensor]]) -> float:
    """The relative change of a network's outputs, on all batches, where it runs.

    Raises `ValueError`, with its shape, for one that does not run there.
    """
    found = Difference()
    for inputs, outputs in zip(batches, wanted, strict=True):
        try:
            given = tuple(torch.as_tensor(one) for one in run(*inputs))
        except Exception as fault:
            shapes = ", ".join(str(tuple(x.shape)) for x in inputs)
            raise ValueError(
                f"the file does not run on inputs of shape {shapes}: {fault}"
            ) from fault
        found.add(tensors(outputs), tensors(given))
    return found.relative


def open_of(run: Ready, network: Flat, inputs: Inputs) -> tuple[str, ...]:
    """What of the inputs may have another size in a file: `"batch"`, `"sizes"`."""
    others = {"batch": tuple(torch.cat([x, x[:1]]) for x in inputs if x.dim())}
    if any(_is_spatial(x) for x in inputs):
        others["sizes"] = tuple(_larger(x) for x in inputs)
    return tuple(name for name, given in others.items() if _agree(run, network, given))


def _agree(run: Ready, network: Flat, given: Inputs) -> bool:
    try:
        return change(run, [given], [network(*given)]) < CLOSE
    except Exception:  # whatever the network, or a runtime, says to a size that it does not take
        return False


def _is_spatial(x: Tensor) -> bool:
    return x.dim() > 2 and x.is_floating_point()


def _larger(x: Tensor) -> Tensor:
    """The same with its first rows and columns once more at its end."""
    for axis in range(2, x.dim()) if _is_spatial(x) else ():
        x = x.index_select(axis, torch.arange(x.shape[axis] + MORE) % x.shape[axis])
    return x


def all_inputs(batches: Sequence[object]) -> list[Inputs]:
    """The tensors of each batch, on the CPU."""
    return [tuple(x.cpu() for x in inputs_of(batch)) for batch in batches]
