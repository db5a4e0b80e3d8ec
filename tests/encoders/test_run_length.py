"""A run takes the minutes or the passes over the data that it was asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import encoders
from encoders import history, pacing, run, sampling, trainer, validation
from encoders.datasets import from_arrays
from tests.encoders.shapes import labelled
from tests.encoders.test_training import SMALL

pytestmark = pytest.mark.usefixtures("one_thread")


def test_epochs_give_steps(tmp_path: Path) -> None:
    found = encoders.train(labelled(), output=tmp_path / "e.encoder", epochs=2, **SMALL)
    assert found.settings["steps"] == round(2 * 80 / 24)


@pytest.mark.parametrize(
    ("subjects", "items", "steps", "real"), [(64, 4, 30, 8), (1000, 2, 60, 8), (4, 4, 60, 4)]
)
def test_epochs_are_passes_with_the_batches_that_are_drawn(
    tmp_path: Path, subjects: int, items: int, steps: int, real: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 10 subjects with 6 items and 20 with one, 2 of the 10 are held out: a pass is over 48 items."""
    drawn, draw = [], sampling.PKSampler.draw

    def noted(self: sampling.PKSampler) -> Any:
        drawn.append(len(found := draw(self)))
        return found

    monkeypatch.setattr(sampling.PKSampler, "draw", noted)
    labels = np.r_[np.repeat(np.arange(10), 6), np.arange(10, 30)]
    data = from_arrays(np.random.default_rng(0).normal(size=(80, 4)), labels)
    found = encoders.train(
        data, output=tmp_path / "e", epochs=20, holdout=0.2, subjects=subjects, items=items,
        patience=0, progress=False,
    )  # fmt: skip
    assert (found.settings["steps"], found.settings["subjects"]) == (steps, real)
    assert set(drawn) == {real * items} and sum(drawn) == 20 * 48


def by_a_clock(monkeypatch: pytest.MonkeyPatch, cost: Callable[[int], float]) -> list[float]:
    """Trainings tell the time by the number in the list; a step adds what it costs after so many others."""
    now, step = [0.0], trainer.Trainer.step

    def costly(self: trainer.Trainer) -> float:
        now[0] += cost(self.done)
        return step(self)

    monkeypatch.setattr(trainer.Trainer, "step", costly)
    monkeypatch.setattr(pacing.measured, "__defaults__", (lambda: now[0],))
    monkeypatch.setattr(run.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(run.time, "monotonic", lambda: now[0])
    return now


def test_minutes_pay_for_validations_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock on which a step takes 1 s and a validation 20: of 10 minutes half goes to validations."""
    now, check = by_a_clock(monkeypatch, lambda _: 1.0), run.measure

    def slow_check(*given: Any) -> validation.Validation:
        now[0] += 20.0
        return check(*given)

    monkeypatch.setattr(run, "measure", slow_check)
    found = encoders.train(labelled(), output=tmp_path / "m", minutes=10, patience=0, **SMALL)
    assert len(found.validations) in (11, 12) and 240 <= found.settings["steps"] <= 280
    assert 500 < found.seconds <= 600 and found.stopped is None


def test_a_run_that_gets_slower_ends_within_its_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_a_clock(monkeypatch, lambda done: 1.0 if done < 20 else 4.0)
    found = encoders.train(labelled(), output=tmp_path / "m", minutes=2, patience=0, **SMALL)
    assert found.settings["steps"] == 102 and found.stopped is not None and 30 < found.stopped < 50
    assert 112 < found.seconds <= 120 and found.validations[-1]["step"] == found.stopped
    assert "ended early: the next step would not have fitted into 2 minutes" in str(found)
    assert history.load(tmp_path / "m" / "history.json") == found


@pytest.mark.parametrize(
    ("slow", "seconds", "steps", "found"), [(0.7, 6, 1, 0.7), (0.7, 30, 3, 0.7), (0.1, 30, 12, 0.1)]
)
def test_slow_steps_are_measured_fewer(slow: float, seconds: float, steps: int, found: float) -> None:
    """Twelve steps of 0.7 s took longer than the 6 s that were asked for. The first step is slower."""
    now, done = [0.0], []

    def step() -> None:
        done.append(0)
        now[0] += slow if len(done) > 1 or steps == 1 else 1.5 * slow

    pace = pacing.measured(step, lambda: None, seconds, lambda: now[0])
    assert len(done) == steps and pace.step == pytest.approx(found)


def test_minutes_hold_for_slow_steps_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_a_clock(monkeypatch, lambda _: 0.7)
    found = encoders.train(labelled(), output=tmp_path / "m", minutes=0.1, patience=0, **SMALL)
    assert 4.5 < found.seconds <= 6.0


def test_what_fits_into_a_time() -> None:
    pace = pacing.Pace(step=0.5, validation=1.0)
    assert pacing.planned(100.0, pace, None) == (146, 8)  # 95 s, less 20 + 2 validations
    assert pacing.planned(100.0, pace, 2) == (93, 2)
    assert pacing.planned(1.0, pace, None) == (1, 1)
    assert pacing.planned(10.0, pacing.Pace(0.5, 0.0), None) == (19, 1)
