"""Error rates of an encoder, in pure numpy. Smaller distances are nearer; distance <= threshold accepts.

FMR is the share of non-mated comparisons accepted, FNMR the share of mated ones rejected (ISO/IEC 19795-1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from encoders.spec import METRICS

Floats = NDArray[np.float32]
Wide = NDArray[np.float64]
AnyFloats = NDArray[np.float32] | NDArray[np.float64]
Ints = NDArray[np.int64]
LONGEST = 1e18  # of euclidean rows, as in a gallery: float32 must hold what lies between them
NUMBERS = 4_000_000  # distances at a time, so that memory stays bounded
ROUNDING = 2.0**-21  # of the length of a row: four times the grain of float32, which every number is off by
CLOSE = 1e-8  # of the squared lengths: below, a sum of squares has fewer digits left than float32 holds


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate with its 95 % interval and the number of trials it rests on; all rates in [0, 1].

    `independent` is how many independent subjects, or pairs of them, are behind it; None where it is not
    about subjects. From 0 to 1 is no interval: there are too few of them to tell.
    """

    value: float
    low: float
    high: float
    count: int
    independent: int | None = None

    @property
    def between(self) -> str:
        """The interval in words, or why there is none."""
        if (self.low, self.high) == (0.0, 1.0):
            return "no interval: too few subjects"
        return f"{share(self.low)}, {share(self.high)}"

    def __str__(self) -> str:
        return f"{share(self.value)} [{self.between}] of {self.count:,}"


def share(rate: float) -> str:
    """A rate in per cent with two decimals, or with two digits where those would show next to nothing."""
    if 0 < rate < 1e-6:
        return "under 0.0001%"
    return f"{rate:.2%}" if rate == 0 or rate >= 0.001 else f"{100 * rate:.2g}%"


