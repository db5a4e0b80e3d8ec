"""evaluate(): on sets, on lists of pairs, its page, and what it refuses."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import encoders
from encoders import deciding, evaluating, evaluation, mistakes, pair_lists, resampling
from encoders.datasets import from_arrays
from encoders.errors import DatasetError, EncodeError, EncoderError
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


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_figures_of_rows_of_any_length_and_anywhere(metric: str) -> None:
    data, encoder = blobs(20), Given()
    encoder.metric = metric
    rng = np.random.default_rng(1)
    if metric == "cosine":
        moved = data.items * rng.uniform(0.1, 10, (len(data), 1)).astype(np.float32)
    else:
        moved = np.float32(np.round(data.items, 2)) + np.float32(4096)
    want = encoders.evaluate(encoder, data).to_json()
    found = encoders.evaluate(encoder, from_arrays(moved, data.labels)).to_json()
    for name in ("eer", "recall", "map_at_r", "few_shot", "cmc"):
        if metric == "cosine":
            assert found[name] == want[name]
    assert found["eer"]["value"] == pytest.approx(want["eer"]["value"], abs=2e-3)
    assert found["threshold"] == pytest.approx(want["threshold"], rel=0.03)
    assert found["recall"]["1"]["value"] == pytest.approx(want["recall"]["1"]["value"], abs=0.02)
    encoder.metric = "dot"
    with pytest.raises(EncoderError, match="metric is 'dot': it must be one of cosine, euclidean"):
        encoders.evaluate(encoder, data)


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
    assert page.count("<svg") == 3 and "DET" in page and "default-src 'none'" in page
    rows = re.findall(r"<tr><th>([^<]*)</th><td>(.*?)</td><td>(.*?)</td><td>(.*?)</td>", page)
    told = {name: (words, value, between) for name, words, value, between in rows}
    assert set(told) >= {
        "EER",
        "TAR at FAR 10%",
        "identified at rank 1",
        "recall@10",
        "MAP@R",
        "5-way 1-shot",
    }
    assert all(len(words) > 20 for words, *_ in told.values())
    assert told["EER"][1:] == (evaluation.share(found.eer.value), found.eer.between)
    raw = Given()
    raw.name = "M\udcfcller"  # a file's name that is not UTF-8
    assert (
        "Evaluation of M\\xfcller<"
        in encoders.evaluate(raw, blobs()).save_page(tmp_path / "m.html").read_text()
    )
    for path in found.save_plots(tmp_path / "plots"):
        assert ElementTree.parse(path).getroot().tag.endswith("svg")


def test_the_worst_mistakes_are_shown_as_the_encoder_sees_them(tmp_path: Path) -> None:
    encoder = made.encoder()
    encoder.threshold = 0.0  # everything that differs is rejected
    rows = np.random.default_rng(0).normal(size=(12, encoder.dim)).astype(np.float32)
    rows[5] = rows[2]  # and these two, of subjects 0 and 1, are accepted
    encoder.encode_prepared = lambda items: rows[: len(list(items))]  # type: ignore[method-assign]
    data = labelled(4, 3)
    found = encoders.evaluate(encoder, data)
    assert [one["mated"] for one in found.mistakes] == [True] * 4 + [False]
    assert found.mistakes_at == 0.0 and found.mistakes[-1]["distance"] == 0.0
    assert [found.mistakes[-1][side]["item"] for side in ("left", "right")] == ["item 2", "item 5"]
    page = found.save_page(tmp_path / "e.html").read_text()
    assert page.count("<img") == 10 and "12 of 12 mated pairs lie farther apart than 0.0000" in page
    assert "1 of 54 non-mated ones do not" in page
    assert "pictures" not in found.to_json() and found.to_json()["mistakes"] == found.mistakes


def test_items_that_are_no_pictures_are_shown_as_what_they_are(tmp_path: Path) -> None:
    data, encoder = blobs(3, 4, 2.0), Given()
    page = encoders.evaluate(encoder, data, fmr=0.1).save_page(tmp_path / "e.html").read_text()
    assert "<img" not in page and "item 0" in page
    assert [mistakes.pictures.shown(None, item) for item in ("a" * 9999, 3, np.ones(4))] == [
        f"<span class='text'>{'a' * 160}</span>", "", ""
    ]  # fmt: skip
    assert mistakes.pictures.shown(None, Image.new("RGB", (200, 100))).startswith("<img alt='' src='data:")


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
    apart = evaluation.paired_distances(left, right, "cosine")
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
    nearest = np.array([False, False, True])  # to accept nothing is right twice, the best threshold once
    assert evaluating._best(np.float32([0.1, 0.2, 0.3]), nearest) == pytest.approx(0.1)
    assert evaluating._best(np.float32([0.1, 0.2, 0.3]), nearest) < np.float32(0.1)
    assert evaluating._best(np.float32([0.5, 0.5, 0.1]), np.array([True, False, True])) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "left, right and same; it has none"),
        ("a,b\n1,2\n", "left, right and same; it has a, b"),
        ("left,right,same\nx,y,maybe\n", "line 2: same is 'maybe'"),
        ("left,right,same\nx,y,1\n", r"2 of 2 files are not in .*: x \(line 2\), y \(line 2\)$"),
        ("left,right,same\n\nx,y,1\n", r"x \(line 3\)"),
        ("left,right,same,fold\nx,y,1,0\nx,z,1,a\n", "line 3: fold is 'a': it must be a whole number"),
        ("left,right,same,fold\nx,y,1,1.5\n", "line 2: fold is '1.5'"),
        ("left,right,same,fold\nx,y,1,\n", "line 2: fold is ''"),
        ("left,right,same\nx,y,1\nx\n", "line 3 has 1 cells, not 3"),
        ("left,right,same\nx,y,1,9\n", "line 2 has 4 cells, not 3"),
        ("left,right,same,fold,note\nx,y,1\n", "line 2 has 3 cells, not 5"),
        ("left,right,same,fold\nx,y,1,--1\n", "line 2: fold is '--1'"),
        ("left,right,same\nx,y,1\n,y,0\n", "line 3: left is empty"),
        ("left,right,same\nx,y,1\nx,x,1\n", "line 3: x is compared with itself"),
        ("left,right,same\nx,y,1\ny,x,0\n", "lines 2 and 3: y and x are of one subject in one"),
        ('left,right,same\nx,"' + "y" * 140_000, "row 2 is not a whole row .* line 2 on .unexpected end"),
        ("10\nwhat is this\n", "line 2: 'what is this' is no pair of LFW"),
        ("1\np0 1 2\np0 1 2 3 4\n", "line 3: 'p0 1 2 3 4' is no pair of LFW"),
        ("1\np0 1 2\np0 1 p1 -2\n", "line 3: 'p0 1 p1 -2' is no pair of LFW"),
        ("1\np0 1 2\np0\n", "line 3: 'p0' is no pair of LFW"),
        ("1\np0 1 2\np0 1 p0 2\n", "line 3: 'p0 1 p0 2' is of one person: write 'p0 1 2'"),
        ("0\np0 1 2\n", "line 1: '0' must be the number of folds and of mated pairs in each, 1 or more"),
        ("2\t0\np0 1 2\n", r"line 1: '2\\t0' must be the number"),
        ("2 1\np0 1 2\np0 1 p1 1\n", "line 1: '2 1' announces 4 pairs, and 2 follow"),
        ("10\n", "holds no pairs"),
    ],
)
def test_lists_that_are_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "pairs").write_text(text)
    with pytest.raises(DatasetError, match=words):
        encoders.evaluate(Given(), tmp_path, pairs=tmp_path / "pairs")
    with pytest.raises(DatasetError, match="none cannot be read: No such file"):
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


def adapter() -> Any:
    """An adapter: it reads its own items, and is no SiameseEncoder."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = nn.Sequential(nn.Conv2d(1, 8, 5), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    return encoders.from_module(
        layers, {"kind": "grey", "height": 24, "width": 24}, name="theirs", device="cpu"
    )


