"""A network in eight bits, by ONNX Runtime's own quantizer."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from .files import Inputs

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# and what passes eight bits on, or adds them; other functions need more of them than they save
ROUNDED = (*WEIGHTED, "Relu", "Clip", "MaxPool", "AveragePool", "GlobalAveragePool", "Add")


def simplified(model: bytes) -> bytes:
    """A network as the quantizer wants it, with what one operator can do in one.

    Raises `ValueError` without the package, and for what it cannot take.
    """
    try:
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError:
        raise ValueError(
            "int8=True needs ONNX Runtime: pip install 'tenfold[onnxruntime]'"
        ) from None
    with TemporaryDirectory() as folder, _silent():
        place = Path(folder, "given.onnx")
        place.write_bytes(model)
        try:
            quant_pre_process(place, place, skip_symbolic_shape=True)
        except Exception as fault:  # of many classes
            raise _refusal(fault) from fault
        return place.read_bytes()


def weighted(model: bytes) -> list[str]:
    """The names of a simplified network's operators that have weights."""
    import onnx

    graph = onnx.load_from_string(model).graph
    held = {one.name for one in graph.initializer}
    return [n.name for n in graph.node if n.op_type in WEIGHTED and held & {*n.input}]


def quantized(
    model: bytes,
    batches: Sequence[Inputs],
    left: Sequence[str] = (),
    only: Sequence[str] | None = None,
) -> bytes:
    """Static quantization of a simplified network: the ranges of activations are those on the
    batches.

    Weights have a scale for each output channel; weights and activations are rounded in the graph
    (QDQ), by the least and the largest value (Jacob et al. 2018, arXiv 1712.05877). Operators named
    in `left` stay in float32, or all but those in `only`. Raises `ValueError` for what it cannot
    quantize.
    """
    from onnxruntime import quantization

    with TemporaryDirectory() as folder, _silent():
        given, made = Path(folder, "given.onnx"), Path(folder, "made.onnx")
        given.write_bytes(model)
        try:
            quantization.quantize_static(
                given,
                made,
                _reader(quantization.CalibrationDataReader, given, batches),
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=[*ROUNDED],
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                nodes_to_exclude=[*left],
                nodes_to_quantize=None if only is None else [*only],
            )
        except Exception as fault:  # of many classes
            raise _refusal(fault) from fault
        return made.read_bytes()


def _refusal(fault: Exception) -> ValueError:
    return ValueError(f"int8=True: ONNX Runtime's quantizer does not take the network ({fault})")


def _reader(interface: Any, path: Path, batches: Sequence[Inputs]) -> Any:
    import onnx

    names = [one.name for one in onnx.load(path, load_external_data=False).graph.input]
    feeds = iter([{n: x.numpy() for n, x in zip(names, one, strict=True)} for one in batches])
    kind = type("Reader", (interface,), {"get_next": lambda self: next(feeds, None)})
    return kind()


class _silent:  # noqa: N801 - used as a function
    """Without the quantizer's advice on the log, which was followed."""

    def __enter__(self) -> None:
        self.before = logging.root.manager.disable
        logging.disable(logging.WARNING)

    def __exit__(self, *_: object) -> None:
        logging.disable(self.before)
