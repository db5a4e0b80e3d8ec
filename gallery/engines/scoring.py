"""The distances that a calibration is made of: probes against every subject of the gallery.

Two embeddings of the same file, or as good as equal, are never compared: they would look like a perfect pair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gallery.calibration import Distances, Scores
from gallery.engines.drawing import drawn
from gallery.engines.register import members
from gallery.stores.base import Store, Stored
from gallery.vectors import FloatRows, Numbers, paired_distances

MOST_CELLS = 25_000_000
"""Comparisons that are kept; of a larger gallery some subjects are drawn."""

NOBODY: Numbers = np.empty(0, np.int64)
"""No templates in quarantine."""

_COPY = {"cosine": 1e-9, "euclidean": 4e-5}
"""Distances up to which two embeddings are of the same bytes; euclidean ones relative to their length."""
_NEAR = {"cosine": 1e-4, "euclidean": 1e-2}
"""Up to which a float32 product is not exact enough to tell."""


@dataclass(frozen=True, slots=True)
class Probes:
    """rows: (p, dim); owners: (p,) subject numbers, or below 0 for p probes of subjects not enrolled."""

    rows: FloatRows
    owners: Numbers
    sources: Sequence[str | None]


def from_the_gallery(store: Store, sample: int, seed: int, barred: Numbers = NOBODY) -> Probes:
    """Enrolled templates as probes, each to be compared with all others; those in quarantine are passed."""
    stored = matched(drawn(store, sample, seed)[1], barred)
    numbers = stored.numbers
    sources = store.sources_of(numbers)
    return Probes(stored.rows, stored.subjects, [sources.get(int(number)) for number in numbers])


def matched(stored: Stored, barred: Numbers) -> Stored:
    """Those that are not in quarantine."""
    if len(barred) == 0:
        return stored
    kept = ~members(stored.numbers, barred)
    return Stored(stored.numbers[kept], stored.subjects[kept], stored.rows[kept])


def owners(store: Store, ids: Sequence[str]) -> Numbers:
    """The subject number of each id; one of its own below 0 for each that is not enrolled."""
    known = {id: store.subject(id) for id in dict.fromkeys(ids)}
    numbers = {id: -1 - at if one is None else one for at, (id, one) in enumerate(known.items())}
    return np.array([numbers[id] for id in ids], np.int64)


def scored(store: Store, probes: Probes, seed: int, barred: Numbers = NOBODY) -> Scores:
    """Every probe against every subject, by its nearest template that is no copy. Inside a snapshot."""
    count = len(probes.rows)
    subjects = store.counts()[0]
    columns = _columns(store, subjects, max(1, MOST_CELLS // max(1, count)), seed)
    kept = np.full((count, len(columns)), np.inf, np.float32)
    mated = np.full(count, np.inf, np.float32)
    two = _NearestTwo(count)
    same_file = _same_file(store, probes.sources)
    for every in store.scan():
        stored = matched(every, barred)
        if len(stored.numbers) == 0:
            continue
        away = _away(probes.rows, stored, store.header.metric)
        for at, number in enumerate(stored.numbers.tolist()):
            if number in same_file:
                away[same_file[number], at] = np.inf
        own = stored.subjects[None, :] == probes.owners[:, None]
        np.minimum(mated, np.where(own, away, np.inf).min(axis=1), out=mated)
        away[own] = np.inf
        some, fused = _fused(stored.subjects, away)
        two.take(some, fused)
        _keep(kept, columns, some, fused)
    mated[np.isinf(mated)] = np.nan
    places = _places(columns, np.concatenate([probes.owners, two.subjects[:, 0]]))
    found = np.where(np.isfinite(two.distances[:, 0]), places[count:], -1)
    return Scores(kept, mated, two.distances[:, 0], two.distances[:, 1], found, places[:count], subjects)


def _columns(store: Store, subjects: int, most: int, seed: int) -> Numbers:
    """The numbers of the subjects to compare with, ascending."""
    every = store.subject_numbers()
    if len(every) <= most:
        return every
    return np.sort(np.random.default_rng(seed).choice(every, most, replace=False))


def _places(columns: Numbers, owners: Numbers) -> Numbers:
    """Each owner's column; one that has none gets a number of its own above them."""
    at = np.searchsorted(columns, owners)
    at[at == len(columns)] = 0
    _, rank = np.unique(owners, return_inverse=True)
    has_column = columns[at] == owners if len(columns) else np.zeros(len(owners), np.bool_)
    return np.where(has_column, at, len(columns) + rank)


