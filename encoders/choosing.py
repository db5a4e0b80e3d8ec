"""Which weights of a run are kept, and when it ends early: by what the held-out subjects can tell. PURE.

A schedule ends where the weights are best more often than not, and the least of twenty error rates of a few
subjects is least by luck more often than not. So the weights at the end are kept, unless an earlier
validation was better beyond chance; and a run ends early only when it is worse than its best, beyond chance
and for long, past the half of its schedule.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Wide = NDArray[np.float64]
Ints = NDArray[np.int64]
Entry = dict[str, Any]

FEWEST = 8  # held-out subjects, below which only gross differences show
RISE = 0.05  # share of the steps in which the learning rate rises: nothing that is measured there counts
LEAST = 0.5  # share of the schedule that is always run
CHOICE, SINGLE = 0, 1  # chances of 1 % and of 5 %: the best of twenty validations is compared, or one
# Student's t that those chances exceed, by degrees of freedom.
_DEGREES = np.array([1, 2, 3, 4, 5, 6, 8, 11, 20, 60, np.inf])
_T = (
    np.array([31.82, 6.965, 4.541, 3.747, 3.365, 3.143, 2.896, 2.718, 2.528, 2.390, 2.326]),
    np.array([6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.860, 1.796, 1.725, 1.671, 1.645]),
)


def by_subject(apart: Floats, labels: Ints, threshold: float) -> Wide:
    """(subjects,) the part of each in the error rate (FNMR + FMR) / 2 at `threshold`; their mean is the rate.

    `apart` (n, n) are the distances of all items to each other, `labels` (n,) their subjects.
    A non-mated pair has two subjects: without one of them the FMR moves twice as far as that one's own FMR is
    from the mean. Hence the differences from it count twice.
    """
    accepted = apart <= np.float32(threshold)
    np.fill_diagonal(accepted, False)
    own = (accepted & (labels[:, None] == labels[None, :])).sum(axis=1)
    _, subject, counts = np.unique(labels, return_inverse=True, return_counts=True)
    matched = np.bincount(subject, weights=own)
    confused = np.bincount(subject, weights=accepted.sum(axis=1) - own)
    mates, others = counts * (counts - 1), counts * (len(labels) - counts)
    fnmr = 1.0 - matched / np.maximum(mates, 1)
    fnmr[mates == 0] = fnmr[mates > 0].mean() if mates.any() else 0.0
    fmr = confused / np.maximum(others, 1)
    parts: Wide = fnmr / 2 + fmr - fmr.mean() / 2
    return parts


def better(one: Wide, other: Wide, mated: int, chance: int = CHOICE) -> bool:
    """Whether the subjects' errors `one` are lower than their errors `other` beyond chance.

    Student's paired test over subjects, since the pairs of one are not independent. Where they all say the
    same, the difference is still known no better than to one of the `mated` pairs.
    """
    gains, count = other - one, len(one)
    if count < 2:
        return False
    error = max(float(gains.std(ddof=1)) / count**0.5, 0.5 / max(1, mated))
    return bool(gains.mean() > _t(count - 1, chance) * error)


def _t(degrees: int, chance: int) -> float:
    """Student's t of that chance, which is nearly linear in one over the degrees of freedom."""
    return float(np.interp(1.0 / degrees, 1.0 / _DEGREES[::-1], _T[chance][::-1]))


def rank(entry: Entry) -> tuple[float, float]:
    """What validations are ordered by: the EER, then the one-shot error, which is less coarse."""
    return entry["eer"], entry["one_shot_error"] or 0.0  # None is none in the whole run


def is_best(entry: Entry, best: Entry | None) -> bool:
    """Whether a validation takes the place of the best so far: of equals the later one, which has seen more.

    But not where nothing is better than what training began from.
    """
    return best is None or rank(entry) < rank(best) or (rank(entry) == rank(best) and best["step"] > 0)


def kept(validations: Sequence[Entry], best: Entry) -> Entry:
    """The validation whose weights are kept: the last, or `best` where that was better beyond chance.

    A run that began from an encoder or a head must be better at its end than where it began: otherwise `best`
    is kept as well, which is that beginning or better.
    """
    first, last = validations[0], validations[-1]
    in_vain = first["step"] == 0 and rank(last) >= rank(first)
    return best if last.get("worse") or in_vain else last


def given_up(validations: Sequence[Entry], steps: int, patience: int) -> bool:
    """Whether the last `patience` validations were all worse than the best beyond chance, and not improving.

    Not before half of the steps are done; and validations while the learning rate rises do not count.
    """
    late = validations[-patience:] if patience else []
    if not late or len(late) < patience:
        return False
    counts = late[0]["step"] > RISE * steps and late[-1]["step"] >= LEAST * steps
    sinking = late[-1]["eer"] >= late[0]["eer"]
    return bool(counts and sinking and all(entry.get("worse") for entry in late))
