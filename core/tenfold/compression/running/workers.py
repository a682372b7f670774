"""Independent tasks, here or on any `concurrent.futures` executor."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, as_completed
from typing import Any, TypeVar

import torch

T = TypeVar("T")
TRIES = 3
LOST = (BrokenExecutor, CancelledError, ConnectionError, EOFError)


def run_all(
    tasks: Mapping[str, Callable[[], T]], executor: Executor | None
) -> Iterator[tuple[str, T]]:
    """Yield each task's name and result, as they are done.

    A task whose worker is lost is given to another, `TRIES` times, and then, or where the executor
    takes no more, run here. Raises `RuntimeError`, naming the layer, where a task fails.
    """
    if executor is None:
        for name, task in tasks.items():
            yield name, _here(name, task)
        return
    pending = dict(tasks)
    for _ in range(TRIES):
        try:
            futures: dict[Future[T], str] = {
                executor.submit(run, task): name for name, task in pending.items()
            }
        except (RuntimeError, *LOST):  # it is broken or shut down
            break
        try:
            for future in as_completed(futures):
                name = futures[future]
                try:
                    result = future.result()
                except Exception as fault:
                    if _is_loss(fault):
                        continue
                    raise _failed(name, fault) from fault
                del pending[name]
                yield name, result
        finally:
            for future in futures:
                future.cancel()
        if not pending:
            return
    for name, task in pending.items():
        yield name, _here(name, task)


def run(task: Callable[[], T]) -> T:
    """Call a task: what is sent to a worker; in a process of its own on one thread.

    The work is spread over processes already, and after a fork the threads of OpenMP are gone: to
    wait for them would never end.
    """
    threads = torch.get_num_threads()
    alone = multiprocessing.parent_process() is not None
    if alone:
        torch.set_num_threads(1)
    try:
        return task()
    finally:
        if alone:
            torch.set_num_threads(threads)


def _here(name: str, task: Callable[[], T]) -> T:
    try:
        return task()
    except Exception as fault:
        raise _failed(name, fault) from fault


def _failed(name: str, fault: BaseException) -> RuntimeError:
    return RuntimeError(f"layer {name!r} failed: {type(fault).__name__}: {fault}")


def _is_loss(fault: Any) -> bool:
    """Whether a worker died; Dask has a class of its own for it."""
    return isinstance(fault, LOST) or type(fault).__name__ == "KilledWorker"
