"""The distances that a calibration is made of: probes against every subject of the gallery.

Two embeddings of the same file, or as good as equal, are never compared: they would look like a perfect pair.
A path alone does not make them of one file: a camera may write every picture to the same one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gallery.calibration import Distances, Scores
from gallery.canary import rounding
from gallery.engines.base import Compared
from gallery.engines.drawing import drawn
from gallery.engines.fusing import whole_subjects
from gallery.engines.register import matched, members
from gallery.fusion import NEAREST, OF_NEAREST, fused, to_centroids
from gallery.stores.base import Store, Stored
from gallery.vectors import FloatRows, Numbers, distances_of_pairs

MOST_CELLS = 25_000_000
"""Comparisons that are kept; of a larger gallery some subjects are drawn."""

NOBODY: Numbers = np.empty(0, np.int64)
"""No templates in quarantine."""
_EACH = 10
"""So many templates of a subject are probes, however few most have."""
RANKS = 20
"""How many of the nearest subjects are looked at for the place of the right one."""

_COPY = {"cosine": 1e-9, "euclidean": 4e-5}
"""Distances up to which two embeddings are of the same bytes; euclidean ones relative to their length, or to
how far all of them lie apart where that is less: far from the origin their length says nothing of it."""
_ROUNDED = 5e-7
"""Of the same bytes are euclidean ones too up to this share of their length: four roundings of float32."""
_NEAR = {"cosine": 1e-4, "euclidean": 1e-2}
"""Up to which a float32 product is not exact enough to tell."""


@dataclass(frozen=True, slots=True)
class Probes:
    """rows: (p, dim); owners: (p,) subject numbers, or below 0 for p probes of subjects not enrolled."""

    rows: FloatRows
    owners: Numbers
    sources: Sequence[str | None]
    enrolled: bool = False
    """They are templates themselves."""


def from_the_gallery(store: Store, sample: int, seed: int, barred: Numbers = NOBODY) -> Probes:
    """Enrolled templates as probes, each to be compared with all others; those in quarantine are passed.

    Of no subject many more than of most: what one of them is taken for would be the rate of all.
    """
    stored = _evenly(matched(drawn(store, sample, seed)[1], barred))
    numbers = stored.numbers
    sources = store.sources_of(numbers)
    return Probes(stored.rows, stored.subjects, [sources.get(int(number)) for number in numbers], True)


def _evenly(stored: Stored) -> Stored:
    """The first of each subject, up to three times as many as most have, and ten at least."""
    order = np.argsort(stored.subjects, kind="stable")
    _, starts, counts = np.unique(stored.subjects[order], return_index=True, return_counts=True)
    most = max(_EACH, 3 * int(np.median(counts))) if len(counts) else 0
    place = np.arange(len(order)) - np.repeat(starts, counts)
    kept = np.sort(order[place < most])
    return Stored(stored.numbers[kept], stored.subjects[kept], stored.rows[kept])


def owners(store: Store, ids: Sequence[str]) -> Numbers:
    """The subject number of each id; one of its own below 0 for each that is not enrolled."""
    known = {id: store.subject(id) for id in dict.fromkeys(ids)}
    numbers = {id: -1 - at if one is None else one for at, (id, one) in enumerate(known.items())}
    return np.array([numbers[id] for id in ids], np.int64)


def compared(
    store: Store, probes: Probes, seed: int, fusion: str = NEAREST, barred: Numbers = NOBODY
) -> Compared:
    """The same as `scored`, with what is known of both sides. Inside a snapshot."""
    columns = drawn_columns(store, len(probes.rows), seed)
    enrolled = probes.owners[probes.owners >= 0].tolist()
    known = store.describe({*columns.tolist(), *enrolled})
    counts = _template_counts(store, barred)
    own = np.array([counts.get(number, 0) for number in probes.owners.tolist()], np.int64)
    return Compared(
        scored(store, probes, seed, fusion, barred),
        tuple(known[number][0] for number in columns.tolist()),
        tuple(known[number][1] for number in columns.tolist()),
        tuple(known[number][1] if number >= 0 else None for number in probes.owners.tolist()),
        np.array([counts.get(number, 0) for number in columns.tolist()], np.int64),
        own - int(probes.enrolled),
    )


def _template_counts(store: Store, barred: Numbers) -> dict[int, int]:
    """{subject: how many templates that are not in quarantine}"""
    numbers, owned = store.owners()
    subjects, counts = np.unique(owned[~members(numbers, barred)], return_counts=True)
    return dict(zip(subjects.tolist(), counts.tolist(), strict=True))


def scored(
    store: Store, probes: Probes, seed: int, fusion: str = NEAREST, barred: Numbers = NOBODY
) -> Scores:
    """Every probe against every subject, of its templates that are no copies. Inside a snapshot."""
    count = len(probes.rows)
    subjects = store.counts()[0]
    columns = drawn_columns(store, count, seed)
    kept = np.full((count, len(columns)), np.inf, np.float32)
    mated = np.full(count, np.inf, np.float32)
    near = _Nearest(count, RANKS)
    copied, pairs = np.zeros(count, np.bool_), np.empty(0, np.int64)
    limits: Limits | None = None
    same_path = _same_path(store, probes.sources)
    # So many at a time that what is computed of a block stays small also for many probes.
    block = min(8192, max(256, MOST_CELLS // max(1, count)))
    for every in store.scan(block=block) if fusion == NEAREST else whole_subjects(store, block):
        stored = matched(every, barred)
        if len(stored.numbers) == 0:
            continue
        limits = limits or copy_limits(probes.rows, stored.rows, store.header.metric)
        away = _away(probes.rows, stored, store.header.metric, limits)
        _leave_out(away, stored, same_path, limits.path)
        equal = np.isinf(away) & (stored.subjects[None, :] != probes.owners[:, None])
        copied |= equal.any(axis=1)
        pairs = np.union1d(pairs, _pairs_with(columns, stored.subjects, equal))
        some, each = _fused(probes, stored, away, fusion, store.header.metric)
        own = some[None, :] == probes.owners[:, None]
        np.minimum(mated, np.where(own, each, np.inf).min(axis=1), out=mated)
        each[own] = np.inf
        near.take(some, each)
        _keep(kept, columns, some, each)
    mated[np.isinf(mated)] = np.nan
    places = _places(columns, np.concatenate([probes.owners, near.subjects[:, 0]]))
    return Scores(
        distances=kept,
        mated=mated,
        nearest=near.distances[:, 0],
        second=near.distances[:, 1],
        found=np.where(np.isfinite(near.distances[:, 0]), places[count:], -1),
        rank=ranks(mated, near.distances),
        probe_subject=places[:count],
        subjects=subjects,
        copied=copied,
        copies=len(pairs),
    )


def ranks(mated: Distances, others: Distances) -> Numbers:
    """The place of each probe's own subject, 1 is first, behind those that are as near; 0 without one.

    others: (p, k) the nearest other subjects; a place above k is not told from k + 1.
    """
    behind = (others <= mated[:, None]).sum(axis=1) + 1
    return np.where(np.isfinite(mated), behind, 0).astype(np.int64)


def drawn_columns(store: Store, probes: int, seed: int) -> Numbers:
    """The numbers of the subjects to compare so many probes with, ascending: all, where there is room."""
    every, most = store.subject_numbers(), max(1, MOST_CELLS // max(1, probes))
    if len(every) <= most:
        return every
    return np.sort(np.random.default_rng(seed).choice(every, most, replace=False))


def _pairs_with(columns: Numbers, subjects: Numbers, equal: npt.NDArray[np.bool_]) -> Numbers:
    """A number for each pair of a probe and a subject with a column, of which `equal`, (p, m), says so."""
    probe, at = np.nonzero(equal)
    column, there = _columns_of(columns, subjects[at])
    pairs: Numbers = np.unique(probe[there] * len(columns) + column[there])
    return pairs


def _places(columns: Numbers, owners: Numbers) -> Numbers:
    """Each owner's column; one that has none gets a number of its own above them."""
    at, has_column = _columns_of(columns, owners)
    _, rank = np.unique(owners, return_inverse=True)
    return np.where(has_column, at, len(columns) + rank)


