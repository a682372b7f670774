"""Choices kept between runs: one small JSON file for each situation, and the same in memory.

A file is written beside its place and moved there, so that several processes may write at once and
a reader sees a whole file or none. What cannot be read is measured again and replaced.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from pathlib import Path

from platformdirs import user_cache_path
from pydantic import ValidationError

from .decision import Decision, Situation

CACHE = "TENFOLD_CACHE"
LARGEST = 2**20  # bytes of a choice that are read
_memory: dict[str, Decision] = {}  # by the situation's digest
_warned: set[str] = set()


def cache_folder() -> Path | None:
    """Where choices are kept: `TENFOLD_CACHE`, or the user's cache; None where that is `off`."""
    asked = os.environ.get(CACHE, "")
    if asked.lower() == "off":
        return None
    return Path(asked).expanduser() if asked else user_cache_path("tenfold", appauthor=False)


def recall(situation: Situation) -> Decision | None:
    """The choice for a situation, if there is one.

    Warns, once a folder, of a damaged file.
    """
    known = _memory.get(situation.digest)
    if known is not None:
        return known
    path = _path(situation)
    if path is None:
        return None
    try:
        if not path.is_file():  # a pipe or a device would be read for ever
            return None
        with path.open("rb") as file:
            decision = Decision.model_validate_json(file.read(LARGEST))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValidationError) as fault:
        _warn(f"{path} is damaged or cannot be read, and measured anew: {_first_line(fault)}")
        return None
    way = decision.implementation or decision.partition
    if decision.situation != situation or way not in situation.candidates:
        _warn(f"{path} is damaged, and measured anew: it is about something else")
        return None
    _memory[situation.digest] = decision
    return decision


def remember(situation: Situation, decision: Decision) -> None:
    """Keep a choice, in memory and on disk.

    Warns, once a folder, where the folder cannot be written to.
    """
    _memory[situation.digest] = decision
    path = _path(situation)
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, decision.model_dump_json(indent=1))
    except OSError as fault:
        _warn(
            f"no choice is kept in {path.parent}: {fault}; set {CACHE} to a folder that can be "
            "written to, or to off"
        )


def clear() -> int:
    """Delete all choices that are kept, in memory and on disk; how many files those were.

    Raises `OSError` where one cannot be deleted.
    """
    forget()
    folder = cache_folder()
    found = [] if folder is None else sorted((folder / "tuning").glob("*.json"))
    for path in found:
        path.unlink(missing_ok=True)
    return len(found)


def forget() -> None:
    """Forget what is in memory; the files stay."""
    _memory.clear()
    _warned.clear()


def _path(situation: Situation) -> Path | None:
    folder = cache_folder()
    return None if folder is None else folder / "tuning" / f"{situation.digest}.json"


def _write(path: Path, text: str) -> None:
    number, name = tempfile.mkstemp(suffix=".part", dir=path.parent)
    try:
        with open(number, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(name, path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


def _warn(message: str) -> None:
    folder = str(cache_folder())
    if folder not in _warned:
        _warned.add(folder)
        warnings.warn(message, RuntimeWarning, stacklevel=4)


def _first_line(fault: Exception) -> str:
    return str(fault).splitlines()[0]
