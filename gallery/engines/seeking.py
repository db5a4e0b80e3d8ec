"""From templates to subjects: an index is asked for ever more templates until the nearest are certain.

Where one subject's templates crowd around a probe that would take long, and a `Sweep` ends it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gallery.decisions import nearest_for_each_probe
from gallery.engines.register import Register
from gallery.engines.shortlist import shortlist
from gallery.engines.sweep import Ranked, Sweep
from gallery.indexes.base import Neighbours, Searchable, Selection, VectorIndex
from gallery.stores.base import Stored
from gallery.vectors import FloatRows, Numbers, distances_of_pairs

Finalists = list[tuple[int, int, float]]
"""(subject number, template number, distance), nearest first."""

_WIDEST = 1024
"""More templates a probe cost more than going through all rows once."""
_CROWDED = 64
"""So many templates more than k are asked for at first at most, however many each subject has."""
_ROWS_AT_A_TIME = 2**16


@dataclass(frozen=True, slots=True)
class Seeker:
    """Searches by subject at one revision.

    index      finds the templates that may be found, `among` those of the `whole` one
    certain    the index says how far it went (`Neighbours.floor`)
    fetched    the embeddings of templates with whose they are, all of them
    register   whose each template is, loaded when it is first asked for
    at_hand    the same where it costs nothing, else None
    sweep      goes through all rows that `index` may find
    subjects   at most how many there can be
    """

    index: Searchable
    whole: VectorIndex
    among: Selection
    certain: bool
    metric: str
    fetched: Callable[[Numbers], Stored]
    register: Callable[[], Register]
    at_hand: Register | None
    sweep: Callable[[], Sweep | None]
    subjects: int

    def nearest(self, probes: FloatRows, k: int) -> list[Finalists]:
        """The k nearest subjects of each probe by their nearest template, ties by template number."""
        answers: list[Finalists] = [[] for _ in probes]
        # No more subjects than there are can be waited for.
        k = min(k, self.subjects)
        total = len(self.index)
        if total == 0 or k == 0:
            return answers
        pending = np.arange(len(probes))
        for ask in self._asks(k, total):
            if len(pending):
                pending = self._asked(probes, pending, k, ask, answers)
        if len(pending):
            self._finished(probes, pending, k, answers)
        return answers

    def _asks(self, k: int, total: int) -> list[int]:
        """For how many templates to ask, one time after the other, before it is ended otherwise."""
        first = self._first_ask(k, total)
        if self.certain:
            # Each is a pass over all rows, as a sweep is.
            asks = [ask for ask in (first, 4 * first) if ask <= _WIDEST]
        else:
            asks = [first, *(ask for ask in (4 * first, 16 * first, 64 * first) if ask <= _WIDEST)]
        return list(dict.fromkeys(min(ask, total) for ask in asks))

    def _first_ask(self, k: int, total: int) -> int:
        each = -(-total // max(1, self.subjects))
        # The templates of one subject lie together, so that the others come several at a time too.
        if self.certain:
            return min(k * each, k + _CROWDED) + 2
        # A few more cost an approximate index less than asking twice, but nobody's templates are all nearest.
        return max(16, 4 * k, min(k * each * 4 // 5, k + 2 * _CROWDED) + 2)

    def _asked(
        self,
        probes: FloatRows,
        pending: Numbers,
        k: int,
        ask: int,
        answers: list[Finalists],
    ) -> Numbers:
        """Fills in the answers that `ask` templates make certain; returns the probes that need more."""
        # In parts of equal size, as few probes at a time take nearly as long as more.
        step = -(-len(pending) // -(-len(pending) * ask // _ROWS_AT_A_TIME))
        unsure = []
        for start in range(0, len(pending), step):
            which = pending[start : start + step]
            found = self.index.search(probes[which], ask)
            unsure.append(self._settled(probes, which, k, found, answers))
        return np.concatenate(unsure)

    def _settled(
        self,
        probes: FloatRows,
        which: Numbers,
        k: int,
        found: Neighbours,
        answers: list[Finalists],
    ) -> Numbers:
        probe, subject, template, distance = self._judged(probes, which, k, found)
        ends = np.searchsorted(probe, np.arange(len(which) + 1))
        there = np.diff(ends)
        # The k-th distance of each, where it has so many.
        last = np.minimum(ends[:-1] + k, ends[1:]) - 1
        kth = np.where(there >= k, distance[np.maximum(last, 0)] if len(distance) else np.inf, np.inf)
        settled = found.exhausted | ((there >= k) & (kth < found.floor))
        whole = list(zip(subject.tolist(), template.tolist(), distance.tolist(), strict=True))
        for at in np.flatnonzero(settled):
            answers[which[at]] = whole[ends[at] : last[at] + 1]
        return which[~settled]

    def _judged(self, probes: FloatRows, which: Numbers, k: int, found: Neighbours) -> Ranked:
        """What was found, by exact distances: one template of each subject, of at least k subjects a probe.

        Fewer where fewer were found. Past the k-th subject some may be left out, or there twice.
        """
        error, register = 0.0 if found.exact else found.error, self.at_hand
        if register is None or np.isinf(error):
            return self._ranked(probes, which, found.numbers)
        owners = register.of(found.numbers)
        left = shortlist(owners, found.distances, k, error)
        if not found.exact:
            return self._ranked(probes, which, np.where(left, found.numbers, -1))
        at = np.nonzero(left)
        return at[0], owners[at], found.numbers[at], found.distances[at]

    def _ranked(self, probes: FloatRows, which: Numbers, numbers: Numbers) -> Ranked:
        """The proposed templates, one of each subject for each probe, by their exact distances."""
        probe, column = np.nonzero(numbers >= 0)
        proposed = numbers[probe, column]
        wanted, at = np.unique(proposed, return_inverse=True)
        stored = self.fetched(wanted)
        scores = distances_of_pairs(probes, which[probe], stored.rows, at, self.metric)
        owners = stored.subjects[at]
        order = nearest_for_each_probe(probe, scores, proposed, owners)
        return probe[order], owners[order], proposed[order], scores[order]

    def _finished(self, probes: FloatRows, pending: Numbers, k: int, answers: list[Finalists]) -> None:
        sweep = self.sweep()
        if sweep is None:
            for probe in pending:
                answers[probe] = self._one_by_one(probes[probe], k)
            return
        swept = as_finalists(sweep.nearest(probes[pending], k), len(pending))
        for probe, found in zip(pending, swept, strict=True):
            answers[probe] = found

    def _one_by_one(self, probe: FloatRows, k: int) -> Finalists:
        """Searches again without the subjects that were found, until there are k."""
        register = self.register()
        found: Finalists = []
        left = self.among
        while len(found) < k:
            numbers = self.whole.search(probe[None], min(len(self.whole), _WIDEST // 4), left).numbers
            _, subjects, templates, scores = self._ranked(probe[None], np.zeros(1, np.int64), numbers)
            if len(subjects) == 0:
                break
            found += zip(subjects.tolist(), templates.tolist(), scores.tolist(), strict=True)
            left = left.minus(register.templates_of(np.sort(subjects)))
        return sorted(found, key=lambda one: (one[2], one[1]))[:k]


def as_finalists(ranked: Ranked, probes: int) -> list[Finalists]:
    """Answers by probe."""
    probe, subject, template, distance = ranked
    ends = np.searchsorted(probe, np.arange(probes + 1))
    whole = list(zip(subject.tolist(), template.tolist(), distance.tolist(), strict=True))
    return [whole[ends[at] : ends[at + 1]] for at in range(probes)]
