"""Which weights a run keeps and when it ends early: only differences beyond chance count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

import encoders
from encoders import choosing, evaluation, history, run, trainer
from encoders.validation import Validation
from tests.encoders.shapes import labelled

SMALL: dict[str, Any] = {
    "tower_args": {"widths": [8, 16]}, "preprocess": {"kind": "ink", "size": 24}, "dim": 16,
    "subjects": 8, "items": 3, "progress": False,
}  # fmt: skip
pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_parts_of_subjects_are_those_of_a_plain_double_loop() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([5, 2, 9, 4], 4)
    rows = (rng.normal(size=(16, 3)) + labels[:, None] / 3).astype(np.float32)
    rate, at = evaluation.eer(*evaluation.comparisons(rows, labels, "euclidean"))
    fnmr, fmr = [], []
    for subject in np.unique(labels):
        own: list[bool] = []
        other: list[bool] = []
        for i in np.flatnonzero(labels == subject):
            for j in range(len(labels)):
                accepted = bool(np.linalg.norm(rows[i] - rows[j]) <= at + 1e-5)
                if j != i:
                    (own if labels[j] == subject else other).append(accepted)
        fnmr.append(1 - np.mean(own))
        fmr.append(np.mean(other))
    parts = choosing.by_subject(evaluation.distances(rows, rows, "euclidean"), labels, at)
    assert parts == pytest.approx([a / 2 + b - np.mean(fmr) / 2 for a, b in zip(fnmr, fmr, strict=True)])
    assert parts.mean() == pytest.approx(rate) and 0.05 < rate < 0.5


@pytest.mark.parametrize(
    ("one", "other", "mated", "differ"),
    [
        # The documentation's shapes, 3 held-out subjects: EER 2.04 % at step 15, 6.57 % at the end.
        ([0.01, 0.02, 0.031], [0.03, 0.05, 0.117], 45, False),
        ([0.0, 0.0, 0.0], [1 / 30, 1 / 30, 1 / 30], 45, False),  # a pair of each: all say the same
        ([0.01, 0.02, 0.03], [0.45, 0.50, 0.48], 45, True),  # a collapse shows with three
        ([0.01, 0.02], [0.40, 0.50], 30, False),  # not with two
        ([0.1], [0.5], 15, False),
        ([0.10] * 20, [0.08] * 20, 400, False),  # it is worse
        ([0.10, 0.11] * 100, [0.12, 0.12] * 100, 400, True),
        ([0.0, 0.2] * 100, [0.2, 0.01] * 100, 400, False),
    ],
)
def test_what_is_better_beyond_chance(one: list[float], other: list[float], mated: int, differ: bool) -> None:
    assert choosing.better(np.array(one), np.array(other), mated) is differ


@pytest.mark.parametrize("subjects", [3, 7, 40])
def test_equally_good_ones_differ_once_in_a_hundred_times(subjects: int) -> None:
    rng = np.random.default_rng(1)
    found = [
        [choosing.better(*rng.normal(0.1, 0.02, (2, subjects)), 10**6, chance) for chance in (0, 1)]
        for _ in range(4000)
    ]
    choice, single = np.mean(found, axis=0)
    assert 0.006 < choice < 0.015 and 0.04 < single < 0.06


def entry(step: int, eer: float, worse: bool = False, one_shot: float = 0.1) -> dict[str, float]:
    return {"step": step, "eer": eer, "one_shot_error": one_shot, "worse": worse}


def test_the_last_is_kept_unless_an_earlier_one_was_better_beyond_chance() -> None:
    early, late = entry(15, 0.0204), entry(300, 0.0657)
    assert choosing.kept([early, late], early) is late
    assert choosing.kept([early, late | {"worse": True}], early) is early
    old = {"step": 300, "eer": 0.05, "one_shot_error": 0.1}  # of a run that an older version began
    assert choosing.kept([early, old], early) is old


def test_a_beginning_must_be_beaten() -> None:
    begun, early = entry(0, 0.05), entry(5, 0.04)
    for last, chosen in ((entry(9, 0.05), early), (entry(9, 0.06), early), (entry(9, 0.045), None)):
        assert choosing.kept([begun, early, last], early) is (chosen or last)
    assert choosing.kept([begun, entry(5, 0.05), entry(9, 0.05)], begun) is begun
    assert choosing.kept([begun, finer := entry(9, 0.05, one_shot=0.09)], finer) is finer
    assert choosing.is_best(entry(5, 0.05), entry(4, 0.05)) and not choosing.is_best(entry(5, 0.05), begun)


def test_when_a_run_is_given_up() -> None:
    def given_up(*eers: float, patience: int = 3, steps: int = 100, worse: bool = True) -> bool:
        found = [entry(5 * k + 5, eer, worse and k > 0) for k, eer in enumerate(eers)]
        return choosing.given_up(found, steps, patience)

    assert not given_up(0.0, *[0.2] * 8), "45 of 100 steps: the half is not over"
    assert given_up(0.0, *[0.2] * 9)
    assert not given_up(0.0, *[0.2] * 9, worse=False), "0.00 % cannot be beaten, but these may be as good"
    assert not given_up(0.0, *[0.2] * 7, 0.19, 0.18), "it is on its way back"
    assert not given_up(0.0, *[0.2] * 9, patience=0) and not given_up(0.0, *[0.2] * 9, patience=11)
    assert given_up(0.0, *[0.2] * 9, patience=9)
    assert not choosing.given_up([entry(k, 0.2, True) for k in range(1, 4)], 4000, 3), "within the rise"


MADE = np.linspace(-0.01, 0.01, 10)


def made(eers: dict[int, float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Validations of 10 subjects, by step, with the error rates `eers`; the last one given goes on."""
    done = {"step": 0}
    step = trainer.Trainer.step

    def counting(self: trainer.Trainer) -> float:
        done["step"] = self.done + 1
        return step(self)

    def measure(*_: Any) -> Validation:
        eer = eers[max(k for k in eers if k <= done["step"])]
        errors = eer + MADE * (1 if done["step"] % 4 else -1)
        return Validation(eer, 0.1, 0.3, 0.0, 0.5, 10, 150, 1620, errors)

    monkeypatch.setattr(trainer.Trainer, "step", counting)
    monkeypatch.setattr(run, "measure", measure)


