"""`import tltorch` gives the names here."""

from __future__ import annotations

import sys

HERE = __package__ or "tenfold.tltorch"
THEIRS = "tltorch"


def stand_in() -> None:
    """From now on, in this process, `import tltorch` and what is in it give the names here.

    Raises `RuntimeError` where TensorLy-Torch was imported before, whose objects would be mixed
    with these.

    >>> import tenfold.tltorch
    >>> tenfold.tltorch.stand_in()  # doctest: +SKIP
    """
    before = sys.modules.get(THEIRS)
    if before is not None and before is not sys.modules[HERE]:
        raise RuntimeError("tltorch is imported already: call stand_in() before what imports it")
    for name in [name for name in sys.modules if f"{name}.".startswith(f"{HERE}.")]:
        sys.modules[THEIRS + name.removeprefix(HERE)] = sys.modules[name]
