"""Subjects ranked by fused distances: exactly, from those whose nearest templates are nearest."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from gallery.engines.register import members
from gallery.engines.seeking import Finalists
from gallery.fusion import CENTROID, fused_one, to_centroids
from gallery.stores.base import Store, Stored
from gallery.vectors import FloatRows, Numbers, distances

Nearest = Callable[[FloatRows, int], list[Finalists]]
"""(probes, k) -> the k subjects of each probe with the nearest templates, nearest first."""

_FIRST = 16
_SPARE = 8
"""So many more than are wanted are computed exactly: rounding may have put them in another order."""
_BLOCK = 8192


def ranked(
    store: Store, probes: FloatRows, k: int, fusion: str, nearest: Nearest, barred: Numbers
) -> list[Finalists]:
    """The k nearest subjects of each probe by their fused distance, ties by template number.

    A fused distance is never smaller than that of the nearest template, so those who are left out cannot be
    nearer than the last one who was looked at: more are looked at until that is far enough. barred: the
    templates in quarantine.
    """
    found: list[Finalists] = [[] for _ in probes]
    open_still, most = np.arange(len(probes)), max(_FIRST, 4 * k)
    while len(open_still):
        held: dict[int, Stored] = {}
        looked_at = nearest(probes[open_still], most)
        again = []
        for probe, finalists in zip(open_still.tolist(), looked_at, strict=True):
            best = _best(store, held, probes[probe], [one[0] for one in finalists], k, fusion, barred)
            found[probe] = best
            if len(finalists) >= most and not (len(best) == k and best[-1][2] < finalists[-1][2]):
                again.append(probe)
        open_still, most = np.array(again, np.intp), 4 * most
    return found


def by_centroid(
    store: Store, probes: FloatRows, k: int, among: Numbers | None, barred: Numbers
) -> list[Finalists]:
    """The same for centroids, by going through every subject. among: the templates that a filter leaves."""
    spare, metric = k + _SPARE, store.header.metric
    distances = np.empty((len(probes), 0), np.float32)
    subjects = np.empty((len(probes), 0), np.int64)
    for stored in whole_subjects(store, _BLOCK, among):
        order = np.argsort(stored.subjects, kind="stable")
        some, starts = np.unique(stored.subjects[order], return_index=True)
        nothing = np.zeros((len(probes), len(order)), np.bool_)
        away = to_centroids(probes, stored.rows[order], starts, nothing, metric)
        distances = np.concatenate([distances, away], axis=1)
        subjects = np.concatenate([subjects, np.broadcast_to(some, away.shape)], axis=1)
        if distances.shape[1] > spare:
            best = np.argpartition(distances, spare - 1, axis=1)[:, :spare]
            distances = np.take_along_axis(distances, best, axis=1)
            subjects = np.take_along_axis(subjects, best, axis=1)
    held: dict[int, Stored] = {}
    return [
        _best(store, held, probe, some, k, CENTROID, barred)
        for probe, some in zip(probes, subjects.tolist(), strict=True)
    ]


def _best(
    store: Store,
    held: dict[int, Stored],
    probe: FloatRows,
    subjects: list[int],
    k: int,
    fusion: str,
    barred: Numbers,
) -> Finalists:
    """The k nearest of these subjects by their exact fused distances."""
    each = (_fused(store, held, probe, subject, fusion, barred) for subject in subjects)
    return sorted(each, key=lambda one: (one[2], one[1]))[:k]


def _fused(
    store: Store, held: dict[int, Stored], probe: FloatRows, subject: int, fusion: str, barred: Numbers
) -> tuple[int, int, float]:
    """(subject, its nearest template, its fused distance)"""
    if subject not in held:
        numbers = np.asarray(store.numbers_of([subject]), np.int64)
        held[subject] = store.fetch(numbers[~members(numbers, barred)].tolist())
    templates = held[subject]
    metric = store.header.metric
    away = distances(probe, templates.rows, metric)
    at = int(np.lexsort((templates.numbers, away))[0])
    return subject, int(templates.numbers[at]), fused_one(probe, templates.rows, away, fusion, metric)


def whole_subjects(store: Store, block: int, among: Numbers | None = None) -> Iterator[Stored]:
    """Every template, or of those `among`, with all of a subject in one block. Inside a snapshot."""
    numbers, owners = store.owners()
    if among is not None:
        left = np.isin(numbers, among)
        numbers, owners = numbers[left], owners[left]
    if not len(numbers):
        return
    order = np.argsort(owners, kind="stable")
    starts = np.flatnonzero(np.append(True, owners[order][1:] != owners[order][:-1]))
    cuts = starts[np.flatnonzero(np.append(True, np.diff(starts // block) > 0))]
    for start, stop in zip(cuts, [*cuts[1:], len(order)], strict=True):
        yield store.fetch(_ascending(numbers[order[start:stop]]))


def _ascending(numbers: Numbers) -> list[int]:
    return [int(one) for one in np.sort(numbers)]