@pytest.mark.parametrize("make", [made.encoder, adapter])
def test_what_cannot_be_read_is_left_out_where_that_is_said(tmp_path: Path, make: Any) -> None:
    encoder, shake = make(), np.random.default_rng(1)
    for subject in range(6):
        folder = tmp_path / "set" / f"s{subject}"
        folder.mkdir(parents=True)
        for item in range(3):
            Image.fromarray(picture(subject, shake)).save(folder / f"{item}.png")
    bad = [tmp_path / "set" / "s0" / "notes.txt", tmp_path / "set" / "s3" / "0.empty"]
    for file in bad:
        file.write_text("no picture")
    with pytest.raises(DatasetError, match=r"2 of 20 .*--skip-unreadable") as told:
        encoders.evaluate(encoder, tmp_path / "set")
    assert [str(told.value).count(str(file)) for file in bad] == [1, 1]
    found = encoders.evaluate(encoder, tmp_path / "set", skip_unreadable=True)
    for file in bad:
        file.unlink()
    assert (found.items, found.to_json()) == (18, encoders.evaluate(encoder, tmp_path / "set").to_json())


@pytest.mark.parametrize("make", [made.encoder, adapter])
def test_pairs_of_what_cannot_be_read(tmp_path: Path, make: Any) -> None:
    place = pictures(tmp_path / "faces")
    (tmp_path / "pairs.txt").write_text(LFW)
    whole = encoders.evaluate(make(), place, pairs=tmp_path / "pairs.txt", skip_unreadable=True)
    assert (whole.mated, whole.non_mated) == (4, 4) and "left out" not in str(whole)
    bad = place / "p4" / "p4_0001.png"  # in the third mated and in the third non-mated pair
    bad.write_bytes(b"no picture")
    with pytest.raises(DatasetError, match="1 of 12 items cannot be read") as told:
        encoders.evaluate(make(), place, pairs=tmp_path / "pairs.txt")
    assert str(told.value).count(str(bad)) == 1
    found = encoders.evaluate(make(), place, pairs=tmp_path / "pairs.txt", skip_unreadable=True)
    assert (found.mated, found.non_mated, found.items) == (3, 3, 11)
    assert "2 of 8 pairs were left out: 1 of 12 files cannot be read" in str(found)
    lines = [line for line in LFW.splitlines()[1:] if "p4\t1" not in line]
    (tmp_path / "csv").write_text("left,right,same,fold\n" + "\n".join(map(as_csv, lines)))
    apart = encoders.evaluate(make(), place, pairs=tmp_path / "csv")
    assert (apart.eer.value, apart.d_prime) == (found.eer.value, found.d_prime)


