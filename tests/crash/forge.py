"""One process that has imported everything, opens nothing, and forks a child for every run.

Started with the file layer preloaded; a fork costs a few milliseconds where an interpreter costs most of a
second. Each line of its input is {"call": "module:function", "arguments": {...}}; it answers each with a line
{"exit": code, or minus the signal, "error": traceback}.
"""

from __future__ import annotations

import importlib
import json
import os
import queue
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gallery
from tests.crash import shim

ROOT = Path(__file__).resolve().parents[2]


class Forge:
    """The process, from outside."""

    def __init__(self, library: Path, scratch: Path) -> None:
        environment = os.environ | shim.OFF | {"PYTHONPATH": str(ROOT), "LD_PRELOAD": str(library)}
        # A pool of threads does not survive a fork. The scratch folder is where nothing is counted.
        environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TMPDIR": str(scratch)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.forge"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
            cwd=ROOT,
        )

    def call(self, function: str, **arguments: Any) -> dict[str, Any]:
        """Calls "module:function" in a child: {"exit": ..., "error": ...}."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps({"call": function, "arguments": arguments}), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        assert answer, "the forge has died"
        return dict(json.loads(answer))

    def close(self) -> None:
        self._process.communicate()


class Forges:
    """Two of them, for two cores."""

    def __init__(self, library: Path, scratch: Path) -> None:
        self.all = [Forge(library, scratch) for _ in range(2)]
        self._free: queue.SimpleQueue[Forge] = queue.SimpleQueue()
        for forge in self.all:
            self._free.put(forge)

    def call(self, function: str, **arguments: Any) -> dict[str, Any]:
        """As `Forge.call`, in one that is free."""
        forge = self._free.get()
        try:
            return forge.call(function, **arguments)
        finally:
            self._free.put(forge)

    def each(self, work: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        """work(item) for each, two at a time, in order."""
        with ThreadPoolExecutor(len(self.all)) as pool:
            return list(pool.map(work, items))

    def close(self) -> None:
        for forge in self.all:
            forge.close()


def main() -> None:
    """Forks until the input ends."""
    # Imported once, here, so that no child spends time on it.
    for module in ("faiss", "tests.crash.script", "tests.crash.verify", "tests.crash.power"):
        importlib.import_module(module)
    for name in gallery.__all__:
        getattr(gallery, name)
    for line in sys.stdin:
        print(json.dumps(_forked(json.loads(line))), flush=True)


def _forked(request: dict[str, Any]) -> dict[str, Any]:
    ends = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ends[0])
        _become(request, ends[1])
    os.close(ends[1])
    with os.fdopen(ends[0], "rb") as errors:
        error = errors.read().decode()
    return {"exit": os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), "error": error}


def _become(request: dict[str, Any], errors: int) -> None:
    """The child: makes the call and ends, whatever happens."""
    code = 1
    try:
        module, function = request["call"].split(":")
        getattr(importlib.import_module(module), function)(**request["arguments"])
        code = 0
    except BaseException:
        shim.restart(shim.OFF)
        os.write(errors, traceback.format_exc(limit=-3).encode())
    finally:
        os._exit(code)


if __name__ == "__main__":
    main()
