"""Power cuts along a recorded run, each followed by a look at what is left."""

from __future__ import annotations

import random
import shutil
import traceback
from pathlib import Path
from typing import Any

from tests.crash import shim, verify
from tests.crash.disk import Disk, survival
from tests.crash.script import Said, Step, said
from tests.crash.shim import Operation

MODES = ("none", "some", "prefix", "some", "all", "some")

Cut = tuple[int, str, int]
"""(after how many lines of the trace, mode, seed)."""


def spread(total: int, states: int) -> list[Cut]:
    """Cuts after all of `total` lines, or evenly spread ones, so that each meets several modes in the end."""
    return sorted(
        (1 + number * total // states % total, MODES[number % len(MODES)], number) for number in range(states)
    )


def cuts(
    trace: str,
    root: str,
    into: str,
    wanted: list[Cut],
    script: list[Step] | None = None,
    before: str | None = None,
    spoken: Said | None = None,
    erased: bool = False,
) -> None:
    """Makes each cut and compares; AssertionError names those that do not agree.

    root: the folder that the trace is about; before: a copy of what was in it at the start; spoken: what was
    acknowledged before that.
    """
    recorded = shim.operations(Path(trace))
    disk = _disk(Path(root), before)
    wrong = []
    for after, mode, seed in wanted:
        while disk.happened < after:
            disk.replay(recorded[disk.happened])
        lines = (spoken or []) + said(bytes(disk.said))
        left = Path(into) / f"{after}-{mode}-{seed}"
        chance = random.Random(seed)
        left.mkdir(parents=True)
        try:
            disk.cut(left, survival(mode, disk, chance), chance)
            verify.agrees(left / "g", lines, script, erased=erased)
        except Exception:
            where = f"cut {after} ({mode}, seed {seed}) after {_described(recorded[after - 1])}"
            wrong.append(f"{where}: {traceback.format_exc(limit=-3, chain=False)}")
        shutil.rmtree(left)
    assert not wrong, f"{len(wrong)} of {len(wanted)} cuts:\n" + "\n".join(wrong[:5])


def leave(trace: str, root: str, into: str, cut: Cut) -> None:
    """Makes one cut and leaves it there."""
    recorded = shim.operations(Path(trace))
    disk = Disk(Path(root))
    after, mode, seed = cut
    for operation in recorded[:after]:
        disk.replay(operation)
    chance = random.Random(seed)
    disk.cut(Path(into), survival(mode, disk, chance), chance)


def _disk(root: Path, before: str | None) -> Disk:
    if before is None:
        return Disk(root)
    # The trace calls its folder by the name it had.
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(before, root)
    return Disk(root, found=True)


def _described(operation: Operation) -> str:
    return f"{operation.kind} of {Path(operation.path).name} {operation.data[:40]!r}"


def after_each_acknowledgement(recorded: list[Operation]) -> list[tuple[int, int]]:
    """(lines of the trace until then, steps done) at each step that was acknowledged."""
    found: list[tuple[int, int]] = []
    for line, operation in enumerate(recorded, 1):
        if operation.kind == "ack" and b'"done"' in operation.data:
            found.append((line, len(found) + 1))
    return found


def batches(wanted: list[Any], many: int) -> list[list[Any]]:
    """Equal parts, in order."""
    size = -(-len(wanted) // many)
    return [wanted[start : start + size] for start in range(0, len(wanted), size)]
