"""The demonstration: a trained network and real images, every format run every way.

Imports any room but the commands. Used by the command `tenfold demo`; it carries data, so it is
imported when asked for.
"""

from .run import LeftOut, Measured, check_rank, run_demo
from .show import demo_table, draw_demo

__all__ = ["LeftOut", "Measured", "check_rank", "demo_table", "draw_demo", "run_demo"]
