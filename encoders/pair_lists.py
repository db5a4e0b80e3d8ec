"""Published lists of pairs: which two items are compared, whether they are of one subject, in which fold."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from encoders import csv_rows
from encoders.errors import DatasetError

Ints = NDArray[np.int64]
NAMES = {"left", "right", "same", "fold"}
SAME = {"1": True, "true": True, "same": True, "yes": True, "y": True, "mated": True}
SAME |= {
    "1.0": True,
    "0.0": False,
    "0": False,
    "false": False,
    "different": False,
    "no": False,
    "n": False,
    "non-mated": False,
}
ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".wav")
_LINE_END = re.compile("\r\n|\r|\n")
_NUMBER = re.compile("[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class PairList:
    """p pairs of `items`: row numbers `left` and `right` (p,), `mated` (p,) bool, `fold` (p,) from 0.

    `subjects` (items,) is the subject of each item, by the folder that it lies in.
    """

    items: Sequence[Path]
    subjects: Sequence[str]
    left: Ints
    right: Ints
    mated: NDArray[np.bool_]
    fold: Ints

    def __len__(self) -> int:
        return len(self.left)


def read(path: Path, folder: Path) -> PairList:
    """A list of pairs of files in `folder`.

    Either a CSV with a header and the columns left, right (paths in the folder), same (1 or 0) and maybe
    fold (a whole number); or the format of LFW: maybe a line with the number of folds and of pairs in half a
    fold, then "name n1 n2" or "name1 n1 name2 n2", which stand for name/name_0001.jpg. DatasetError, which
    names the line, for anything else, and for files that are not there.
    """
    text = csv_rows.text(path)
    lines = [(number, line) for number, line in enumerate(_LINE_END.split(text), 1) if line.strip()]
    first = lines[0][1].strip() if lines else ""
    lfw = re.fullmatch(r"[0-9]+(\s+[0-9]+)?|\S+\s+[0-9]+\s+(\S+\s+)?[0-9]+", first)
    rows = _lfw(path, lines) if lfw else _table(path, text)
    if not rows:
        raise DatasetError(f"{path} holds no pairs")
    _check(path, rows)
    return _collected(path, folder, rows)


@dataclass(frozen=True, slots=True)
class Row:
    """A pair as it stands in the list, and the number of its line, from 1."""

    line: int
    left: str
    right: str
    mated: bool
    fold: int


def _table(path: Path, text: str) -> list[Row]:
    cut = [(row.line, [cell.strip() for cell in row.cells]) for row in csv_rows.read(path, text)]
    found = [(number, cells) for number, cells in cut if any(cells)]
    names = [name.lower() for name in found[0][1]] if found else []
    if not {"left", "right", "same"} <= set(names):
        raise DatasetError(
            f"{path} needs the columns left, right and same; it has {', '.join(names) or 'none'}"
        )
    return [_row(f"{path}, line {number}", number, names, cells) for number, cells in found[1:]]


def _row(place: str, number: int, names: list[str], cells: list[str]) -> Row:
    cells = _fitted(names, cells)
    if len(cells) != len(names):
        raise DatasetError(f"{place} has {len(cells)} cells, not {len(names)} as the header")
    row = dict(zip(names, cells, strict=True))
    for side in ("left", "right"):
        if not row[side]:
            raise DatasetError(f"{place}: {side} is empty: it must be a file in the folder")
    same, fold = SAME.get(row["same"].lower()), row.get("fold", "0")
    if same is None:
        raise DatasetError(f"{place}: same is {row['same']!r}: it must be 1 or 0")
    fold = fold.removesuffix(".0")  # as pandas writes whole numbers beside gaps
    if not _NUMBER.fullmatch(fold.removeprefix("-")):
        raise DatasetError(f"{place}: fold is {fold!r}: it must be a whole number")
    return Row(number, row["left"], row["right"], same, int(fold))


def _fitted(names: list[str], cells: list[str]) -> list[str]:
    """As many cells as names, where only empty ones are too many, and only those that mean nothing here
    (a note) too few."""
    wide = len(names)
    if any(cells[wide:]) or NAMES & set(names[len(cells) :]):
        return cells
    return [*cells[:wide], *[""] * (wide - len(cells))]


def _lfw(path: Path, lines: list[tuple[int, str]]) -> list[Row]:
    head = [int(word) for word in lines[0][1].split()] if len(lines[0][1].split()) <= 2 else []
    place, said = f"{path}, line {lines[0][0]}", repr(lines[0][1].strip())
    if head and min(head) < 1:
        raise DatasetError(
            f"{place}: {said} must be the number of folds and of mated pairs in each, 1 or more"
        )
    pairs = lines[1:] if head else lines
    half = head[-1] if head else len(pairs)  # of mated, and of non-mated, pairs in a fold
    rows = [_lfw_row(path, number, line, at // (2 * half)) for at, (number, line) in enumerate(pairs)]
    due = 2 * half * (head[0] if len(head) == 2 else 1)
    if rows and head and len(rows) != due:
        raise DatasetError(
            f"{place}: {said} announces {due:,} pairs, and {len(rows):,} follow: is the list whole?"
        )
    return rows


def _lfw_row(path: Path, number: int, line: str, fold: int) -> Row:
    line = line.strip()
    words = [word.strip() for word in (line.split("\t") if "\t" in line else line.split())]
    if mated := len(words) == 3:
        words.insert(2, words[0])
    if len(words) != 4 or not (_NUMBER.fullmatch(words[1]) and _NUMBER.fullmatch(words[3])):
        raise DatasetError(
            f"{path}, line {number}: {line!r} is no pair of LFW: 'name n1 n2' or 'name1 n1 name2 n2'"
        )
    one, first, other, second = words
    if one == other and not mated:
        raise DatasetError(
            f"{path}, line {number}: {line!r} is of one person: write '{one} {first} {second}'"
        )
    left, right = (f"{who}/{who}_{int(n):04d}" for who, n in ((one, first), (other, second)))
    return Row(number, left, right, mated, fold)


def _check(path: Path, rows: list[Row]) -> None:
    """DatasetError for a file beside itself, and for two lines that contradict each other."""
    told: dict[frozenset[str], Row] = {}
    for row in rows:
        if row.left == row.right:
            raise DatasetError(f"{path}, line {row.line}: {row.left} is compared with itself")
        known = told.setdefault(frozenset((row.left, row.right)), row)
        if known.mated != row.mated:
            raise DatasetError(
                f"{path}, lines {known.line} and {row.line}: {row.left} and {row.right} are of one subject "
                "in one of them, and of two in the other"
            )


def _collected(path: Path, folder: Path, rows: list[Row]) -> PairList:
    numbers: dict[str, int] = {}
    lines: list[int] = []  # the first line of each item
    for row in rows:
        for name in (row.left, row.right):
            if numbers.setdefault(name, len(numbers)) == len(lines):
                lines.append(row.line)
    files = [_file(folder, name) for name in numbers]
    missing = [
        f"{name} (line {line})"
        for name, line, file in zip(numbers, lines, files, strict=True)
        if file is None
    ]
    if missing:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise DatasetError(f"{path}: {len(missing)} of {len(numbers)} files are not in {folder}: {shown}")
    found = [file for file in files if file is not None]
    return PairList(
        found,
        [file.parent.name for file in found],
        np.array([numbers[row.left] for row in rows]),
        np.array([numbers[row.right] for row in rows]),
        np.array([row.mated for row in rows], dtype=bool),
        np.unique([row.fold for row in rows], return_inverse=True)[1],
    )


def only(listed: PairList, items: Ints) -> PairList:
    """The pairs whose two items are both among `items`, rising row numbers; these are numbered anew."""
    place = np.full(len(listed.items), -1)
    place[items] = np.arange(len(items))
    left, right = place[listed.left], place[listed.right]
    kept = (left >= 0) & (right >= 0)
    return PairList(
        [listed.items[item] for item in items],
        [listed.subjects[item] for item in items],
        left[kept],
        right[kept],
        listed.mated[kept],
        np.unique(listed.fold[kept], return_inverse=True)[1],
    )


def _file(folder: Path, name: str) -> Path | None:
    """The file of that name, or with one of the usual endings."""
    place = folder / name
    candidates = [place, *(place.with_name(place.name + ending) for ending in ENDINGS)]
    try:
        return next((c for c in candidates if c.is_file()), None)
    except (OSError, ValueError):
        return None
