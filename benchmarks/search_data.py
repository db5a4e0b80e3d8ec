"""What the search benchmarks ask about: a crowd of subjects with 20 templates each, and galleries full of it.

Cosine, unit rows. A subject's templates lie around a centre of its own, mates at about cos 0.8 of each other.
Half of the queries are new samples of somebody who is in, half of others like them. The centres are

    unrelated  anywhere: all strangers are about as far away, and which four are the nearest is chance
    related    in a space of 16 dimensions: about as many as face encoders are found to use (Gong, Boddeti and
               Jain, "On the intrinsic dimensionality of image representations", CVPR 2019)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import gallery
from gallery.indexes import library

Rows = npt.NDArray[np.float32]
Whole = npt.NDArray[np.int64]

EACH = 20
"""Templates of a subject."""
SPREAD = 0.5
"""How far they lie from its centre, in lengths of the centre."""
FACTORS = 16
"""Dimensions of the space that related centres lie in."""
_BLOCK = 2500
"""Subjects that are made at a time."""


@dataclass(frozen=True, slots=True)
class Crowd:
    """`count` templates of dim `dim`, row i of subject i // `each`; the same ones in every process."""

    count: int
    dim: int
    each: int = EACH
    related: bool = False

    @classmethod
    def of(cls, shape: str, each: int = EACH, related: bool = False) -> Crowd:
        """The crowd of "100000x512"."""
        count, dim = map(int, shape.split("x"))
        return cls(count, dim, each, related)

    @property
    def subjects(self) -> int:
        return -(-self.count // self.each)

    def blocks(self) -> Iterator[tuple[int, Rows]]:
        """(row number of the first, rows) in blocks of whole subjects."""
        for part in range(-(-self.subjects // _BLOCK)):
            first = part * _BLOCK * self.each
            rows = self._block(part)
            yield first, rows[: self.count - first]

    def _block(self, part: int) -> Rows:
        rng = np.random.default_rng([1, part])
        subjects = min(_BLOCK, self.subjects - part * _BLOCK)
        return self._around(np.repeat(self._centres(rng, subjects), self.each, axis=0), rng)

    def _centres(self, rng: np.random.Generator, count: int) -> Rows:
        if not self.related:
            return _unit(rng.standard_normal((count, self.dim), dtype=np.float32))
        across = np.random.default_rng(4).standard_normal((FACTORS, self.dim), dtype=np.float32)
        return _unit(rng.standard_normal((count, FACTORS), dtype=np.float32) @ across)

    def _around(self, centres: Rows, rng: np.random.Generator) -> Rows:
        noise = rng.standard_normal(centres.shape, dtype=np.float32)
        return _unit(centres + np.float32(SPREAD / self.dim**0.5) * noise)

    def rows(self) -> Rows:
        """All of them."""
        whole = np.empty((self.count, self.dim), np.float32)
        for first, rows in self.blocks():
            whole[first : first + len(rows)] = rows
        return whole

    def queries(self, count: int) -> Rows:
        """New samples, half of them of somebody who is in, half of others, mixed."""
        rng = np.random.default_rng(2)
        centres = self._centres(np.random.default_rng([1, 0]), min(_BLOCK, self.subjects))
        known = centres[rng.integers(len(centres), size=count // 2)]
        others = self._centres(rng, count - len(known))
        return self._around(np.concatenate([known, others]), rng)[rng.permutation(count)]

    def people(self) -> Iterator[tuple[str, Rows, dict[str, Any]]]:
        """(id, templates, metadata) of every subject, as a gallery enrols them."""
        for first, rows in self.blocks():
            for at in range(0, len(rows), self.each):
                subject = (first + at) // self.each
                yield name_of(subject), rows[at : at + self.each], {"badge": subject}


def name_of(subject: int) -> str:
    """The id of a subject."""
    return f"subject-{subject:07d}"


def opened(crowd: Crowd, folder: Path, kind: str = "auto") -> gallery.Gallery:
    """The gallery of a crowd with that kind of index; made where it is not there yet."""
    encoder = gallery.Precomputed(crowd.dim)
    people = gallery.open(folder, encoder)
    if people.template_count != crowd.count:
        people.enroll_many(crowd.people())
    if people.info().index_wish != kind:
        people.reindex(kind)
    people.close()  # writes the index file
    return gallery.open(folder, encoder)


def index_of(people: gallery.Gallery) -> Any:
    """The index that a gallery searches, for what only a benchmark may ask: bare calls of it."""
    engine: Any = people._engine
    with engine._at_one_revision() as store:
        return engine._cache.in_step(store)


def truth(queries: Rows, blocks: Iterator[tuple[Whole, Rows]], each: int, k: int = 5) -> Whole:
    """(q, k) the k nearest subjects of each query, nearest first, by brute force in float32.

    blocks: (row numbers, rows). Row i is of subject i // each.
    """
    most = k * each
    best = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
    for numbers, rows in blocks:
        away, at = library.nearest(queries, rows, min(most, len(rows)), "cosine")
        both = np.hstack([best[0], away]), np.hstack([best[1], numbers[at]])
        order = np.argsort(both[0], axis=1, kind="stable")[:, :most]
        best = np.take_along_axis(both[0], order, 1), np.take_along_axis(both[1], order, 1)
    return first_subjects(best[1] // each, k)


def first_subjects(owners: Whole, k: int) -> Whole:
    """(q, k) the first k different ones of each row of (q, m) subjects; -1 is nobody, and fills up."""
    found = np.full((len(owners), k), -1, np.int64)
    have = np.zeros(len(owners), np.int64)
    for column in owners.T:
        new = np.flatnonzero((column >= 0) & (have < k) & (found != column[:, None]).all(axis=1))
        found[new, have[new]] = column[new]
        have[new] += 1
        if have.min() == k:
            break
    return found


def recall(found: Whole, true: Whole) -> float:
    """The share of the true subjects that were found; both (q, k), -1 is nobody."""
    hits = (found[:, :, None] == true[:, None, :]) & (true[:, None, :] >= 0)
    return float(hits.sum() / (true >= 0).sum())


def _unit(rows: Rows) -> Rows:
    return np.ascontiguousarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)
