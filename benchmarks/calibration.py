"""Are the thresholds honest? Requested against achieved error rates, and how often intervals hold the truth.

`python -m benchmarks.calibration`. Two kinds of evidence, many repetitions each:

    simulated   distances with a known distribution, in which every subject moves all of its own comparisons;
                the true rates at any threshold are computed, not measured
    real        embeddings of Omniglot, AT&T and LFW3D; in each repetition the subjects are cut in two halves
                at random, one is calibrated on and the other measured

Beside our intervals stands the usual binomial one over all pairs, on the same scores. A repetition whose data
the calibration refuses is counted apart; one it does not call sure (fewer than ten errors' worth) as well.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from benchmarks import calibration_data, report
from gallery import calibration
from gallery.calibration import Scores
from gallery.errors import NotEnoughDataError

FMR = (1e-2, 1e-3, 1e-4)
FPIR = (0.1, 0.01)
WORLDS = {
    # name: (subjects, probes each, how much a subject moves its distances)
    "200 subjects, alike": (200, 2, 0.0),
    "200 subjects": (200, 2, 0.3),
    "400 subjects, very unlike": (400, 1, 0.7),
    "1,000 subjects": (1000, 1, 0.4),
}
SIZES = (100, 200, 500, 1000, 2000, 4000)
Truth = Callable[[float], tuple[float, float]]
"""threshold -> (FMR, FPIR)"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; 1 when a floor is missed."""
    parser = argparse.ArgumentParser("python -m benchmarks.calibration")
    parser.add_argument("--rounds", type=int, default=200, help="repetitions (%(default)s)")
    parser.add_argument("--output", default=str(report.RESULTS), help="folder for calibration.json")
    parser.add_argument("--only", nargs="+", choices=("simulated", "real", "sizes"))
    arguments = parser.parse_args(argv)
    wanted = arguments.only or ("simulated", "real", "sizes")
    results: dict[str, Any] = {"rounds": arguments.rounds, "skipped": {}}
    begun = time.perf_counter()
    if "simulated" in wanted:
        results["simulated"] = {name: simulated(world, arguments.rounds) for name, world in WORLDS.items()}
    for part, run in (("real", real), ("sizes", sizes)):
        if part in wanted:
            results[part] = run(arguments.rounds, results["skipped"])
    results["seconds"] = round(time.perf_counter() - begun)
    results["floors"] = floors(results)
    print(table(results))
    report.write("calibration", results, Path(arguments.output))
    return int(not all(floor["met"] for floor in results["floors"].values()))


# -- simulated


def simulated(world: tuple[int, int, float], rounds: int) -> dict[str, Any]:
    """What came of every target in one world."""
    tally = Tally()
    for seed in range(rounds):
        scores, truth = drawn(*world, np.random.default_rng(seed))
        tally.take(scores, truth)
    return tally.summary()


def drawn(subjects: int, each: int, spread: float, chance: np.random.Generator) -> tuple[Scores, Truth]:
    """Normal distances around 5; a subject's own shift, of size `spread`, is in all of its distances."""
    moved = chance.normal(0, spread, subjects)
    owner = np.repeat(np.arange(subjects), each)
    distances = 5 + moved[owner][:, None] + moved[None, :]
    distances += chance.standard_normal(distances.shape)
    distances[np.arange(len(owner)), owner] = np.inf
    mated = 2.5 + moved[owner] + chance.standard_normal(len(owner))
    at, weight = np.polynomial.hermite_e.hermegauss(41)

    def truth(threshold: float) -> tuple[float, float]:
        fmr = float(stats.norm.cdf((threshold - 5) / np.sqrt(1 + 2 * spread**2)))
        # Of a stranger, whose shift is drawn, in this gallery, whose shifts are what they are.
        kept = stats.norm.sf(threshold - 5 - spread * at[:, None] - moved[None, 1:])
        return fmr, float(weight @ (1 - np.prod(kept, axis=1)) / weight.sum())

    nearest = distances.min(axis=1)
    return (
        Scores(distances.astype("f4"), mated.astype("f4"), nearest.astype("f4"), owner, subjects),
        truth,
    )


