"""Pure: distances become decisions. Nothing here holds anything or reads anything.

The one rule: a probe is accepted when `distance <= threshold`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from gallery.measures import Likelihoods
from gallery.records import Candidate, Identification, Verification
from gallery.vectors import Numbers

_LARGEST = float(np.finfo(np.float32).max)


def nearest_for_each_probe(
    probes: npt.NDArray[np.intp], scores: npt.NDArray[np.float32], numbers: Numbers, subjects: Numbers
) -> npt.NDArray[np.intp]:
    """Fusion by the nearest template: positions of each subject's best, probe by probe, nearest first.

    probes, scores, numbers, subjects: (m,) in step, one for each pair. Ties go to the lower template number.
    """
    order = np.lexsort((numbers, scores, probes))
    pairs = probes[order] * (int(subjects.max(initial=0)) + 1) + subjects[order]
    _, first = np.unique(pairs, return_index=True)
    nearest: npt.NDArray[np.intp] = order[np.sort(first)]
    return nearest


def identification(
    ranked: Sequence[Candidate], threshold: float | None, k: int, margin: float | None = None
) -> Identification:
    """The answer to *who is this?* from the nearest subjects, nearest first, of which k are wanted.

    threshold None: ranked, "undecided". Else the candidates within it, "match" when there is one. margin: of
    two subjects, ranked[:2], that are less than that apart neither is a match: "ambiguous".
    """
    nearest = ranked[0] if ranked else None
    if threshold is None:
        return Identification("undecided", tuple(ranked[:k]), None, nearest)
    within = tuple(candidate for candidate in ranked[:k] if candidate.distance <= threshold)
    if within and margin is not None and len(ranked) > 1 and ranked[1].distance - ranked[0].distance < margin:
        return Identification("ambiguous", within, threshold, nearest, ranked[1], margin)
    return Identification("match" if within else "unknown", within, threshold, nearest, None, margin)


def with_probability(answer: Identification, likelihoods: Likelihoods, prior: float) -> Identification:
    """The answer with the probability that its nearest is the right one; None in an empty gallery."""
    nearest = answer.nearest
    how_likely = None if nearest is None else likelihoods.probability(nearest.distance, prior)
    return replace(answer, probability=how_likely, prior=prior)


def verification(
    id: str, distance: float, scores: npt.NDArray[np.float32], numbers: Numbers, threshold: float
) -> Verification:
    """The answer to *is this `id`?* by its fused distance. scores: to each of its templates, (m,), m >= 1."""
    best = int(np.lexsort((numbers, scores))[0])
    return Verification(id, distance <= threshold, distance, threshold, int(numbers[best]))


def accepted(distances: npt.NDArray[np.float32], threshold: float) -> npt.NDArray[np.bool_]:
    """Which of many distances are within a threshold: the one rule, for arrays.

    The threshold is a number and not rounded to float32. +inf, which stands for what was not compared, is
    within none.
    """
    within: npt.NDArray[np.bool_] = distances <= _largest_within(threshold)
    return within


def _largest_within(threshold: float) -> np.float32:
    """The largest float32 that is no more than a threshold."""
    nearest = np.float32(min(threshold, _LARGEST))
    return nearest if float(nearest) <= threshold else np.nextafter(nearest, np.float32(-1))


def checked_prior(prior: float) -> float:
    """A probability between 0 and 1, both excluded; ValueError for anything else."""
    if isinstance(prior, (bool, str)) or not 0 < prior < 1:
        raise ValueError(f"a prior is a probability above 0 and below 1, of being enrolled, not {prior!r}")
    return float(prior)


def checked_threshold(threshold: float, what: str = "threshold") -> float:
    """A threshold that can be compared with; ValueError for NaN and negative ones. what: its name there."""
    try:
        value = math.nan if isinstance(threshold, (bool, str)) else float(threshold)
    except OverflowError:
        value = math.nan
    if math.isnan(value) or value < 0:
        raise ValueError(f"a {what} is a distance of 0 or more, not {threshold!r}")
    return value