def distances(left: AnyFloats, right: AnyFloats, metric: str) -> Floats:
    """All distances of the rows of `left` (n, d) to those of `right` (m, d), (n, m) float32.

    Computed in float64 and rounded once: cosine is half the squared distance of the unit rows, whatever
    length they come in; a row of zeros has no direction and is 1 from every other. euclidean keeps its digits
    far from the origin. Equal rows are 0 apart. A gallery rounds unit rows to float32 when they are enrolled,
    so the last digit of its cosine distances may be another one. ValueError for another metric.
    """
    here, there = _comparable(left, right, metric)
    apart = np.empty((len(here), len(there)), np.float32)
    sizes = np.einsum("nd,nd->n", there, there)
    step = max(1, NUMBERS // max(1, len(there)))
    for at in range(0, len(here), step):
        apart[at : at + step] = _rounded(_squares(here[at : at + step], there, sizes), metric)
    if metric == "cosine":
        apart[~here.any(axis=1)] = 1.0
        apart[:, ~there.any(axis=1)] = 1.0
    return apart


def paired_distances(left: AnyFloats, right: AnyFloats, metric: str) -> Floats:
    """The distance of each row of `left` (n, d) to the same row of `right` (n, d), (n,) float32."""
    here, there = _comparable(left, right, metric)
    between = here - there
    apart = _rounded(np.einsum("nd,nd->n", between, between), metric)
    if metric == "cosine":
        apart[~(here.any(axis=1) & there.any(axis=1))] = 1.0
    return apart


def directions(rows: AnyFloats) -> Wide:
    """The rows (n, d) at unit length, in float64; rows of zeros stay what they are."""
    wide = np.asarray(rows, np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    found: Wide = wide / np.where(lengths > 0, lengths, 1.0)
    return found


def too_long(rows: AnyFloats, metric: str) -> Ints:
    """The numbers of the rows (n, d) that no distance can be given from: euclidean ones over LONGEST."""
    if metric == "cosine":
        return np.empty(0, np.int64)
    with np.errstate(over="ignore"):
        return np.flatnonzero(np.linalg.norm(np.asarray(rows, np.float64), axis=1) > LONGEST)


def _comparable(left: AnyFloats, right: AnyFloats, metric: str) -> tuple[Wide, Wide]:
    if metric not in METRICS:
        raise ValueError(f"metric {metric!r} is none of {', '.join(METRICS)}")
    if metric == "cosine":
        return directions(left), directions(right)
    # Squares of rows far from the origin would be all that float64 has digits for.
    there = np.asarray(right, np.float64)
    middle = there.mean(axis=0) if len(there) else 0.0
    return np.asarray(left, np.float64) - middle, there - middle


def _squares(left: Wide, right: Wide, sizes: Wide) -> Wide:
    """Squared euclidean distances (n, m): a product of matrices, and differences for what lies close by."""
    total = np.einsum("nd,nd->n", left, left)[:, None] + sizes[None, :]
    found: Wide = total - 2.0 * (left @ right.T)
    close = found <= CLOSE * total
    for row in np.flatnonzero(close.any(axis=1)):
        others = np.flatnonzero(close[row])
        between = right[others] - left[row]
        found[row, others] = np.einsum("nd,nd->n", between, between)
    return found


def _rounded(squares: Wide, metric: str) -> Floats:
    apart = np.minimum(squares / 2.0, 2.0) if metric == "cosine" else np.sqrt(squares)
    rounded: Floats = apart.astype(np.float32)
    return rounded


def comparisons(embeddings: Floats, labels: Ints, metric: str) -> tuple[Floats, Floats]:
    """The distances of all mated and all non-mated pairs i < j; every item against every other."""
    return parted(distances(embeddings, embeddings, metric), labels)


def parted(apart: Floats, labels: Ints) -> tuple[Floats, Floats]:
    """Of a table (n, n) of all distances those of the mated and of the non-mated pairs i < j."""
    upper = np.triu(np.ones(apart.shape, dtype=bool), k=1)
    same = labels[:, None] == labels[None, :]
    return apart[upper & same], apart[upper & ~same]


def fmr_at(non_mated: Floats, threshold: float) -> float:
    """False match rate: the share of non-mated distances at or below the threshold."""
    return float((non_mated <= np.float32(threshold)).mean())


def fnmr_at(mated: Floats, threshold: float) -> float:
    """False non-match rate: the share of mated distances above the threshold."""
    return float((mated > np.float32(threshold)).mean())


def grain(rows: AnyFloats, metric: str) -> float:
    """The distance up to which rows (n, d) of float32 differ by their rounding: as good as equal."""
    if metric == "cosine":
        return ROUNDING**2 / 2.0
    return ROUNDING * float(np.linalg.norm(np.asarray(rows, np.float64), axis=1).max(initial=0.0))


def threshold_at_fmr(non_mated: Floats, fmr: float, least: float = 0.0) -> float | None:
    """The largest threshold whose FMR is at most `fmr`: just below the first distance that is too many.

    Ties at the threshold count as accepted, so the FMR at the answer never exceeds `fmr`. None where more
    non-mated distances than `fmr` allows are 0, or no more than `least` (see `grain`): a threshold that tells
    apart what only rounding does would accept too many of others, or reject a subject's own.
    """
    ordered = np.sort(non_mated)
    allowed = math.floor(fmr * len(ordered) + 1e-9)
    if allowed >= len(ordered):
        return float(ordered[-1])
    if ordered[allowed] <= least:
        return None
    return float(np.nextafter(ordered[allowed], np.float32(-np.inf)))


def eer(mated: Floats, non_mated: Floats) -> tuple[float, float]:
    """(equal error rate, its threshold): the mean of FMR and FNMR where they are nearest to each other."""
    steps = np.unique(np.concatenate([mated, non_mated]))
    accepted = np.searchsorted(np.sort(non_mated), steps, side="right") / len(non_mated)
    rejected = 1.0 - np.searchsorted(np.sort(mated), steps, side="right") / len(mated)
    best = int(np.argmin(np.abs(accepted - rejected)))
    return float((accepted[best] + rejected[best]) / 2), float(steps[best])


def wilson(errors: int, count: int, z: float = 1.959964) -> Rate:
    """Wilson's 95 % interval of a rate of independent trials (Wilson 1927)."""
    if count < 1:
        raise ValueError("a rate needs at least one trial")
    share = errors / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return Rate(share, max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half)), count)


def grouped_bootstrap(errors: Floats, counts: Ints, groups: Ints, rng: np.random.Generator) -> Rate:
    """A rate of episodes with a 95 % percentile interval from resampling whole groups (2,000 times).

    `errors` and `counts` (episodes,) are wrong and all answers of each episode, `groups` the alphabet (or the
    like) it came from: episodes of one group share items, so episodes must not be resampled one by one.
    """
    names, member = np.unique(groups, return_inverse=True)
    wrong = np.bincount(member, weights=errors, minlength=len(names))
    asked = np.bincount(member, weights=counts, minlength=len(names))
    draws = rng.integers(0, len(names), size=(2000, len(names)))
    rates = wrong[draws].sum(axis=1) / asked[draws].sum(axis=1)
    low, high = np.quantile(rates, [0.025, 0.975])
    return Rate(float(wrong.sum() / asked.sum()), float(low), float(high), int(asked.sum()))


def one_shot_error(apart: Floats, truth: Ints) -> float:
    """Share of rows of `apart` (queries, supports) whose nearest support is not `truth` (queries,).

    A tie between the true support and another one counts as an error.
    """
    own = apart[np.arange(len(truth)), truth]
    others = apart.copy()
    others[np.arange(len(truth)), truth] = np.inf
    return float((own >= others.min(axis=1)).mean())
