"""Enrolling, opening, removing: ours beside other stores of embeddings, `python -m benchmarks.storage`.

Every contender gets the same random 512-d unit vectors and a little metadata, in one run, round-robin: in
each round everyone has one turn, and what is reported is the median of the rounds. In this order:

    bulk      --enrolled vectors into an empty one, vectors/s; what is left is used by all that follows
    bytes     on disk a vector, after closing
    open      a fresh process opens it and answers the nearest to one probe, seconds
    memory    the most that process had resident, and one that does the bulk
    million   with --million: the same opening at 1,000,000, ours, sqlite-vec and lancedb
    enrol     single enrolments, each committed when it returns, a second
    remove    single removals, milliseconds

Nothing drops the page cache: openings read files that are in memory already. A contender that has used up
--patience seconds in one stage has no more turns in it; the numbers of every turn are in the JSON. The rivals
come from requirements-storage.txt; one that is not installed is left out, and said so.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import report, storage_process
from benchmarks.storage_contender import Contender, NotMeasuredError
from benchmarks.storage_data import BLOCK, DIM, Block, block, blocks, id_of, probe_near
from benchmarks.storage_rivals import CONTENDERS, BareSqlite, Ours
from benchmarks.storage_table import floors, table

PIP = "pip install -c constraints.txt -r benchmarks/requirements-storage.txt"
FLOORS_AT = 100_000
MILLION = ("ours", "sqlite-vec", "lancedb")
TURN = 0.7  # seconds of enrolling or removing in a turn
MOST = 2000  # enrolments in a turn
REMOVALS = 100  # in a turn
Turn = Callable[[Contender, int], Any]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; 1 when a floor is missed. They are judged from 100,000 enrolled on."""
    arguments = _parser().parse_args(argv)
    present, skipped = loaded(arguments.only or list(CONTENDERS))
    with tempfile.TemporaryDirectory() as folder:
        results = Benchmark(present, Path(folder), arguments).run()
    results |= {"skipped": skipped, "floors": floors(results)}
    print(table(results))
    print(f"written: {report.write('storage', results, Path(arguments.output)).name}")
    missed = any(floor["met"] is False for floor in results["floors"].values())
    return 1 if missed and arguments.enrolled >= FLOORS_AT else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.storage")
    parser.add_argument("--enrolled", type=int, default=FLOORS_AT, help="how many are enrolled (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contender (%(default)s)")
    parser.add_argument(
        "--million", type=int, nargs="?", const=1_000_000, help="also open a large one; takes minutes"
    )
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, metavar="NAME", help=", ".join(CONTENDERS))
    parser.add_argument("--patience", type=float, default=60.0, help="seconds a stage (%(default)s)")
    parser.add_argument("--output", default=str(report.RESULTS), help="folder for storage.json")
    return parser


def loaded(
    names: Sequence[str], among: Mapping[str, type[Contender]] = CONTENDERS
) -> tuple[list[Contender], dict[str, str]]:
    """The contenders that can run here, and what to install for the others."""
    present, skipped = [], {}
    for name in names:
        contender = among[name]()
        try:
            contender.load()
            present.append(contender)
        except ImportError as error:
            skipped[name] = f"{error}: {PIP}"
            print(f"{name} is left out: {skipped[name]}", file=sys.stderr)
    return present, skipped