class Tally:
    """Counts, target by target, what repetitions came to."""

    def __init__(self) -> None:
        self._seen: dict[str, list[dict[str, float]]] = {}
        self._refused: dict[str, int] = {}

    def take(self, scores: Scores, truth: Truth) -> None:
        """One repetition, of every target."""
        for target, requested in [("fmr", one) for one in FMR] + [("fpir", one) for one in FPIR]:
            name = f"{target.upper()} {requested:g}"
            self._seen.setdefault(name, [])
            self._refused.setdefault(name, 0)
            worth = calibration.worth(scores, target, requested)
            try:
                calibration.check_supported(target.upper(), requested, worth)
            except NotEnoughDataError:
                self._refused[name] += 1
                continue
            choose = {"fmr": calibration.threshold_for_fmr, "fpir": calibration.threshold_for_fpir}[target]
            threshold = choose(scores, requested)
            rate = calibration.rates(scores, threshold)[target]
            achieved = truth(threshold)[target == "fpir"]
            low, high = calibration.exact_interval(rate.value * rate.trials, rate.trials)
            self._seen[name].append(
                {
                    "ratio": achieved / requested,
                    "covered": rate.low <= achieved <= rate.high,
                    "naive": low <= achieved <= high,
                    "sure": worth * requested >= calibration.SURE_ERRORS,
                    "worth": worth,
                    "trials": rate.trials,
                }
            )

    def summary(self) -> dict[str, Any]:
        """Figures of each target."""
        return {
            name: {"refused": self._refused[name], "all": _figures(seen)}
            | {"sure": _figures([one for one in seen if one["sure"]])}
            for name, seen in self._seen.items()
        }


def _figures(seen: list[dict[str, float]]) -> dict[str, Any] | None:
    if not seen:
        return None
    ratio = np.array([one["ratio"] for one in seen])
    return {
        "repetitions": len(seen),
        "median_ratio": round(float(np.median(ratio)), 3),
        "within_factor_2": round(float(((ratio >= 0.5) & (ratio <= 2)).mean()), 3),
        "covered": round(float(np.mean([one["covered"] for one in seen])), 3),
        "covered_by_binomial_over_pairs": round(float(np.mean([one["naive"] for one in seen])), 3),
        "independent": round(float(np.median([one["worth"] for one in seen]))),
        "trials": round(float(np.median([one["trials"] for one in seen]))),
    }


# -- real


def real(rounds: int, skipped: dict[str, str]) -> dict[str, Any]:
    """The same on embeddings; what was measured on the other half stands for the truth."""
    results = {}
    for name, load in calibration_data.SETS.items():
        try:
            embeddings, owners = load()
        except FileNotFoundError as error:
            skipped[name] = f"{error.filename or error} is not there"
            continue
        tally = Tally()
        for seed in range(rounds):
            mine, theirs = halves(embeddings, owners, seed)
            tally.take(mine, lambda threshold, other=theirs: measured(other, threshold))
        results[name] = tally.summary()
    return results


