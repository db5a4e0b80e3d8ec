"""Work shared out over threads: plain ones, and those that each run torch on one core."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from gallery.processes import ModuleLock

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")

_LOCK = ModuleLock()
_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}
"""By process, since threads do not survive a fork, and by size."""


def each(work: Callable[[_Task], _Result], tasks: Iterable[_Task]) -> list[_Result]:
    """[work(task), ...], started in that order, on as many threads as torch may use."""
    import torch

    tasks = list(tasks)
    threads = torch.get_num_threads()
    if threads == 1 or len(tasks) < 2:
        return [work(task) for task in tasks]
    return _results(_pool(threads), work, tasks)


def side_by_side(work: Callable[[_Task], _Result], tasks: Iterable[_Task], threads: int) -> list[_Result]:
    """[work(task), ...], on so many threads of its own, for what does not run torch."""
    with ThreadPoolExecutor(threads) as pool:
        return _results(pool, work, list(tasks))


def _results(pool: ThreadPoolExecutor, work: Callable[[_Task], _Result], tasks: list[_Task]) -> list[_Result]:
    """One after another where the interpreter is ending, as in an atexit handler: then no thread starts."""
    try:
        running = pool.map(work, tasks)
    except RuntimeError:
        return [work(task) for task in tasks]
    return list(running)


def _pool(threads: int) -> ThreadPoolExecutor:
    with _LOCK.lock:
        key = os.getpid(), threads
        if key not in _pools:
            _pools[key] = _started(threads)
        return _pools[key]


def _started(threads: int) -> ThreadPoolExecutor:
    import torch

    ready = threading.Barrier(threads)

    def one_core() -> None:
        torch.set_num_threads(1)
        # torch sets a thread up at its first question: without this, it would forget the 1 later on.
        torch.get_num_threads()
        ready.wait()

    pool = ThreadPoolExecutor(threads, "gallery-search", initializer=one_core)
    # Each thread waits for the others, so that all of them are there when these return.
    list(pool.map(lambda _: None, range(threads)))
    # It is a setting of the process too: threads that come later get what they would have had.
    torch.set_num_threads(threads)
    return pool
