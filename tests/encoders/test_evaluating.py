"""evaluate(): on sets, on lists of pairs, its page, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

import encoders
from encoders import deciding, evaluating, evaluation, pair_lists, resampling
from encoders.datasets import from_arrays
from encoders.errors import DatasetError
from tests.data import needs
from tests.encoders import made
from tests.encoders.shapes import labelled, picture


class Given:
    """An encoder whose items are their embeddings."""

    name, metric = "given", "euclidean"
    threshold: float | None = None

    def encode(self, items: Any) -> np.ndarray:
        return np.asarray(items, dtype=np.float32)


def blobs(subjects: int = 30, items: int = 6, spread: float = 0.5) -> Any:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(subjects), items)
    rows = rng.normal(size=(subjects, 4))[labels] + spread * rng.normal(size=(len(labels), 4))
    return from_arrays(rows.astype(np.float32), labels)


def test_every_figure_of_a_set() -> None:
    data = blobs()
    found = encoders.evaluate(Given(), data, fmr=0.01)
    mated, other = evaluation.comparisons(data.items, data.labels, "euclidean")
    assert (found.mated, found.non_mated, found.items, found.subjects) == (450, 15660, 180, 30)
    assert found.eer.value == pytest.approx(evaluation.eer(mated, other)[0])
    assert found.threshold == evaluation.threshold_at_fmr(other, 0.01)
    assert found.tar[0.01].value == pytest.approx(np.mean(mated <= found.threshold))
    assert list(found.tar) == [0.1, 0.01, 0.001]  # 15,660 comparisons say nothing about 0.0001
    assert list(found.few_shot) == ["5-way 1-shot", "5-way 5-shot", "20-way 1-shot", "20-way 5-shot"]
    rates = [found.eer, *found.tar.values(), *found.few_shot.values(), *found.recall.values(), found.map_at_r]
    assert found.fmr is not None and found.fnmr is not None
    assert (found.fmr.value, found.fmr.count) == (np.mean(other <= found.threshold), 15660)
    assert (found.fnmr.value, found.fnmr.count) == (np.mean(mated > found.threshold), 450)
    rates += [*found.cmc, found.fmr, found.fnmr]
    assert all(0 <= r.low <= r.value <= r.high <= 1 and r.high - r.low > 1e-4 for r in rates)
    assert found.few_shot["5-way 5-shot"].value > found.few_shot["20-way 1-shot"].value
    identified = [rate.value for rate in found.cmc]
    assert identified == sorted(identified) and len(identified) == 30 and identified[-1] == 1.0
    assert found.recall[1].value <= found.recall[10].value
    again = encoders.evaluate(Given(), data, fmr=0.01)
    assert again.to_json() == found.to_json()
    other_seed = encoders.evaluate(Given(), data, fmr=0.01, seed=1)
    assert other_seed.eer.value == found.eer.value and other_seed.eer != found.eer


def test_the_interval_is_about_subjects_and_covers_the_truth() -> None:
    """The EER of a large set lies within the intervals of most small ones drawn like it."""
    truth = encoders.evaluate(Given(), blobs(120, 6, 0.8)).eer.value
    rng, inside = np.random.default_rng(5), 0
    for _ in range(8):
        labels = np.repeat(np.arange(25), 6)
        rows = rng.normal(size=(25, 4))[labels] + 0.8 * rng.normal(size=(150, 4))
        found = encoders.evaluate(Given(), from_arrays(rows.astype(np.float32), labels)).eer
        inside += found.low <= truth <= found.high
    assert inside >= 6


def test_two_subjects_give_no_interval_and_say_so() -> None:
    """One pair of people, however often it is compared; the interval used to be of no width."""
    found = encoders.evaluate(Given(), blobs(2, 20, 0.3), fmr=0.1)
    rates = [found.eer, *found.tar.values(), *found.recall.values(), *found.cmc, found.fmr, found.fnmr]
    assert {(r.low, r.high) for r in rates if r is not None} == {(0.0, 1.0)}
    assert f"EER {found.eer.value:.2%} [no interval: too few subjects] of 780" in str(found)


def test_nothing_wrong_among_ten_subjects_is_no_proof() -> None:
    """0 of 10 is at most 30.8 % (Clopper and Pearson), however many items each of the ten has."""
    found = encoders.evaluate(Given(), blobs(10, 6, 0.001), fmr=0.01)
    assert found.fnmr is not None and found.fmr is not None
    most = 1 - 0.025 ** (1 / 10)
    for wrong in (found.eer, found.fnmr):
        assert (wrong.value, wrong.low, wrong.high) == (0.0, 0.0, pytest.approx(most))
    for right in (found.tar[0.1], found.recall[1], found.cmc[0], found.map_at_r):
        assert right is not None
        assert (right.value, right.low, right.high) == (1.0, pytest.approx(1 - most), 1.0)
    assert "identified at rank 1 100.00% [69.15%, 100.00%] of 60" in str(found)


def test_the_intervals_hold_nineteen_times_in_twenty_with_few_subjects() -> None:
    """Eight subjects with rates of their own: quantiles of the resamples hold 85 times in 100."""
    rng, inside = np.random.default_rng(2), 0
    about = np.repeat(np.arange(8), 20)
    for _ in range(200):
        wrong = rng.random(160) < rng.beta(0.4, 3.6, 8)[about]  # 10 % on average
        rate = resampling.mean(wrong.astype(np.float64), about, rng)
        inside += rate.low <= 0.1 <= rate.high
    assert inside / 200 >= 0.93


def test_errors_at_the_threshold_that_the_encoder_comes_with() -> None:
    data, encoder = blobs(), Given()
    assert encoders.evaluate(encoder, data).recommended is None
    encoder.threshold = 1.0
    found = encoders.evaluate(encoder, data)
    mated, other = evaluation.comparisons(data.items, data.labels, "euclidean")
    own = found.recommended
    assert own is not None and own.threshold == 1.0
    assert (own.fmr.value, own.fnmr.value) == (np.mean(other <= 1.0), np.mean(mated > 1.0))
    assert 0.005 < own.fmr.low < own.fmr.value < own.fmr.high < 0.05
    assert f"the encoder's own threshold 1.0000:\n  FMR {own.fmr}, FNMR {own.fnmr}" in str(found)
    assert found.to_json()["recommended"]["fnmr"]["value"] == own.fnmr.value


def test_a_threshold_is_not_rounded_before_it_is_decided_by() -> None:
    """float32(0.1) is above 0.1: a distance of that is beyond the threshold, as `verify` has it."""
    apart, same = np.float32([0.1, 0.2]), np.array([False, True])
    subjects = np.array([0, 0]), np.array([1, 0])
    at = deciding.decisions(0.1, apart, same, *subjects, np.random.default_rng(0))
    assert (at.fmr.value, at.fnmr.value) == (0.0, 1.0)


def test_errors_that_are_few_among_many_pairs_are_all_resampled() -> None:
    """Of 499,500 pairs 3 are wrong: a sample of 200,000 holds hardly any."""
    left, right = np.triu_indices(1000, 1)
    wrong = np.zeros(len(left), bool)
    wrong[[5, 70_000, 300_000]] = True
    rate = deciding._rate(wrong, left, right, np.random.default_rng(0))
    assert rate.value == 3 / 499_500 and 0 < rate.low < rate.value / 2 < rate.value * 2 < rate.high < 1e-4


def test_it_is_told_written_and_drawn(tmp_path: Path) -> None:
    found = encoders.evaluate(made.encoder(), labelled(12, 5))
    text = str(found)
    assert "made: 60 items of 12 subjects, 120 mated and 1,650 non-mated pairs" in text
    assert (
        "EER" in text
        and "identified at rank 1 " in text
        and "MAP@R" in text
        and "needs at least 3,000" in text
    )
    told = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert told["eer"]["value"] == found.eer.value and len(told["curve"]["fmr"]) <= 402
    page = found.save_page(tmp_path / "e.html").read_text()
    assert page.count("<svg") == 3 and "DET" in page
    for path in found.save_plots(tmp_path / "plots"):
        assert ElementTree.parse(path).getroot().tag.endswith("svg")


def pictures(place: Path) -> Path:
    for s in range(6):
        (place / f"p{s}").mkdir(parents=True)
        for k in range(1, 4):
            shaken = picture(s, np.random.default_rng(k))
            Image.fromarray(shaken).save(place / f"p{s}" / f"p{s}_{k:04d}.png")
    return place


LFW = (
    "2\t2\n"
    + "p0\t1\t2\np1\t1\t3\np0\t1\tp1\t2\np2\t1\tp3\t1\n"
    + "p4\t1\t2\np5\t1\t2\np4\t1\tp5\t1\np2\t1\tp4\t3\n"
)


def test_a_list_of_pairs_in_both_formats(tmp_path: Path) -> None:
    place = pictures(tmp_path / "faces")
    (tmp_path / "pairs.txt").write_text(LFW)
    listed = pair_lists.read(tmp_path / "pairs.txt", place)
    assert (
        listed.mated.tolist() == [True, True, False, False] * 2 and listed.fold.tolist() == [0] * 4 + [1] * 4
    )
    assert [listed.items[k].name for k in (listed.left[2], listed.right[2])] == ["p0_0001.png", "p1_0002.png"]
    rows = ["left,right,same,fold"]
    for left, right, same, fold in zip(listed.left, listed.right, listed.mated, listed.fold, strict=True):
        paths = (listed.items[k].relative_to(place) for k in (left, right))
        rows.append(f"{','.join(map(str, paths))},{int(same)},{fold}")
    (tmp_path / "pairs.csv").write_text("\n".join(rows))
    found = [encoders.evaluate(made.encoder(), place, pairs=tmp_path / n) for n in ("pairs.txt", "pairs.csv")]
    assert found[0].to_json() == found[1].to_json()
    assert (found[0].mated, found[0].non_mated, found[0].subjects) == (4, 4, 6)
    assert found[0].accuracy is not None and "2 folds" in found[0].accuracy_note and found[0].cmc == []
    encoder = made.encoder()
    left, right = encoder.encode([place / "p0/p0_0001.png"]), encoder.encode([place / "p0/p0_0002.png"])
    apart = evaluating._paired(left, right, "cosine")
    assert apart[0] == pytest.approx(1 - float(left[0] @ right[0]), abs=1e-6)


def test_accuracy_takes_its_threshold_from_the_other_folds() -> None:
    apart = np.float32([0.1, 0.2, 0.6, 0.7, 0.3, 0.4, 0.8, 0.9])
    listed = pair_lists.PairList(
        [Path(str(k)) for k in range(16)], [str(k) for k in range(16)], np.arange(8), np.arange(8, 16),
        np.array([True, True, False, False] * 2), np.repeat([0, 1], 4),
    )  # fmt: skip
    rng = np.random.default_rng(0)
    rate, note = evaluating._accuracy(apart, listed, listed.left, listed.right, rng)
    # At 0.2, as the first fold has it, the second one loses 0.3 and 0.4; the first one is right at 0.4.
    assert rate.value == 6 / 8 and note.startswith("2 folds")
    assert evaluating._best(apart[:4], listed.mated[:4]) == pytest.approx(0.2)
    assert evaluating._best(np.float32([0.5, 0.5, 0.1]), np.array([True, False, True])) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "left, right and same; it has none"),
        ("a,b\n1,2\n", "left, right and same; it has a, b"),
        ("left,right,same\nx,y,maybe\n", "row 2: same is 'maybe'"),
        ("left,right,same\nx,y,1\n", "2 of 2 files are not in .*: x, y"),
        ("10\nwhat is this\n", "no pair of LFW"),
        ("10\n", "holds no pairs"),
    ],
)
def test_lists_that_are_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "pairs").write_text(text)
    with pytest.raises(DatasetError, match=words):
        encoders.evaluate(Given(), tmp_path, pairs=tmp_path / "pairs")
    with pytest.raises(DatasetError, match="cannot be read as a list"):
        pair_lists.read(tmp_path / "none", tmp_path)
    with pytest.raises(DatasetError, match="about a folder"):
        encoders.evaluate(Given(), blobs(), pairs=tmp_path / "pairs")


def test_lfw_dev_test_is_read(tmp_path: Path) -> None:
    listed = needs("lfw3d_crop90", "pairsDevTest.txt").read_text().splitlines()
    for line in listed:
        words = line.split("\t")
        for who, n in ((words[0], words[1]), (words[-2] if len(words) == 4 else words[0], words[-1])):
            path = tmp_path / who / f"{who}_{int(n):04d}.jpg"
            path.parent.mkdir(exist_ok=True)
            path.touch()
    found = pair_lists.read(needs("lfw3d_crop90", "pairsDevTest.txt"), tmp_path)
    assert (len(found), int(found.mated.sum()), int(found.fold.max())) == (1000, 500, 0)


def test_what_cannot_be_read_is_left_out_where_that_is_said(tmp_path: Path) -> None:
    encoder, shake = made.encoder(), np.random.default_rng(1)
    for subject in range(6):
        folder = tmp_path / "set" / f"s{subject}"
        folder.mkdir(parents=True)
        for item in range(3):
            Image.fromarray(picture(subject, shake)).save(folder / f"{item}.png")
    bad = tmp_path / "set" / "s0" / "notes.txt"
    bad.write_text("no picture")
    with pytest.raises(DatasetError, match=r"1 of 19 .*--skip-unreadable") as told:
        encoders.evaluate(encoder, tmp_path / "set")
    assert str(told.value).count(str(bad)) == 1
    found = encoders.evaluate(encoder, tmp_path / "set", skip_unreadable=True)
    bad.unlink()
    assert (found.items, found.to_json()) == (18, encoders.evaluate(encoder, tmp_path / "set").to_json())
    with pytest.raises(DatasetError, match="labelled sets only"):
        encoders.evaluate(Given(), blobs(), skip_unreadable=True)


def test_unreadable_items_and_numbers_that_are_none() -> None:
    data = from_arrays([picture(0), b"", picture(1), b"x"], [0, 0, 1, 1])
    with pytest.raises(DatasetError, match="2 of 4 items cannot be read"):
        encoders.evaluate(made.encoder(), data)
    bad = blobs()
    bad.items[3] = np.nan
    with pytest.raises(DatasetError, match="NaN or infinity"):
        encoders.evaluate(Given(), bad)