def _columns_of(columns: Numbers, subjects: Numbers) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    """(the column of each subject, whether it has one)."""
    at = np.searchsorted(columns, subjects)
    at[at == len(columns)] = 0
    return at, columns[at] == subjects if len(columns) else np.zeros(len(subjects), np.bool_)


def _same_path(store: Store, sources: Sequence[str | None]) -> Mapping[int, list[int]]:
    """{template: the probes that come from the same path}."""
    of_path: dict[str, list[int]] = {}
    for probe, source in enumerate(sources):
        if source is not None:
            of_path.setdefault(source, []).append(probe)
    return {number: of_path[source] for number, source in store.templates_from([*of_path]).items()}


def _leave_out(
    away: Distances, stored: Stored, same_path: Mapping[int, list[int]], limits: npt.NDArray[np.float64]
) -> None:
    """Of `away`, (p, m): +inf for what comes from one path and no farther than `limits`, (p,), apart.

    Nearer than that is the same file embedded twice; farther it holds something else by now.
    """
    for at, number in enumerate(stored.numbers.tolist()):
        if number in same_path:
            theirs = np.array(same_path[number], np.intp)
            away[theirs[away[theirs, at] <= limits[theirs]], at] = np.inf


@dataclass(frozen=True, slots=True)
class Limits:
    """(p,) up to which distance a template is a copy of each probe, up to which that is looked at, and up to
    which one of the same path is of the same file."""

    copy: npt.NDArray[np.float64]
    near: npt.NDArray[np.float64]
    path: npt.NDArray[np.float64]


