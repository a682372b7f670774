"""Out of the house: files that other programs run, checked and timed where they will run.

Imports `model`, `compression` and what is below them. Used by the command `tenfold export`.
"""

from .exported import Exported
from .exporting import export

__all__ = ["Exported", "export"]
