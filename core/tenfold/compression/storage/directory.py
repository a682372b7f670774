"""Write a directory so that it is there whole, or as it was."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(directory: Path, names: tuple[str, ...]) -> Iterator[Path]:
    """Give a new directory to write in, which takes the place of `directory` at the end.

    Of what was there before, the files called `names` are replaced and all others kept. Where the
    writing fails, nothing has changed. Raises `FileExistsError` for a file, or for a directory
    that holds other things and not the first of `names`.
    """
    directory = directory.resolve()
    check_free(directory, names[0])
    directory.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    try:
        os.chmod(new, 0o777 & ~_umask())
        yield new
        for path in new.iterdir():
            _flush(path)
        _exchange(new, directory, names)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def check_free(directory: Path, known: str) -> None:
    """Refuse what is no directory, or one that holds other things and not the file `known`."""
    if directory.exists() and not directory.is_dir():
        raise FileExistsError(f"{directory} is a file: give a directory")
    if directory.is_dir() and any(directory.iterdir()) and not (directory / known).exists():
        raise FileExistsError(
            f"{directory} holds other things than a saved network: give a new or empty directory"
        )


def _exchange(new: Path, directory: Path, names: tuple[str, ...]) -> None:
    """Put `new` in the place of `directory`; other files of the old one move over."""
    if not directory.exists():
        os.rename(new, directory)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    os.rename(directory, old)
    try:
        os.rename(new, directory)
    except OSError:
        os.rename(old, directory)
        raise
    for path in old.iterdir():
        if path.name not in names:
            os.rename(path, directory / path.name)
    shutil.rmtree(old)


def _flush(path: Path) -> None:
    """Have the file on the disk before its directory gets its name."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
