"""Small linear algebra on one thread.

Threads that share a step wait for the slowest of them. On a machine that has other work to do that
is a turn of the processor, some milliseconds, where the step itself takes microseconds: two threads
were 50 to 100 times slower than one, and on a quiet machine little faster.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

SMALL = 2**21  # elements of a matrix: one thread is done with it within a second or two

_lock = threading.Lock()  # guards the two below
_inside = 0  # how many threads work on one thread now
_usual = 1  # what the first of them had
_own = threading.local()  # `known`: this thread has been here before; `inside`: it is here


@contextmanager
def on_one_thread(elements: int) -> Iterator[None]:
    """Let PyTorch compute on one thread, where the largest matrix has but so few `elements`.

    The number of threads is as before afterwards, whatever happens, in each thread that was here.
    Inside another such block nothing is left to do.
    """
    if elements > SMALL or getattr(_own, "inside", False):
        yield
        return
    before = _enter()
    try:
        yield
    finally:
        _leave(before)


def _enter() -> int:
    """Go down to one thread; the number that there was.

    PyTorch keeps the number for each thread, and gives a new one what was set last anywhere: one
    that was made while another is here has got its 1, and is due what that one had.
    """
    global _inside, _usual
    with _lock:
        before = torch.get_num_threads()
        if not _inside:
            _usual = before
        elif before == 1 and not getattr(_own, "known", False):
            before = _usual
        _inside += 1
        _own.known = _own.inside = True
        if before > 1:
            torch.set_num_threads(1)
    return before


def _leave(before: int) -> None:
    global _inside
    with _lock:
        _inside -= 1
        _own.inside = False
        if before > 1:
            torch.set_num_threads(before)
