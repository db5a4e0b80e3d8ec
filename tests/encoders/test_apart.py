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
    found = encoders.train(vectors(20, 0), validation=vectors(7, 1), **settings)
    assert capsys.readouterr().err.startswith(
        "20 subjects, 100 items (validated on 7 subjects, 35 items, perhaps the same ones: both sets number "
        "theirs); tower dense"
    )
    assert "both sets number their subjects, 7 alike" in str(found).splitlines()[-1]
    assert history.load(tmp_path / "v" / "history.json") == found
    card = shipped.card(tmp_path / "v")
    assert "On 7 validation subjects: EER" in card and ", where these are not those that it was" in card
    for text in (card, str(found).split("\n", 1)[1], found.save_plot(tmp_path / "h.html").read_text()):
        assert "7 held-out" not in text
    some = vectors(20, 0).take(np.arange(35))
    with pytest.raises(DatasetError, match=r"35 of the 35 items .*: 7 subjects \(0, 1, 2, 3, 4 and 2 more\)"):
        encoders.train(vectors(20, 0), validation=some, **settings)


@pytest.mark.parametrize("names", [[0, 2, 5], [0.0, 2.0, 5.0], ["00", "02", "05"]])
def test_numbers_may_have_gaps_and_be_floats(tmp_path: Path, names: list[Any]) -> None:
    other = vectors(3, 1)
    held = from_arrays(other.items, np.asarray(names)[other.labels])
    found = encoders.train(vectors(12, 0), output=tmp_path / "v", validation=held, steps=2, progress=False)
    assert "both sets number their subjects, 3 alike" in found.doubt


def test_numbers_of_a_register_are_names(tmp_path: Path) -> None:
    """Neither set counts its subjects: 10032 is 10032."""
    data, other = vectors(12, 0), vectors(3, 1)
    train = from_arrays(data.items, 10001 + 31 * data.labels)
    held = from_arrays(other.items, 10001 + 31 * other.labels)
    with pytest.raises(DatasetError, match=r"3 subjects \(10001, 10032, 10063\) are trained on and"):
        encoders.train(train, output=tmp_path / "v", validation=held, steps=2, progress=False)


@pytest.mark.parametrize("names", [np.arange(4), np.array(["w", "x", "y", "z"])])
def test_trained_items_under_other_names_are_refused(tmp_path: Path, names: Any) -> None:
    """The items of subjects 5 to 8, named anew: their EER of 0 % was that of held-out subjects."""
    data, others = vectors(20, 0), vectors(6, 1)
    held = from_arrays(data.items[25:45], names[data.labels[25:45] - 5])
    with pytest.raises(DatasetError, match=r"20 of the 20 items .* whatever their names: 4 subjects \("):
        encoders.train(data, output=tmp_path / "v", validation=held, steps=2, progress=False)
    both = np.concatenate([others.items, data.items[25:28]]), np.r_[others.labels + 100, [106] * 3]
    with pytest.raises(DatasetError, match=r"3 of the 33 items .*: 1 subject \(106\) is mostly made"):
        encoders.train(data, output=tmp_path / "v", validation=from_arrays(*both), steps=2, progress=False)


def test_equal_items_of_few_values_are_honest(tmp_path: Path) -> None:
    """Vectors of three bits are alike whoever they are of, trained or not; so are some texts."""
    rng = np.random.default_rng(0)
    bits = from_arrays(rng.integers(0, 2, (120, 3)), np.repeat(np.arange(20), 6))
    other = from_arrays(rng.integers(0, 2, (36, 3)), [f"o{n // 6}" for n in range(36)])
    found = encoders.train(bits, output=tmp_path / "v", validation=other, steps=2, progress=False)
    assert found.validations and found.doubt == ""
    texts = from_arrays([f"{a} {n}" for n in range(20) for a in ("ann", "anna", "an")], np.arange(60) // 3)
    held = from_arrays(["ann 1", "hans", "hanna", "ann 1", "otto", "ott"], list("aaabbb"))
    encoders.train(texts, output=tmp_path / "t", validation=held, steps=2, progress=False)


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
    assert str(found).splitlines()[1].startswith(f"kept: step {found.best['step']}, EER ")
    assert "one-shot" not in str(found)
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
