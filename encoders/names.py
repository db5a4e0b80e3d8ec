"""Names of items and subjects as text: that any file takes, and that any terminal or page may show."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def written(name: str) -> str:
    r"""The name with each byte that is not UTF-8 as \xNN, as a file name on Linux may have them.

    Python keeps such bytes as lone surrogates, which no UTF-8 file can hold.
    """
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        return name.encode("utf-8", "backslashreplace").decode()


def printable(name: str | os.PathLike[str]) -> str:
    """A name or a path as text that can be printed and encoded anywhere.

    As `written`, and so are control characters and those that change the direction of writing: a terminal
    or a page must not act on a file name.
    """
    text = written(os.fsdecode(name))
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def of_item(item: Any, index: int) -> str:
    """What to call an item in messages: its path or text, else its number."""
    return printable(item) if isinstance(item, str | Path) else f"item {index}"
