"""Every pair within a threshold, as `dedupe` and `audit` look for them: `python -m benchmarks.near_pairs`.

Beside `range_search` of a flat index of FAISS, in turn, medians of --rounds. Four templates a subject, at
about cos 0.8 of each other, around centres that are related or not (see `search_data`); every fourth has a
near copy besides. The thresholds are one for copies and one for people. FAISS is asked for each pair both
ways, as it cannot leave one out, and its distances are float32: pairs closer to the threshold than that tells
are left out of the comparison of answers.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks import report
from benchmarks.search_data import Crowd, Rows
from gallery.indexes import library
from gallery.pairs import near_pairs
from gallery.shadows import cast

EACH = 4
THRESHOLDS = {"copies": 0.05, "people": 0.3}
_EDGE = 1e-5


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; 1 when the answers differ."""
    arguments = _parser().parse_args(argv)
    cases = [
        measured(Crowd.of(shape, each=EACH, related=related), name, arguments.rounds)
        for shape in arguments.shapes
        for related in (True, False)
        for name in THRESHOLDS
    ]
    for case in cases:
        print(
            f"{case['shape']:>12} {case['centres']:9} {case['for']:6} by {case['width']:4} numbers: "
            f"{case['ours_s']:7.2f} s, FAISS {case['faiss_s']:7.2f} s, ratio {case['ratio']:5.2f}, "
            f"{case['pairs']:,} pairs, {case['different']} different"
        )
    print(
        f"written: {report.write('near_pairs', {'cases': cases}).name}" if arguments.write else "not written"
    )
    return int(any(case["different"] for case in cases))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.near_pairs")
    parser.add_argument("--shapes", nargs="+", default=["30000x128", "30000x512"], help="rows x dim")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-write", dest="write", action="store_false", help="only print")
    return parser


def measured(crowd: Crowd, name: str, rounds: int) -> dict[str, Any]:
    """One case: both in turn, `rounds` times."""
    rows, threshold = with_copies(crowd.rows()), THRESHOLDS[name]
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(rounds):
        pairs = timed(ours, lambda: near_pairs(rows, "cosine", threshold))
        found = timed(theirs, lambda: by_faiss(rows, threshold))
    mine = {
        (left, right)
        for left, right, away in zip(pairs.left.tolist(), pairs.right.tolist(), pairs.distance, strict=True)
        if away <= threshold - _EDGE
    }
    near = {pair for pair, away in found.items() if away <= threshold - _EDGE}
    certain = {pair for pair, away in found.items() if away <= threshold - 2 * _EDGE}
    return {
        "shape": f"{crowd.count}x{crowd.dim}",
        "centres": "related" if crowd.related else "unrelated",
        "for": name,
        "threshold": threshold,
        "width": cast(rows, "cosine", threshold).width,
        "pairs": len(pairs),
        "different": len(certain - mine) + len({pair for pair in mine if pair not in found}),
        "at_the_edge": len(mine ^ near),
        "ours_s": round(statistics.median(ours), 3),
        "faiss_s": round(statistics.median(theirs), 3),
        "ratio": round(statistics.median(theirs) / statistics.median(ours), 2),
        "load": round(os.getloadavg()[0], 1),
        "rounds": rounds,
    }


def with_copies(rows: Rows) -> Rows:
    """The second of every four is nearly the first."""
    noise = np.random.default_rng(5).standard_normal(rows[::EACH].shape, dtype=np.float32)
    copies = rows[::EACH] + np.float32(0.1 / rows.shape[1] ** 0.5) * noise
    rows[1::EACH] = copies / np.linalg.norm(copies, axis=1, keepdims=True)
    return rows


def timed(taken: list[float], work: Callable[[], Any]) -> Any:
    """What `work` returns; its seconds go to `taken`."""
    begun = time.perf_counter()
    result = work()
    taken.append(time.perf_counter() - begun)
    return result


def by_faiss(rows: Rows, threshold: float) -> dict[tuple[int, int], float]:
    """{(row, later row): distance} of a flat index."""
    faiss = library.faiss()
    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(rows)
    found: dict[tuple[int, int], float] = {}
    for start in range(0, len(rows), 4096):
        ends, products, at = index.range_search(rows[start : start + 4096], 1 - threshold)
        left = start + np.repeat(np.arange(len(ends) - 1), np.diff(ends.astype(np.int64)))
        later = at > left
        pairs = zip(left[later].tolist(), at[later].tolist(), (1 - products[later]).tolist(), strict=True)
        found |= {(one, other): away for one, other, away in pairs}
    return found


if __name__ == "__main__":
    sys.exit(main())
