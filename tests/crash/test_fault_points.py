"""Killed between every two file operations, and in the middle of every write."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest

from tests.crash import shim
from tests.crash.forge import Forges
from tests.crash.script import SCRIPT

NEVER_SYNCED = ("-shm", ".head")
"""Endings of the files that nothing depends on after a power cut."""

Point = tuple[int, str]
"""(number of an operation, "kill" before it or "tear" in the middle of it)."""


def counted(forges: Forges, memory: Path) -> list[tuple[int, shim.Operation]]:
    """(step, operation) of everything that the script does to the disk."""
    root = memory / "counted"
    root.mkdir()
    trace = memory / "trace"
    answer = forges.call(
        "tests.crash.script:run", root=str(root), environment=shim.settings(root, trace=trace)
    )
    assert answer["exit"] == 0, answer["error"]
    step, found = 0, []
    for operation in shim.operations(trace):
        if operation.kind == "ack":
            step = json.loads(operation.data)[1]
        elif operation.number:
            found.append((step, operation))
    shutil.rmtree(root)
    return found


def kind_of(step: int, operation: shim.Operation) -> tuple[str, str, str]:
    """The verb, what it does, and to which file of the folder."""
    path = Path(operation.path)
    return SCRIPT[step][0], operation.kind, path.suffix or path.name


def spread(operations: list[tuple[int, shim.Operation]], many: int) -> list[Point]:
    """One point for each verb, kind of operation and file, and others evenly between them."""
    first = {kind_of(*one): one[1] for one in operations}
    even = [operations[number * len(operations) // many][1] for number in range(many)]
    chosen = {one.number: one for one in [*first.values(), *even]}
    return [
        (number, "tear" if one.kind == "write" and len(one.data) > 1 and number % 2 else "kill")
        for number, one in sorted(chosen.items())
    ]


def all_points(operations: list[tuple[int, shim.Operation]]) -> list[Point]:
    kills = [(one.number, "kill") for _, one in operations]
    return kills + [(one.number, "tear") for _, one in operations if one.kind == "write"]


def killed(forges: Forges, memory: Path, points: list[Point], how: str = "") -> list[str]:
    """What was wrong after a kill at each point."""

    def kill(point: Point) -> str:
        number, action = point
        root = memory / f"{action}-{number}"
        root.mkdir()
        environment = shim.settings(root, at=number, action=action)
        ended = forges.call("tests.crash.script:run", root=str(root), environment=environment, how=how)
        # Two runs differ by a few operations, so one of the last points may lie behind the end.
        if ended["exit"] not in (-signal.SIGKILL, 0):
            return f"{point}: not killed, but {ended}"
        answer = forges.call("tests.crash.verify:crashed", root=str(root))
        shutil.rmtree(root)
        return f"{point}: {answer['error'] or answer['exit']}" if answer["exit"] else ""

    return [error for error in forges.each(kill, points) if error]


def test_killed_at_many_points(forges: Forges, memory: Path) -> None:
    operations = counted(forges, memory)
    points = spread(operations, 70)
    assert len(points) >= 100
    assert {SCRIPT[step][0] for step, one in operations if (one.number, "kill") in points} >= {
        verb for verb, *_ in SCRIPT if verb not in ("ask", "open")
    }
    wrong = killed(forges, memory, points)
    assert not wrong, f"{len(wrong)} of {len(points)} points:\n" + "\n".join(wrong[:5])


@pytest.mark.slow
def test_killed_at_every_point(forges: Forges, memory: Path) -> None:
    points = all_points(counted(forges, memory))
    assert len(points) > 1000
    wrong = killed(forges, memory, points)
    assert not wrong, f"{len(wrong)} of {len(points)} points:\n" + "\n".join(wrong[:5])


def test_a_commit_is_synced_before_it_is_acknowledged(forges: Forges, memory: Path) -> None:
    """Durability in its purest form; and that the file layer sees what SQLite and FAISS do at all."""
    root, trace = memory / "root", memory / "trace"
    root.mkdir()
    forges.call("tests.crash.script:run", root=str(root), environment=shim.settings(root, trace=trace))
    unsynced: set[str] = set()
    written: set[str] = set()
    for operation in shim.operations(trace):
        name = Path(operation.path).name
        if operation.kind == "ack":
            word, step = json.loads(operation.data)
            if word == "done" and SCRIPT[step][0] in ("enroll", "enroll_many", "remove", "remove_templates"):
                assert "catalog.sqlite-wal" in written, SCRIPT[step]
                assert not {file for file in unsynced if not file.endswith(NEVER_SYNCED)}, SCRIPT[step]
            written.clear()
        elif operation.kind == "write":
            written.add(name)
            unsynced.add(name)
        elif operation.kind == "sync":
            unsynced.discard(name)
    kinds = {(one.kind, Path(one.path).suffix) for one in shim.operations(trace)}
    assert {("write", ".sqlite"), ("sync", ".sqlite"), ("create", ".faiss"), ("write", ".faiss")} <= kinds
    assert {("sync", ".faiss"), ("unlink", ".faiss"), ("unlink", ".sqlite-wal")} <= kinds


def test_a_commit_in_two_halves_is_caught(forges: Forges, memory: Path) -> None:
    operations = [one for step, one in counted(forges, memory) if SCRIPT[step][0] == "enroll_many"]
    first = operations[0].number
    wrong = killed(forges, memory, [(first + number, "kill") for number in range(0, 24, 2)], how="split")
    assert any("in the middle of enroll_many" in error for error in wrong), wrong


def test_a_gallery_killed_again_and_again_at_its_first_steps(forges: Forges, memory: Path) -> None:
    """The same folder: what one killed creation left behind does not stop the next."""
    root = memory / "root"
    root.mkdir()
    for number in range(1, 40):
        (root / "ack").unlink(missing_ok=True)
        environment = shim.settings(root, at=number, action="kill")
        script = [("open",), ("close",)]
        ended = forges.call("tests.crash.script:run", root=str(root), environment=environment, script=script)
        assert ended["exit"] in (-signal.SIGKILL, 0), f"killed before {number}, then: {ended['error']}"
