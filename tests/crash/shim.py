"""The file layer of shim.c: compiling it, its settings, and what it recorded."""

from __future__ import annotations

import ctypes
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")

# What each error of the kernel can come from.
KINDS = {
    "ENOSPC": "create write grow mkdir rename link",
    "EIO": "create write grow truncate sync unlink mkdir rename",
    "EROFS": "create write grow truncate unlink mkdir rmdir rename link",
}


@dataclass(frozen=True, slots=True)
class Operation:
    """One line of the trace."""

    number: int
    """From 1; 0 for what is not counted: acknowledgements, and opening a file that is there."""
    kind: str
    handle: int
    offset: int
    result: int
    path: str
    other: str
    data: bytes


def unavailable() -> str | None:
    """Why the layer cannot be used here; None when it can."""
    if sys.platform != "linux" or struct.calcsize("P") != 8:
        return "the file layer is for 64-bit Linux"
    return None if _compiler() else "the file layer needs a C compiler"


def _compiler() -> str | None:
    return shutil.which("gcc") or shutil.which("cc")


def build(folder: Path) -> Path:
    """Compiles the layer into a folder."""
    library = folder / "shim.so"
    compiler = _compiler()
    assert compiler is not None
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"], check=True)
    return library


def settings(
    root: Path,
    *,
    trace: Path | None = None,
    at: int = 0,
    action: str = "",
    error: int = 0,
    kinds: str = "",
    sticky: bool = False,
) -> dict[str, str]:
    """The environment for a run on the folder `root`, whose file `ack` is the acknowledgements."""
    return {
        "CRASH_ROOT": str(root),
        "CRASH_ACK": str(root / "ack"),
        "CRASH_TRACE": str(trace or ""),
        "CRASH_AT": str(at),
        "CRASH_ACTION": action,
        "CRASH_ERRNO": str(error),
        "CRASH_KINDS": kinds,
        "CRASH_STICKY": str(int(sticky)),
        # The kernel outlives the process, so a kill tests nothing that an fsync would cost time for.
        "CRASH_NOSYNC": "1",
    }


OFF = settings(Path("/nowhere"), trace=None) | {"CRASH_ROOT": ""}


@cache
def _loaded() -> ctypes.CDLL:
    """The layer as it is preloaded into this process."""
    return ctypes.CDLL(os.environ["LD_PRELOAD"])


def restart(environment: dict[str, str]) -> None:
    """Makes the layer of this process start over with other settings."""
    os.environ.update(environment)
    _loaded().shim_restart()


def heal() -> None:
    """Nothing fails any more."""
    _loaded().shim_heal()


def operations(trace: Path) -> list[Operation]:
    """Everything recorded, in order."""
    return list(_parsed(trace.read_bytes()))


def _parsed(content: bytes) -> Iterator[Operation]:
    at = 0
    while at < len(content):
        end = content.index(b"\n", at)
        head, path, other = content[at:end].decode().split("\t")
        number, kind, handle, offset, length, result = head.split(" ")
        data = content[end + 1 : end + 1 + int(length)]
        at = end + 1 + int(length)
        written = data[: int(result)] if kind in ("write", "ack") else data
        yield Operation(int(number), kind, int(handle), int(offset), int(result), path, other, written)
