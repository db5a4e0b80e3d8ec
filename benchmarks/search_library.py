"""Asking "who is this?" of whole libraries, side by side: `python -m benchmarks.search_library`.

Every contender of `benchmarks.storage_rivals` keeps the same random 512-d unit vectors with ids and metadata
in a folder, with its defaults, and names the nearest to one probe at a time. They take turns of a few probes;
what is reported is the median and the 99th percentile of all turns, in milliseconds, and how many answers
were right. Reopened before, so that nobody searches what only its bulk left in memory.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import picture, report
from benchmarks.search_milvus import Milvus
from benchmarks.storage import about, loaded
from benchmarks.storage_contender import Contender
from benchmarks.storage_data import block, blocks, id_of, probe_near
from benchmarks.storage_rivals import CONTENDERS
from encoders.charts import Axis

LIBRARIES: dict[str, type[Contender]] = CONTENDERS | {Milvus.name: Milvus}
LEFT_OUT = ("bare SQLite",)  # it reads every row anew
TURN = 10  # probes


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; 1 when somebody whose search is exact was wrong."""
    arguments = _parser().parse_args(argv)
    names = [name for name in arguments.only or LIBRARIES if name not in LEFT_OUT]
    present, skipped = loaded(names, LIBRARIES)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(arguments.folder or scratch)
        fill(present, folder, arguments.enrolled)
        if arguments.fill_only:
            return 0
        load = round(os.getloadavg()[0], 1)
        found = run(present, folder, arguments.enrolled, arguments.rounds)
    results = {
        "enrolled": arguments.enrolled,
        "load_before": load,
        "rounds": arguments.rounds,
        "probes_a_turn": TURN,
        "contenders": found,
        "skipped": skipped,
    }
    print(table(found))
    print(f"written: {report.write('search_library', results, Path(arguments.output)).name}")
    if Path(arguments.output) == report.RESULTS:
        drawn(found)
    exact = [one for one in found.values() if one["search"].startswith("exact")]
    return int(any(one["right"] < 1 for one in exact))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.search_library")
    parser.add_argument("--enrolled", type=int, default=100_000, help="how many (%(default)s)")
    parser.add_argument("--rounds", type=int, default=10, help="turns of each contender (%(default)s)")
    parser.add_argument("--only", nargs="+", choices=LIBRARIES, metavar="NAME", help=", ".join(LIBRARIES))
    parser.add_argument("--folder", help="where to keep what is filled, for the next run")
    parser.add_argument("--fill-only", action="store_true", help="fills what --folder lacks, and ends")
    parser.add_argument("--output", default=str(report.RESULTS), help="folder for search_library.json")
    return parser


def fill(contenders: list[Contender], folder: Path, enrolled: int) -> None:
    """Fills those that are not filled yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for contender in contenders:
        home = _home(folder, contender)
        done = home.with_name(home.name + ".filled")
        if not done.is_file():
            shutil.rmtree(home, ignore_errors=True)
            begun = time.perf_counter()
            contender.create(home)
            contender.bulk(blocks(enrolled))
            contender.close()
            done.touch()
            print(f"  {contender.name} filled in {time.perf_counter() - begun:.0f} s", flush=True)


def _home(folder: Path, contender: Contender) -> Path:
    return folder / contender.name.replace(" ", "-")


def run(contenders: list[Contender], folder: Path, enrolled: int, rounds: int) -> dict[str, Any]:
    """What is known of each contender, with its figures."""
    for contender in contenders:
        contender.open(_home(folder, contender))
    probes, expected = _probes(enrolled, rounds * TURN)
    taken: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    right = dict.fromkeys(taken, 0)
    for contender in contenders:
        contender.ask(probes[0])  # what only the first search does
    for start in range(0, len(probes), TURN):
        for contender in contenders:
            for probe, id in zip(probes[start : start + TURN], expected[start:], strict=False):
                begun = time.perf_counter()
                answer = contender.ask(probe)
                taken[contender.name].append(1e3 * (time.perf_counter() - begun))
                right[contender.name] += answer == id
    for contender in contenders:
        contender.close()
    return {
        contender.name: about(contender)
        | {
            "median_ms": float(f"{np.median(taken[contender.name]):.4g}"),
            "p99_ms": float(f"{np.percentile(taken[contender.name], 99):.4g}"),
            "right": right[contender.name] / len(probes),
        }
        for contender in contenders
    }


def drawn(found: dict[str, Any], folder: Path = picture.DOCS) -> None:
    """One line a library, from its median to its 99th percentile."""
    ranked = sorted(found.items(), key=lambda item: item[1]["median_ms"])
    series = {
        name: [(one["median_ms"], float(len(ranked) - at)), (one["p99_ms"], float(len(ranked) - at))]
        for at, (name, one) in enumerate(ranked)
    }
    times = [time for points in series.values() for time, _ in points]
    picture.saved(
        "search_library",
        picture.lines(
            "One probe at a time: median and 99th percentile",
            series,
            Axis("ms", *picture.around(times), "log"),
            Axis("", 0.0, float(len(ranked) + 1)),
        ),
        folder,
    )


def _probes(enrolled: int, count: int) -> tuple[np.ndarray, list[str]]:
    """Near to some that are enrolled, and their ids."""
    chosen = np.random.default_rng(1).integers(min(2000, enrolled), size=count).tolist()
    rows = block(0, min(2000, enrolled)).rows
    return np.stack([probe_near(rows[at:]) for at in chosen]), [id_of(at) for at in chosen]


def table(found: dict[str, Any]) -> str:
    """For people, the fastest first; times ours are medians."""
    ours = found.get("ours", {}).get("median_ms")
    lines = [f"{'':14} {'median ms':>10} {'p99 ms':>10} {'x ours':>8} {'right':>7}  search"]
    for name, one in sorted(found.items(), key=lambda item: item[1]["median_ms"]):
        times = "" if ours is None else f"{one['median_ms'] / ours:.2f}"
        lines.append(
            f"{name:14} {one['median_ms']:>10.2f} {one['p99_ms']:>10.2f} {times:>8} {one['right']:>7.3f}  "
            f"{one['search']}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
