"""Trying a kind of index out before a gallery is given it, in a process of its own.

FAISS makes many kinds that it can then not train, add to or search, and with some it ends the process.
A gallery that had taken up such a kind would fail, or die, at its first search past so many templates.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from functools import lru_cache

import numpy as np

from gallery.indexes import kinds, library
from gallery.indexes.base import Selection
from gallery.indexes.faiss import FaissIndex
from gallery.vectors import FloatRows, prepare

_PLAIN = re.compile(r"(Flat|HNSW\d+(,Flat)?)")
"""Kinds that are known to do this process no harm; see `kinds.made` for those with too few links."""
_SECONDS = 10.0
"""An ordinary kind takes half a second; one that is merely slow may be had."""
_MEMORY = 4 * 2**30
_BEGUN, _WHY = "begun", "why: "
_ADDED = 600
_MOST_CELLS = 1024
"""So many say as much as more of them, and take a moment."""
_MOST_ROWS = 65536


def rehearse(kind: str, dim: int, metric: str) -> None:
    """ValueError for a kind that FAISS cannot make, train, add to twice, hide from and search.

    Each kind is tried out once in a process; that takes about half a second, but for the plainest.
    """
    library.faiss()
    if _PLAIN.fullmatch(kind):
        try_out(kind, dim, metric)
    elif why := _verdict(kind, dim, metric):
        raise ValueError(why)


def try_out(kind: str, dim: int, metric: str) -> None:
    """The same, here and now: it may end this process."""
    index = kinds.made(kind, dim, metric)
    names = kinds.names(index)
    if any("IDMap" in name for name in names):
        raise ValueError(
            f"an index {kind!r} numbers its vectors itself, and a gallery does that: leave it out"
        )
    if any("NSG" in name for name in names):
        raise ValueError(f"an index {kind!r} cannot grow with a gallery: its graph is built once for all")
    try:
        small = FaissIndex(dim, metric, _with_fewer_cells(kind))
        small.hurry()
        rows = np.random.default_rng(0).standard_normal((_rows(small, dim), dim), np.float32)
        _use(small, prepare(rows, metric))
    except Exception as error:
        why = kinds.reason(error).splitlines() or [type(error).__name__]
        raise ValueError(f"an index {kind!r} cannot be trained and grow with a gallery: {why[0]}") from error


def _with_fewer_cells(kind: str) -> str:
    return re.sub(r"IVF(\d+)", lambda found: f"IVF{min(int(found[1]), _MOST_CELLS)}", kind)


def _rows(index: FaissIndex, dim: int) -> int:
    """On how many rows it can be trained: one for each centroid, and one for each dimension."""
    return max(_ADDED, min(dim, 8192), min(index.centroids, _MOST_ROWS))


def _use(index: FaissIndex, rows: FloatRows) -> None:
    """What a gallery does with an index."""
    if index.lacking:
        index.train(rows, len(rows))
    numbers, rows = np.arange(1, _ADDED + 1), rows[:_ADDED]
    half = _ADDED // 2
    for some in (slice(0, half), slice(half, _ADDED)):
        index.add(numbers[some], rows[some])
        index.search(rows[:20], 3)
    index.remove(numbers[::3])
    for among in (None, Selection(numbers[:30]), Selection(numbers[:half])):
        index.search(rows[:20], 5, among)
    # More than the first cells hold: it looks as hard as it can, and goes through all rows in the end.
    index.search(rows[:5], _ADDED)
    for _ in index.living():
        pass


# -- in a process of its own


@lru_cache(maxsize=256)
def _verdict(kind: str, dim: int, metric: str) -> str:
    """What speaks against a kind; nothing where nothing does, or where that cannot be told in a while."""
    command = [sys.executable, "-P", "-W", "ignore", "-m", __name__, kind, str(dim), metric]
    if not sys.executable or getattr(sys, "frozen", False):
        return ""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, env=_environment(), timeout=_SECONDS
        )
    except (subprocess.TimeoutExpired, OSError):
        return ""
    said = _said(done.stdout)
    if done.returncode == 0 or _BEGUN not in said:
        return next((line.removeprefix(_WHY) for line in said if line.startswith(_WHY)), "")
    return f"an index {kind!r} is of no use: FAISS ends the process with it ({_name(done.returncode)})"


def _environment() -> dict[str, str]:
    """As here, with the modules that are found here, and one thread, which is quicker for so few rows."""
    path = os.pathsep.join(one or str(os.curdir) for one in sys.path)
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def _said(output: bytes | None) -> list[str]:
    return (output or b"").decode(errors="replace").splitlines()


def _name(code: int) -> str:
    with suppress(ValueError):
        return signal.Signals(-code).name
    return f"exit code {code}"


def _limit_this_process() -> None:
    """No more memory than a rehearsal needs, and no core file where it crashes."""
    with suppress(ImportError, AttributeError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))


def main() -> None:
    """Says what speaks against the kind of the arguments, if it lives to say it."""
    kind, dim, metric = sys.argv[1:]
    library.faiss()
    _limit_this_process()
    print(_BEGUN, flush=True)
    why = ""
    try:
        try_out(kind, int(dim), metric)
    except ValueError as error:
        why = str(error)
    print(_WHY + " ".join(why.splitlines()), flush=True)


if __name__ == "__main__":
    main()
