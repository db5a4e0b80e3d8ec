"""Labelled sets from CSV files: a column that names the subject, and numbers, one text or one file a row."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from encoders.errors import DatasetError

LABELS = ("label", "subject", "id", "class", "person", "writer", "speaker", "name")
Table = tuple[list[str], list[list[str]]]  # header and rows


def read(path: Path, label: str | None = None) -> tuple[Any, list[str], list[str] | None]:
    """(items, labels, groups) of a CSV file with or without a header.

    `label` names the column with the subjects, or counts it from 0 (-1 is the last one); None takes a column
    called label, subject, id, class and so on, else the last one. A column called group becomes the groups.
    Of the rest, all numbers make a vector a row; one column of text is the text, or the file it names where
    all the files are there, seen from the CSV. DatasetError says which column is neither.
    """
    header, rows = _table(path)
    subject = _column(path, header, label)
    named = [k for k, name in enumerate(header) if name.strip().lower() == "group" and k != subject]
    group = named[0] if named else None
    rest = [k for k in range(len(header)) if k not in (subject, group)]
    if not rest:
        raise DatasetError(f"{path} has no column beside the subject's: there is nothing to learn from")
    labels = [row[subject].strip() for row in rows]
    groups = None if group is None else [row[group].strip() for row in rows]
    return _items(path, header, rows, rest), labels, groups


def _table(path: Path) -> Table:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as exc:
        raise DatasetError(f"{path} is not UTF-8 text: {exc}") from exc
    except OSError as exc:
        raise DatasetError(f"{path} cannot be read: {exc.strerror or exc}") from exc
    ways = [[row for row in csv.reader(text.splitlines(), delimiter=d) if row] for d in ",;\t"]
    lines = max(ways, key=lambda way: len(way[0]) if way else 0)
    if not lines:
        raise DatasetError(f"{path} is empty: there is nothing to learn from")
    ragged = next((n for n, row in enumerate(lines) if len(row) != len(lines[0])), None)
    if ragged is not None:
        raise DatasetError(
            f"{path}: row {ragged + 1} has {len(lines[ragged])} columns, the first one {len(lines[0])}"
        )
    if _has_header(lines):
        return lines[0], lines[1:]
    return [str(k) for k in range(len(lines[0]))], lines


def _has_header(lines: list[list[str]]) -> bool:
    """A first row with a known name in it, or with words where the second row has numbers."""
    names = {cell.strip().lower() for cell in lines[0]}
    if names & {*LABELS, "group", "file", "path", "text"}:
        return True
    if len(lines) < 2:
        return False
    return any(not _is_number(a) and _is_number(b) for a, b in zip(lines[0], lines[1], strict=True))


def _column(path: Path, header: list[str], label: str | None) -> int:
    names = [name.strip().lower() for name in header]
    if label is None:
        return next((names.index(name) for name in LABELS if name in names), len(header) - 1)
    if label.strip().lower() in names:
        return names.index(label.strip().lower())
    try:
        return range(len(header))[int(label)]
    except (ValueError, IndexError) as exc:
        raise DatasetError(f"{path} has no column {label!r}; it has {', '.join(header)}") from exc


def _items(path: Path, header: list[str], rows: list[list[str]], columns: list[int]) -> Any:
    words = [k for k in columns if not all(_is_number(row[k]) for row in rows)]
    if not words:
        return np.array([[float(row[k]) for k in columns] for row in rows])
    if len(columns) > 1:
        raise DatasetError(
            f"{path}: columns {', '.join(header[k] for k in words[:5])} hold words, beside others: "
            "leave either numbers alone, or one column with a text or a file"
        )
    texts = [row[columns[0]].strip() for row in rows]
    files = [path.parent / text for text in texts]
    try:
        there = all(file.is_file() for file in files)
    except (OSError, ValueError):  # a text that can be no file's name
        there = False
    return files if there else texts


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
