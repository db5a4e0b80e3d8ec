"""Whose each template is, read from the index that SQLite keeps of it instead of through the embeddings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from gallery.stores.state import CatalogState
from gallery.vectors import Numbers

_SUBJECTS_AT_A_TIME = 2**22


def read(
    ask: Callable[..., list[Any]], table: str, state: CatalogState, after: int = 0
) -> tuple[Numbers, Numbers]:
    """(template numbers above `after`, ascending; whose each is). ask: runs a query, given its values.

    ValueError where the whole disagrees with what the subjects and the commits count.
    """
    if after:
        new = ask(f"SELECT template, subject FROM {table} WHERE template > ? ORDER BY template", after)
        pairs = np.array(new, np.int64).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1]
    rows = [
        tuple(map(_numbers_of, row))
        for question in _questions(table, state.next_subject - 1)
        for row in ask(question)
    ]
    numbers, whose = _agreeing(rows)
    if len(numbers) != state.templates:
        raise ValueError(f"{len(numbers)} templates are left of {state.templates}")
    _check_numbers(numbers, _numbers_of(ask("SELECT json_group_array(template) FROM removed")[0][0]), state)
    return numbers, whose


def _check_numbers(numbers: Numbers, removed: Numbers, state: CatalogState) -> None:
    """That every number ever given is enrolled or removed: one that was damaged would hide its template."""
    given = np.zeros(state.next_template, np.bool_)
    for some in (numbers, removed):
        if len(some) and not 0 < some.min() <= some.max() < state.next_template:
            raise ValueError(f"there is a template {some.max()} of {state.next_template - 1} that were given")
        given[some] = True
    if not given[1:].all():
        raise ValueError(f"template {1 + int(np.flatnonzero(~given[1:])[0])} is neither listed nor removed")


def removed(ask: Callable[..., list[Any]], table: str, revision: int) -> Numbers:
    """Templates that were removed after a revision, ascending; ValueError where one of them is enrolled.

    Their records have no checksum: one whose number was damaged would hide a template from an index, and a
    removed one, left in it instead, would make the count come out.
    """
    rows = ask(
        f"SELECT template, EXISTS (SELECT 1 FROM {table} t WHERE t.template = r.template) FROM removed r "
        "WHERE revision > ? ORDER BY template",
        revision,
    )
    for number, enrolled in rows:
        if enrolled:
            raise ValueError(f"template {number} is enrolled, and on record as removed")
    return np.array([row[0] for row in rows], np.int64)


def _questions(table: str, last_subject: int) -> Iterator[str]:
    """Queries whose rows are (template numbers, their subjects, subjects, how many each says it has).

    Each comes as one JSON list, in a third of the time that a row for each template takes.
    """
    for first in range(1, last_subject + 1, _SUBJECTS_AT_A_TIME):
        where = f"subject BETWEEN {first} AND {first + _SUBJECTS_AT_A_TIME - 1}"
        yield (
            f"SELECT theirs.*, own.* FROM (SELECT json_group_array(template), json_group_array(subject) "
            f"FROM {table} WHERE {where}) AS theirs, (SELECT json_group_array(subject), "
            f"json_group_array(templates) FROM subjects WHERE {where}) AS own"
        )


def _numbers_of(text: str) -> Numbers:
    """A JSON list of whole numbers as an array."""
    inner = text[1:-1]
    return np.fromstring(inner, np.int64, sep=",") if inner else np.empty(0, np.int64)


def _agreeing(rows: Sequence[tuple[Numbers, ...]]) -> tuple[Numbers, Numbers]:
    """(template numbers, ascending; whose each is) from what the queries gave.

    ValueError where they disagree with the subjects' own counts: an index alone has no checksum.
    """
    nothing = (np.empty(0, np.int64),) * 4
    numbers, whose, subjects, said = (np.concatenate(part) for part in zip(nothing, *rows, strict=True))
    in_order = np.argsort(subjects)
    subjects, said = subjects[in_order], said[in_order]
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
