"""Every layer of a model at once: replaced, tuned, made plain, watched on its inputs.

Imports `layer` and what is below it. Used by compression and the commands.
"""

from .moments import measure_moments
from .onnx import open_axes, to_onnx
from .plain_model import to_plain
from .replace import replace_convolutions, substitute
from .tuning import open_layers, seen_by, tune
from .workload import Seen, seen_inputs

__all__ = [
    "Seen",
    "measure_moments",
    "open_axes",
    "open_layers",
    "replace_convolutions",
    "seen_by",
    "seen_inputs",
    "substitute",
    "to_onnx",
    "to_plain",
    "tune",
]
