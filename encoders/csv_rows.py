"""The rows of CSV files as people write them: the separator is found, quotes are read leniently."""

from __future__ import annotations

import csv
import io
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from encoders.errors import DatasetError

_END = "."  # a row of its own after the last one, unless a quote is open there
_LOOKED_AT = 1000  # rows that a separator is told from
_TAB = re.compile(r"[^,;\t]\t+(?![,;\t])")  # tabs that are no spacing beside another separator


@dataclass(frozen=True, slots=True)
class Row:
    """`number` counts rows and `line` the lines they begin in, both from 1; a cell may hold line ends."""

    number: int
    line: int
    cells: list[str]


def read(path: Path, text: str) -> list[Row]:
    """The rows that are not blank, without last columns that are empty throughout.

    DatasetError names the row in which a quote is opened and not closed. `"Heroes" (live)` is the cell
    `Heroes (live)`, as the csv module reads it. But where a row goes on over line ends, whatever follows the
    closing quote shows that it was another cell's, and rows were swallowed.
    """
    with _cells_of_any_length(text):
        return _trimmed(_read(path, text))


def _read(path: Path, text: str) -> list[Row]:
    delimiter = _delimiter(text)
    lines = list(io.StringIO(f"{text}\n{_END}", newline=""))  # the csv module reads line ends itself
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
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
    return [row for row in rows[:-1] if _filled(row.cells)]


def _filled(cells: list[str]) -> bool:
    return any(cell.strip() for cell in cells)


_limit_lock = threading.Lock()


def _forget_other_threads() -> None:
    """In a forked process: the thread that reads is not there."""
    global _limit_lock
    _limit_lock = threading.Lock()


os.register_at_fork(after_in_child=_forget_other_threads)


@contextmanager
def _cells_of_any_length(text: str) -> Iterator[None]:
    """The csv module has one limit for all threads: raised by one at a time, and never lowered."""
    with _limit_lock:
        usual = csv.field_size_limit()
        csv.field_size_limit(max(usual, len(text) + 1))
        try:
            yield
        finally:
            csv.field_size_limit(usual)


def _trimmed(rows: list[Row]) -> list[Row]:
    """Without the empty columns that separators at the ends of rows make."""
    wide = _wide([row.cells for row in rows])
    return [replace(row, cells=row.cells[:wide]) for row in rows]


def _wide(rows: list[list[str]]) -> int:
    """The number of columns, less the last ones that are empty throughout."""
    wide = max(map(len, rows), default=0)
    while wide > 1 and not any(cells[wide - 1].strip() for cells in rows if len(cells) >= wide):
        wide -= 1
    return wide


def _refuse_torn(lines: list[str], delimiter: str) -> None:
    """csv.Error where the quotes of a row over several lines are not closed right before a separator."""
    spaced = re.compile(rf'" +(?=[{delimiter}\r\n])')  # spaces after a closing quote swallow nothing
    unspaced = [spaced.sub('"', line) for line in lines]
    list(csv.reader(unspaced, delimiter=delimiter, strict=True, skipinitialspace=True))


def _delimiter(text: str) -> str:
    """The tab, semicolon or comma that cuts all rows into the same number of columns, the most of these.

    Of two that do, the comma is not it, as it stands in names and in numbers, unless there would be more than
    one in a cell. Where none does, most columns of the first row. Blank rows and empty last columns count for
    nothing, and tabs that only stand beside another separator are spaces.
    """
    cut = {separator: _cut(text, separator) for separator in ("\t;," if _TAB.search(text) else ";,")}
    even = [one for one, rows in cut.items() if len(set(map(len, rows))) == 1 and len(rows[0]) > 1]
    if "," in even and ("\t" in even or (";" in even and _most_commas(cut[";"]) < 2)):
        even.remove(",")
    return max(even or cut, key=lambda one: len(cut[one][0]) if cut[one] else 0)


def _cut(text: str, delimiter: str) -> list[list[str]]:
    """The first rows that are not blank, without last columns that are empty throughout."""
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    try:
        found = list(islice(filter(_filled, rows), _LOOKED_AT))
    except csv.Error:  # told once the rows are read
        return []
    wide = _wide(found)
    return [cells[:wide] for cells in found]


def _most_commas(rows: list[list[str]]) -> int:
    return max(cell.count(",") for cells in rows for cell in cells)


def text(path: Path) -> str:
    """The whole file, with its line ends as they are. DatasetError where it is no text, or cannot be read."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return file.read()
    except UnicodeDecodeError as exc:
        raise DatasetError(f"{path} is not UTF-8 text: {exc}") from exc
    except OSError as exc:
        raise DatasetError(f"{path} cannot be read: {exc.strerror or exc}") from exc