def as_csv(line: str) -> str:
    words = line.split("\t")
    one, first, other, second = words if len(words) == 4 else (words[0], words[1], words[0], words[2])
    same = int(len(words) == 3)
    return f"{one}/{one}_{int(first):04d}.png,{other}/{other}_{int(second):04d}.png,{same},0"


def test_files_of_one_folder_can_be_compared_in_pairs(tmp_path: Path) -> None:
    """The list says what is mated, the folder says nothing: ours were refused: "has 1 subject"."""
    for s in range(4):
        for k in range(2):
            Image.fromarray(picture(s, np.random.default_rng(k))).save(tmp_path / f"{s}{k}.png")
    rows = [f"{s}0.png,{t}1.png,{int(s == t)}" for s in range(4) for t in range(4)]
    (tmp_path / "pairs.csv").write_text("\n".join(["left,right,same", *rows]))
    found = encoders.evaluate(made.encoder(), tmp_path, pairs=tmp_path / "pairs.csv")
    assert (found.mated, found.non_mated, found.items) == (4, 12, 8)


class Named(Given):
    """An encoder of other people that names the item it cannot embed."""

    def encode(self, items: Any) -> np.ndarray:
        raise EncodeError(3, "no face was found")


class Wrong(Given):
    """An encoder that gives one row too few, or rows of two lengths."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def encode(self, items: Any) -> Any:
        return self.rows


def test_what_other_encoders_give_is_told_by_the_item() -> None:
    data = replace(blobs(), names=tuple(f"file {k}.png" for k in range(180)))
    with pytest.raises(DatasetError, match=r"^file 3.png: no face was found; take it out of the set"):
        encoders.evaluate(Named(), data, skip_unreadable=True)
    assert encoders.evaluate(Given(), data, skip_unreadable=True).items == 180
    for rows, words in (
        (data.items[:179], r"of shape \(179, 4\) for 180 items: \(180, dim\) is needed"),
        (data.items[:, 0], r"of shape \(180,\)"),
        ([[1.0, 2.0], [1.0]] * 90, "no array of numbers"),
        (data.items.astype(complex), "no array of numbers: they are complex128"),
        (data.items.astype(str), "no array of numbers: they are <U"),
    ):
        with pytest.raises(DatasetError, match=words):
            encoders.evaluate(Wrong(rows), data)
    bad = data.items.copy()
    bad[[5, 7], 1] = np.nan
    with pytest.raises(DatasetError, match=r"NaN or infinity for 2 of 180 items: file 5.png, file 7.png;"):
        encoders.evaluate(Wrong(bad), data)
    bad[[5, 7]] = 0
    assert encoders.evaluate(Wrong(bad), data).items == 180, "under euclidean zeros are a place as any"
    bad[6] = 1e19
    with pytest.raises(DatasetError, match=r"lengths over 1e\+18 for 1 of 180 items: file 6.png;"):
        encoders.evaluate(Wrong(bad), data)
    cosine = Wrong(bad)
    cosine.metric = "cosine"
    with pytest.raises(DatasetError, match=r"all zeros, .* for 2 of 180 items: file 5.png, file 7.png;"):
        encoders.evaluate(cosine, data)
    with pytest.raises(DatasetError, match="180 items, 180 labels and 1 names: one label"):
        encoders.evaluate(Given(), replace(data, names=("a",)))
    with pytest.raises(DatasetError, match="180 items, 5 labels and 180 names"):
        encoders.evaluate(Given(), replace(data, labels=data.labels[:5]))
    with pytest.raises(EncoderError, match=r"a \w+ is no encoder: it has no encode"):
        encoders.evaluate(SimpleNamespace(metric="cosine"), data)
    nothing = replace(data, items=[], labels=np.empty(0, np.int64), names=())
    with pytest.raises(DatasetError, match="the set is empty"):
        encoders.evaluate(Given(), nothing)
    unread = from_arrays([b""] * 4, [0, 0, 1, 1])
    with pytest.raises(DatasetError, match="none of 4 items can be read"):
        encoders.evaluate(adapter(), unread, skip_unreadable=True)


def test_unreadable_items_and_numbers_that_are_none() -> None:
    data = from_arrays([picture(0), b"", picture(1), b"x"], [0, 0, 1, 1])
    with pytest.raises(DatasetError, match="2 of 4 items cannot be read"):
        encoders.evaluate(made.encoder(), data)
    bad = blobs()
    bad.items[3] = np.nan
    with pytest.raises(DatasetError, match="NaN or infinity"):
        encoders.evaluate(Given(), bad)
