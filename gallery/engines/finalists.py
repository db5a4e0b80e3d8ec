"""From what an index proposes to certain answers: it is asked for more until nothing can be missing.

Every distance is computed anew from the stored embeddings, so that an answer does not depend on the index.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from gallery.decisions import nearest_template_of_each
from gallery.errors import CorruptGalleryError
from gallery.indexes.base import Neighbours, Selection, VectorIndex
from gallery.stores.base import Store, Stored
from gallery.vectors import FloatRows, Numbers, paired_distances

Finalists = list[tuple[int, int, float]]
"""(subject number, template number, distance): each subject by its nearest template, nearest first."""

Enough = Callable[[Finalists, float], bool]
"""Whether an answer is certain, given that whatever was not found is no nearer than a floor."""

_SPARE = 2
"""Templates asked for beyond those that k subjects need when each has as many as the mean."""
_MOST_SPARE = 64
_WIDEN = 16
"""How much more a probe is asked for before the templates of subjects that were found are left out."""
_ROWS_AT_A_TIME = 2**16
_PAIRS_AT_A_TIME = 2048


class OutOfStepError(CorruptGalleryError):
    """The index proposes templates that the store cannot give."""


def nearest(
    store: Store, index: VectorIndex, probes: FloatRows, k: int, among: Selection | None
) -> list[Finalists]:
    """For each probe the k nearest subjects. Inside a snapshot, the index in step with it."""

    def enough(ranked: Finalists, floor: float) -> bool:
        return len(ranked) >= k and ranked[k - 1][2] < floor

    subjects, templates = store.counts()
    k = min(k, subjects)
    first = k + _SPARE + min(_MOST_SPARE, -(-templates // max(1, subjects)))
    answers, unsure = _widened(store, index, probes, enough, among, first, _WIDEN * first)
    for probe in unsure:
        answers[probe] = _past_crowds(store, index, probes[probe : probe + 1], enough, among, _WIDEN * first)
    return [ranked[:k] for ranked in answers]


def within(
    store: Store, index: VectorIndex, probes: FloatRows, radius: float, among: Selection | None
) -> list[Finalists]:
    """For each probe every subject at `radius` or nearer."""

    def enough(ranked: Finalists, floor: float) -> bool:
        if np.isfinite(floor):
            return floor > radius
        # An approximate index promises nothing: it has been asked enough when it came past the radius.
        return any(distance > radius for _, _, distance in ranked)

    answers, _ = _widened(store, index, probes, enough, among, _MOST_SPARE, len(index))
    return [[one for one in ranked if one[2] <= radius] for ranked in answers]


def _widened(
    store: Store,
    index: VectorIndex,
    probes: FloatRows,
    enough: Enough,
    among: Selection | None,
    ask: int,
    most: int,
) -> tuple[list[Finalists], list[int]]:
    """Answers from up to `most` templates a probe, and which probes those were not enough for."""
    answers: list[Finalists] = [[] for _ in probes]
    pending = list(range(len(probes)))
    ask = min(ask, len(index))
    while pending and ask:
        step = max(1, _ROWS_AT_A_TIME // ask)
        unsure = []
        for start in range(0, len(pending), step):
            which = pending[start : start + step]
            found = index.search(probes[which], ask, among)
            for at, ranked in enumerate(_ranked(store, probes[which], found)):
                answers[which[at]] = ranked
                if not (found.exhausted[at] or enough(ranked, float(found.floor[at]))):
                    unsure.append(which[at])
        pending = unsure
        if ask >= min(most, len(index)):
            break
        ask = min(4 * ask, len(index))
    return answers, pending


def _past_crowds(
    store: Store, index: VectorIndex, probe: FloatRows, enough: Enough, among: Selection | None, ask: int
) -> Finalists:
    """The answer where few subjects have all of the nearest templates.

    Those whose nearest template is certain are left out of the next search, so that a subject with ten
    thousand templates costs as much as one with a hundred.
    """
    settled: Finalists = []
    while True:
        ask = min(ask, len(index))
        found = index.search(probe, ask, among)
        floor = float(found.floor[0])
        (more,) = _ranked(store, probe, found)
        ranked = sorted(settled + more, key=lambda one: (one[2], one[1]))
        if found.exhausted[0] or enough(ranked, floor):
            return ranked
        fresh = [one for one in more if one[2] < floor]
        settled += fresh
        crowd = store.numbers_of(subject for subject, _, _ in fresh)
        among = (among or Selection.everything()).minus(crowd)
        if not fresh:
            ask *= 4


def _ranked(store: Store, probes: FloatRows, found: Neighbours) -> list[Finalists]:
    """The subjects of what was found for each probe, with exact distances."""
    probe, place = np.nonzero(found.numbers >= 0)
    numbers = found.numbers[probe, place]
    stored = _fetched(store, np.unique(numbers))
    at = np.searchsorted(stored.numbers, numbers)
    scores = np.empty(len(at), np.float32)
    for start in range(0, len(at), _PAIRS_AT_A_TIME):
        pairs = slice(start, start + _PAIRS_AT_A_TIME)
        scores[pairs] = paired_distances(probes[probe[pairs]], stored.rows[at[pairs]], store.header.metric)
    ends = np.searchsorted(probe, np.arange(len(probes) + 1))
    ranked = []
    for begin, end in pairwise(ends.tolist()):
        its, subjects = scores[begin:end], stored.subjects[at[begin:end]]
        order = nearest_template_of_each(its, numbers[begin:end], subjects)
        ranked.append(
            list(
                zip(
                    subjects[order].tolist(),
                    numbers[begin:end][order].tolist(),
                    its[order].tolist(),
                    strict=True,
                )
            )
        )
    return ranked


def _fetched(store: Store, numbers: Numbers) -> Stored:
    """Their embeddings, all of them: a template that cannot be found must not be passed over."""
    stored = store.fetch(numbers)
    if len(stored.numbers) < len(numbers):
        missing = np.setdiff1d(numbers, stored.numbers)
        raise OutOfStepError(f"template {missing[0]} is enrolled, but cannot be found")
    return stored
