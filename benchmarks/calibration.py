"""Are the thresholds honest? Requested against achieved error rates, and how often intervals hold the truth.

`python -m benchmarks.calibration`. Two kinds of evidence, many repetitions each:

    simulated   people drawn from two models whose true rates are known
    real        embeddings of Omniglot, AT&T and LFW3D; in each repetition some people are enrolled and
                calibrated on, and all others, or as many as are said, are the truth

and how well the FPIR of galleries of 100 to 4,000 people is predicted. Beside our intervals stand, on the
same scores, the usual binomial one over pairs and a bootstrap over subjects. Repetitions that the calibration
refuses are counted apart, and so are those that it does not call sure (fewer than ten errors' worth).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import calibration_data, calibration_rounds, calibration_sizes, report
from benchmarks.calibration_real import Embedded
from benchmarks.calibration_simulated import Lively, Model, Points

PARTS = ("simulated", "real", "sizes")

MODELS: dict[str, Callable[[], Model]] = {
    "lively, 200 people x 2, alike": lambda: Lively(200, 2, 0.0),
    "lively, 200 people x 2": lambda: Lively(200, 2, 0.3),
    "lively, 400 people x 1, very unlike": lambda: Lively(400, 1, 0.7),
    "points, 40 people x 3": lambda: Points.of(40, 3, 8, 0.5),
    "points, 100 people x 1": lambda: Points.of(100, 1, 10, 0.5),
    "points, 150 people x 3": lambda: Points.of(150, 3, 10, 0.5),
    "points, 400 people x 2": lambda: Points.of(400, 2, 20, 0.5),
    "points, 1,200 people x 2": lambda: Points.of(1200, 2, 20, 0.5),
}
DRAWN = {
    # name: (enrolled, others at most, templates each at most)
    "Omniglot": (300, 359, 4),
    "AT&T": (20, 20, 10),
    "LFW3D": (1000, 2000, 3),
    # The truth of many more people than are enrolled: it has less of an error of its own.
    "Omniglot, 150 against 509": (150, 509, 4),
    "LFW3D, 500 against 2,500": (500, 2500, 3),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; 1 when a floor is missed."""
    arguments = _parser().parse_args(argv)
    wanted = arguments.only or PARTS
    results: dict[str, Any] = {"rounds": arguments.rounds, "skipped": {}}
    begun = time.perf_counter()
    for part, run in (("simulated", _simulated), ("real", _real), ("sizes", _sizes)):
        if part in wanted:
            results[part] = run(arguments.rounds, results["skipped"])
    results["seconds"] = round(time.perf_counter() - begun)
    results["missed"] = [
        miss for part in ("simulated", "real") for miss in calibration_rounds.misses(results.get(part, {}))
    ]
    print(table(results))
    if tuple(wanted) == PARTS or arguments.output:
        print(report.write("calibration", results, Path(arguments.output or report.RESULTS)).name)
    return int(bool(results["missed"]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.calibration")
    parser.add_argument("--rounds", type=int, default=200, help="repetitions (%(default)s)")
    parser.add_argument("--output", help="folder for calibration.json; the whole benchmark's by default")
    parser.add_argument("--only", nargs="+", choices=PARTS)
    return parser


def _simulated(rounds: int, skipped: dict[str, str]) -> dict[str, Any]:
    return {name: _said(name, model(), rounds) for name, model in MODELS.items()}


def _real(rounds: int, skipped: dict[str, str]) -> dict[str, Any]:
    found = {}
    for name, sizes in DRAWN.items():
        try:
            rows, owners = calibration_data.SETS[name.split(",")[0]]()
        except FileNotFoundError as error:
            skipped[name] = f"{Path(error.filename or '').name} is not there"
            continue
        found[name] = _said(name, Embedded(rows, owners, *sizes), rounds)
    return found


def _sizes(rounds: int, skipped: dict[str, str]) -> dict[str, Any]:
    try:
        rows, owners = calibration_data.SETS["LFW3D"]()
    except FileNotFoundError as error:
        skipped["sizes"] = f"{Path(error.filename or '').name} is not there"
        return {}
    return calibration_sizes.measured(rows, owners, rounds)


def _said(name: str, model: Model, rounds: int) -> dict[str, Any]:
    begun = time.perf_counter()
    found = calibration_rounds.of(model, rounds, seed=2026)
    print(f"{name}: {time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
    return found


def table(results: dict[str, Any]) -> str:
    """For people."""
    head = ("of", "refused", "sure", "worth", "ratio", "in 2x", "ours", "pairs", "bootstrap")
    lines = [f"{'':50}" + "".join(f"{name:>10}" for name in head)]
    for part in ("simulated", "real"):
        for name, targets in results.get(part, {}).items():
            lines += [f"{f'{name}, {target}':50}{_row(found)}" for target, found in targets.items()]
    for some, sizes in results.get("sizes", {}).items():
        for size, found in sizes.items():
            low, middle, high = found["predicted_over_measured"]
            lines.append(
                f"FPIR at {size:>5} people, from {some:>5}: predicted {found['predicted']:.4f}, measured "
                f"{found['measured']:.4f}; predicted / measured {middle:.2f} ({low:.2f} to {high:.2f}); "
                f"if independent {found['if_comparisons_were_independent']:.4f}"
            )
    lines += [f"missed: {miss}" for miss in results["missed"]]
    lines += [f"skipped: {name}: {why}" for name, why in results["skipped"].items()]
    return "\n".join(lines)


def _row(found: dict[str, Any]) -> str:
    cells = [str(found["rounds"]), str(found["refused"]), str(found["sure"])]
    if "covered" in found:
        within = found.get("within_a_factor_of_two")
        cells += [
            f"{found['worth_median']:,}",
            f"{found['achieved_over_requested_median']:.2f}",
            "" if within is None else f"{within:.3f}",
            *(f"{share:.3f}" for share in found["covered"].values()),
        ]
    return "".join(f"{cell:>10}" for cell in cells)


if __name__ == "__main__":
    sys.exit(main())
