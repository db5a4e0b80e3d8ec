"""PURE: what is wrong with a gallery, decided from distances: double subjects, wrong labels, the zoo.

Goats, lambs and wolves are those of Doddington et al., "Sheep, goats, lambs and wolves" (ICSLP 1998): those
that do not match themselves, that others are taken for, and that are taken for others. Each is named only
where a binomial test against "all subjects are alike" stays below 5 % for the whole list (Holm, 1979).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gallery.pairs import Pairs
from gallery.vectors import FloatRows, Numbers, distances_of_pairs, sum_error

Floats = npt.NDArray[np.float32]

COPY = {"cosine": 1e-9, "euclidean": 4e-5}
"""Distances up to which two embeddings are of the same item; euclidean ones relative to their length."""
NEAR_COPY = 0.05
"""Up to which share of the threshold two items are nearly copies of each other."""
ALPHA = 0.05
"""How likely one wrong name in a whole list of animals may be."""

_NEAR = {"cosine": 1e-4, "euclidean": 1e-2}
"""Up to which a float32 product is not exact enough to tell a copy."""
_BLOCK = 1024


@dataclass(frozen=True, slots=True)
class Bounds:
    """By what an enrolment's items are judged."""

    threshold: float
    metric: str

    @property
    def near_copy(self) -> float:
        """At most so far apart are near copies."""
        return NEAR_COPY * self.threshold

    def is_copy(self, distance: Floats, lengths: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Which distances are as good as none. lengths: of one of the two rows."""
        scale = 1.0 if self.metric == "cosine" else lengths
        copies: npt.NDArray[np.bool_] = distance.astype(np.float64) <= COPY[self.metric] * scale
        return copies


def nearest_other(
    rows: FloatRows, metric: str, *, first: int = 0, copies: bool = True
) -> tuple[Floats, npt.NDArray[np.intp]]:
    """For each of rows[first:] its nearest other row: (distances, positions), exact; +inf and -1 for none.

    rows: (n, d) as `vectors.prepare` leaves them. copies=False: rows as good as equal do not count. Ties go
    to the lower position. A float32 product proposes with a margin for its rounding; float64 decides.
    """
    count = len(rows) - first
    best = np.full(count, np.inf, np.float32)
    where = np.full(count, -1, np.intp)
    lengths = np.square(rows.astype(np.float64)).sum(axis=1)
    largest = float(lengths.max(initial=1.0))
    share = sum_error(rows.shape[1] + 12)
    slack = 2 * share * (1.0 if metric == "cosine" else 4 * largest)
    for start in range(0, count, _BLOCK):
        some = np.arange(first + start, min(first + start + _BLOCK, len(rows)))
        scores = _scores(rows, some, lengths, metric)
        scores[np.arange(len(some)), some] = np.inf
        if not copies:
            _drop_copies(scores, rows, some, lengths, metric)
        least = scores.min(axis=1, initial=np.inf)
        row, at = np.nonzero((scores <= (least + 2 * slack)[:, None]) & np.isfinite(scores))
        exact = distances_of_pairs(rows, some[row], rows, at, metric)
        order = np.lexsort((at, exact, row))
        chosen, places = np.unique(row[order], return_index=True)
        best[start + chosen] = exact[order][places]
        where[start + chosen] = at[order][places]
    return best, where


def _scores(rows: FloatRows, some: Numbers, lengths: npt.NDArray[np.float64], metric: str) -> Floats:
    """(some, rows): 1 - cos, or the square of the distance, about."""
    products: Floats = rows[some] @ rows.T
    if metric == "cosine":
        return np.float32(1) - products
    squares = lengths.astype(np.float32)
    around: Floats = squares[some][:, None] + squares[None, :] - 2 * products
    return around


def _drop_copies(
    scores: Floats, rows: FloatRows, some: Numbers, lengths: npt.NDArray[np.float64], metric: str
) -> None:
    limit = _NEAR[metric] if metric == "cosine" else _NEAR[metric] ** 2 * lengths[some][:, None]
    row, at = np.nonzero(scores <= limit)
    exact = distances_of_pairs(rows, some[row], rows, at, metric)
    copy = Bounds(0.0, metric).is_copy(exact, np.sqrt(lengths[some[row]]))
    scores[row[copy], at[copy]] = np.inf


# -- the zoo


def binomial_tail(hits: int, trials: int, rate: float) -> float:
    """P(X >= hits) of a binomial with `trials` and `rate`: 0 to 1."""
    if hits <= 0:
        return 1.0
    if rate <= 0 or hits > trials:
        return 0.0
    if rate >= 1:
        return 1.0
    odds = math.log(rate) - math.log1p(-rate)
    term = (
        math.lgamma(trials + 1)
        - math.lgamma(hits + 1)
        - math.lgamma(trials - hits + 1)
        + hits * math.log(rate)
        + (trials - hits) * math.log1p(-rate)
    )
    total = 0.0
    for number in range(hits, trials + 1):
        share = math.exp(term)
        total += share
        if number > trials * rate and share < 1e-17 * total:
            break
        if number < trials:
            term += math.log(trials - number) - math.log(number + 1) + odds
    return min(1.0, total)


def holm(values: Sequence[float], tests: int | None = None) -> list[float]:
    """Holm's adjusted p-values (Scand. J. Statist. 6, 1979); tests: of how many these are the smallest."""
    many = len(values) if tests is None else tests
    adjusted = [1.0] * len(values)
    worst = 0.0
    for rank, at in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        worst = max(worst, min(1.0, (many - rank) * values[at]))
        adjusted[at] = worst
    return adjusted


@dataclass(frozen=True, slots=True)
class Count:
    """One subject's errors. expected: how many if all subjects were alike."""

    subject: int
    hits: int
    trials: int
    rate: float
    """Of one trial, if all subjects were alike."""

    @property
    def expected(self) -> float:
        """How many hits that would be."""
        return self.trials * self.rate


def animals(counts: Iterable[Count]) -> list[tuple[Count, float]]:
    """Those with more hits than can be chance, with the adjusted p-value: the least likely first."""
    every = list(counts)
    raised = [one for one in every if one.hits > one.expected]
    known: dict[tuple[int, int, float], float] = {}
    values = []
    for one in raised:
        key = (one.hits, one.trials, one.rate)
        if key not in known:
            known[key] = binomial_tail(*key)
        values.append(known[key])
    # Those with fewer hits than expected were tested too.
    adjusted = holm(values, len(every))
    found = [(one, value) for one, value in zip(raised, adjusted, strict=True) if value <= ALPHA]
    return sorted(found, key=lambda pair: (pair[1], -pair[0].hits / max(pair[0].expected, 1e-300)))


def goat_counts(owners: Numbers, own: Floats, threshold: float) -> list[Count]:
    """For each subject with two templates or more how often its nearest other template is too far.

    owners, own: (m,), whose each template is and how far its nearest other one. Two templates that are each
    other's nearest fail together, so two failures count as one, of half as many trials.
    """
    there = np.isfinite(own)
    subjects, at = np.unique(owners[there], return_inverse=True)
    trials = np.bincount(at, minlength=len(subjects))
    failures = np.bincount(at, weights=own[there].astype(np.float64) > threshold, minlength=len(subjects))
    trials, failures = np.maximum(trials // 2, 1), failures.astype(np.int64) // 2
    rate = float(failures.sum() / max(1, trials.sum()))
    return [
        Count(int(subject), int(hits), int(of), rate)
        for subject, hits, of in zip(subjects, failures, trials, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Sample:
    """Probes of different subjects against every subject, and against one template of each.

    probes: (n,) whose each is, every subject once; probe: (h,) which probe is within the threshold of
    another subject, once for each such; taken: (m,) the one whose subject's drawn template a probe of
    somebody else is within the threshold of, once for each such probe.
    """

    probes: Numbers
    probe: npt.NDArray[np.intp]
    taken: npt.NDArray[np.intp]


def lamb_counts(sample: Sample) -> list[Count]:
    """For each subject how many of the probes, which are all of others, its drawn template is taken for.

    One template of each, as many cannot be compared with few: those of one person lie near each other, so
    that a hundred are by far not a hundred chances.
    """
    return _each_counted(sample.probes, sample.taken)


def wolf_counts(sample: Sample) -> list[Count]:
    """For each probe how many of the other subjects it would be taken for."""
    return _each_counted(sample.probes, sample.probe)


def _each_counted(subjects: Numbers, hit: npt.NDArray[np.intp]) -> list[Count]:
    """How often each of n subjects is hit, of one trial with each other; hit: their places."""
    hits = np.bincount(hit, minlength=len(subjects))
    of = len(subjects) - 1
    rate = min(1.0, float(hits.sum() / max(1, len(subjects) * of)))
    return [Count(int(subject), int(many), of, rate) for subject, many in zip(subjects, hits, strict=True)]


# -- everything against everything


@dataclass(frozen=True, slots=True)
class Everyone:
    """A gallery's templates beside each other, without those in quarantine.

    numbers, owners: (t,) template and subject numbers; pairs: every two within the threshold, by position;
    own: (t,) how far the nearest other template of the same subject is that is no copy, +inf where there is
    none; different: pairs of subjects that are known to be different.
    """

    numbers: Numbers
    owners: Numbers
    pairs: Pairs
    own: Floats
    different: frozenset[tuple[int, int]]

    def foreign(self) -> tuple[Numbers, Numbers, Floats]:
        """(left, right, distance) of the pairs of two subjects that are not known to be different."""
        left, right = self.pairs.left.astype(np.int64), self.pairs.right.astype(np.int64)
        one, other = self.owners[left], self.owners[right]
        kept = one != other
        if self.different:
            at = np.flatnonzero(kept)
            known = [
                (min(pair), max(pair)) in self.different
                for pair in zip(one[at].tolist(), other[at].tolist(), strict=True)
            ]
            kept[at[np.array(known, np.bool_)]] = False
        return left[kept], right[kept], self.pairs.distance[kept]


Same = tuple[int, int, float, int, int, int]
"""(subject, other subject, distance, template, other template, pairs of templates)"""
Wrong = tuple[int, float, int, float]
"""(position, distance to its own, position of the other's, distance to that)"""


def likely_same(everyone: Everyone) -> list[Same]:
    """Pairs of subjects within the threshold, by their nearest templates, nearest first."""
    left, right, distance = everyone.foreign()
    one, other = everyone.owners[left], everyone.owners[right]
    swapped = one > other
    low, high = np.where(swapped, other, one), np.where(swapped, one, other)
    of_low, of_high = np.where(swapped, right, left), np.where(swapped, left, right)
    order = np.lexsort((everyone.numbers[of_high], everyone.numbers[of_low], distance, high, low))
    low, high = low[order], high[order]
    starts = np.flatnonzero((np.diff(low, prepend=-1) != 0) | (np.diff(high, prepend=-1) != 0))
    counts = np.diff(np.append(starts, len(order)))
    found = [
        (
            int(low[start]),
            int(high[start]),
            float(distance[order[start]]),
            int(everyone.numbers[of_low[order[start]]]),
            int(everyone.numbers[of_high[order[start]]]),
            int(count),
        )
        for start, count in zip(starts, counts, strict=True)
    ]
    return sorted(found, key=lambda one: (one[2], one[:2]))


def likely_mislabelled(everyone: Everyone) -> list[Wrong]:
    """Templates nearer to another subject than to their own, those with the widest gap first."""
    left, right, distance = everyone.foreign()
    item, other = np.concatenate([left, right]), np.concatenate([right, left])
    away = np.concatenate([distance, distance])
    nearer = (away < everyone.own[item]) & np.isfinite(everyone.own[item])
    item, other, away = item[nearer], other[nearer], away[nearer]
    order = np.lexsort((everyone.numbers[other], away, item))
    chosen, first = np.unique(item[order], return_index=True)
    found = [
        (int(at), float(everyone.own[at]), int(other[order[place]]), float(away[order[place]]))
        for at, place in zip(chosen, first, strict=True)
    ]
    return sorted(found, key=lambda one: (one[3] - one[1], one[0]))


def sampled(everyone: Everyone, seed: int) -> Sample:
    """Two templates of each subject, drawn by chance: one to ask by, and one to be taken for.

    Where a subject has only one it is both.
    """
    chance = np.random.default_rng(seed).permutation(len(everyone.owners))
    subjects, first = np.unique(everyone.owners[chance], return_index=True)
    # Looked at from the other end of the same order, so that it is another one wherever there is one.
    _, last = np.unique(everyone.owners[chance[::-1]], return_index=True)
    asks, stands = (np.zeros(len(everyone.owners), np.bool_) for _ in range(2))
    asks[chance[first]], stands[chance[::-1][last]] = True, True
    left, right = everyone.pairs.left.astype(np.int64), everyone.pairs.right.astype(np.int64)
    item, other = np.concatenate([left, right]), np.concatenate([right, left])
    kept = asks[item] & (everyone.owners[item] != everyone.owners[other])
    item, other = item[kept], other[kept]
    probe = np.searchsorted(subjects, everyone.owners[item])
    hit = np.searchsorted(subjects, everyone.owners[other])
    once = np.unique(probe.astype(np.int64) * len(subjects) + hit)
    return Sample(
        probes=subjects,
        probe=(once // max(1, len(subjects))).astype(np.intp),
        taken=hit[stands[other]],
    )
