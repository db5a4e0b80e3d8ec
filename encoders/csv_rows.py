"""The rows of CSV files as people write them: the separator is found, quotes are read leniently."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path

from encoders.errors import DatasetError

_END = "."  # a row of its own after the last one, unless a quote is open there


@dataclass(frozen=True, slots=True)
class Row:
    """`number` counts rows and `line` the lines they begin in, both from 1; a cell may hold line ends."""

    number: int
    line: int
    cells: list[str]


def read(path: Path, text: str) -> list[Row]:
    """The rows that are not blank. DatasetError names the one in which a quote is opened and not closed.

    `"Heroes" (live)` is the cell `Heroes (live)`, as the csv module reads it. But where a row goes on over
    line ends, whatever follows the closing quote shows that it was another cell's, and rows were swallowed.
    """
    delimiter = _delimiter(text)
    lines = list(io.StringIO(f"{text}\n{_END}", newline=""))  # the csv module reads line ends itself
    reader = csv.reader(lines, delimiter=delimiter)
    rows, number, done = [], 0, 0  # rows and lines that are read
    try:
        for cells in reader:
            if reader.line_num > done + 1:
                _refuse_torn(lines[done : reader.line_num], delimiter)
            number += 1
            rows.append(Row(number, done + 1, cells))
            done = reader.line_num
    except csv.Error as exc:
        raise DatasetError(
            f"{path}: row {number + 1} is not a whole row of a CSV, from line {done + 1} on ({exc}): look "
            'there for a quote that is opened and not closed; quotes in a cell are written """so"" it is"'
        ) from exc
    return [row for row in rows[:-1] if row.cells]


def _refuse_torn(lines: list[str], delimiter: str) -> None:
    """csv.Error where the quotes of a row over several lines are not closed right before a separator."""
    spaced = re.compile(rf'" +(?=[{delimiter}\r\n])')  # spaces after a closing quote swallow nothing
    list(csv.reader([spaced.sub('"', line) for line in lines], delimiter=delimiter, strict=True))


def _delimiter(text: str) -> str:
    """The comma, semicolon or tab that cuts the first row into most columns."""

    def width(delimiter: str) -> int:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        try:
            return len(next((row for row in rows if row), []))
        except csv.Error:  # told once the rows are read
            return 0

    return max(",;\t", key=width)


def text(path: Path) -> str:
    """The whole file, with its line ends as they are. DatasetError where it is no text, or cannot be read."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return file.read()
    except UnicodeDecodeError as exc:
        raise DatasetError(f"{path} is not UTF-8 text: {exc}") from exc
    except OSError as exc:
        raise DatasetError(f"{path} cannot be read: {exc.strerror or exc}") from exc