def _same_file(store: Store, sources: Sequence[str | None]) -> Mapping[int, list[int]]:
    """{template: the probes that come from the same file}."""
    of_file: dict[str, list[int]] = {}
    for probe, source in enumerate(sources):
        if source is not None:
            of_file.setdefault(source, []).append(probe)
    return {number: of_file[source] for number, source in store.templates_from([*of_file]).items()}


def _away(probes: FloatRows, stored: Stored, metric: str) -> Distances:
    """(p, m) distances, copies at +inf."""
    products = probes @ stored.rows.T
    if metric == "cosine":
        away = np.maximum(1 - products, 0)
        scale: npt.NDArray[np.float32] = np.ones(len(probes), np.float32)
    else:
        lengths = np.square(probes.astype(np.float64)).sum(axis=1)
        others = np.square(stored.rows.astype(np.float64)).sum(axis=1)
        squares = lengths[:, None] + others[None, :] - 2 * products
        away = np.sqrt(np.maximum(squares, 0)).astype(np.float32)
        scale = np.sqrt(lengths).astype(np.float32)
    probe, at = np.nonzero(away <= _NEAR[metric] * scale[:, None])
    exact = paired_distances(probes[probe], stored.rows[at], metric)
    away[probe, at] = np.where(exact <= _COPY[metric] * scale[probe], np.float32(np.inf), exact)
    exactly: Distances = away
    return exactly


def _fused(subjects: Numbers, away: Distances) -> tuple[Numbers, Distances]:
    """(the m subjects, ascending, (p, m) the nearest of each one's templates)."""
    order = np.argsort(subjects, kind="stable")
    some, starts = np.unique(subjects[order], return_index=True)
    return some, np.minimum.reduceat(away[:, order], starts, axis=1)


def _keep(kept: Distances, columns: Numbers, some: Numbers, fused: Distances) -> None:
    """Takes what is nearer than before, of those subjects that have a column."""
    at = np.searchsorted(columns, some)
    at[at == len(columns)] = 0
    there = columns[at] == some if len(columns) else np.zeros(len(some), np.bool_)
    kept[:, at[there]] = np.minimum(kept[:, at[there]], fused[:, there])


class _NearestTwo:
    """The two nearest subjects of each probe so far, (p, 2), nearest first."""

    def __init__(self, count: int) -> None:
        self.distances: Distances = np.full((count, 2), np.inf, np.float32)
        self.subjects: Numbers = np.full((count, 2), -1, np.int64)

    def take(self, some: Numbers, fused: Distances) -> None:
        """One more block; a subject's templates may lie in several."""
        best = np.argsort(fused, axis=1, kind="stable")[:, :2] if len(some) < 3 else _smallest_two(fused)
        distances = np.concatenate([self.distances, np.take_along_axis(fused, best, axis=1)], axis=1)
        subjects = np.concatenate([self.subjects, some[best]], axis=1)
        order = np.argsort(distances, axis=1, kind="stable")
        distances = np.take_along_axis(distances, order, axis=1)
        subjects = np.take_along_axis(subjects, order, axis=1)
        # The second is the first one that is of another subject than the nearest.
        other = (subjects != subjects[:, :1]).argmax(axis=1)
        row = np.arange(len(distances))
        lonely = other == 0
        self.distances = np.stack(
            [distances[:, 0], np.where(lonely, np.float32(np.inf), distances[row, other])], axis=1
        )
        self.subjects = np.stack([subjects[:, 0], np.where(lonely, -1, subjects[row, other])], axis=1)


def _smallest_two(fused: Distances) -> Numbers:
    return np.argpartition(fused, 1, axis=1)[:, :2].astype(np.int64)
