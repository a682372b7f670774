"""Networks with factorized layers on disk: saved whole or not at all, loaded into a fresh model.

Imports `reporting`. Used by the commands.
"""

from .directory import check_free
from .files import load, load_report, save
from .layers import SavedLayers, has_report, saved_layers
from .manifest import MANIFEST

__all__ = [
    "MANIFEST",
    "SavedLayers",
    "check_free",
    "has_report",
    "load",
    "load_report",
    "save",
    "saved_layers",
]
