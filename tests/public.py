"""The public names: those of `tenfold`, and those of its rooms that the reference lists."""

import importlib
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs" / "reference").glob("*.md"))
LISTED = [
    name
    for page in PAGES
    for name in re.findall(r"^::: (tenfold\.\S+)$", page.read_text(), re.MULTILINE)
]
"""As `tenfold.FactorizedConv` or `tenfold.algebra.chain_svd`."""


def public_names() -> dict[str, object]:
    """Each listed name and what it is."""
    found = {}
    for name in LISTED:
        module, _, last = name.rpartition(".")
        found[name] = getattr(importlib.import_module(module), last)
    return found
