"""One calibration after another, each of other people, and how often what it said was true."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.calibration_intervals import over_pairs, resampled_fmr, resampled_fpir
from benchmarks.calibration_simulated import Model, Truth
from gallery.calibration import Scores, chosen_threshold, false_matches, false_positives
from gallery.errors import NotEnoughDataError

FMRS, FPIRS = (1e-2, 1e-3, 1e-4), (1e-1, 1e-2)
TARGETS = (*(("fmr", rate) for rate in FMRS), *(("fpir", rate) for rate in FPIRS))

FEWEST = 50
"""Rounds that a share is worth being reported of."""


@dataclass(frozen=True, slots=True)
class Round:
    """One calibration for one target. covered: by which interval the truth was held."""

    worth: float
    sure: bool
    achieved: float
    covered: dict[str, bool]


def of(
    model: Model, rounds: int, seed: int, targets: Sequence[tuple[str, float]] = TARGETS
) -> dict[str, dict[str, Any]]:
    """{"fmr 0.01": summary, ...} of so many galleries drawn from a model."""
    found: dict[tuple[str, float], list[Round | None]] = {target: [] for target in targets}
    for number in range(rounds):
        chance = np.random.default_rng([seed, number])
        scores, truth = model.drawn(chance)
        for target in targets:
            found[target].append(_one(scores, truth, *target, chance))
    return {f"{name} {rate:g}": summary(each, rate) for (name, rate), each in found.items()}


def _one(
    scores: Scores, truth: Truth, target: str, requested: float, chance: np.random.Generator
) -> Round | None:
    """None where the calibration was refused."""
    try:
        chosen = chosen_threshold(scores, target, requested)
    except NotEnoughDataError:
        return None
    threshold = chosen.threshold
    said = false_matches(scores, threshold) if target == "fmr" else false_positives(scores, threshold)
    is_true = truth.fmr(threshold) if target == "fmr" else truth.fpir(threshold)
    resampled = resampled_fmr if target == "fmr" else resampled_fpir
    intervals = {
        "ours": (said.low, said.high),
        "over pairs": over_pairs(said.value, said.trials),
        "bootstrap": resampled(scores, threshold, chance),
    }
    covered = {name: bool(low <= is_true <= high) for name, (low, high) in intervals.items()}
    return Round(chosen.worth, chosen.sure, is_true, covered)


def summary(rounds: Sequence[Round | None], requested: float) -> dict[str, Any]:
    """How the rounds of one target came out; shares of those that were not refused."""
    answered = [one for one in rounds if one is not None]
    sure = [one for one in answered if one.sure]
    said: dict[str, Any] = {
        "rounds": len(rounds),
        "refused": len(rounds) - len(answered),
        "sure": len(sure),
    }
    if len(answered) < FEWEST:
        return said
    ways = answered[0].covered
    said["worth_median"] = round(float(np.median([one.worth for one in answered])))
    said["achieved_over_requested_median"] = _rounded(
        float(np.median([one.achieved / requested for one in answered]))
    )
    said["covered"] = {way: _share([one.covered[way] for one in answered]) for way in ways}
    if len(sure) >= FEWEST:
        said["within_a_factor_of_two"] = _share([0.5 <= one.achieved / requested <= 2 for one in sure])
    return said


def misses(results: dict[str, dict[str, dict[str, Any]]]) -> list[str]:
    """Where a floor was not reached, in words."""
    said = []
    for model, targets in results.items():
        for target, found in targets.items():
            covered = found.get("covered", {}).get("ours")
            if covered is not None and not 0.9 <= covered <= 0.99:
                said.append(f"{model}, {target}: 95 % intervals cover {covered:.1%}")
            within = found.get("within_a_factor_of_two")
            if within is not None and within < 0.95:
                said.append(f"{model}, {target}: within a factor of two in {within:.1%}")
    return said


def _share(flags: Sequence[bool]) -> float:
    return _rounded(float(np.mean(flags)))


def _rounded(value: float) -> float:
    return round(value, 4)
