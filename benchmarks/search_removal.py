"""Removing 1 % of a large gallery: time, and whether every answer after it is right.

`python -m benchmarks.search_removal`. From a gallery of 1,000,000 x 128, 20 templates a subject, templates
are removed in single commits of 1, 10, 100, 1,000 and what is left of 1 %. For each: the time of
`remove_templates`, which is durable when it returns, and of the first search after it, which brings the index
up to date. Beside it FAISS's `remove_ids` of a flat index with ids, in memory, and the same with the whole
file written and synced, which is what it takes there to keep it.

After the last one, 256 searches are compared with brute force over what is left: the same subjects and
templates, or others no farther; nobody removed; five subjects each. The same once more after the gallery was
closed and opened.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import gallery
from benchmarks import picture, report
from benchmarks.search_data import Crowd, Rows, Whole, opened
from encoders.charts import Axis
from gallery.indexes import library

K, QUERIES = 5, 256
STEPS = (1, 10, 100, 1000)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; 1 when an answer of an exact index is wrong or anything removed is found."""
    arguments = _parser().parse_args(argv)
    crowd = Crowd.of(arguments.shape)
    cases = []
    for kind in arguments.kinds:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            cases.append(measured(crowd, Path(folder), kind))
        print(table(cases[-1]), flush=True)
    results = {"shape": arguments.shape, "k": K, "queries": QUERIES, "cases": cases}
    if not arguments.without_faiss:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            results["faiss"] = faiss_removals(crowd, Path(folder) / "flat.faiss")
        print(results["faiss"])
    print(f"written: {report.write('search_removal', results, Path(arguments.results)).name}")
    if Path(arguments.results) == report.RESULTS:
        drawn(results)
    bad = [case[when]["removed_found"] for case in cases for when in ("after", "reopened")]
    bad += [
        case[when]["wrong"] for case in cases for when in ("after", "reopened") if case["kind"] == "exact"
    ]
    return int(any(bad))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.search_removal")
    parser.add_argument("--shape", default="1000000x128", help="rows x dim (%(default)s)")
    parser.add_argument("--kinds", nargs="+", default=["exact"], help="of index (%(default)s)")
    parser.add_argument("--folder", help="for the galleries")
    parser.add_argument("--without-faiss", action="store_true")
    parser.add_argument("--results", default=str(report.RESULTS), help="folder for search_removal.json")
    return parser


