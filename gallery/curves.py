"""Pure: error rates at every threshold that makes a difference, and what is read off such a curve.

mated, other: (n,) distances of comparisons of the same and of different subjects; none is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Distances = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Curve:
    """Rates at each threshold, ascending; the first is -inf, where nothing is accepted. (n,) each."""

    thresholds: Floats
    fmr: Floats
    fnmr: Floats


def curve(mated: Distances, other: Distances, steps: Distances | None = None) -> Curve:
    """FMR and FNMR at every distance there is, accepting `distance <= threshold`; ValueError without any.

    steps: or only at these thresholds, ascending, and -inf.
    """
    if not len(mated) or not len(other):
        raise ValueError(f"a curve takes mated and other distances, not {len(mated)} and {len(other)}")
    if steps is None:
        steps = np.unique(np.concatenate([mated, other]))
    steps = np.concatenate([np.array([-np.inf], np.float32), steps])
    return Curve(
        steps.astype(np.float64),
        np.searchsorted(np.sort(other), steps, "right") / len(other),
        1 - np.searchsorted(np.sort(mated), steps, "right") / len(mated),
    )


def outline(mated: Distances, other: Distances, points: int = 200) -> Curve:
    """The curve at about so many thresholds, closer together where errors are few."""
    steps = np.concatenate([_few(np.sort(other), points // 2), _few(np.sort(mated)[::-1], points // 2)])
    return curve(mated, other, np.unique(steps))


def _few(ordered: Distances, points: int) -> Distances:
    """Some, by their place: the first, and less and less of the later ones."""
    places = np.geomspace(1, len(ordered), points) - 1
    return ordered[np.unique(places.round().astype(np.intp))]


def crossing(mated: Distances, other: Distances) -> tuple[float, float]:
    """`equal_error_rate` of the whole curve, without making the whole of it."""
    rough = outline(mated, other)
    after = int(np.argmax(rough.fmr >= rough.fnmr))
    low, high = rough.thresholds[max(0, after - 1)], rough.thresholds[after]
    both = np.concatenate([mated, other])
    return equal_error_rate(curve(mated, other, np.unique(both[(both >= low) & (both <= high)])))


def equal_error_rate(rates: Curve) -> tuple[float, float]:
    """(EER, its threshold): the middle of FMR and FNMR where the one passes the other.

    They are steps and need not meet; of the two sides the one with fewer errors counts (Maio et al. 2002,
    FVC2000).
    """
    after = int(np.argmax(rates.fmr >= rates.fnmr))
    before = after if rates.fmr[after] == rates.fnmr[after] or after == 0 else after - 1
    both = rates.fmr + rates.fnmr
    at = after if both[after] <= both[before] else before
    return float(both[at] / 2), float(rates.thresholds[at])


def fnmr_at_fmr(rates: Curve, fmr: float) -> float:
    """The FNMR at the largest threshold whose FMR is no more than `fmr`."""
    return float(rates.fnmr[np.searchsorted(rates.fmr, fmr, "right") - 1])