def weights_after(step: int, place: Path, **settings: Any) -> dict[str, Any]:
    """The averaged weights of a run of `SMALL` after `step` of its steps, where a made-up best is."""
    with pytest.MonkeyPatch.context() as patch:
        made({0: 0.3, step: 0.0, step + 1: 0.3}, patch)
        encoders.train(labelled(20, 6), output=place, **(SMALL | settings))
    return load_file(place / "weights.safetensors")


def same(one: dict[str, Any], two: dict[str, Any]) -> bool:
    return one.keys() == two.keys() and all(bool((one[k] == two[k]).all()) for k in one)


def test_a_lucky_early_validation_does_not_throw_the_run_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"steps": 12, "validate_every": 2, "holdout": 0.5}
    early = weights_after(4, tmp_path / "early", **settings)
    end = weights_after(12, tmp_path / "end", **settings)
    assert not same(early, end)
    made({0: 0.055, 4: 0.05, 5: 0.055}, monkeypatch)
    found = encoders.train(labelled(20, 6), output=tmp_path / "noise", **(SMALL | settings))
    assert found.best is not None and found.best["step"] == 12 and found.stopped is None
    assert same(load_file(tmp_path / "noise" / "weights.safetensors"), end)
    assert "kept: step 12, EER 5.50%" in str(found)
    assert "the last; step 4 (EER 5.00%, one-shot error 10.00%) is not better beyond chance" in str(found)
    made({0: 0.3, 4: 0.05, 5: 0.3}, monkeypatch)
    found = encoders.train(labelled(20, 6), output=tmp_path / "worse", **(SMALL | settings))
    assert found.best is not None and found.best["step"] == 4
    assert same(load_file(tmp_path / "worse" / "weights.safetensors"), early)
    assert "kept: step 4" in str(found) and "step 12 (EER 30.00%), is worse beyond chance" in str(found)


class Killed(BaseException):
    """Stands for the kill."""


def test_a_run_that_gets_worse_ends_early_also_when_it_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SMALL | {"steps": 30, "validate_every": 2, "patience": 3, "holdout": 0.5}
    made({0: 0.3, 4: 0.05, 5: 0.3}, monkeypatch)
    whole = encoders.train(labelled(20, 6), output=tmp_path / "whole", **settings)
    assert whole.stopped == 16, "three in a row at step 10, the half of the schedule at 15"
    assert "ended early: 3 validations beyond chance worse" in str(whole)
    assert history.load(tmp_path / "whole" / "history.json") == whole
    step = trainer.Trainer.step

    def dying(self: trainer.Trainer) -> float:
        if self.done == 7:
            raise Killed
        return step(self)

    monkeypatch.setattr(run, "SAVE_SECONDS", 0.0)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(trainer.Trainer, "step", dying)
        encoders.train(labelled(20, 6), output=tmp_path / "cut", **settings)
    again = encoders.train(labelled(20, 6), output=tmp_path / "cut", resume=True, **settings)
    assert (again.stopped, again.best, again.learnt) == (16, whole.best, whole.learnt)
    assert again.validations == whole.validations
    assert same(*(load_file(tmp_path / n / "weights.safetensors") for n in ("whole", "cut")))


def test_a_run_that_learns_nothing_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    still = SMALL | {"steps": 6, "validate_every": 2, "lr": 1e-8, "augment": "none"}
    found = encoders.train(labelled(20, 6), output=tmp_path / "few", **still)
    assert found.learnt is False
    assert "3 held-out subjects are too few to tell it from step 2 (EER " in str(found)
    found = encoders.train(labelled(20, 6), output=tmp_path / "more", holdout=0.5, **still)
    eer = f"{found.validations[0]['eer']:.2%}"
    assert f"no better beyond chance than step 2 (EER {eer}) for the 10 held-out subjects: try" in str(found)
    made({0: 0.9}, monkeypatch)
    found = encoders.train(labelled(20, 6), output=tmp_path / "learns", holdout=0.5, **still)
    assert found.learnt is True and "no better beyond chance" not in str(found)
