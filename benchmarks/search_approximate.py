"""Approximate search: subjects found against queries a second, `python -m benchmarks.search_approximate`.

Ours is `identify_batch` of a whole gallery, with its ids, metadata and exact distances; the others are
FAISS's own search of the very same index, and four libraries of graphs, all asked for as many templates as an
exact search needs to have the five nearest subjects. All get the same 1,000 queries in one call on all cores:

    survey   everyone once with every setting: recall@5 of subjects and queries a second
    race     everyone with the settings that are worth it, turn and turn about, the order reversed in every
             second round; medians
    removal  1 % of the subjects are removed; the race again, each with its quickest setting of at least 0.99

The time of the others is that of their call; picking the first five subjects out of the templates they found
is timed apart (`subjects_ms`). Recall is against brute force. What was built is kept in --folder and used
again; without it everything is built anew, which takes most of the time.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import picture, report
from benchmarks.search_data import Crowd, Rows, Whole, first_subjects, recall, truth
from benchmarks.search_rivals import RIVALS, Bare, Contender, Ours
from encoders.charts import Axis

PIP = "pip install -c constraints.txt -r benchmarks/requirements-search.txt"
KINDS = {
    "100000x512": ("exact", "HNSW16", "IVF512,PQ128x4fs,RFlat"),
    "1000000x128": ("exact", "HNSW16", "IVF2048,Flat", "IVF1024,PQ64x4fs,RFlat"),
}
DATA = ("related", "unrelated")
K, QUERIES, GOAL, FLOOR = 5, 1000, 0.99, 0.9
TEMPLATES = (10, 15, 20, 30, 40, 50, 60, 70, 80, 90, 100)
ENOUGH = 0.995
"""Of the subjects that are nearest, an exact search has so many among its templates."""
GONE = 100
"""One subject in so many is removed."""


@dataclass(slots=True)
class Turns:
    """What one contender did with one setting."""

    contender: Contender
    setting: Any
    recall: float
    seconds: list[float] = field(default_factory=list)
    picking: list[float] = field(default_factory=list)

    def told(self) -> dict[str, Any]:
        """For the JSON."""
        setting = asdict(self.setting) if is_dataclass(self.setting) else self.setting
        return {
            "setting": setting,
            "recall": round(self.recall, 4),
            "queries_a_second": round(QUERIES / statistics.median(self.seconds), 1),
            "subjects_ms": round(1000 * statistics.median(self.picking), 2),
            "rounds_ms": [round(1000 * one, 1) for one in self.seconds],
        }


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; 1 when a removed template is found by ours."""
    arguments = _parser().parse_args(argv)
    results: dict[str, Any] = {"k": K, "queries": QUERIES, "goal": GOAL, "cases": _kept(arguments)}
    if arguments.folder:
        Path(arguments.folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch:
        for shape, data in product(arguments.shapes, arguments.data):
            crowd = Crowd.of(shape, related=data == "related")
            without = arguments.without
            kinds = arguments.kinds or KINDS.get(shape, ("exact", "HNSW16"))
            case = Case(
                crowd, Path(arguments.folder or scratch) / f"{shape}-{data}", Path(scratch), kinds, without
            )
            if arguments.build_only:
                case.build()
                continue
            results["cases"].append(case.run(arguments.rounds))
            print(table(results["cases"][-1]), flush=True)
            report.write("search_approximate", results, Path(arguments.results))
    if Path(arguments.results) == report.RESULTS:
        drawn(results)
    found = [one["removed_found"] for case in results["cases"] for one in case["after_removal"].values()]
    print("written: search_approximate.json")
    return int(any(found))


def _kept(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """What earlier runs wrote of other shapes."""
    try:
        cases = report.read("search_approximate", Path(arguments.results))["cases"]
    except FileNotFoundError:
        return []
    again = set(product(arguments.shapes, arguments.data))
    return [case for case in cases if (case["shape"], case["data"]) not in again]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.search_approximate")
    parser.add_argument("--shapes", nargs="+", default=["100000x512"], help="rows x dim (%(default)s)")
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA), help="(both)")
    parser.add_argument("--build-only", action="store_true", help="builds what --folder lacks, and ends")
    parser.add_argument("--kinds", nargs="+", help="of our indexes (what suits the shape)")
    parser.add_argument("--without", nargs="+", default=[], choices=RIVALS, help="leaves these out")
    parser.add_argument("--rounds", type=int, default=5, help="(%(default)s)")
    parser.add_argument("--folder", help="where to keep what is built, for the next run")
    parser.add_argument("--results", default=str(report.RESULTS), help="folder for search_approximate.json")
    return parser


