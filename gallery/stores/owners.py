"""Whose each template is, read from the index that SQLite keeps of it instead of through the embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from gallery.vectors import Numbers

_SUBJECTS_AT_A_TIME = 2**22


def questions(table: str, last_subject: int) -> Iterator[str]:
    """Queries whose rows are (template numbers, their subjects, subjects, how many each says it has).

    Each comes as one JSON list, a third of the time of a row for each template.
    """
    for first in range(1, last_subject + 1, _SUBJECTS_AT_A_TIME):
        where = f"subject BETWEEN {first} AND {first + _SUBJECTS_AT_A_TIME - 1}"
        yield (
            f"SELECT theirs.*, own.* FROM (SELECT json_group_array(template), json_group_array(subject) "
            f"FROM {table} WHERE {where}) AS theirs, (SELECT json_group_array(subject), "
            f"json_group_array(templates) FROM subjects WHERE {where}) AS own"
        )


def numbers_of(text: str) -> Numbers:
    """A JSON list of whole numbers as an array."""
    inner = text[1:-1]
    return np.fromstring(inner, np.int64, sep=",") if inner else np.empty(0, np.int64)


def agreeing(rows: Sequence[tuple[Numbers, ...]]) -> tuple[Numbers, Numbers]:
    """(template numbers, ascending; whose each is) from what the queries gave.

    ValueError where they disagree with the subjects' own counts: an index alone has no checksum.
    """
    nothing = (np.empty(0, np.int64),) * 4
    numbers, whose, subjects, said = (np.concatenate(part) for part in zip(nothing, *rows, strict=True))
    found, counts = np.unique(whose, return_counts=True)
    if not np.array_equal(found, subjects):
        wrong = np.setxor1d(found, subjects)[0]
        raise ValueError(f"the templates of subject {wrong} or its record are missing")
    if not np.array_equal(counts, said):
        at = int(np.flatnonzero(counts != said)[0])
        raise ValueError(f"{counts[at]} templates of subject {found[at]} are left of {said[at]}")
    order = np.argsort(numbers, kind="stable")
    numbers, whose = numbers[order], whose[order]
    if (np.diff(numbers) <= 0).any():
        raise ValueError("a template is listed twice")
    return numbers, whose
