"""What is trained on and what is validated on: no subject in both, and each counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import encoders
from encoders import history, shipped, validation
from encoders.datasets import LabelledSet, from_arrays
from encoders.errors import DatasetError
from tests.encoders.shapes import labelled
from tests.encoders.test_training import SMALL

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_validation_set_of_trained_subjects_is_refused(tmp_path: Path) -> None:
    held = labelled(15, 4, seed=3)
    held = held.take(np.arange(10 * 4, 60))
    with pytest.raises(DatasetError, match=r"2 subjects \(s10, s11\) are trained on and validated on"):
        encoders.train(labelled(12, 4), output=tmp_path / "v", validation=held, steps=4, **SMALL)
    assert list(tmp_path.iterdir()) == []


def vectors(subjects: int, seed: int, width: int = 16) -> LabelledSet:
    """Five vectors of each of so many subjects, which are only numbered, from 0."""
    rng, labels = np.random.default_rng(seed), np.repeat(np.arange(subjects), 5)
    centres = 3 * rng.normal(size=(subjects, width))[labels]
    return from_arrays(centres + 0.3 * rng.normal(size=centres.shape), labels)


def test_subjects_that_two_sets_only_count_are_others_unless_their_items_are_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings: dict[str, Any] = {"output": tmp_path / "v", "steps": 2, "overwrite": True}
    encoders.train(vectors(20, 0), validation=vectors(7, 1), **settings)
    assert capsys.readouterr().err.startswith(
        "20 subjects, 100 items (validated on 7 other subjects, 35 items, taken for others: both sets only "
        "count theirs); tower dense"
    )
    some = vectors(20, 0).take(np.arange(35))
    with pytest.raises(DatasetError, match=r"35 of the 35 items .*: 7 subjects \(0, 1, 2, 3, 4 and 2 more\)"):
        encoders.train(vectors(20, 0), validation=some, **settings)


def test_the_first_line_says_what_batches_are_made_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = np.r_[np.arange(30), np.repeat(np.arange(30, 50), 3)]
    data = from_arrays(np.random.default_rng(0).normal(size=(90, 4)), labels)
    encoders.train(data, output=tmp_path / "v", steps=1)
    assert capsys.readouterr().err.startswith(
        "50 subjects, 90 items (3 subjects held out), batches of the 17 with two items or more that are"
    )


def test_no_one_shot_error_is_told_where_no_episode_can_be_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each subject is a group of its own, as a shop that has one product: nothing to tell apart within it."""
    data, place = vectors(20, 0), tmp_path / "g.encoder"
    alone = from_arrays(data.items, data.labels, data.labels)
    found = encoders.train(alone, output=place, steps=2)
    assert [v["one_shot_error"] for v in found.validations] == [None, None]
    assert found.best is not None and found.best["eer"] < 0.5
    assert str(found).splitlines()[1].startswith(f"best by EER: step {found.best['step']}, EER ")
    assert history.load(place / "history.json") == found
    assert "one_shot_error" not in encoders.load(place).spec.facts["validation"]
    card = shipped.card(place)
    assert "On 3 held-out subjects: EER " in card
    page = found.save_plot(tmp_path / "h.html").read_text()
    for text in (card, page, str(found), capsys.readouterr().err):
        assert "EER" in text and "one-shot" not in text


def test_one_shot_error_of_a_perfect_encoder_is_0_or_unknown() -> None:
    data = vectors(6, 0)
    rows = np.eye(6, dtype=np.float32)[data.labels]
    for groups, error in ((None, 0.0), (data.labels, None)):
        grouped = from_arrays(rows, data.labels, groups)
        assert validation.validate(rows, grouped, "cosine", 0.01).one_shot_error == error
