"""The errors of decisions at one threshold, with intervals from resampling subjects. PURE."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from encoders import resampling
from encoders.evaluation import Rate

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
MOST_PAIRS = 200_000  # resampled for an interval


@dataclass(frozen=True, slots=True)
class Decisions:
    """What goes wrong at `threshold`: `fmr` of non-mated pairs accepted, `fnmr` of mated ones rejected."""

    threshold: float
    fmr: Rate
    fnmr: Rate

    def __str__(self) -> str:
        return f"FMR {self.fmr}, FNMR {self.fnmr}"


def decisions(
    threshold: float, apart: Floats, same: Flags, left: Ints, right: Ints, rng: np.random.Generator
) -> Decisions:
    """Of pairs at the distances `apart` (p,) of the subjects `left` and `right`, `same` where mated."""
    accepted = apart <= np.float64(threshold)  # as it was given, and not rounded to float32
    parts = [np.flatnonzero(same), np.flatnonzero(~same)]
    fnmr, fmr = (
        _rate(wrong[part], left[part], right[part], rng)
        for part, wrong in zip(parts, (~accepted, accepted), strict=True)
    )
    return Decisions(threshold, fmr, fnmr)


def _rate(wrong: Flags, left: Ints, right: Ints, rng: np.random.Generator) -> Rate:
    """The share of wrong pairs.

    Of many, a sample stands for all in the resamples; the wrong ones are sampled by themselves, since a
    sample of all would hardly hold any of them.
    """
    errors = np.flatnonzero(wrong)
    value = len(errors) / len(wrong)
    kept = [at_most(rows, rng) for rows in (errors, np.arange(len(wrong)))]

    def measure(drawn: NDArray[np.float64]) -> float | None:
        held = [resampling.pair_weights(drawn, left[rows], right[rows]) for rows in kept]
        if not held[1].any():
            return None
        return value * float(held[0].mean() / held[1].mean()) if len(errors) else 0.0

    worth = resampling.independent(left, right)
    subjects = 1 + int(max(left.max(), right.max()))
    drawn = [v for one in resampling.draws(subjects, rng) if (v := measure(one)) is not None]
    return resampling.bounded(value, len(wrong), worth, drawn)


def at_most(rows: Ints, rng: np.random.Generator) -> Ints:
    """The rows, or so many of them as are resampled."""
    return rows if len(rows) <= MOST_PAIRS else np.sort(rng.choice(rows, MOST_PAIRS, replace=False))
