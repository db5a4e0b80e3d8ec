"""How many of the nearest subjects an index finds, on the gallery's own templates, and how hard it looks."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace

import numpy as np

from gallery.engines.base import Overlap
from gallery.engines.drawing import drawn
from gallery.engines.searching import Searching
from gallery.indexes.base import Effort, Tunable
from gallery.stores.base import Store, Stored
from gallery.vectors import Numbers

_AT_A_TIME = 256


def overlap(
    store: Store, searching: Searching, sample: int, k: int, seed: int, goal: float | None = None
) -> Overlap:
    """Asks the index and every row for the k nearest other subjects of `sample` enrolled templates.

    A template's own subject does not count: it is found too easily. Inside a snapshot. goal: first makes the
    index look just as hard as it takes to find such a share, or as hard as it can.
    """
    comparison = _Comparison(store, searching, drawn(store, sample, seed)[1], k)
    index = searching.cache.in_step(store)
    if goal is None or not isinstance(index, Tunable) or index.hardest() == Effort():
        return Overlap(comparison.found(), comparison.wanted)
    found = _tuned(index, comparison, goal)
    if searching.cache.in_step(store) is not index:
        # It was given up on the way: another stands in for it, and is not told how hard to look.
        return Overlap(comparison.found(), comparison.wanted)
    return Overlap(found, comparison.wanted, json.dumps({"index": index.kind} | asdict(index.effort())))


class _Comparison:
    """The templates that are asked about, and who is truly nearest to each."""

    def __init__(self, store: Store, searching: Searching, asked: Stored, k: int) -> None:
        self._store, self._searching, self._asked, self._k = store, searching, asked, k
        self._right: list[set[int]] = []
        for some in self._parts():
            truths = searching.swept(store, asked.rows[some], k + 1)
            for truth, owner in zip(truths, asked.subjects[some].tolist(), strict=True):
                self._right.append(set([subject for subject, _, _ in truth if subject != owner][:k]))
        self.wanted: Numbers = np.array([len(right) for right in self._right], np.int64)

    def found(self) -> Numbers:
        """(probes,) how many of them the index finds."""
        answers = [
            {subject for subject, _, _ in answer}
            for some in self._parts()
            for answer in self._searching.finalists(self._store, self._asked.rows[some], self._k + 1)
        ]
        both = zip(self._right, answers, strict=True)
        return np.array([len(right & answer) for right, answer in both], np.int64)

    def _parts(self) -> list[slice]:
        starts = range(0, len(self._asked.rows), _AT_A_TIME)
        return [slice(start, start + _AT_A_TIME) for start in starts]


def _tuned(index: Tunable, comparison: _Comparison, goal: float) -> Numbers:
    """Leaves the index looking as hard as `goal` takes, within a factor of two; what it finds then."""
    # Where nobody is wanted, nothing is enough, and nothing is changed but for the better.
    enough, hardest = max(1.0, goal * int(comparison.wanted.sum())), index.hardest()
    found = comparison.found()
    while found.sum() < enough and index.effort() != hardest:
        index.look(_scaled(index.effort(), 2, hardest))
        found = comparison.found()
    for part in reversed([field.name for field in fields(Effort)]):
        while found.sum() >= enough:
            before = index.effort()
            index.look(replace(before, **{part: getattr(_scaled(before, 0.5, hardest), part)}))
            fewer = comparison.found() if index.effort() != before else found[:0]
            if fewer.sum() < enough:
                index.look(before)
                break
            found = fewer
    return found


def _scaled(effort: Effort, times: float, most: Effort) -> Effort:
    """So many times as hard, at least 1 of what is not 0, and no harder than `most`."""
    return Effort(
        cells=min(most.cells, max(1, int(effort.cells * times))),
        reach=min(most.reach, max(1, int(effort.reach * times))),
        refined=min(most.refined, max(1.0, effort.refined * times)),
    )
