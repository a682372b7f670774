"""From a rank request and a kernel to a network and its factors: the one way in to every format.

Imports `network`, `algebra` and `plugin`. Used by tensors, by layers and by
compression.
"""

from .decomposition import (
    check_finite,
    decompose,
    unfolded,
    whitening_of,
    with_options,
)
from .drawing import drawn
from .error import relative_error
from .fitting import fit, structure
from .interchange import read_tensorly, write_tensorly
from .rounding import rounded

__all__ = [
    "check_finite",
    "decompose",
    "drawn",
    "fit",
    "read_tensorly",
    "relative_error",
    "rounded",
    "structure",
    "unfolded",
    "whitening_of",
    "with_options",
    "write_tensorly",
]
