"""Are margins and probabilities honest? Calibrated on one half of the people, tried on the other half.

`python -m benchmarks.naming`. In each round the people are split into two galleries of the same size, every
template of which is compared with all others. One is calibrated for an FPIR of 10 %; of the other are given

    misnamed     of matches, the share with somebody else, with the margin for 1 % and without a margin
    ambiguous    of what is found, the share that is too close to call
    probability  stated minus true share of right ones, over searches by probability in five bins, at a prior;
                 the mean of the absolute differences weighted by searches (expected calibration error), and
                 the Brier score beside that of stating the same for all
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import calibration_data, over_sets
from benchmarks.calibration_real import Embedded, leave_one_out
from gallery.calibration import Scores, threshold_for_fpir
from gallery.naming import likelihoods, margin_for, naming_rates

SETS = {"AT&T": calibration_data.att, "LFW3D": calibration_data.lfw3d}
PEOPLE, EACH = 700, 4
FPIR, MISNAMED, PRIORS = 0.1, 0.01, (0.5, 0.1)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark."""
    return over_sets.run("naming", SETS, measured, _said, argv)


def _said(name: str, found: dict[str, Any]) -> str:
    return "\n".join(f"{name:7}{what:32}{value}" for what, value in found.items())


def measured(rows: NDArray[np.float32], owners: NDArray[np.int64], rounds: int) -> dict[str, Any]:
    """{what: [2.5 %, median, 97.5 %] over the rounds}"""
    found: dict[str, list[float]] = {}
    for number in range(rounds):
        for what, value in _round(rows, owners, np.random.default_rng([13, number])).items():
            found.setdefault(what, []).append(value)
    return {
        what: [round(float(value), 4) for value in np.quantile(each, [0.025, 0.5, 0.975])]
        for what, each in found.items()
    }


def _round(
    rows: NDArray[np.float32], owners: NDArray[np.int64], chance: np.random.Generator
) -> dict[str, float]:
    people, counts = np.unique(owners, return_counts=True)
    some = chance.permutation(people[counts > 1])[: 2 * PEOPLE]
    half = len(some) // 2
    drawing = Embedded(rows, owners, half, half, EACH)
    one, other = (
        leave_one_out(rows[items], owners[items])
        for items in (drawing._items_of(some[:half], chance), drawing._items_of(some[half:], chance))
    )
    threshold = threshold_for_fpir(one, FPIR)
    margin = margin_for(one, threshold, MISNAMED) or 0.0
    with_margin, ambiguous = naming_rates(other, threshold, margin)
    without, _ = naming_rates(other, threshold, 0.0)
    found = {
        "misnamed without a margin": without.value,
        "misnamed": with_margin.value,
        "ambiguous": ambiguous.value,
    }
    for prior in PRIORS:
        found |= _reliability(one, other, prior)
    return found


def _reliability(one: Scores, other: Scores, prior: float) -> dict[str, float]:
    """Searches of the other half: with somebody enrolled in the share `prior`, by weights."""
    held = likelihoods(one)
    assert held is not None
    own = np.where(np.isfinite(other.mated), other.mated, np.float32(np.inf))
    enrolled = np.isfinite(own)
    first = np.concatenate([np.minimum(own, other.nearest)[enrolled], other.nearest])
    right = np.concatenate([(own < other.nearest)[enrolled], np.zeros(len(own), np.bool_)])
    weight = np.concatenate(
        [np.full(enrolled.sum(), prior / enrolled.sum()), np.full(len(own), (1 - prior) / len(own))]
    )
    said = np.array([held.probability(float(distance), prior) for distance in first])
    off = 0.0
    for low in np.arange(0, 1, 0.2):
        inside = (said >= low) & (said < low + 0.2)
        if inside.any():
            off += abs(float((weight * (said - right))[inside].sum()))
    base = float((weight * right).sum())
    return {
        f"calibration error, prior {prior:g}": off,
        f"Brier score, prior {prior:g}": float((weight * np.square(said - right)).sum()),
        f"the same of all, prior {prior:g}": base * (1 - base),
    }


if __name__ == "__main__":
    sys.exit(main())
