"""Labelled sets from CSV files: a column that names the subject, and numbers, one text or one file a row."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from encoders import csv_rows
from encoders.errors import DatasetError
from encoders.names import printable

LABELS = ("label", "subject", "id", "class", "person", "writer", "speaker", "name")
FILES = ("file", "path")
PERHAPS = ("filename", "image", "picture", "recording")  # of files, where the cells below look like them
KNOWN = {*LABELS, *FILES, "group", "text"}
MISSING = {"", "-", "?", "na", "n/a", "nan", "null", "none"}
SHOWN = 6  # columns that are named one by one
ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".wav", ".wave")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Read:
    """What a CSV holds: n items, their subjects and groups, what to call each (`row 7`, counted in the file
    from 1, the header included), what they are: "vectors", "texts", or "" for files, and in words which
    columns it was all read from."""

    items: Any
    labels: list[str]
    groups: list[str] | None
    names: tuple[str, ...]
    holds: str
    columns: str


@dataclass(frozen=True, slots=True)
class _Table:
    path: Path
    header: list[str]
    rows: list[list[str]]
    numbers: list[int]  # of the rows, as they stand in the file

    def column(self, at: int) -> list[str]:
        return [row[at].strip() for row in self.rows]


def read(path: Path, label: str | None = None) -> Read:
    """The items, labels and groups of a CSV file with or without a header (see `_has_header`).

    `label` names the column with the subjects, or counts it from 0 (-1 is the last one); None takes a column
    called label, subject, id, class and so on, else the last one. A column called group becomes the groups.
    Of the rest, all numbers make a vector a row, with NaN where a cell is missing; one column of text is the
    text, or the file it names, seen from the CSV (see `_are_files`). DatasetError says which row and column
    is neither, and which row has no subject.
    """
    table = _table(path, label)
    subject = _column(path, table.header, label)
    named = [k for k, name in enumerate(table.header) if name.strip().lower() == "group" and k != subject]
    group = named[0] if named else None
    counting = _counting(table) if subject else None
    rest = [k for k in range(len(table.header)) if k not in (subject, group, counting)]
    if not rest:
        raise DatasetError(f"{path} has no column beside the subject's: there is nothing to learn from")
    labels = table.column(subject)
    if nameless := [n for n, one in zip(table.numbers, labels, strict=True) if not one]:
        more = f" and {len(nameless) - 1:,} more have" if len(nameless) > 1 else " has"
        raise DatasetError(
            f"{path}: row {nameless[0]}{more} no subject in column {table.header[subject]}: name it, or "
            "leave the row out"
        )
    items, names, holds = _items(table, rest)
    columns = printable(
        f"subjects from column {table.header[subject]}, {holds or 'files'} from {_listed(table, rest)}"
        + ("" if counting is None else ", the first column only counts the rows")
    )
    return Read(items, labels, None if group is None else table.column(group), names, holds, columns)


def _counting(table: _Table) -> int | None:
    """The nameless first column in which pandas and R count the rows; it would be learnt from."""
    return 0 if _are_counted(table.header, table.rows) else None


def _are_counted(header: list[str], rows: list[list[str]]) -> bool:
    if len(header) < 3 or header[0].strip():
        return False
    found = [row[0].strip() for row in rows]
    return any(found == [str(number + first) for number in range(len(rows))] for first in (0, 1))


def _listed(table: _Table, columns: list[int]) -> str:
    names = [table.header[k] for k in columns]
    return ", ".join(names) if len(names) <= SHOWN else f"{names[0]} to {names[-1]} ({len(names):,} columns)"


def _table(path: Path, label: str | None) -> _Table:
    lines = csv_rows.read(path, csv_rows.text(path))
    if not lines:
        raise DatasetError(f"{path} is empty: there is nothing to learn from")
    numbers, rows = [line.number for line in lines], [line.cells for line in lines]
    wide = len(rows[0])
    for number, cells in zip(numbers, rows, strict=True):
        if len(cells) != wide:
            raise DatasetError(f"{path}: row {number} has {len(cells)} columns, the first one {wide}")
    if _has_header(path.parent, rows, label):
        if not rows[1:]:
            raise DatasetError(f"{path} is empty: it has a header and no row, there is nothing to learn from")
        return _Table(path, rows[0], rows[1:], numbers[1:])
    return _Table(path, [str(k) for k in range(wide)], rows, numbers)


def _has_header(folder: Path, rows: list[list[str]], label: str | None) -> bool:
    """Whether the first row names the columns. It does in one of these cases:

    - a cell of it is a known name (label, text, file, group, ...), or the one that `label` asks for;
    - a cell of it is image, recording and the like, and below it are files;
    - a cell of it is a word, and below it are only numbers;
    - all of it are words but the first cell, which is empty, and below that the rows are counted;
    - all of it is different words, and its subject stands in no other row, while every other subject has
      two rows or more. (Were it an item, it would be the only one of its subject.)
    """
    first, rest = [cell.strip() for cell in rows[0]], rows[1:]
    names = {cell.lower() for cell in first}
    at = _position(label)
    if names & KNOWN or (label is not None and at is None and label.strip().lower() in names):
        return True
    if all(map(_is_word, first[1:])) and _are_counted(first, rest):
        return True
    for k, cell in enumerate(first):
        below = [row[k].strip() for row in rest]
        if cell.lower() in PERHAPS and _look_like_files(below, _there(folder, below)):
            return True
        if _is_word(cell) and any(map(_is_number, below)) and not any(map(_is_word, below)):
            return True
    if not -len(first) <= (at := -1 if at is None else at) < len(first) or len(names) < len(first):
        return False
    counts = Counter(row[at].strip() for row in rest)
    heads = all(_is_word(cell) and not _ends_like_a_file(cell) for cell in first)
    return heads and first[at] not in counts and len(counts) > 1 and min(counts.values()) > 1


def _position(label: str | None) -> int | None:
    try:
        return None if label is None else int(label)
    except ValueError:
        return None


def _column(path: Path, header: list[str], label: str | None) -> int:
    names = [name.strip().lower() for name in header]
    if label is None:
        named = next((name for name in LABELS if name in names), None)
    else:
        named = label.strip().lower() if label.strip().lower() in names else None
    if named is not None and names.count(named) > 1 and _position(label) is None:
        raise DatasetError(
            f"{path} has {names.count(named)} columns called {named}: give the subjects' a name of its own, "
            "and leave the others out where they tell the subject too, for they would be learnt from"
        )
    if named is not None:
        return names.index(named)
    try:
        return len(header) - 1 if label is None else range(len(header))[int(label)]
    except (ValueError, IndexError) as exc:
        raise DatasetError(f"{path} has no column {label!r}; it has {', '.join(header)}") from exc


def _items(table: _Table, columns: list[int]) -> tuple[Any, tuple[str, ...], str]:
    """(items, names, what they are)."""
    worded = [k for k in columns if _first_word(table, k) is not None]
    name = table.header[columns[0]].strip().lower()
    measured = len(columns) == 1 and worded and _mostly_measured(table, columns[0])
    if len(columns) > 1 or name not in (*FILES, "text"):
        _refuse_decimal_commas(table, worded)
    if len(columns) == 1 and (name in (*FILES, "text") or (worded and not measured)):
        return _files_or_texts(table, columns[0], name)
    if not worded:
        return _vectors(table, columns)
    at, shown = _first_word(table, worded[0]) or 0, ", ".join(table.header[k] for k in worded[:5])
    found = (
        f"(row {table.numbers[at]} has {_shown(table.rows[at][worded[0]])!r} in column "
        f"{table.header[worded[0]]})"
    )
    if measured:
        raise DatasetError(
            f"{table.path}: column {shown} holds measured numbers, and words among them {found}: mend these "
            "cells, or call the column text in the first row where all of it are texts"
        )
    raise DatasetError(
        f"{table.path}: columns {shown} hold words, beside others {found}: leave either numbers alone, or "
        "one column called text, or one called file"
    )


def _refuse_decimal_commas(table: _Table, columns: list[int]) -> None:
    """DatasetError where most cells are numbers like 1,5: they would be texts, each unlike all others."""
    for k in columns:
        cells = table.column(k)
        commas = [n for n, cell in enumerate(cells) if "," in cell and _is_number(cell.replace(",", ".", 1))]
        if 2 * len(commas) > len(cells):
            raise DatasetError(
                f"{table.path}: column {table.header[k]} has numbers with a comma (row "
                f"{table.numbers[commas[0]]} has {cells[commas[0]]!r}): write them with a point and without "
                "separators of thousands, or call the column text in the first row where they are texts"
            )


def _vectors(table: _Table, columns: list[int]) -> tuple[Any, tuple[str, ...], str]:
    """Numbers, NaN where a cell is missing: the preprocessing refuses the row, or passes over it."""
    rows, names = [], []
    for number, row in zip(table.numbers, table.rows, strict=True):
        gaps = [table.header[k] for k in columns if not _is_number(row[k])]
        rows.append([float(row[k]) if _is_number(row[k]) else np.nan for k in columns])
        names.append(f"row {number}" + (f" (no number in column {', '.join(gaps[:5])})" if gaps else ""))
    return np.array(rows), tuple(names), "vectors"


def _files_or_texts(table: _Table, column: int, name: str) -> tuple[Any, tuple[str, ...], str]:
    texts = table.column(column)
    names = tuple(f"row {n}, {_shown(t)}" for n, t in zip(table.numbers, texts, strict=True))
    there = _there(table.path.parent, texts)
    if not _are_files(name, texts, there):
        return texts, names, "texts"
    if not any(there):
        raise DatasetError(
            f"{table.path}: none of {len(texts):,} files is there ({names[0]}), seen from "
            f"{table.path.parent}: mend the paths, or call the column text where these are texts"
        )
    return [table.path.parent / text for text in texts], names, ""


def _are_files(name: str, texts: list[str], there: list[bool]) -> bool:
    """Whether a column names files: it is called so, half of them are there, or all end like pictures or
    recordings. One that is not there is then a file that cannot be read, and never a text to learn from."""
    if name == "text":
        return all(there)
    return name in FILES or _look_like_files(texts, there)


def _look_like_files(texts: list[str], there: list[bool]) -> bool:
    if there and 2 * sum(there) >= len(there):
        return True
    return all(_ends_like_a_file(text) for text in texts if text) and any(texts)


def _there(folder: Path, texts: list[str]) -> list[bool]:
    return [bool(text) and _is_there(folder / text) for text in texts]


def _is_there(file: Path) -> bool:
    try:
        return file.is_file()
    except (OSError, ValueError):  # a text that can be no file's name
        return False


def _ends_like_a_file(text: str) -> bool:
    return text.lower().endswith(ENDINGS)


def _shown(text: str) -> str:
    return printable(text)[:60] or "an empty cell"


def _first_word(table: _Table, column: int) -> int | None:
    """The first row with a word in the column; the first of all where it has no number either."""
    cells = table.column(column)
    if not any(map(_is_number, cells)):
        return 0
    return next((at for at, cell in enumerate(cells) if _is_word(cell)), None)


def _mostly_measured(table: _Table, column: int) -> bool:
    """Most cells are numbers, and some of these are no mere digits: then a word among them is a slip of the
    pen, and no reason to take them all for texts. Digits alone may be codes, or the numbers of houses."""
    numbers = [cell for cell in table.column(column) if _is_number(cell)]
    return 2 * len(numbers) > len(table.rows) and not all(map(str.isdigit, numbers))


def _is_number(cell: str) -> bool:
    """As programs write them: no nan or inf, which may be names, and no 1_000."""
    return _NUMBER.fullmatch(cell.strip()) is not None


def _is_word(cell: str) -> bool:
    return cell.strip().lower() not in MISSING and not _is_number(cell)