def portions(crowd: Crowd) -> list[Whole]:
    """Which row numbers go, commit by commit: 1 % of all, drawn from all subjects."""
    gone = np.random.default_rng(3).permutation(crowd.count)[: crowd.count // 100]
    ends = np.cumsum([step for step in STEPS if step < len(gone)])
    return [np.sort(part) for part in np.split(gone, ends[ends < len(gone)])]


def measured(crowd: Crowd, folder: Path, kind: str) -> dict[str, Any]:
    """One kind of index."""
    queries = crowd.queries(QUERIES)
    parts = portions(crowd)
    gone = np.concatenate(parts)
    with opened(crowd, folder / "people", kind) as people:
        before = _search_ms(people, queries)
        steps = []
        for part in parts:
            # Templates are numbered from 1 in the order of their enrolment.
            begun = time.perf_counter()
            people.remove_templates((part + 1).tolist())
            removed = time.perf_counter()
            people.identify(queries[0], k=K)
            searched = time.perf_counter()
            steps.append(
                {
                    "templates": len(part),
                    "remove_ms": round(1000 * (removed - begun), 2),
                    "next_search_ms": round(1000 * (searched - removed), 2),
                }
            )
        after = judged(people, crowd, queries, gone) | {"search_ms": _search_ms(people, queries)}
    begun = time.perf_counter()
    with gallery.open(folder / "people", gallery.Precomputed(crowd.dim)) as people:
        people.identify(queries[0], k=K)
        reopened = {"open_and_answer_s": round(time.perf_counter() - begun, 3)}
        reopened |= judged(people, crowd, queries, gone)
    return {
        "kind": kind,
        "load": round(os.getloadavg()[0], 1),
        "search_ms_before": before,
        "steps": steps,
        "after": after,
        "reopened": reopened,
    }


def _search_ms(people: gallery.Gallery, queries: Rows) -> float:
    """The median of 20 searches of one probe each."""
    taken = []
    for query in queries[:20]:
        begun = time.perf_counter()
        people.identify(query, k=K)
        taken.append(1000 * (time.perf_counter() - begun))
    return round(statistics.median(taken), 2)


def judged(people: gallery.Gallery, crowd: Crowd, queries: Rows, gone: Whole) -> dict[str, Any]:
    """Every answer beside brute force over what is left, in float64 where float32 leaves it open."""
    answers = people.identify_batch(queries, k=K)
    numbers = np.array([[one.template - 1 for one in answer.candidates] for answer in answers])
    away = np.array([[one.distance for one in answer.candidates] for answer in answers])
    true = nearest_subjects(crowd, queries, gone)
    wrong = (np.abs(away - true) > 1e-6).any(axis=1)
    return {
        "templates": people.template_count,
        "removed_found": int(np.isin(numbers, gone).sum()),
        "short": sum(len(answer.candidates) < K for answer in answers),
        "wrong": int(wrong.sum()),
        "right": round(1 - float(wrong.mean()), 4),
    }


def nearest_subjects(crowd: Crowd, queries: Rows, gone: Whole) -> Rows:
    """(q, K) the distances of the nearest subjects among those that are left."""
    best = np.full((len(queries), 0), np.inf)
    for first, rows in crowd.blocks():
        wide = 1 - queries.astype(np.float64) @ rows.T.astype(np.float64)
        there = gone[(gone >= first) & (gone < first + len(rows))] - first
        wide[:, there] = np.inf
        lacking = -len(rows) % crowd.each
        wide = np.pad(wide, ((0, 0), (0, lacking)), constant_values=np.inf)
        each = wide.reshape(len(queries), -1, crowd.each).min(axis=2)
        best = np.sort(np.hstack([best, each]), axis=1)[:, :K]
    return best.astype(np.float32)


def faiss_removals(crowd: Crowd, path: Path) -> list[dict[str, Any]]:
    """`remove_ids` of IDMap2,Flat: in memory, and with the file written anew."""
    module = library.faiss()
    index = module.index_factory(crowd.dim, "IDMap2,Flat", module.METRIC_INNER_PRODUCT)
    for first, rows in crowd.blocks():
        index.add_with_ids(rows, np.arange(first, first + len(rows)))
    steps = []
    for part in portions(crowd):
        begun = time.perf_counter()
        index.remove_ids(part)
        removed = time.perf_counter()
        module.write_index(index, str(path))
        with path.open("rb") as file:
            os.fsync(file.fileno())
        kept = time.perf_counter()
        steps.append(
            {
                "templates": len(part),
                "remove_ms": round(1000 * (removed - begun), 2),
                "kept_ms": round(1000 * (kept - begun), 2),
            }
        )
    return steps


def table(case: dict[str, Any]) -> str:
    """One kind for people."""
    lines = [f"{case['kind']}, load {case['load']}; a search before {case['search_ms_before']} ms"]
    lines += [
        f"  {one['templates']:>6}: removed in {one['remove_ms']:>9.2f} ms, "
        f"next search {one['next_search_ms']:>9.2f} ms"
        for one in case["steps"]
    ]
    return "\n".join([*lines, f"  after: {case['after']}", f"  reopened: {case['reopened']}"])


def drawn(results: dict[str, Any], folder: Path = picture.DOCS) -> None:
    """Milliseconds of a removal by its size."""
    series = {}
    for case in results["cases"]:
        name = f"ours, {case['kind']}"
        series[name] = [(float(one["templates"]), one["remove_ms"]) for one in case["steps"]]
        series[f"{name}: next search"] = [
            (float(one["templates"]), one["next_search_ms"]) for one in case["steps"]
        ]
    for words, key in (("FAISS remove_ids, memory only", "remove_ms"), ("FAISS and its file", "kept_ms")):
        series[words] = [(float(one["templates"]), one[key]) for one in results.get("faiss", [])]
    times = [time for points in series.values() for _, time in points]
    sizes = [size for points in series.values() for size, _ in points]
    picture.saved(
        "search_removal",
        picture.lines(
            f"Removing from {results['shape']}",
            series,
            Axis("templates in one commit", *picture.around(sizes), "log"),
            Axis("ms", *picture.around(times), "log"),
        ),
        folder,
    )


if __name__ == "__main__":
    sys.exit(main())
