"""One contender in a process of its own, for what only a fresh process can show: opening, and memory.

`python -m benchmarks.storage_process ask NAME FOLDER PROBE` opens what is in the folder and answers a probe,
a `.npy` file; `... bulk NAME FOLDER COUNT` fills a new folder with rows made on the way. Prints JSON.
"""

from __future__ import annotations

import importlib
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def run(*arguments: object) -> dict[str, Any]:
    """What such a process prints; RuntimeError with its last words when it fails."""
    command = [sys.executable, "-m", __spec__.name, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError((done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Does what one command line says."""
    begun = time.perf_counter()
    verb, name, folder, last = argv if argv is not None else sys.argv[1:]
    # Not at the top of the file: the time that imports take is part of the result.
    contender = importlib.import_module("benchmarks.storage_rivals").CONTENDERS[name]()
    contender.load()
    imported = time.perf_counter()
    found = {"imports_s": imported - begun, "rss_after_imports_mib": peak_mib()}
    if verb == "ask":
        probe = importlib.import_module("numpy").load(last)
        opened = time.perf_counter()
        found["answer"] = contender.reopen_and_ask(Path(folder), probe)
        found["answer_s"] = time.perf_counter() - opened
    else:
        contender.create(Path(folder))
        contender.bulk(importlib.import_module("benchmarks.storage_data").blocks(int(last)))
    found["private_mib"] = status_mib("RssAnon")
    contender.close()
    found["peak_mib"] = peak_mib()
    print(json.dumps(found), flush=True)
    return 0


def peak_mib() -> float:
    """The most memory this process has had resident.

    Where Linux tells it, not from getrusage: its maximum begins with that of the process that started this.
    """
    peak = status_mib("VmHWM")
    if peak is None:
        unit = 2**20 if sys.platform == "darwin" else 2**10
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    return peak


def status_mib(field: str) -> float | None:
    """A figure of /proc/self/status; RssAnon is what is the process's own now, without mapped files."""
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) / 2**10
    return None


if __name__ == "__main__":
    sys.exit(main())
