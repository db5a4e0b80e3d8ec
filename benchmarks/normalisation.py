"""Score normalisation on and off: does it separate the same from the different better?

`python -m benchmarks.normalisation`. In each round a third of the people are the cohort; of the others one
item each is enrolled and up to three are asked about. Given are the EER and the FNMR at an FMR of 1 %, and by
how much each normalisation changes them: the median over rounds of other people, and where 95 % of them lie.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import calibration_data, over_sets
from gallery.curves import curve, equal_error_rate, fnmr_at_fmr
from gallery.normalisation import adaptive_s_norm, s_norm, t_norm, z_norm

SETS = {"AT&T": calibration_data.att, "LFW3D": calibration_data.lfw3d, "FSDD": calibration_data.fsdd}
ASKED, OF_COHORT, MOST_PEOPLE = 3, 3, 600
NEAREST = 0.2
"""Share of the cohort that the adaptive one looks at."""

Apart = NDArray[np.float32]
WAYS: dict[str, Callable[[Apart, Apart, Apart], NDArray[Any]]] = {
    "off": lambda scores, probes, subjects: scores,
    "Z": lambda scores, probes, subjects: z_norm(scores, subjects),
    "T": lambda scores, probes, subjects: t_norm(scores, probes),
    "S": s_norm,
    "adaptive S": lambda scores, probes, subjects: adaptive_s_norm(
        scores, probes, subjects, max(2, round(NEAREST * probes.shape[1]))
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark."""
    return over_sets.run("normalisation", SETS, measured, _said, argv)


def measured(rows: Apart, owners: NDArray[np.int64], rounds: int) -> dict[str, Any]:
    """{way: figures}"""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
    for number in range(rounds):
        enrolled, asked, cohort, whose = _drawn(owners, np.random.default_rng([11, number]))
        scores, probes, subjects = (
            1 - rows[some] @ rows[others].T
            for some, others in ((asked, enrolled), (asked, cohort), (enrolled, cohort))
        )
        own = whose[:, None] == np.arange(len(enrolled))[None, :]
        for name, way in WAYS.items():
            each = way(scores, probes, subjects).astype(np.float32)
            both = curve(each[own], each[~own])
            found[name].append((equal_error_rate(both)[0], fnmr_at_fmr(both, 0.01)))
    off = np.array(found["off"])
    return {name: _figures(np.array(each), off) for name, each in found.items()}


def _drawn(
    owners: NDArray[np.int64], chance: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """(enrolled items, items asked about, items of the cohort, the place of each asked one's subject)."""
    people, counts = np.unique(owners, return_counts=True)
    some = chance.permutation(people[counts > 1])[:MOST_PEOPLE]
    third = len(some) // 3
    order = chance.permutation(len(owners))
    items = {person: order[owners[order] == person] for person in some.tolist()}
    cohort = np.concatenate([items[person][:OF_COHORT] for person in some[:third].tolist()])
    rest = some[third:].tolist()
    enrolled = np.array([items[person][0] for person in rest])
    asked = [items[person][1 : 1 + ASKED] for person in rest]
    whose = np.repeat(np.arange(len(rest)), [len(one) for one in asked])
    return enrolled, np.concatenate(asked), cohort, whose


def _figures(each: NDArray[np.float64], off: NDArray[np.float64]) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for at, name in enumerate(("eer", "fnmr_at_fmr_0.01")):
        said[name] = round(float(np.median(each[:, at])), 4)
        change = np.quantile(each[:, at] - off[:, at], [0.025, 0.5, 0.975])
        said[f"{name}_change"] = [round(float(value), 4) for value in change]
    return said


def _said(name: str, ways: dict[str, Any]) -> str:
    lines = []
    for way, one in ways.items():
        low, middle, high = one["eer_change"]
        below, half, above = one["fnmr_at_fmr_0.01_change"]
        lines.append(
            f"{name:9}{way:11} EER {one['eer']:.4f} ({middle:+.4f}, {low:+.4f} to {high:+.4f})   "
            f"FNMR {one['fnmr_at_fmr_0.01']:.4f} ({half:+.4f}, {below:+.4f} to {above:+.4f})"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
