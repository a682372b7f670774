"""The demonstration: a trained network, real images; compressed whole, and in single formats.

Imports any room but the commands. Used by the command `tenfold demo`; it carries data, so it is
imported when asked for.
"""

from .budgets import run_budgets
from .data import load_cnn, load_images
from .draw import draw_demo
from .formats import check_rank, run_formats
from .measured import LeftOut, Measured, Setting
from .show import budgets_table, formats_table

__all__ = [
    "LeftOut",
    "Measured",
    "Setting",
    "budgets_table",
    "check_rank",
    "draw_demo",
    "formats_table",
    "load_cnn",
    "load_images",
    "run_budgets",
    "run_formats",
]