class Benchmark:
    """The stages, one after the other, and what has been measured so far."""

    def __init__(self, contenders: list[Contender], folder: Path, arguments: argparse.Namespace) -> None:
        self._contenders = contenders
        self._folder = folder
        self._enrolled = arguments.enrolled
        self._rounds = arguments.rounds
        self._million = arguments.million
        self._patience = arguments.patience
        self._found: dict[str, dict[str, Any]] = {c.name: about(c) for c in contenders}
        self._homes: dict[str, Path] = {}
        self._probe = folder / "probe.npy"
        np.save(self._probe, probe_near(block(0, min(BLOCK, self._enrolled)).rows), allow_pickle=False)
        self._order = np.random.default_rng(0).permutation(self._enrolled)
        self._fresh: dict[int, Block] = {}

    def run(self) -> dict[str, Any]:
        """Everything that goes into the JSON but the floors."""
        load, sync = round(os.getloadavg()[0], 1), self._sync_ms()
        self._bulk_stage()
        self._bytes_stage()
        self._open_stage("open", self._ready(), self._homes)
        self._memory_stage()
        if self._million:
            self._million_stage()
        self._single_stages()
        return {
            "enrolled": self._enrolled,
            "dim": DIM,
            "rounds": self._rounds,
            "million": self._million,
            "load_before": load,  # what else ran on the machine: a speed means little without it
            "fsync_ms": sync,
            "page_cache": "not dropped: every opening reads files that are in memory already",
            "contenders": self._found,
        }

    # -- stages

    def _bulk_stage(self) -> None:
        rows = list(blocks(self._enrolled))

        def turn(contender: Contender, number: int) -> dict[str, float]:
            home = self._folder / f"{contender.name.replace(' ', '-')}-{number}"
            contender.create(home)
            begun = time.perf_counter()
            contender.bulk(rows)
            filled = time.perf_counter()
            contender.close()
            closed = time.perf_counter()
            if before := self._homes.get(contender.name):
                shutil.rmtree(before)
            self._homes[contender.name] = home
            return {"per_s": self._enrolled / (filled - begun), "close_s": closed - filled}

        for name, turns in self._rounds_of("bulk", self._contenders, turn).items():
            self._record(name, "bulk", turns, "per_s", "close_s")

    def _bytes_stage(self) -> None:
        for contender in self._ready():
            held = contender.bytes(self._homes[contender.name])
            self._found[contender.name]["bytes_per_vector"] = {
                what: round(size / self._enrolled, 1) for what, size in held.items()
            }

    def _open_stage(self, stage: str, contenders: list[Contender], homes: dict[str, Path]) -> None:
        def turn(contender: Contender, number: int) -> dict[str, Any]:
            found = storage_process.run("ask", contender.name, homes[contender.name], self._probe)
            return found | {"with_imports_s": found["imports_s"] + found["answer_s"]}

        for name, turns in self._rounds_of(stage, contenders, turn).items():
            self._record(name, stage, turns, "answer_s", "with_imports_s", "peak_mib", "private_mib")
            self._found[name][stage]["right"] = all(one["answer"] == id_of(0) for one in turns)

    def _memory_stage(self) -> None:
        def turn(contender: Contender, number: int) -> dict[str, Any]:
            seconds = self._enrolled / self._found[contender.name]["bulk"]["per_s"]
            if seconds > 5 * self._patience:
                raise NotMeasuredError(f"the bulk takes {seconds:,.0f} s and was not done twice")
            home = self._folder / "memory"
            try:
                return storage_process.run("bulk", contender.name, home, self._enrolled)
            finally:
                shutil.rmtree(home, ignore_errors=True)

        for name, turns in self._rounds_of("bulk_memory", self._ready(), turn, rounds=1).items():
            self._record(name, "bulk_memory", turns, "peak_mib", "rss_after_imports_mib")

    def _million_stage(self) -> None:
        homes: dict[str, Path] = {}

        def fill(contender: Contender, number: int) -> float:
            home = self._folder / f"{contender.name}-million"
            contender.create(home)
            begun = time.perf_counter()
            contender.bulk(blocks(self._million))
            contender.close()
            homes[contender.name] = home
            return time.perf_counter() - begun

        wanted = [contender for contender in self._ready() if contender.name in MILLION]
        self._rounds_of("open_million", wanted, fill, rounds=1)
        self._open_stage("open_million", [c for c in wanted if c.name in homes], homes)
        for home in homes.values():
            shutil.rmtree(home)

    def _single_stages(self) -> None:
        """On folders that were closed after the bulk; all are open at once, and take turns."""

        def open_(contender: Contender, number: int) -> bool:
            contender.open(self._homes[contender.name])
            return True

        opened = self._rounds_of("opening for single changes", self._ready(), open_, rounds=1)
        contenders = [c for c in self._contenders if c.name in opened]
        # The first turn does not count: a write-ahead log grows in it, later ones are written over.
        enrolled = self._rounds_of("enrol", contenders, self._enrol_turn, self._rounds + 1)
        for name, turns in enrolled.items():
            self._record(name, "enrol", turns[1:] or turns, "per_s")
        for name, turns in self._rounds_of("remove", contenders, self._remove_turn).items():
            self._found[name]["remove"] = spread([ms for turn in turns for ms in turn])
        self._rounds_of("closing", contenders, lambda contender, number: contender.close(), rounds=1)

    def _enrol_turn(self, contender: Contender, number: int) -> dict[str, float]:
        """As many as fit into a turn, each committed when it returns."""
        if number not in self._fresh:
            self._fresh = {number: block(self._enrolled + number * MOST, MOST)}
        done, begun = 0, time.perf_counter()
        for id, row, metadata in self._fresh[number]:
            contender.add_one(id, row, metadata)
            done += 1
            if time.perf_counter() - begun > TURN:
                break
        return {"per_s": done / (time.perf_counter() - begun), "enrolled": done}

    def _remove_turn(self, contender: Contender, number: int) -> list[float]:
        """Milliseconds of each removal, of ids drawn from those of the bulk; the same ones for everybody."""
        share = min(REMOVALS, self._enrolled // self._rounds)
        taken, limit = [], time.perf_counter() + 3 * TURN
        for subject in islice(self._order, number * share, (number + 1) * share):
            begun = time.perf_counter()
            contender.remove(id_of(int(subject)))
            ended = time.perf_counter()
            taken.append(1e3 * (ended - begun))
            if ended > limit:
                break
        return taken

    # -- turns

    def _ready(self) -> list[Contender]:
        return [contender for contender in self._contenders if contender.name in self._homes]

    def _rounds_of(
        self, stage: str, contenders: list[Contender], turn: Turn, rounds: int | None = None
    ) -> dict[str, list[Any]]:
        """What each contender's turns returned. One that fails is out, and the reason is a result."""
        turns: dict[str, list[Any]] = {}
        used: dict[str, float] = defaultdict(float)
        running = list(contenders)
        for number in range(rounds or self._rounds):
            for contender in list(running):
                _progress(f"{stage}, round {number + 1}: {contender.name}")
                begun = time.perf_counter()
                try:
                    turns.setdefault(contender.name, []).append(turn(contender, number))
                except NotMeasuredError as reason:
                    self._leave(contender, stage, "not_measured", str(reason), turns, running)
                except Exception as error:  # whatever a rival throws is a result
                    text = f"{type(error).__name__}: {error}"
                    self._leave(contender, stage, "error", text, turns, running)
                used[contender.name] += time.perf_counter() - begun
                if contender in running and used[contender.name] > self._patience:
                    running.remove(contender)
        _progress("")
        return turns

    def _leave(
        self, contender: Contender, stage: str, kind: str, text: str, turns: Any, running: list[Contender]
    ) -> None:
        self._found[contender.name][stage] = {kind: text}
        turns.pop(contender.name, None)
        running.remove(contender)
        if kind == "error":
            print(f"\n{contender.name}, {stage}: {text}", file=sys.stderr)

    def _record(self, name: str, stage: str, turns: list[dict[str, Any]], *figures: str) -> None:
        """The median of each figure, and all of them."""
        medians = {figure: median([turn[figure] for turn in turns]) for figure in figures}
        rounded = [{key: _short(value) for key, value in turn.items()} for turn in turns]
        self._found[name][stage] = medians | {"turns": rounded}

    def _sync_ms(self) -> float | None:
        """Median milliseconds of a 2 KiB append with fsync there: what a durable commit cannot beat."""
        taken = []
        with (self._folder / "sync").open("wb", buffering=0) as file:
            for _ in range(50):
                begun = time.perf_counter()
                file.write(bytes(2048))
                os.fsync(file.fileno())
                taken.append(1e3 * (time.perf_counter() - begun))
        return median(taken)


def about(contender: Contender) -> dict[str, Any]:
    """What a contender is, before anything was measured."""
    versions = {package: version(package) for package in contender.packages}
    if isinstance(contender, (Ours, BareSqlite)):
        import sqlite3

        versions["SQLite"] = sqlite3.sqlite_version
    return {"versions": versions, "durable": contender.durable, "search": contender.search}


def _progress(text: str) -> None:
    """Says what is being done, on a terminal."""
    if sys.stderr.isatty():
        print(f"\r{text:<60}\r", end="", file=sys.stderr, flush=True)


def median(values: list[Any]) -> float | None:
    """The median; None when a figure is not to be had on this system."""
    return None if None in values else _short(float(np.median(values)))


def spread(taken: list[float]) -> dict[str, Any]:
    """Median, 99th percentile and number of durations in milliseconds."""
    return {
        "median_ms": _short(float(np.median(taken))),
        "p99_ms": _short(float(np.percentile(taken, 99))),
        "removals": len(taken),
    }


def _short(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    sys.exit(main())
