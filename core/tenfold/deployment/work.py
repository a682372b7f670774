"""The files of one export: each written, made ready, checked, and all timed in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from math import inf
from pathlib import Path

import torch

from ..compression.running import Flat
from ..model import to_onnx
from ..plugin import Ready
from ..tuning import in_turn, worker
from .checking import CLOSE, change
from .dense import is_factorized, to_dense
from .evening import evened
from .exported import Variant
from .files import Inputs, opened, size_of, write, write_onnx
from .int8 import quantized, simplified, weighted

DENSE, FACTORIZED, INT8 = "dense", "factorized", "int8"


class Work:
    """A network in its variants, each in a folder of its own under `folder`.

    `batches` are what it is checked on, the first what it is timed on.
    """

    def __init__(
        self, network: Flat, batches: list[Inputs], folder: Path, name: str, runtime: str
    ) -> None:
        self.network, self.batches, self.runtime = network, batches, runtime
        self.folder, self.name = folder, name
        self.own = FACTORIZED if is_factorized(network) else DENSE
        self.wanted = [network(*inputs) for inputs in batches]
        self.files: dict[str, Path] = {}
        self.runs: dict[str, Ready] = {}
        self.errors: dict[str, float] = {}
        self.left: tuple[str, ...] = ()  # in float32, of those with weights

    def write(self) -> None:
        """The network, and what it would be without factorized layers.

        Raises `ValueError` where it cannot be written, or the file gives something else.
        """
        example = self.batches[0]
        if self.own == FACTORIZED:
            self._add(DENSE, partial(write, to_dense(self.network), example))
        self._add(self.own, partial(write, self.network, example))
        error = self._check(self.own)
        if not error < CLOSE:
            raise ValueError(
                f"in {self.runtime} the file changes the output by {error:.2g} of its size: the "
                "network decides by its input, or does what exporting does not know"
            )

    def quantize(self, most: float | None) -> None:
        """The network in int8, but for layers that cost so much that the output changes by more.

        Raises `ValueError` where that does not help.
        """
        even = evened(self.network, self.batches)
        model = simplified(to_onnx(even, self.batches[0], dynamic=True))
        error = self._rounded(model)
        if most is None or error <= most:
            return
        least, costs = error, self._costs(model)
        for names in fewer(costs, error, most):
            error = self._rounded(model, names)
            if error <= most:
                return
            least = min(least, error)
        raise ValueError(
            f"int8=True changes the output by {least:.2g} of its size, more than max_error={most:g}"
            f": ask for {least:.2g}, give more calibration, or leave it out"
        )

    def _rounded(self, model: bytes, left: tuple[str, ...] = ()) -> float:
        """How a network changes the output in int8, some layers `left` as they are."""
        self.left = left
        self._add(INT8, partial(write_onnx, quantized(model, self.batches, left)))
        return self._check(INT8)

    def _costs(self, model: bytes) -> dict[str, float]:
        """How each layer with weights changes the output alone, on the example."""
        some, found = self.batches[:1], {}
        place = self.folder / "alone.onnx"
        for name in weighted(model):
            write_onnx(quantized(model, some, only=[name]), place)
            found[name] = change(opened("onnxruntime", place), some, self.wanted[:1])
        return found

    def variants(self) -> tuple[Variant, ...]:
        """All of them, timed; raises `ValueError` where int8 makes the network slower."""
        times = self.times()
        if INT8 in times and times[INT8] > times[self.own]:
            times = self.times()  # other processes may have had a part in it
        if INT8 in times and times[INT8] > times[self.own]:
            raise ValueError(
                f"int8=True is slower in {self.runtime}: {times[INT8]:.3f} ms for "
                f"{times[self.own]:.3f}; leave it out"
            )
        return tuple(
            Variant(name, size_of(path), times[name], self.errors.get(name))
            for name, path in self.files.items()
        )

    def times(self) -> dict[str, float]:
        """Milliseconds of a run on the example, of each, in turn."""
        runs = [partial(run, *self.batches[0]) for run in self.runs.values()]
        found = in_turn(runs, torch.device("cpu"), hopeless=inf, by=worker(self.runtime))
        return {name: one.milliseconds for name, one in zip(self.runs, found, strict=True)}

    def _add(self, name: str, write: Callable[[Path], None]) -> None:
        place = self.folder / name
        place.mkdir(exist_ok=True)
        self.runs.pop(name, None)  # what is open there is written anew
        self.files[name] = place / self.name
        write(self.files[name])
        self.runs[name] = opened(self.runtime, self.files[name])

    def _check(self, name: str) -> float:
        self.errors[name] = change(self.runs[name], self.batches, self.wanted)
        return self.errors[name]


def fewer(costs: Mapping[str, float], error: float, most: float) -> Iterator[tuple[str, ...]]:
    """Which layers to leave, most costly first: as many as should do, then ever twice as many.

    Their errors are taken to be independent, so that squares add up. Some layer is never left.
    """
    names = sorted(costs, key=lambda name: -costs[name])
    count, rest = 0, error**2
    while rest > most**2 and count < len(names) - 1:
        rest -= costs[names[count]] ** 2
        count += 1
    while 0 < count < len(names):
        yield tuple(names[:count])
        count = max(count + 1, min(2 * count, len(names) - 1))
