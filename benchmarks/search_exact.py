"""The exact index beside the same brute force by FAISS, tuned: `python -m benchmarks.search_exact`.

Both search the same mapped file, in one process, turn and turn about: in each round, for each number of
queries, FAISS once and ours once, the other one first in every second round. What is compared is the median
of the rounds. FAISS is `gallery.indexes.library.tuned` around `faiss.knn`: as it comes, it is up to 12 times
slower between 4 and 250 queries.

Data, cosine, rows in random order; half of the queries are new samples of somebody who is in, half of nobody:

    random      Gaussian rows
    clustered   20 templates a subject, mates at about cos 0.8
    copies      50 near copies of each, cos 0.999
    duplicates  50 exact copies of each
    crowded     20 subjects have all the rows, mates at cos 0.98: nothing can be ruled out

Every answer is compared with FAISS's: the same numbers in the same order, or, where they differ, no farther
in float64 (`ties`: float32 cannot tell those rows apart). A `worse` one fails the benchmark; floors are
reported, and belong to the machine they were measured on.
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
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import report
from gallery.indexes import library
from gallery.indexes.certified import AUTO
from gallery.indexes.exact import ExactIndex

QUERIES = (1, 8, 64, 256, 1024)
K = 10
FULL = ("1000000x512", "100000x512", "1000000x128")
FLOORS = {"1000000x512": 3.0, "100000x512": 2.0, "1000000x128": 2.0}
MEMORY = 1.6
BLOCK = 50_000
KINDS = {
    # rows of one subject, and how far they lie from its centre (in lengths of the centre)
    "random": (1, 0.0),
    "clustered": (20, 0.5),
    "copies": (50, 0.032),
    "duplicates": (50, 0.0),
    "crowded": (None, 0.14),
}
Rows = npt.NDArray[np.float32]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; 1 when an answer was worse than FAISS's."""
    arguments = _parser().parse_args(argv)
    results: dict[str, Any] = {"k": K, "cases": _kept(arguments)}
    for shape, kind in itertools.product(FULL if arguments.full else arguments.shapes, arguments.data):
        print(f"{shape} {kind}", flush=True)
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            case = Case(shape, kind, Path(folder)).run(arguments.queries, arguments.rounds)
        results["cases"].append(case | {"rounds": arguments.rounds})
        print(table(case), flush=True)
        report.write("search_exact", results, Path(arguments.results))
    print("written: search_exact.json")
    return int(any(size["worse"] for case in results["cases"] for size in case["sizes"].values()))


