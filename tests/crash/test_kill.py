"""kill -9 at any moment: nothing acknowledged is lost, nothing is half done, and the gallery opens."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import gallery
from tests.crash.child import DIM, embedding

CHILD = Path(__file__).with_name("child.py")
ROOT = Path(__file__).resolve().parents[2]

Model = dict[str, int]
"""{id: how many templates}."""


def test_kill_short(tmp_path: Path) -> None:
    assert kill_again_and_again(tmp_path, times=50) > 50


@pytest.mark.slow
def test_kill_long(tmp_path: Path) -> None:
    assert kill_again_and_again(tmp_path, times=1000) > 1000


def kill_again_and_again(folder: Path, times: int) -> int:
    """Kills a child `times` times, comparing after each; how many operations were acknowledged."""
    chance = random.Random(1)
    expected: Model = {}
    acknowledged = 0
    for seed in range(times):
        location = folder / str(seed // 25)
        if seed % 25 == 0:
            expected = {}
        lines = killed_run(location, seed, chance.uniform(0.0, 0.25))
        done = [operation for word, operation in lines if word == "done"]
        acknowledged += len(done)
        for operation in done:
            expected = applied(expected, operation)
        unsure = lines[-1][1] if lines and lines[-1][0] == "begin" else None
        expected = agreed(location, expected, unsure, f"kill {seed}")
    return acknowledged


def killed_run(location: Path, seed: int, seconds: float) -> list[Any]:
    """What a child said until it was killed, some time after its first word."""
    child = subprocess.Popen(
        [sys.executable, CHILD, location, str(seed)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert child.stdout is not None
    first = child.stdout.readline()
    time.sleep(seconds)
    child.send_signal(signal.SIGKILL)
    rest = child.stdout.read()
    child.stdout.close()
    assert child.wait() == -signal.SIGKILL, "the child ended before it was killed"
    # A line that was cut off was not said.
    return [json.loads(line) for line in (first + rest).splitlines(keepends=True) if line.endswith(b"\n")]


def applied(model: Model, operation: list[Any]) -> Model:
    """The model after an operation."""
    after = dict(model)
    if operation[0] == "add":
        for id, count in operation[1].items():
            after[id] = after.get(id, 0) + count
    elif operation[0] == "remove":
        del after[operation[1]]
    else:
        after[operation[1]] -= len(operation[2])
        if after[operation[1]] == 0:
            del after[operation[1]]
    return after


def agreed(location: Path, expected: Model, unsure: list[Any] | None, when: str) -> Model:
    """The state found: what was acknowledged, with the last unacknowledged operation whole or not at all."""
    with gallery.open(location, gallery.Precomputed(DIM)) as people:
        found = {subject.id: subject.templates for subject in people.subjects()}
        possible = [expected] if unsure is None else [expected, applied(expected, unsure)]
        assert found in possible, f"{when}: {difference(expected, found)}, unsure of {unsure and unsure[0]}"
        assert people.check() == [], when
        for id in list(found)[:3]:
            answer = people.identify(embedding(id), threshold=0.0)
            assert [one.id for one in answer.candidates] == [id], when
    return found


def difference(expected: Model, found: Model) -> str:
    lost = {id: count for id, count in expected.items() if found.get(id) != count}
    extra = {id: count for id, count in found.items() if expected.get(id) != count}
    return f"expected {lost} where there is {extra}"
