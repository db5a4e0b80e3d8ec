"""How time and memory grow with a gallery: `python -m benchmarks.search_growth`.

For each size a new gallery, 20 templates a subject, `index="auto"`, filled by `enroll_many` in a process of
its own, a million templates a commit; then a fresh process opens it, answers once, and is timed for 1 and 64
probes a call, medians of 15; then one subject is enrolled and one removed, with the search after each. Memory
is what the process itself takes (RssAnon) and what of the index file it has mapped (RssFile), above the
imports.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import gallery
from benchmarks import picture, report
from benchmarks.search_data import Crowd
from benchmarks.storage_process import ROOT, peak_mib, status_mib
from encoders.charts import Axis

COUNTS = (10_000, 30_000, 100_000, 300_000, 1_000_000)
COMMIT = 1_000_000
"""Templates enrolled in one commit: SQLite looks through its log for each page of one that spills, so that a
commit of 10,000,000 had not ended after 27 minutes, on a busy machine."""
TIMES = {
    "enrol_s": "enrolling all",
    "open_and_answer_s": "opening and one answer",
    "identify_1_s": "identify, 1 probe",
    "identify_64_s": "identify, 64 probes",
    "enroll_one_s": "enrolling one",
    "remove_one_s": "removing one",
}
MEMORY = {
    "private_mib": "memory of its own",
    "with_file_mib": "with the mapped file",
    "enrol_peak_mib": "most while enrolling",
    "disk_mib": "on disk",
    "raw_mib": "the raw vectors",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; 0."""
    arguments = _parser().parse_args(argv)
    if arguments.child:
        verb, folder = arguments.child
        found = {"fill": filled, "ask": asked}[verb](Crowd(arguments.counts[0], arguments.dim), Path(folder))
        print(json.dumps(found), flush=True)
        return 0
    results: dict[str, Any] = {"dim": arguments.dim, "sizes": []}
    for count in arguments.counts:
        results["sizes"].append(measured(count, arguments.dim, arguments.folder))
        print(table(results["sizes"][-1:]), flush=True)
        report.write("search_growth", results, Path(arguments.results))
    if Path(arguments.results) == report.RESULTS:
        drawn(results)
    print("written: search_growth.json")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.search_growth")
    parser.add_argument("--counts", nargs="+", type=int, default=list(COUNTS), help="templates (%(default)s)")
    parser.add_argument("--dim", type=int, default=128, help="(%(default)s)")
    parser.add_argument("--folder", help="for the galleries")
    parser.add_argument("--results", default=str(report.RESULTS), help="folder for search_growth.json")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    return parser


def measured(count: int, dim: int, folder: str | None) -> dict[str, Any]:
    """One size."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        place = Path(scratch) / "people"
        found = {"templates": count, "raw_mib": round(4 * count * dim / 2**20, 1)}
        for verb in ("fill", "ask"):
            command = [sys.executable, "-m", __spec__.name, "--child", verb, str(place)]
            command += ["--counts", str(count), "--dim", str(dim)]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError((done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1])
            found |= json.loads(done.stdout.splitlines()[-1])
        return found | {"load": round(os.getloadavg()[0], 1)}


def filled(crowd: Crowd, place: Path) -> dict[str, Any]:
    """In a process of its own: enrols everybody."""
    begun = time.perf_counter()
    with gallery.open(place, gallery.Precomputed(crowd.dim)) as people:
        everybody = iter(crowd.people())
        while some := list(islice(everybody, COMMIT // crowd.each)):
            people.enroll_many(some)
        enrolled = time.perf_counter()
    closed = time.perf_counter()
    disk = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
    return {
        "enrol_s": round(enrolled - begun, 3),
        "close_s": round(closed - enrolled, 3),
        "enrol_peak_mib": round(peak_mib(), 1),
        "disk_mib": round(disk / 2**20, 1),
    }


def asked(crowd: Crowd, place: Path) -> dict[str, Any]:
    """In a process of its own: opens the gallery and asks."""
    import faiss  # noqa: F401
    import torch  # noqa: F401

    queries = crowd.queries(256)
    before = {field: status_mib(field) or 0.0 for field in ("RssAnon", "RssFile")}
    begun = time.perf_counter()
    people = gallery.open(place, gallery.Precomputed(crowd.dim))
    people.identify(queries[0])
    found: dict[str, Any] = {"open_and_answer_s": round(time.perf_counter() - begun, 4)}
    for _ in range(3):
        people.identify_batch(queries[:64])
    found["identify_1_s"] = _median(lambda at: people.identify(queries[at]))
    found["identify_64_s"] = _median(lambda at: people.identify_batch(queries[at : at + 64]))
    own, file = ((status_mib(field) or 0.0) - before[field] for field in ("RssAnon", "RssFile"))
    found |= {"private_mib": round(own, 1), "with_file_mib": round(own + file, 1)}
    found["enroll_one_s"] = _median(lambda at: people.enroll(f"new-{at}", [queries[at]]))
    found["remove_one_s"] = _median(lambda at: people.remove(f"new-{at}"))
    found["index"] = people.info().index
    people.close()
    return found


def _median(run: Callable[[int], Any]) -> float:
    taken = []
    for at in range(15):
        begun = time.perf_counter()
        run(at)
        taken.append(time.perf_counter() - begun)
    return float(f"{statistics.median(taken):.4g}")


def table(sizes: Sequence[dict[str, Any]]) -> str:
    """For people."""
    lines = []
    for one in sizes:
        times = ", ".join(f"{words} {1000 * one[key]:,.2f} ms" for key, words in TIMES.items())
        memory = ", ".join(f"{words} {one[key]:,.0f} MiB" for key, words in MEMORY.items())
        lines.append(
            f"{one['templates']:>10,} ({one['index']}, load {one['load']}): {times}\n{'':11}{memory}"
        )
    return "\n".join(lines)


def drawn(results: dict[str, Any], folder: Path = picture.DOCS) -> None:
    """Two pictures: time and memory by the number of templates."""
    sizes = [float(one["templates"]) for one in results["sizes"]]
    for name, keys, unit in (("time", TIMES, "seconds"), ("memory", MEMORY, "MiB")):
        series = {
            words: [(float(one["templates"]), one[key]) for one in results["sizes"]]
            for key, words in keys.items()
        }
        values = [value for points in series.values() for _, value in points if value > 0]
        picture.saved(
            f"search_growth_{name}",
            picture.lines(
                f"A gallery of dim {results['dim']} grows",
                series,
                Axis("templates", *picture.around(sizes), "log"),
                Axis(unit, *picture.around(values), "log"),
            ),
            folder,
        )


if __name__ == "__main__":
    sys.exit(main())
