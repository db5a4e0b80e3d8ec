"""Tables and numbers for people."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any


def counted(number: int, noun: str) -> str:
    """A number with its noun: 1 template, 2 templates."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Rows under a header in aligned columns; numbers to the right, floats with four digits."""
    cells = [[_text(value) for value in row] for row in rows]
    widths = [max(map(_width, column)) for column in zip(header, *cells, strict=True)]
    right = [
        bool(rows) and all(isinstance(row[at], (int, float)) for row in rows) for at in range(len(header))
    ]
    lines = [list(header), ["-" * width for width in widths], *cells]
    return "\n".join(
        "  ".join(
            _aligned(cell, width, end) for cell, width, end in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def _text(value: Any) -> str:
    if value is None:
        return "-"
    text = f"{value:.4f}" if isinstance(value, float) else str(value)
    # An id or a file name may hold anything; a terminal must not act on it.
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _aligned(cell: str, width: int, right: bool) -> str:
    space = " " * (width - _width(cell))
    return space + cell if right else cell + space


def _width(text: str) -> int:
    """Columns on a terminal: wide characters take two, combining ones none."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )
