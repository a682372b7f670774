"""A number of channels as a product, for modes that are split."""

from __future__ import annotations

from ..arguments import check_count


def balanced(size: int, parts: int) -> tuple[int, ...]:
    """Write `size` as a product of so many `parts` as near to each other as its divisors allow.

    The largest come last. Raises `ValueError` or `TypeError` for what is no int of at least 1.

    >>> balanced(512, 3), balanced(60, 2), balanced(7, 2)
    ((8, 8, 8), (6, 10), (1, 7))
    """
    check_count("size", size)
    check_count("parts", parts)
    found = []
    for left in range(parts, 1, -1):
        part = round(size ** (1 / left))
        while part**left > size:
            part -= 1
        while size % part:
            part -= 1
        found.append(part)
        size //= part
    return tuple(sorted([*found, size]))
