"""The power goes at any moment: what was acknowledged is on the disk, what was not is whole or absent."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.crash import power, shim
from tests.crash.forge import Forges
from tests.crash.script import SCRIPT, Step

CONTINUED: list[Step] = [
    ("open",),
    ("enroll", "ivan", 2, {"badge": 9}),
    ("remove", "carol"),
    ("enroll_many", {f"more-{number}": 1 for number in range(40)}),
    ("compact",),
    ("enroll", "judy", 1, None),
    ("close",),
]
"""What is done after a first power cut."""


def recorded(
    forges: Forges, root: Path, trace: Path, script: list[Step] | None = None, start: int = 0, how: str = ""
) -> list[shim.Operation]:
    """Runs a script to its end and returns what it did to the disk."""
    root.mkdir(exist_ok=True)
    environment = shim.settings(root, trace=trace)
    done = forges.call(
        "tests.crash.script:run",
        root=str(root),
        environment=environment,
        script=script,
        start=start,
        how=how,
    )
    assert done["exit"] == 0, done["error"]
    return shim.operations(trace)


def failures(forges: Forges, memory: Path, states: int, *, how: str = "", erased: bool = False) -> list[str]:
    """What was wrong after power cuts along the script."""
    root, trace = memory / "root", memory / "trace"
    total = len(recorded(forges, root, trace, how=how))

    def batch(cuts: list[power.Cut]) -> str:
        into = str(memory / f"cuts-{cuts[0][0]}-{cuts[0][2]}")
        answer = forges.call(
            "tests.crash.power:cuts", trace=str(trace), root=str(root), into=into, wanted=cuts, erased=erased
        )
        return str(answer["error"])

    wanted = power.spread(total, states)
    return [error for error in forges.each(batch, power.batches(wanted, 10)) if error]


def nothing_wrong(wrong: list[str]) -> None:
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("how", ["", "plain"])
def test_power_cut_short(forges: Forges, memory: Path, how: str) -> None:
    nothing_wrong(failures(forges, memory, 240, how=how))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["", "plain"])
def test_power_cut_long(forges: Forges, memory: Path, how: str) -> None:
    nothing_wrong(failures(forges, memory, 4000, how=how, erased=True))


def cut_twice(forges: Forges, memory: Path, first: int, states: int) -> list[str]:
    """Cuts the power of a gallery that goes on after a power cut."""
    root, trace = memory / "root", memory / "trace"
    moments = [
        (line, done)
        for line, done in power.after_each_acknowledgement(recorded(forges, root, trace))
        if SCRIPT[done - 1][0] not in ("ask", "close", "open")
    ]
    chosen = [moments[number * len(moments) // first] for number in range(first)]

    def again(which: tuple[int, tuple[int, int]]) -> str:
        number, (line, done) = which
        before, second = memory / f"before-{number}", memory / f"second-{number}"
        before.mkdir()
        cut = (line, power.MODES[number % 4], number)
        forges.call("tests.crash.power:leave", trace=str(trace), root=str(root), into=str(before), cut=cut)
        shutil.copytree(before, second)
        script = SCRIPT[:done] + [step for step in CONTINUED if step[1:2] != ("carol",) or done > 3]
        more = recorded(forges, second, memory / f"trace-{number}", script, done)
        answer = forges.call(
            "tests.crash.power:cuts",
            trace=str(memory / f"trace-{number}"),
            root=str(second),
            into=str(memory / f"cuts-{number}"),
            wanted=power.spread(len(more), states),
            script=script,
            before=str(before),
            spoken=[["done", step] for step in range(done)],
        )
        return f"after {cut}: {answer['error']}" if answer["error"] else ""

    return [error for error in forges.each(again, enumerate(chosen)) if error]


def test_a_second_power_cut_short(forges: Forges, memory: Path) -> None:
    nothing_wrong(cut_twice(forges, memory, first=6, states=25))


@pytest.mark.slow
def test_a_second_power_cut_long(forges: Forges, memory: Path) -> None:
    nothing_wrong(cut_twice(forges, memory, first=19, states=300))


@pytest.mark.parametrize("how", ["", "plain"])
def test_what_was_erased_stays_away_after_a_power_cut(forges: Forges, memory: Path, how: str) -> None:
    nothing_wrong(failures(forges, memory, 150, how=how, erased=True))


def test_what_was_erased_stays_away_right_after_it_was_acknowledged(forges: Forges, memory: Path) -> None:
    """Before anything else reaches the disk, and takes along what the erasure has not synced itself."""
    root, trace = memory / "root", memory / "trace"
    done = power.after_each_acknowledgement(recorded(forges, root, trace))
    moments = [line for line, step in done if SCRIPT[step - 1][0] in ("remove_erased", "compact")]
    assert len(moments) >= 3
    modes = ("none", "some", "some", "prefix")
    cuts = [
        (line + more, mode, seed) for line in moments for more in (0, 1) for seed, mode in enumerate(modes)
    ]
    answer = forges.call(
        "tests.crash.power:cuts",
        trace=str(trace),
        root=str(root),
        into=str(memory / "cuts"),
        wanted=cuts,
        erased=True,
    )
    nothing_wrong([answer["error"]] if answer["error"] else [])


def test_a_gallery_that_does_not_sync_is_caught(forges: Forges, memory: Path) -> None:
    wrong = failures(forges, memory, 60, how="careless")
    # Some commits are lost, or the catalog itself.
    for words in ("expected {", "there is no gallery at"):
        assert any(words in error for error in wrong), wrong
