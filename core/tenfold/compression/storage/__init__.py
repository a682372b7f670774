"""Networks with factorized layers on disk: saved whole or not at all, loaded into a fresh model.

Imports `reporting`. Used by the commands.
"""

from .directory import check_free
from .files import load, load_report, save
from .manifest import MANIFEST

__all__ = [
    "MANIFEST",
    "check_free",
    "load",
    "load_report",
    "save",
]
