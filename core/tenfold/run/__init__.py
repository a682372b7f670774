"""A partition becomes convolutions: stages, plans, padding and layouts, what is kept in eval.

Imports `network` and `plugin`. Used by `tuning`, which times plans, and by layers, which run them.
"""

from ..network import ELEMENT
from .added import Added, Merged, memory_format_of
from .apart import with_apart
from .chain import Chain, lower
from .choices import ways
from .convolve import (
    LAID_OUT,
    TORCH_ORDER,
    channels_last,
    in_format,
    is_channels_last,
    is_column,
    prepare,
    tap,
)
from .differentiable import follow_learning
from .eight_bits import Stored, dense_in_eight_bits, in_eight_bits
from .eval_cache import EvalCache, Kept, is_transformed, may_keep
from .evening import by_channel, part_evenly
from .layout import Before, lay_out, surround, surround_learning
from .padding import Sides, pad, same
from .planning import ask, make_plan
from .spelling import PLAIN, TRANSPOSED, block_diagonal, modules_of
from .stage import Permutation

__all__ = [
    "ELEMENT",
    "LAID_OUT",
    "PLAIN",
    "TORCH_ORDER",
    "TRANSPOSED",
    "Added",
    "Before",
    "Chain",
    "EvalCache",
    "Kept",
    "Merged",
    "Permutation",
    "Sides",
    "Stored",
    "ask",
    "block_diagonal",
    "by_channel",
    "channels_last",
    "dense_in_eight_bits",
    "follow_learning",
    "in_eight_bits",
    "in_format",
    "is_channels_last",
    "is_column",
    "is_transformed",
    "lay_out",
    "lower",
    "make_plan",
    "may_keep",
    "memory_format_of",
    "modules_of",
    "pad",
    "part_evenly",
    "prepare",
    "same",
    "surround",
    "surround_learning",
    "tap",
    "ways",
    "with_apart",
]
