"""What a gallery adds to its index: `python -m benchmarks.search_overhead`.

`identify_batch` of precomputed vectors beside the very calls of the index that it makes, replayed bare with
the same queries and the same k: what is over is checking the vectors, whose the templates are, exact
distances of approximate kinds, ids, metadata and the records of the answers. Both in one process, turn and
turn about, the other one first in every second round; medians. The floor is 1.15 for 256 vectors.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import picture, report
from benchmarks.search_data import Crowd, Rows, index_of, opened
from encoders.charts import Axis

SIZES = (1, 8, 64, 256, 1024)
JUDGED, FLOOR = 256, 1.15
K = 5


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; 1 when a floor of an exact index is missed."""
    arguments = _parser().parse_args(argv)
    cases = []
    with tempfile.TemporaryDirectory() as scratch:
        whole = itertools.product(arguments.shapes, arguments.each, arguments.kinds)
        for shape, each, kind in whole:
            crowd = Crowd.of(shape, each)
            place = Path(arguments.folder or scratch) / f"{shape}-{each}-{kind.replace(',', '')}"
            place.parent.mkdir(parents=True, exist_ok=True)
            cases.append(measured(crowd, place, kind, arguments.rounds))
            print(table(cases[-1]), flush=True)
    results = {"k": K, "floor": FLOOR, "judged": JUDGED, "rounds": arguments.rounds, "cases": cases}
    print(f"written: {report.write('search_overhead', results, Path(arguments.results)).name}")
    if Path(arguments.results) == report.RESULTS:
        drawn(results)
    return int(any(case["met"] is False for case in cases if case["kind"] == "exact"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.search_overhead")
    parser.add_argument("--shapes", nargs="+", default=["100000x512"], help="rows x dim (%(default)s)")
    parser.add_argument("--each", nargs="+", type=int, default=[1, 20], help="templates a subject")
    parser.add_argument("--kinds", nargs="+", default=["exact"], help="of index (%(default)s)")
    parser.add_argument("--rounds", type=int, default=15, help="(%(default)s)")
    parser.add_argument("--folder", help="where to keep the galleries, for the next run")
    parser.add_argument("--results", default=str(report.RESULTS), help="folder for search_overhead.json")
    return parser


def measured(
    crowd: Crowd, place: Path, kind: str, rounds: int, sizes: Sequence[int] = SIZES
) -> dict[str, Any]:
    """One gallery's figures."""
    found = {}
    with opened(crowd, place, kind) as people:
        index = index_of(people)
        for size in sizes:
            queries = crowd.queries(max(2, size))[:size]
            for _ in range(3):  # until nothing is made at first use any more
                people.identify_batch(queries, k=K)
            calls = recorded(index, lambda queries=queries: people.identify_batch(queries, k=K))
            turns: dict[str, Callable[[], Any]] = {
                "bare": lambda calls=calls: [index.search(*one) for one in calls],
                "ours": lambda queries=queries: people.identify_batch(queries, k=K),
            }
            found[str(size)] = compared(turns, rounds) | {"calls": [one[1] for one in calls]}
    judged = found.get(str(JUDGED))
    return {
        "shape": f"{crowd.count}x{crowd.dim}",
        "each": crowd.each,
        "kind": kind,
        "load": round(os.getloadavg()[0], 1),
        "sizes": found,
        "met": None if judged is None else judged["ratio"] <= FLOOR,
    }


def recorded(index: Any, run: Callable[[], Any]) -> list[tuple[Rows, int, Any]]:
    """The searches of an index that `run` makes."""
    calls = []

    def search(queries: Rows, k: int, among: Any = None) -> Any:
        calls.append((queries, k, among))
        return type(index).search(index, queries, k, among)

    index.search = search
    try:
        run()
    finally:
        del index.search
    return calls


def compared(turns: dict[str, Callable[[], Any]], rounds: int) -> dict[str, Any]:
    """Medians in milliseconds, and their ratio."""
    taken: dict[str, list[float]] = {name: [] for name in turns}
    for number in range(rounds):
        for name in list(turns)[:: -1 if number % 2 else 1]:
            begun = time.perf_counter()
            turns[name]()
            taken[name].append(1000 * (time.perf_counter() - begun))
    medians = {name: statistics.median(each) for name, each in taken.items()}
    return {
        "bare_ms": round(medians["bare"], 2),
        "ours_ms": round(medians["ours"], 2),
        "ratio": round(medians["ours"] / medians["bare"], 3),
        "rounds_ms": {name: [round(one, 2) for one in each] for name, each in taken.items()},
    }


def table(case: dict[str, Any]) -> str:
    """One gallery for people."""
    lines = [f"{case['shape']}, {case['each']} a subject, {case['kind']}; load {case['load']}"]
    for size, one in case["sizes"].items():
        judged = int(size) == JUDGED
        floor = f"  at most {FLOOR}: {'met' if case['met'] else 'MISSED'}" if judged else ""
        lines.append(
            f"  {size:>5}: bare {one['bare_ms']:>9.2f} ms, identify_batch {one['ours_ms']:>9.2f} ms,"
            f" {one['ratio']:.3f} x{floor}"
        )
    return "\n".join(lines)


def drawn(results: dict[str, Any], folder: Path = picture.DOCS) -> None:
    """Milliseconds a call by its number of vectors."""
    series = {}
    for case in results["cases"]:
        for name in ("ours", "bare"):
            what = "ours" if name == "ours" else "index alone"
            series[f"{what}, {case['shape']}, {case['each']} each"] = [
                (float(size), one[f"{name}_ms"]) for size, one in case["sizes"].items()
            ]
    times = [time for points in series.values() for _, time in points]
    sizes = [size for points in series.values() for size, _ in points]
    picture.saved(
        "search_overhead",
        picture.lines(
            "identify_batch and the index alone",
            series,
            Axis("vectors a call", *picture.around(sizes), "log"),
            Axis("ms a call", *picture.around(times), "log"),
        ),
        folder,
    )


if __name__ == "__main__":
    sys.exit(main())
