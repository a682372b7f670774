"""Memory of the C library, kept from one call to the next."""

from __future__ import annotations

from functools import cache

import torch

KEPT = 2**25 - 2**16  # bytes: the largest block that glibc takes note of, with its own header


@cache
def keep_memory() -> None:
    """Have glibc keep what is given back, up to twice `KEPT`, once for the process.

    It maps blocks above a threshold into memory anew and returns them as they are freed, so that
    each call of a layer touches all pages of its outputs for the first time. The threshold rises to
    the largest block that was freed, up to 32 MiB (mallopt(3), M_MMAP_THRESHOLD): such a one is
    asked for, not touched, and given back. Elsewhere, and where the environment sets the threshold,
    this does nothing.
    """
    torch.empty(KEPT, dtype=torch.uint8, device="cpu")