def _kept(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """What earlier runs wrote of other cases."""
    again = set(itertools.product(FULL if arguments.full else arguments.shapes, arguments.data))
    try:
        cases = report.read("search_exact", Path(arguments.results))["cases"]
    except FileNotFoundError:
        return []
    return [case for case in cases if (case["shape"], case["data"]) not in again]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.search_exact")
    parser.add_argument("--shapes", nargs="+", default=["100000x512"], help="rows x dim (%(default)s)")
    parser.add_argument("--full", action="store_true", help=f"the shapes {', '.join(FULL)}")
    parser.add_argument("--data", nargs="+", choices=KINDS, default=list(KINDS), help="(all)")
    parser.add_argument(
        "--queries", nargs="+", type=int, default=list(QUERIES), help="at a time (%(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="(%(default)s)")
    parser.add_argument("--folder", help="for the file that is searched")
    parser.add_argument("--results", default=str(report.RESULTS), help="folder for search_exact.json")
    return parser


class Case:
    """One data set of one shape, in one file."""

    def __init__(self, shape: str, kind: str, folder: Path) -> None:
        self.shape, self.kind = shape, kind
        self.count, self.dim = map(int, shape.split("x"))
        self.path = folder / "rows.faiss"
        self.queries = self._written(max(QUERIES))

    def _written(self, most: int) -> Rows:
        """Writes the file; returns queries."""
        size, spread = KINDS[self.kind]
        size = size or self.count // 20
        rng = np.random.default_rng(0)
        centres = _unit(rng.standard_normal((-(-self.count // size), self.dim), dtype=np.float32))
        owners = rng.permutation(np.arange(self.count) // size)
        spread /= self.dim**0.5
        index, rows = library.flat_with_room(self.count, self.dim, "cosine")
        for start in range(0, self.count, BLOCK):
            own = owners[start : start + BLOCK]
            noise = rng.standard_normal((len(own), self.dim), dtype=np.float32) if spread else 0.0
            rows[start : start + len(own)] = _unit(centres[own] + spread * noise)
        library.write(library.with_numbers(index, np.arange(self.count)), self.path)
        known = centres[rng.integers(0, len(centres), most // 2)]
        noise = rng.standard_normal(known.shape, dtype=np.float32)
        strangers = rng.standard_normal((most - len(known), self.dim), dtype=np.float32)
        queries = np.concatenate([_unit(known + max(spread, 0.01) * noise), _unit(strangers)])
        return queries[rng.permutation(most)]

    def run(self, sizes: Sequence[int], rounds: int) -> dict[str, Any]:
        """Everything that goes into the JSON about it."""
        begun = time.perf_counter()
        index = ExactIndex(self.dim, "cosine")
        index.load(self.path)
        index.search(self.queries[:1], K)
        opened = time.perf_counter() - begun
        index, made_in, memory = self._prepared()
        mapped, _ = library.read(self.path, self.dim, "cosine", mapped=True)
        rows = library.flat_rows(mapped)
        measured = {}
        for size in sizes:
            queries = self.queries[:size]
            contenders: dict[str, Callable[[], Any]] = {
                "faiss": lambda queries=queries: tuned(queries, rows),
                "ours": lambda queries=queries: index.search(queries, K),
            }
            times, answers = raced(contenders, rounds)
            agreed = agreement(answers["ours"].numbers, answers["faiss"], queries, rows)
            measured[str(size)] = judged(times, FLOORS.get(self.shape, 0.0)) | agreed
        return {
            "shape": self.shape,
            "data": self.kind,
            "first_pass": index.first_passes()[0] or "none",
            "cold_open_seconds": round(opened, 3),
            "made_in_seconds": round(made_in, 2),
            "memory_of_raw": round(1 + memory / rows.nbytes, 2),
            "load_before": round(os.getloadavg()[0], 1),
            "sizes": measured,
        }

    def _prepared(self) -> tuple[ExactIndex, float, int]:
        """The index with its first pass complete, the seconds that took, and the bytes beside the file."""
        index = ExactIndex(self.dim, "cosine", replace(AUTO, patient=False))
        index.load(self.path)
        index.search(self.queries[:1], K)  # torch is loaded, the file is in the page cache
        index = ExactIndex(self.dim, "cosine", replace(AUTO, patient=False))
        index.load(self.path)
        before, begun = _resident(), time.perf_counter()
        index.search(self.queries[:1], K)
        return index, time.perf_counter() - begun, max(0, _resident() - before)


def tuned(queries: Rows, rows: Rows) -> npt.NDArray[np.int64]:
    """What FAISS finds, with the settings that it is fastest with."""
    faiss = library.faiss()
    with library.tuned(rows.shape[1]):
        found: npt.NDArray[np.int64] = faiss.knn(queries, rows, K, metric=faiss.METRIC_INNER_PRODUCT)[1]
    return found


def raced(
    contenders: dict[str, Callable[[], Any]], rounds: int
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """({name: seconds of each round}, {name: answer}), after one turn each that does not count."""
    answers = {name: turn() for name, turn in contenders.items()}
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name in list(contenders)[:: -1 if number % 2 else 1]:
            begun = time.perf_counter()
            contenders[name]()
            times[name].append(time.perf_counter() - begun)
    return times, answers


def judged(times: dict[str, list[float]], floor: float) -> dict[str, Any]:
    """Medians in milliseconds, how many times faster ours is, and whether that is the floor."""
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    ratio = medians["faiss"] / medians["ours"]
    return {
        "faiss_ms": round(1000 * medians["faiss"], 2),
        "ours_ms": round(1000 * medians["ours"], 2),
        "ratio": round(ratio, 2),
        "floor": floor or None,
        "met": ratio >= floor if floor else None,
        "rounds_ms": {name: [round(1000 * one, 2) for one in seconds] for name, seconds in times.items()},
    }


def agreement(ours: Any, faiss: Any, queries: Rows, rows: Rows) -> dict[str, int]:
    """How many queries have the same numbers in order, others that are no farther, and farther ones."""
    same = (ours == faiss).all(axis=1)
    worse = 0
    for query in np.flatnonzero(~same):
        left = queries[query].astype(np.float64)
        mine, other = (np.sort(_costs(left, rows[numbers[query]])) for numbers in (ours, faiss))
        # A distance is rounded to float32 once, and what is equal then is ranked by number.
        worse += bool((mine > other * (1 + 2.0**-23) + 1e-12).any())
    return {"identical": int(same.sum()), "ties": int((~same).sum()) - worse, "worse": worse}


def _costs(query: npt.NDArray[np.float64], rows: Rows) -> npt.NDArray[np.float64]:
    wide = rows.astype(np.float64)
    return 1 - wide @ query / (np.linalg.norm(wide, axis=1) * np.linalg.norm(query))


def _unit(rows: Rows) -> Rows:
    return np.ascontiguousarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def _resident() -> int:
    """Bytes of memory of this process that belong to no file."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


def table(case: dict[str, Any]) -> str:
    """One case for people."""
    lines = [
        f"  {case['first_pass']}, made in {case['made_in_seconds']} s; memory {case['memory_of_raw']} x the"
        f" raw rows (at most {MEMORY}); opened and answered in {case['cold_open_seconds']} s;"
        f" load {case['load_before']}"
    ]
    for size, found in case["sizes"].items():
        floor = f"floor {found['floor']}: {'met' if found['met'] else 'MISSED'}" if found["floor"] else ""
        lines.append(
            f"  {size:>5} queries: FAISS {found['faiss_ms']:>9.1f} ms, ours {found['ours_ms']:>8.1f} ms,"
            f" {found['ratio']:>5.2f} x  {floor:<18} identical {found['identical']}, ties {found['ties']},"
            f" worse {found['worse']}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
