"""Every Siamese system, trained and measured here: `python -m benchmarks.accuracy [TASK...]`.

For each task and each fold an encoder is trained by `encoders.train` with the settings that stand in the
task's file, or several are and joined, and asked what it never saw; raw features are asked the same. Prints
one table and writes accuracy.json.
`--export FOLDER` writes the training sets as .npz instead, with the commands for each.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import encoders
from benchmarks import report, tasks
from benchmarks.tasks.base import Fold, rate
from encoders.datasets import LabelledSet
from encoders.shipped import find
from encoders.sound import samples_of


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the tasks named, or all; 1 when one fell below its floor."""
    arguments = _parser().parse_args(argv)
    names = arguments.tasks or list(tasks.NAMES)
    if arguments.export:
        for name in names:
            export(name, Path(arguments.export))
        return 0
    torch.set_num_threads(arguments.threads)
    for name in names:
        found = measure(name, Path(arguments.encoders) if arguments.encoders else None)
        results = _merged(name, found, Path(arguments.results))
        print(table({name: results[name]}), flush=True)
    print("\n" + table(results))
    return int(
        any(not found["floor_reached"] for name in names for found in results[name]["measures"].values())
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.accuracy", description=__doc__)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help="default: all")
    parser.add_argument("--encoders", metavar="FOLDER", help="keep the trained encoders, and use those there")
    parser.add_argument("--export", metavar="FOLDER", help="write training sets and commands, train nothing")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--results", default=str(report.RESULTS), help="folder for accuracy.json")
    return parser


def _merged(name: str, found: dict[str, Any], folder: Path) -> dict[str, Any]:
    """All results, one of them new, as they now stand in the file.

    The file is read only now, so that tasks can be measured alone, one after another or side by side.
    """
    there = (folder / "accuracy.json").is_file()
    known: dict[str, Any] = (report.read("accuracy", folder)["tasks"] if there else {}) | {name: found}
    results = {name: known[name] for name in tasks.NAMES if name in known}
    report.write("accuracy", {"tasks": results}, folder)
    return results


def measure(name: str, keep: Path | None = None) -> dict[str, Any]:
    """One task: the encoder of every fold, what it answers, and the raw features beside it."""
    task, took = tasks.task(name), []
    ours: dict[str, list[Any]] = {}
    raw: dict[str, list[Any]] = {}
    others: dict[str, dict[str, list[Any]]] = {}
    folds = task.folds()
    for fold in folds:
        check_disjoint(fold)
        encoder, history = trained(task, name, fold, keep)
        took.append(history)
        _collect(ours, task.score(encoder.encode, encoder.metric, fold))
        _collect(raw, task.score(*task.baseline(fold), fold))
        for words, more in getattr(task, "MORE", {}).items():
            _collect(others.setdefault(words, {}), more(fold))
    return {
        "title": task.TITLE,
        "protocol": task.PROTOCOL,
        "disjoint": task.UNIT,
        "folds": len(folds),
        "settings": _settings(task),
        "steps": took[0]["settings"]["steps"],
        "training_seconds": round(sum(one["seconds"] for one in took), 1),
        "training_cpu_seconds": _cpu_seconds(took),
        "raw_features": _first_line(task.baseline.__doc__),
        "measures": {key: _measured(task, key, ours, raw, others) for key in task.MEASURES},
    }


def _settings(task: Any) -> dict[str, Any]:
    """The settings of the training, and those that its members have of their own."""
    if not hasattr(task, "MEMBERS"):
        settings: dict[str, Any] = task.SETTINGS
        return settings
    return task.SETTINGS | {"members": task.MEMBERS, "weights": list(task.WEIGHTS)}


def _cpu_seconds(took: list[dict[str, Any]]) -> float | None:
    """Of all folds together; None for an encoder that was trained elsewhere."""
    return round(sum(one["cpu_seconds"] for one in took), 1) if "cpu_seconds" in took[0] else None


def _collect(into: dict[str, list[Any]], found: dict[str, Any]) -> None:
    for key, trials in found.items():
        into.setdefault(key, []).append(trials)


def _measured(task: Any, key: str, ours: Any, raw: Any, others: Any) -> dict[str, Any]:
    what, found = task.MEASURES[key], rate(ours[key])
    return {
        "words": what.words,
        "higher_is_better": what.higher,
        "ours": found,
        "raw": rate(raw[key]),
        "others": {words: rate(more[key]) for words, more in others.items()},
        "published": what.published,
        "floor": what.floor,
        "floor_reached": what.reached(found["value"]),
        "aim": what.aim,
    }


def check_disjoint(fold: Fold) -> None:
    """ValueError when a unit is in both training and test of a fold."""
    if both := fold.train_units & fold.test_units:
        raise ValueError(f"fold {fold.name}: {len(both)} units are in training and test: {sorted(both)[:3]}")


def trained(task: Any, name: str, fold: Fold, keep: Path | None) -> tuple[Any, dict[str, Any]]:
    """The encoder of one fold and what its training took: the shipped or a kept one, or trained now.

    Of a task with members they are trained or kept, and joined anew.
    """
    if shipped := getattr(task, "SHIPPED", None):
        return encoders.load(shipped, device="cpu"), past(find(shipped))
    with tempfile.TemporaryDirectory() as scratch:
        folder, runs, took = keep or Path(scratch), trainings(task, name, fold), []
        for stem, settings in runs.items():
            took.append(_train(fold, folder / f"{stem}.encoder", settings))
        made = [encoders.load(folder / f"{stem}.encoder", device="cpu") for stem in runs]
        whole = made[0] if len(made) == 1 else encoders.join(made, weights=task.WEIGHTS, device="cpu")
        return whole, together(took)


def _train(fold: Fold, place: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Trains the encoder where it is not kept; its history, and the CPU seconds that it took."""
    told = place.with_suffix(".json")  # beside it, the one thing that its history does not know
    if not told.is_file():
        begun = time.process_time()
        encoders.train(fold.train, output=place, device="cpu", progress=False, overwrite=True, **settings)
        told.write_text(json.dumps({"cpu_seconds": time.process_time() - begun}), encoding="utf-8")
    took: dict[str, Any] = json.loads(told.read_text(encoding="utf-8"))
    return past(place) | took


def trainings(task: Any, name: str, fold: Fold) -> dict[str, dict[str, Any]]:
    """The settings of every training of a fold, by the name that its encoder has without a suffix."""
    stem = _stem(name, fold)
    if not (members := getattr(task, "MEMBERS", None)):
        return {stem: task.SETTINGS}
    return {f"{stem}-{member}": task.SETTINGS | own for member, own in members.items()}


def _stem(name: str, fold: Fold) -> str:
    return f"{name}-{fold.name.replace(' ', '-')}"


def past(place: Path) -> dict[str, Any]:
    """What the history of an encoder tells; of one that was joined, all trainings together."""
    history: dict[str, Any] = json.loads((place / "history.json").read_text(encoding="utf-8"))
    return together(history.get("members", [history]))


def together(histories: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Steps and seconds of several trainings, and CPU seconds where all tell them."""
    told: dict[str, Any] = {
        "settings": {"steps": sum(one["settings"]["steps"] for one in histories)},
        "seconds": sum(one["seconds"] for one in histories),
    }
    if all("cpu_seconds" in one for one in histories):
        told["cpu_seconds"] = sum(one["cpu_seconds"] for one in histories)
    return told


def export(name: str, folder: Path) -> None:
    """Writes the training set of every fold and prints the commands that train on it."""
    task = tasks.task(name)
    folder.mkdir(parents=True, exist_ok=True)
    for fold in task.folds():
        np.savez_compressed(folder / f"{_stem(name, fold)}.npz", **arrays(fold.train))
        print(getattr(task, "TRAINED_BY", "\n".join(commands(task, name, fold))))


def commands(task: Any, name: str, fold: Fold) -> list[str]:
    """What trains the encoder of a fold on the command line, and joins it where it has members."""
    stem, runs = _stem(name, fold), trainings(task, name, fold)
    lines = [
        f"encoders train {stem}.npz --output {one}.encoder {command(settings)}"
        for one, settings in runs.items()
    ]
    if len(runs) > 1:
        members, weights = " ".join(f"{one}.encoder" for one in runs), " ".join(map(str, task.WEIGHTS))
        lines.append(f"encoders join {members} --output {stem}.encoder --weights {weights}")
    return lines


def arrays(data: LabelledSet) -> dict[str, Any]:
    """A set as the arrays that `encoders.datasets.from_npz` reads."""
    found: dict[str, Any] = {"labels": np.array(data.subjects)[data.labels]}
    if data.groups is not None:
        found["groups"] = np.array(data.group_names)[data.groups]
    first = data.items[0]
    if isinstance(data.items, np.ndarray):
        return found | {"vectors" if data.items.ndim == 2 else "images": data.items}
    if isinstance(first, str):
        return found | {"texts": np.array(data.items)}
    items, kind = list(data.items), "sequences"
    if isinstance(first, bytes):
        items = [samples_of(item, 0)[0] for item in data.items]
    if items[0].ndim == 1:
        kind = "recordings"
    return found | {kind: np.concatenate(items), "lengths": np.array([len(item) for item in items])}


def command(settings: dict[str, Any]) -> str:
    """The options of `encoders train` for these settings."""
    said = []
    for key, value in settings.items():
        told = f" '{json.dumps(value)}'" if isinstance(value, dict) else f" {value}"
        said.append(f"--{key.replace('_', '-')}{'' if value is True else told}")
    return " ".join(said)


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0]


def table(results: dict[str, Any]) -> str:
    """The results for people."""
    lines = [f"{'task':46} {'measure':34} {'ours':>24} {'raw features':>13} {'floor':>7}  published"]
    for found in results.values():
        for one in found["measures"].values():
            others = {words: other["value"] for words, other in one["others"].items()}
            beside = {**others, **one["published"]}
            told = "; ".join(f"{who} {100 * value:.4g}" for who, value in beside.items())
            floor = f"{100 * one['floor']:.4g}" if one["floor"] is not None else "-"
            lines.append(
                f"{found['title']:46} {one['words']:34} {_told(one['ours']):>24} "
                f"{100 * one['raw']['value']:13.1f} {floor:>7}  {told}"
            )
    return "\n".join(lines)


def _told(found: dict[str, Any]) -> str:
    return f"{100 * found['value']:.2f} [{100 * found['low']:.1f}, {100 * found['high']:.1f}]"


if __name__ == "__main__":
    sys.exit(main())
