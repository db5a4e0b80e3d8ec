"""Published lists of pairs: which two items are compared, whether they are of one subject, in which fold."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from encoders.errors import DatasetError

Ints = NDArray[np.int64]
SAME = {"1": True, "true": True, "same": True, "yes": True, "y": True, "mated": True}
SAME |= {"0": False, "false": False, "different": False, "no": False, "n": False, "non-mated": False}
ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".wav")


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
    fold; or the format of LFW: maybe a line with the number of folds and of pairs in half a fold, then
    "name n1 n2" or "name1 n1 name2 n2", which stand for name/name_0001.jpg. DatasetError for anything else,
    and for files that are not there.
    """
    try:
        lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as exc:
        raise DatasetError(f"{path} cannot be read as a list of pairs: {exc}") from exc
    if lines and re.fullmatch(r"\s*\d+(\s+\d+)?\s*", lines[0]):
        head = [int(word) for word in lines[0].split()]
        rows = _lfw(path, lines[1:], head[1] if len(head) == 2 else head[0])
    elif lines and re.fullmatch(r"\S+\t\d+\t(\S+\t)?\d+", lines[0].strip()):
        rows = _lfw(path, lines, len(lines))
    else:
        rows = _table(path, lines)
    if not rows:
        raise DatasetError(f"{path} holds no pairs")
    return _collected(path, folder, rows)


Row = tuple[str, str, bool, int]


def _table(path: Path, lines: list[str]) -> list[Row]:
    delimiter = max(",;\t", key=lambda d: lines[0].count(d)) if lines else ","
    found = list(csv.DictReader(lines, delimiter=delimiter))
    names = {str(k).strip().lower(): k for k in (found[0] if found else {})}
    if not {"left", "right", "same"} <= set(names):
        raise DatasetError(
            f"{path} needs the columns left, right and same; it has {', '.join(names) or 'none'}"
        )
    rows = []
    for number, row in enumerate(found, 2):
        same = SAME.get(str(row[names["same"]]).strip().lower())
        if same is None:
            raise DatasetError(f"{path}, row {number}: same is {row[names['same']]!r}: it must be 1 or 0")
        fold = int(row[names["fold"]]) if "fold" in names else 0
        rows.append((row[names["left"]].strip(), row[names["right"]].strip(), same, fold))
    return rows


def _lfw(path: Path, lines: list[str], half: int) -> list[Row]:
    """`half` is the number of mated (and of non-mated) pairs in a fold."""
    rows = []
    for number, line in enumerate(lines):
        words = line.split("\t") if "\t" in line else line.split()
        try:
            one, first, other, second = words if len(words) == 4 else (words[0], words[1], words[0], words[2])
            pair = [f"{who}/{who}_{int(n):04d}" for who, n in ((one, first), (other, second))]
        except (ValueError, IndexError) as exc:
            raise DatasetError(f"{path}: {line!r} is no pair of LFW") from exc
        rows.append((pair[0], pair[1], len(words) == 3, number // (2 * half)))
    return rows


def _collected(path: Path, folder: Path, rows: list[Row]) -> PairList:
    numbers: dict[str, int] = {}
    for row in rows:
        for name in row[:2]:
            numbers.setdefault(name, len(numbers))
    files = [_file(folder, name) for name in numbers]
    missing = [name for name, file in zip(numbers, files, strict=True) if file is None]
    if missing:
        raise DatasetError(
            f"{path}: {len(missing)} of {len(numbers)} files are not in {folder}: {', '.join(missing[:5])}"
        )
    found = [file for file in files if file is not None]
    left, right, mated, fold = zip(*rows, strict=True)
    return PairList(
        found,
        [file.parent.name for file in found],
        np.array([numbers[name] for name in left]),
        np.array([numbers[name] for name in right]),
        np.array(mated, dtype=bool),
        np.unique(np.array(fold), return_inverse=True)[1],
    )


def _file(folder: Path, name: str) -> Path | None:
    """The file of that name, or with one of the usual endings."""
    place = folder / name
    candidates = [place, *(place.with_name(place.name + ending) for ending in ENDINGS)]
    try:
        return next((c for c in candidates if c.is_file()), None)
    except (OSError, ValueError):
        return None
