"""Items that lie in files of their own: arrays in .npy, texts in .txt."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

ARRAYS = frozenset({".npy"})
TEXTS = frozenset({".txt"})
_MAGIC = b"\x93NUMPY"


def array_in(path: str | os.PathLike[str]) -> Any:
    """The array of a .npy file; ValueError for a file that is none, is cut off, or holds Python objects."""
    try:
        _refuse_others(path)
        # Mapped: a file that claims more than it holds is refused before there is room made for it.
        # And copied: a map keeps its file open, and there are as many as items.
        return np.array(np.load(path, mmap_mode="r", allow_pickle=False))
    except OSError as exc:
        raise ValueError(f"cannot be read: {exc.strerror or exc}") from exc
    except Exception as exc:  # a damaged header can raise nearly anything: numpy has it read as Python
        raise ValueError(f"not a whole .npy file of a plain array: {exc}") from exc


def _refuse_others(path: str | os.PathLike[str]) -> None:
    """ValueError for what numpy opens too and is no .npy: of a zip it would keep the file open."""
    with Path(path).open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise ValueError("it does not begin as one")


def text_in(path: str | os.PathLike[str]) -> str:
    """The text of a file of UTF-8; ValueError for one that cannot be read or is none."""
    try:
        return Path(path).read_bytes().decode("utf-8-sig")
    except OSError as exc:
        raise ValueError(f"cannot be read: {exc.strerror or exc}") from exc
    except UnicodeDecodeError as exc:
        raise ValueError(f"is no text of UTF-8: byte {exc.start:,} is {exc.object[exc.start]:#04x}") from exc