def halves(embeddings: np.ndarray, owners: np.ndarray, seed: int) -> tuple[Scores, Scores]:
    """Two disjoint random halves of the subjects, at most 300 each, with at most 4 templates a subject."""
    chance = np.random.default_rng(seed)
    people = chance.permutation(np.unique(owners))
    size = min(300, len(people) // 2)
    parts = []
    for some in (people[:size], people[size : 2 * size]):
        at = np.concatenate([chance.permutation(np.flatnonzero(owners == one))[:4] for one in some])
        parts.append(leave_one_out(embeddings[at], owners[at]))
    return parts[0], parts[1]


def leave_one_out(rows: np.ndarray, owners: np.ndarray) -> Scores:
    """Every template against every subject's nearest, cosine; copies are left out."""
    subjects, column = np.unique(owners, return_inverse=True)
    away = 1 - rows @ rows.T
    away[away < 1e-6] = np.inf
    fused = np.stack([away[:, column == one].min(axis=1) for one in range(len(subjects))], axis=1)
    own = fused[np.arange(len(rows)), column].copy()
    fused[np.arange(len(rows)), column] = np.inf
    own[np.isinf(own)] = np.nan
    return Scores(fused.astype("f4"), own.astype("f4"), fused.min(axis=1).astype("f4"), column, len(subjects))


def measured(scores: Scores, threshold: float) -> tuple[float, float]:
    """(FMR, FPIR) of one half at a threshold."""
    limit = np.float32(threshold)
    compared = np.isfinite(scores.distances)
    return float((scores.distances <= limit).sum() / compared.sum()), float((scores.nearest <= limit).mean())


def sizes(rounds: int, skipped: dict[str, str]) -> dict[str, Any]:
    """The FPIR of LFW3D galleries of several sizes, predicted from 500 enrolled people, by strangers."""
    try:
        embeddings, owners = calibration_data.SETS["LFW3D"]()
    except FileNotFoundError as error:
        skipped["sizes"] = f"{error.filename or error} is not there"
        return {}
    predicted: dict[int, list[float]] = {size: [] for size in SIZES}
    found: dict[int, list[float]] = {size: [] for size in SIZES}
    for seed in range(min(rounds, 20)):
        chance = np.random.default_rng(seed)
        people = chance.permutation(np.unique(owners))
        first = np.array([chance.choice(np.flatnonzero(owners == one)) for one in people])
        strangers, enrolled = first[:1000], first[1000 : 1000 + max(SIZES)]
        away = 1 - embeddings[strangers] @ embeddings[enrolled].T
        away[away < 1e-6] = np.inf
        # Measured on strangers that are not asked again.
        part = Scores(
            away[:500, :500].astype("f4"),
            np.full(500, np.nan, "f4"),
            away[:500, :500].min(axis=1).astype("f4"),
            np.arange(500, 1000),
            500,
        )
        threshold = calibration.threshold_for_fpir(part, 0.05)
        for size in SIZES:
            predicted[size].append(calibration.predicted_fpir(part, threshold, size))
            found[size].append(float((away[500:, :size].min(axis=1) <= threshold).mean()))
    return {
        str(size): {
            "predicted": round(float(np.mean(predicted[size])), 4),
            "measured": round(float(np.mean(found[size])), 4),
            "predicted_over_measured": [
                round(float(np.quantile(np.array(predicted[size]) / np.maximum(found[size], 1e-9), q)), 2)
                for q in (0.1, 0.5, 0.9)
            ],
        }
        for size in SIZES
    }


# -- what is said


def floors(results: dict[str, Any]) -> dict[str, Any]:
    """The floors, judged over all worlds where the data suffices."""
    sure = [
        (f"{world}, {target}", figures["sure"])
        for world, targets in results.get("simulated", {}).items()
        for target, figures in targets.items()
        if figures["sure"] and figures["sure"]["repetitions"] >= 100
    ]
    if not sure:
        return {}
    worst_ratio = min(sure, key=lambda one: one[1]["within_factor_2"])
    least = min(sure, key=lambda one: one[1]["covered"])
    most = max(sure, key=lambda one: one[1]["covered"])
    naive = min(sure, key=lambda one: one[1]["covered_by_binomial_over_pairs"])
    return {
        "achieved within a factor of 2 in 95 %": {
            "worst": worst_ratio[1]["within_factor_2"],
            "where": worst_ratio[0],
            "met": worst_ratio[1]["within_factor_2"] >= 0.95,
        },
        "95 % intervals cover 90 to 99 %": {
            "least": least[1]["covered"],
            "where": least[0],
            "most": most[1]["covered"],
            "where_most": most[0],
            "met": least[1]["covered"] >= 0.90 and most[1]["covered"] <= 0.99,
        },
        "a binomial interval over pairs is too narrow": {
            "covers": naive[1]["covered_by_binomial_over_pairs"],
            "where": naive[0],
            "met": naive[1]["covered_by_binomial_over_pairs"] < 0.9,
        },
    }


def table(results: dict[str, Any]) -> str:
    """For people."""
    head = f"{'':44}{'n':>5}{'refused':>9}{'ratio':>8}{'in 2x':>8}{'covered':>9}{'binomial':>10}"
    lines = [head]
    for part in ("simulated", "real"):
        for world, targets in results.get(part, {}).items():
            for target, figures in targets.items():
                one = figures["sure"] or figures["all"]
                name = f"{world}, {target}" + ("" if figures["sure"] else " (few)")
                if one is None:
                    lines.append(f"{name:44}{0:>5}{figures['refused']:>9}")
                    continue
                lines.append(
                    f"{name:44}{one['repetitions']:>5}{figures['refused']:>9}{one['median_ratio']:>8.2f}"
                    f"{one['within_factor_2']:>8.2f}{one['covered']:>9.3f}"
                    f"{one['covered_by_binomial_over_pairs']:>10.3f}"
                )
    for size, one in results.get("sizes", {}).items():
        lines.append(
            f"FPIR at {size:>5} people: predicted {one['predicted']:.3f}, {one['measured']:.3f} measured"
        )
    lines += [f"{name}: {floor}" for name, floor in results["floors"].items()]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