def copy_limits(probes: FloatRows, among: FloatRows, metric: str) -> Limits:
    """What is a copy of each of p probes. among: (m, d) some of the gallery: how far it lies apart."""
    if metric == "cosine":
        ones = np.ones(len(probes))
        return Limits(_COPY[metric] * ones, _NEAR[metric] * ones, rounding(ones, metric))
    lengths = np.linalg.norm(probes.astype(np.float64), axis=1)
    middle = among.mean(axis=0, dtype=np.float64)
    spread = math.sqrt(float(np.square(among - middle).sum(axis=1).mean()))
    sizes = np.minimum(lengths, spread)
    copy = np.maximum(_COPY[metric] * sizes, _ROUNDED * lengths)
    return Limits(copy, _NEAR[metric] * lengths, np.maximum(copy, rounding(sizes, metric)))


def _away(probes: FloatRows, stored: Stored, metric: str, limits: Limits) -> Distances:
    """(p, m) distances, copies at +inf."""
    products = probes @ stored.rows.T
    if metric == "cosine":
        away = np.maximum(1 - products, 0)
    else:
        lengths = np.square(probes.astype(np.float64)).sum(axis=1)
        others = np.square(stored.rows.astype(np.float64)).sum(axis=1)
        squares = lengths[:, None] + others[None, :] - 2 * products
        away = np.sqrt(np.maximum(squares, 0)).astype(np.float32)
    probe, at = np.nonzero(away <= limits.near[:, None])
    exact = distances_of_pairs(probes, probe, stored.rows, at, metric)
    away[probe, at] = np.where(exact <= limits.copy[probe], np.float32(np.inf), exact)
    exactly: Distances = away
    return exactly


def _fused(
    probes: Probes, stored: Stored, away: Distances, fusion: str, metric: str
) -> tuple[Numbers, Distances]:
    """(the s subjects, ascending, (p, s) fused distances); of `away`, (p, m), +inf does not count."""
    order = np.argsort(stored.subjects, kind="stable")
    some, starts = np.unique(stored.subjects[order], return_index=True)
    ordered = away[:, order]
    if fusion in OF_NEAREST:
        return some, fused(ordered, starts, fusion)
    return some, to_centroids(probes.rows, stored.rows[order], starts, np.isinf(ordered), metric)


def _keep(kept: Distances, columns: Numbers, some: Numbers, fused: Distances) -> None:
    """Takes what is nearer than before, of those subjects that have a column."""
    at, there = _columns_of(columns, some)
    kept[:, at[there]] = np.minimum(kept[:, at[there]], fused[:, there])


class _Nearest:
    """The nearest subjects of each probe so far, (p, k), nearest first; +inf and -1 where there are fewer."""

    def __init__(self, count: int, most: int) -> None:
        self.distances: Distances = np.full((count, most), np.inf, np.float32)
        self.subjects: Numbers = np.full((count, most), -1, np.int64)

    def take(self, some: Numbers, fused: Distances) -> None:
        """One more block; a subject's templates may lie in several."""
        most = self.distances.shape[1]
        best = _smallest(fused, most)
        distances = np.concatenate([self.distances, np.take_along_axis(fused, best, axis=1)], axis=1)
        subjects = np.concatenate([self.subjects, some[best]], axis=1)
        _once(distances, subjects)
        order = np.argsort(distances, axis=1, kind="stable")[:, :most]
        self.distances = np.take_along_axis(distances, order, axis=1)
        self.subjects = np.take_along_axis(subjects, order, axis=1)


def _smallest(fused: Distances, most: int) -> npt.NDArray[np.intp]:
    """(p, up to most) where the smallest of each row are."""
    if fused.shape[1] <= most:
        return np.argsort(fused, axis=1, kind="stable")
    return np.argpartition(fused, most - 1, axis=1)[:, :most]


def _once(distances: Distances, subjects: Numbers) -> None:
    """Of a subject that is twice in a row the farther place is emptied."""
    order = np.lexsort((distances, subjects), axis=1)
    whose = np.take_along_axis(subjects, order, axis=1)
    row, at = np.nonzero(whose[:, 1:] == whose[:, :-1])
    again = order[row, at + 1]
    distances[row, again], subjects[row, again] = np.inf, -1
