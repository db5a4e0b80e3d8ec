"""What benchmarks share that measure rounds on one set of embeddings after the other."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import report


def run(
    name: str,
    sets: Mapping[str, Callable[[], tuple[Any, Any]]],
    measured: Callable[[Any, Any, int], dict[str, Any]],
    said: Callable[[str, dict[str, Any]], str],
    argv: Sequence[str] | None,
) -> int:
    """Writes `<name>.json`; a set whose data is not there is skipped, and that is said.

    sets: {set: what loads (rows, owners)}. measured(rows, owners, rounds). said: a set's figures for people.
    """
    parser = argparse.ArgumentParser(f"python -m benchmarks.{name}")
    parser.add_argument("--rounds", type=int, default=50, help="rounds (%(default)s)")
    parser.add_argument("--output", default=str(report.RESULTS), help=f"folder for {name}.json")
    arguments = parser.parse_args(argv)
    results: dict[str, Any] = {"rounds": arguments.rounds, "sets": {}, "skipped": {}}
    for one, load in sets.items():
        try:
            rows, owners = load()
        except FileNotFoundError as error:
            results["skipped"][one] = f"{Path(error.filename or '').name} is not there"
            continue
        results["sets"][one] = measured(rows, owners, arguments.rounds)
        print(said(one, results["sets"][one]), flush=True)
    for one, why in results["skipped"].items():
        print(f"skipped: {one}: {why}")
    print(report.write(name, results, Path(arguments.output)).name)
    return 0