class Case:
    """One crowd, and everybody who searches it."""

    def __init__(
        self, crowd: Crowd, place: Path, scratch: Path, kinds: Sequence[str], without: Sequence[str] = ()
    ) -> None:
        self.crowd, self.place, self.scratch = crowd, place, scratch
        self.shape, self.data = f"{crowd.count}x{crowd.dim}", "related" if crowd.related else "unrelated"
        self.queries = self.crowd.queries(QUERIES)
        self.gone = np.arange(0, self.crowd.subjects, GONE)
        each = self.crowd.each
        self.gone_numbers = (self.gone[:, None] * each + np.arange(each)).ravel()
        ours = [Ours(kind) for kind in kinds]
        self.contenders: list[Contender] = [*ours, *(Bare(one) for one in ours if one.kind != "exact")]
        self.skipped: dict[str, str] = {}
        for rival in (made() for made in RIVALS.values()):
            if rival.name in without:
                self.skipped[rival.name] = "--without"
                continue
            try:
                rival.load()
                self.contenders.append(rival)
            except ImportError as error:
                self.skipped[rival.name] = f"{error}: {PIP}"

    def build(self) -> dict[str, float]:
        """Builds what is not there yet: {name: seconds that it took}."""
        return {one.name: self._built(one) for one in self.contenders if not isinstance(one, Bare)}

    def run(self, rounds: int) -> dict[str, Any]:
        """Everything that goes into the JSON about it."""
        built = self.build()
        self.truth = self._truth(False)
        self.templates = self._templates()
        for one in self.contenders:
            one.open(self.crowd, self._copy(one))
        surveyed = {one.name: list(self._surveyed(one)) for one in self.contenders}
        raced = [turns for front in surveyed.values() for turns in worth_racing(front)]
        self._race(raced, rounds)
        load = round(os.getloadavg()[0], 1)
        curves = {name: [one.told() for one in raced if one.contender.name == name] for name in surveyed}
        best = {name: quickest(points) for name, points in curves.items()}
        return {
            "shape": self.shape,
            "data": self.data,
            "templates_asked_for": self.templates,
            "load": load,
            "rounds": rounds,
            "skipped": self.skipped,
            "versions": {one.name: {p: version(p) for p in one.packages} for one in self.contenders},
            "removes": {one.name: one.removes for one in self.contenders if hasattr(one, "removes")},
            "built_seconds": built,
            "curves": curves,
            "survey": {name: [one.told() for one in turns] for name, turns in surveyed.items()},
            "at_goal": best,
            "verdict": verdict(best),
            "after_removal": self._after_removal(raced, best, rounds),
        }

    # -- what is kept in the folder

    def _built(self, one: Contender) -> float:
        """Seconds that it took to build, now or in an earlier run."""
        folder = self.place / one.name.replace(",", "").replace(" ", "-")
        said = folder / "built.json"
        if not said.is_file():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            begun = time.perf_counter()
            one.make(self.crowd, folder)
            seconds = time.perf_counter() - begun
            said.write_text(json.dumps({"seconds": round(seconds, 1)}), encoding="utf-8")
            print(f"  {self.place.name} {one.name} built in {seconds:.0f} s", flush=True)
        return float(json.loads(said.read_text(encoding="utf-8"))["seconds"])

    def _copy(self, one: Contender) -> Path:
        """The folder to open: of a gallery a copy, as subjects will be removed from it."""
        folder = self.place / one.name.replace(",", "").replace(" ", "-")
        if not isinstance(one, Ours):
            return folder
        return Path(shutil.copytree(folder, self.scratch / "opened" / self.place.name / folder.name))

    def _truth(self, removed: bool) -> Whole:
        path = self.place / f"truth-{QUERIES}-{removed}.npy"
        if not path.is_file():
            true = truth(self.queries, self._blocks(removed), self.crowd.each, K)
            np.save(path, true, allow_pickle=False)
        return np.load(path)

    def _blocks(self, removed: bool) -> Iterator[tuple[Whole, Rows]]:
        for first, rows in self.crowd.blocks():
            numbers = np.arange(first, first + len(rows))
            left = ~np.isin(numbers, self.gone_numbers) if removed else slice(None)
            yield numbers[left], rows[left]

    def _templates(self) -> int:
        """How many templates an exact search has to give for the five nearest subjects."""
        path = self.place / f"templates-{QUERIES}.npy"
        if not path.is_file():
            numbers = truth(self.queries, self._blocks(False), 1, max(TEMPLATES))
            np.save(path, numbers // self.crowd.each, allow_pickle=False)
        owners = np.load(path)
        for templates in TEMPLATES:
            if recall(first_subjects(owners[:, :templates], K), self.truth) >= ENOUGH:
                return templates
        return max(TEMPLATES)

    # -- taking turns

    def _surveyed(self, one: Contender) -> Iterator[Turns]:
        for setting in one.settings():
            turns = self._turn(Turns(one, setting, 0.0))
            yield turns

    def _turn(self, turns: Turns) -> Turns:
        """One more turn; of the first one recall is kept."""
        turns.contender.look(turns.setting)
        begun = time.perf_counter()
        answer = turns.contender.ask(self.queries, self.templates)
        turns.seconds.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        found = self._subjects(turns.contender, answer)
        turns.picking.append(0.0 if isinstance(turns.contender, Ours) else time.perf_counter() - begun)
        turns.recall = recall(found, self.truth)
        return turns

    def _subjects(self, one: Contender, answer: Any) -> Whole:
        if not isinstance(one, Ours):
            return first_subjects(np.where(answer >= 0, answer // self.crowd.each, -1), K)
        found = np.full((len(answer), K), -1, np.int64)
        for row, identified in enumerate(answer):
            for at, candidate in enumerate(identified.candidates):
                found[row, at] = candidate.metadata["badge"]
        return found

    def _race(self, all_turns: list[Turns], rounds: int) -> None:
        for turns in all_turns:
            turns.seconds.clear()
            turns.picking.clear()
        for number in range(rounds):
            for turns in all_turns[:: -1 if number % 2 else 1]:
                self._turn(turns)

    def _after_removal(
        self, raced: list[Turns], best: dict[str, Any], rounds: int
    ) -> dict[str, dict[str, Any]]:
        self.truth = self._truth(True)
        again, seconds = [], {}
        for turns in raced:
            name = turns.contender.name
            if best[name] is None or turns.told() != best[name] or isinstance(turns.contender, Bare):
                continue
            begun = time.perf_counter()
            turns.contender.remove(self.gone.tolist(), self.gone_numbers)
            seconds[name] = time.perf_counter() - begun
            again.append(Turns(turns.contender, turns.setting, 0.0))
        self._race(again, rounds)
        gone = set(self.gone.tolist())
        told = {}
        for turns in again:
            found = self._subjects(turns.contender, turns.contender.ask(self.queries, self.templates))
            told[turns.contender.name] = turns.told() | {
                "removal_seconds": round(seconds[turns.contender.name], 3),
                "removed_found": len(gone.intersection(found.ravel().tolist())),
            }
        return told


def worth_racing(turns: list[Turns], around: int = 2) -> list[Turns]:
    """Of one contender those that nothing quicker finds as much as, a few on each side of the goal."""
    front: list[Turns] = []
    for one in sorted(turns, key=lambda one: one.seconds[0]):
        if not front or one.recall > front[-1].recall:
            front.append(one)
    below = [one for one in front if one.recall < GOAL][-around:]
    return below + [one for one in front if one.recall >= GOAL][:around]


def quickest(points: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The one with the most queries a second of those that reach the goal."""
    reached = [point for point in points if point["recall"] >= GOAL]
    return max(reached, key=lambda point: point["queries_a_second"], default=None)


def verdict(best: dict[str, dict[str, Any] | None]) -> dict[str, Any]:
    """Our best beside the best of the others."""
    speeds = {name: one["queries_a_second"] for name, one in best.items() if one is not None}
    ours = {name: speed for name, speed in speeds.items() if name.startswith("ours")}
    others = {name: speed for name, speed in speeds.items() if name not in ours}
    if not ours or not others:
        return {"ratio": None, "floor": FLOOR, "met": None}
    mine, other = max(ours, key=lambda name: ours[name]), max(others, key=lambda name: others[name])
    ratio = round(ours[mine] / others[other], 2)
    return {"ours": mine, "best_other": other, "ratio": ratio, "floor": FLOOR, "met": ratio >= FLOOR}


def table(case: dict[str, Any]) -> str:
    """One case for people."""
    lines = [
        f"{case['shape']} {case['data']}, load {case['load']}, "
        f"{case['templates_asked_for']} templates asked for"
    ]
    for name, one in case["at_goal"].items():
        after = case["after_removal"].get(name)
        said = "never" if one is None else f"{one['queries_a_second']:>8,.0f}/s at {one['recall']:.4f}"
        then = (
            ""
            if after is None
            else f"  after removals {after['queries_a_second']:>8,.0f}/s at {after['recall']:.4f}"
        )
        lines.append(f"  {name:34} {said}{then}")
    lines.append(f"  {case['verdict']}")
    lines += [f"  left out: {name}: {why}" for name, why in case["skipped"].items()]
    return "\n".join(lines)


def drawn(results: dict[str, Any], folder: Path = picture.DOCS) -> None:
    """A picture a shape: recall across, queries a second up."""
    for case in results["cases"]:
        series = {
            name: sorted((point["recall"], point["queries_a_second"]) for point in points)
            for name, points in case["curves"].items()
        }
        speeds = [speed for points in series.values() for share, speed in points if share >= 0.9]
        picture.saved(
            f"search_approximate_{case['shape']}_{case['data']}",
            picture.lines(
                f"{case['shape']}, {case['data']} subjects, 1,000 queries a call",
                series,
                Axis("recall@5 of subjects", 0.9, 1.0),
                Axis("queries a second", *picture.around(speeds), "log"),
            ),
            folder,
        )


if __name__ == "__main__":
    sys.exit(main())
