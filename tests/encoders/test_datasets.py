"""Labelled sets from folders and arrays, their splits, and every refusal with its numbers."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from encoders import cli, datasets, defaults, preprocess
from encoders.errors import DatasetError, EncoderError, PassedOverWarning
from tests.encoders.shapes import labelled, picture

READ = preprocess.InkPreprocess()


def folder(place: Path, subjects: int = 4, items: int = 3) -> Path:
    for s in range(subjects):
        (place / f"subject {s}").mkdir(parents=True)
        for i in range(items):
            Image.fromarray(picture(s, np.random.default_rng(i))).save(place / f"subject {s}" / f"{i}.png")
    return place


def test_folder(tmp_path: Path) -> None:
    (folder(tmp_path) / ".hidden").mkdir()
    (tmp_path / "subject 1" / ".DS_Store").write_bytes(b"x")
    data = datasets.load(tmp_path)
    assert data.subjects == ("subject 0", "subject 1", "subject 2", "subject 3")
    assert data.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert [p.name for p in data.items[:3]] == ["0.png", "1.png", "2.png"]
    assert data.groups is None


def test_npz_equals_folder(tmp_path: Path) -> None:
    data = labelled(4, 3, groups=2)
    np.savez(tmp_path / "set.npz", images=data.items, labels=data.labels, groups=data.groups)
    found = datasets.load(tmp_path / "set.npz")
    assert np.array_equal(found.items, data.items) and np.array_equal(found.labels, data.labels)
    assert found.groups is not None and found.groups.tolist() == [0] * 3 + [1] * 3 + [0] * 3 + [1] * 3


def test_vectors_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", vectors=np.eye(4), labels=["a", "a", "b", "b"])
    found = datasets.prepared(datasets.load(tmp_path / "v.npz"), preprocess.VectorPreprocess(4))
    assert found.items.dtype == np.float32 and np.array_equal(found.items, np.eye(4))


@pytest.mark.parametrize(
    ("subjects", "items", "words"),
    [(1, 5, "1 subject"), (6, 1, "one item for each of 6 subjects")],
)
def test_sets_that_teach_nothing(tmp_path: Path, subjects: int, items: int, words: str) -> None:
    with pytest.raises(DatasetError, match=words):
        datasets.load(folder(tmp_path, subjects, items))


def test_empty_and_missing_and_flat_folders(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no subfolders"):
        datasets.load(tmp_path)
    (tmp_path / "a").mkdir()
    with pytest.raises(DatasetError, match="is empty"):
        datasets.load(tmp_path)
    with pytest.raises(DatasetError, match="does not exist"):
        datasets.load(tmp_path / "nowhere")


def test_bad_npz_files(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("not a zip")
    with pytest.raises(DatasetError, match=r"not a whole \.npz"):
        datasets.load(tmp_path / "text.npz")
    np.savez(tmp_path / "other.npz", images=np.zeros((2, 4, 4)))
    with pytest.raises(DatasetError, match=r"it has \['images'\]"):
        datasets.load(tmp_path / "other.npz")
    np.savez(tmp_path / "short.npz", images=np.zeros((3, 4, 4)), labels=[0, 1])
    with pytest.raises(DatasetError, match="3 items, 2 labels"):
        datasets.load(tmp_path / "short.npz")
    whole = (tmp_path / "short.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    np.save(tmp_path / "one.npy", np.zeros(3))
    for name in ("cut.npz", "one.npy"):
        with pytest.raises(DatasetError, match=r"not a whole \.npz"):
            datasets.load(tmp_path / name)
    np.savez_compressed(tmp_path / "small.npz", vectors=np.arange(80.0).reshape(40, 2), labels=np.arange(40))
    torn = bytearray((tmp_path / "small.npz").read_bytes())
    torn[90:130] = bytes(40)  # zlib.error is none of numpy's or of zipfile's
    (tmp_path / "torn.npz").write_bytes(torn)
    with pytest.raises(DatasetError, match=r"not a whole \.npz"):
        datasets.load(tmp_path / "torn.npz")
    objects = np.array([{}, {}], dtype=object)
    np.savez(tmp_path / "pickled.npz", images=objects, labels=[0, 1])
    with pytest.raises(DatasetError, match=r"not a whole \.npz file of plain arrays"):
        datasets.load(tmp_path / "pickled.npz")


def test_unreadable_items_are_all_listed_or_left_out(tmp_path: Path) -> None:
    data = datasets.load(folder(tmp_path))
    data.items[1].write_bytes(b"")
    data.items[5].write_text("no image")
    with pytest.raises(DatasetError, match="2 of 12 items cannot be read") as raised:
        datasets.prepared(data, READ)
    assert str(data.items[1]) in str(raised.value) and str(data.items[5]) in str(raised.value)
    kept = datasets.prepared(data, READ, skip=True)
    assert kept.items.shape == (10, 1, 48, 48)
    assert kept.labels.tolist() == [0, 0, 1, 1, 2, 2, 2, 3, 3, 3]


def test_a_long_list_of_unreadable_items_is_cut() -> None:
    data = datasets.from_arrays([np.zeros((5, 5), np.uint8)] * 30, np.repeat([0, 1], 15))
    with pytest.raises(DatasetError, match="and 20 more"):
        datasets.prepared(data, READ)


def test_split_by_group_shares_no_group_and_no_subject() -> None:
    data = labelled(20, 3, groups=5)
    train, held = datasets.split(data, 0.4, np.random.default_rng(0))
    assert train.groups is not None and held.groups is not None
    assert len(set(held.groups)) == 2 and len(set(train.groups)) == 3
    assert not set(train.groups) & set(held.groups) and not set(train.labels) & set(held.labels)
    assert len(train) + len(held) == 60


def test_split_by_subject_holds_out_two_at_least() -> None:
    train, held = datasets.split(labelled(10, 3), 0.01, np.random.default_rng(0))
    assert len(set(held.labels)) == 2 and len(set(train.labels)) == 8
    with pytest.raises(DatasetError, match="3 subjects cannot be split"):
        datasets.split(labelled(3, 3), 0.2, np.random.default_rng(0))


@pytest.mark.parametrize("seed", range(4))
def test_the_share_held_out_is_of_the_subjects_with_two_items(seed: int) -> None:
    labels = np.r_[np.arange(900), np.repeat(np.arange(900, 1000), 4)]
    data = datasets.from_arrays(np.zeros((1300, 2)), labels)
    train, held = datasets.split(data, 0.15, np.random.default_rng(seed))
    assert len(datasets.repeated(train.labels)) == 85 and len(datasets.repeated(held.labels)) == 15
    assert len(train) == 900 + 85 * 4 and len(held) == 15 * 4


@pytest.mark.parametrize("seed", range(4))
def test_a_group_that_has_nearly_all_subjects_is_trained_on(seed: int) -> None:
    labels = np.repeat(np.arange(20), 3)
    data = datasets.from_arrays(np.zeros((60, 2)), labels, labels < 17)
    train, held = datasets.split(data, 0.15, np.random.default_rng(seed))
    assert (len(set(train.labels)), len(set(held.labels))) == (17, 3)


def test_groups_of_one_subject_are_held_out_until_there_are_two_subjects() -> None:
    data = datasets.from_arrays(np.zeros((15, 2)), np.repeat(np.arange(5), 3), np.repeat(np.arange(5), 3))
    train, held = datasets.split(data, 0.15, np.random.default_rng(0))
    assert (len(set(train.labels)), len(set(held.labels))) == (3, 2)


def table(place: Path, text: str) -> Path:
    (place / "t.csv").write_text(text, encoding="utf-8")
    return place / "t.csv"


def test_numbers_in_a_csv_with_and_without_a_header(tmp_path: Path) -> None:
    bare = datasets.load(table(tmp_path, "1,2.5,a\n3,4,b\n5,6,a\n"))
    assert bare.items.tolist() == [[1, 2.5], [3, 4], [5, 6]] and bare.labels.tolist() == [0, 1, 0]
    named = datasets.load(table(tmp_path, "class;width;group;height\n7;1;x;2.5\n8;3;x;4\n7;5;y;6\n"))
    assert named.items.tolist() == bare.items.tolist() and named.subjects == ("7", "8")
    assert named.groups is not None and named.groups.tolist() == [0, 0, 1]
    for label in ("a", "0"):
        first = datasets.load(table(tmp_path, "a,b\n1,2\n1,3\n2,4\n"), label)
        assert first.labels.tolist() == [0, 0, 1] and first.items.tolist() == [[2], [3], [4]]


def test_texts_and_files_in_a_csv(tmp_path: Path) -> None:
    found = datasets.load(table(tmp_path, 'text,person\n"Li, Ann",1\nA. Li,1\nBo Ek,2\n'))
    assert found.items == ["Li, Ann", "A. Li", "Bo Ek"] and found.labels.tolist() == [0, 0, 1]
    for name in "abc":
        (tmp_path / name).write_bytes(b"x")
    found = datasets.load(table(tmp_path, "file\tlabel\na\t1\nb\t1\nc\t2\n"))
    assert found.items == [tmp_path / "a", tmp_path / "b", tmp_path / "c"]


@pytest.mark.parametrize(
    ("text", "label", "words"),
    [
        ("", None, "is empty"),
        ("a,b\n1\n", None, "row 2 has 1 columns, the first one 2"),
        ("label\na\nb\n", None, "no column beside the subject's"),
        ("a,b,label\nx,1,p\ny,2,p\n", None, "columns a hold words"),
        ("a,b\n1,2\n3,2\n", "c", "has no column 'c'; it has a, b"),
        ("a,b\n1,2\n3,2\n", "7", "has no column '7'"),
        ("a,label\n1,2\n3,2\n", None, "1 subject"),
    ],
)
def test_csv_files_that_are_refused(tmp_path: Path, text: str, label: str | None, words: str) -> None:
    with pytest.raises(DatasetError, match=words):
        datasets.load(table(tmp_path, text), label)
    (tmp_path / "latin.csv").write_bytes(b"n\xe4me,1\n")
    with pytest.raises(DatasetError, match="not UTF-8"):
        datasets.load(tmp_path / "latin.csv")


def test_sequences_recordings_and_texts_in_an_npz(tmp_path: Path) -> None:
    place, labels = tmp_path / "s.npz", ["a", "a", "b"]
    np.savez(place, sequences=np.arange(12).reshape(6, 2), lengths=[1, 3, 2], labels=labels)
    found = datasets.load(place)
    assert [s.shape for s in found.items] == [(1, 2), (3, 2), (2, 2)] and found.items[2][0].tolist() == [8, 9]
    np.savez(place, recordings=np.arange(6), lengths=[1, 3, 2], labels=labels)
    assert [r.tolist() for r in datasets.load(place).items] == [[0], [1, 2, 3], [4, 5]]
    np.savez(place, texts=["x", "yy", "z"], labels=labels)
    assert datasets.load(place).items == ["x", "yy", "z"]
    for arrays, words in (
        ({"sequences": np.zeros((6, 2))}, "need `lengths`"),
        ({"sequences": np.zeros((6, 2)), "lengths": [1, 1, 1]}, "add up to 3, sequences to 6"),
        ({"texts": ["x"], "vectors": [[1]]}, "needs arrays `images`"),
    ):
        np.savez(place, labels=labels, **arrays)
        with pytest.raises(DatasetError, match=words):
            datasets.load(place)


def test_names_stay_with_their_items(tmp_path: Path) -> None:
    data = datasets.load(folder(tmp_path))
    data.items[0].write_bytes(b"")
    kept = datasets.prepared(data, READ, skip=True).take(np.array([0, 5]))
    assert kept.names == (str(data.items[1]), str(data.items[6]))


@pytest.mark.parametrize(
    ("name", "array", "kind"),
    [
        ("sequences", np.arange(40, dtype=np.float32), "sequence"),  # was taken for sound
        ("sequences", np.arange(120, dtype=np.uint8).reshape(40, 3), "sequence"),  # was taken for pictures
        ("recordings", np.arange(40, dtype=np.uint8), "audio"),
        ("vectors", np.ones((4, 10)), "vector"),
        ("texts", np.array(["a", "b", "c", "d"]), "text"),
        ("images", np.array([picture(s) for s in range(4)]), "ink"),
    ],
)
def test_the_name_of_an_array_says_what_it_is(
    name: str, array: np.ndarray, kind: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "s.npz", **{name: array}, labels=[0, 0, 1, 1], lengths=[10] * 4)
    data = datasets.load(tmp_path / "s.npz")
    found = defaults.found(data, {})
    assert data.holds == name and found["preprocess"] == {"kind": kind}
    assert data.take(np.array([0, 1])).holds == name
    other = "dense" if name != "vectors" else "chars"
    with pytest.raises(EncoderError, match=f"{name} are not for preprocess"):
        defaults.found(data, {"preprocess": {"kind": "text" if name != "texts" else "ink"}, "tower": other})


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("images", np.zeros((4, 10))),
        ("images", np.array(["a.png", "b.png", "c.png", "d.png"])),
        ("vectors", np.zeros((4, 5, 5))),
        ("vectors", np.array([["1"], ["2"], ["3"], ["4"]])),
        ("texts", np.zeros(4)),
        ("sequences", np.zeros((40, 3, 2))),
        ("recordings", np.zeros((40, 2))),
    ],
)
def test_an_array_that_does_not_fit_its_name(name: str, array: np.ndarray, tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", **{name: array}, labels=[0, 0, 1, 1], lengths=[10] * 4)
    with pytest.raises(DatasetError, match=rf"`{name}` has shape \(4.* call the array what it is"):
        datasets.load(tmp_path / "s.npz")


def test_what_is_no_item_of_a_folder_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = folder(tmp_path / "set")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing to tell, hidden files least of all
        (place / ".hidden").write_bytes(b"x")
        datasets.load(place)
    for name in ("2020", "2021"):
        (place / "subject 1" / name).mkdir()
        (place / "subject 1" / name / "a.png").write_bytes(b"x")
    (place / "subject 2" / "gone.png").symlink_to("nowhere.png")
    (place / "loose.png").write_bytes(b"x")
    said = (
        "set: 4 passed over (folders in a subject's folder: 2; links to nothing or no files: 1; files beside "
        f"the subjects' folders: 1), the first is {place}/subject 1/2020"
    )
    with pytest.warns(PassedOverWarning) as told:
        assert len(datasets.load(place)) == 12
    assert len(told) == 1 and str(told[0].message).endswith(said)
    with warnings.catch_warnings():
        warnings.simplefilter("always", PassedOverWarning)
        given = ["--output", str(tmp_path / "x"), "--steps", "1", "--holdout", "0.5", "--json"]
        assert cli.main(["train", str(place), *given]) == 0
    assert f"encoders: {tmp_path}/{said}\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([1.0, 1.0, np.nan, np.nan], "labels are missing: that of item 2 and 1 more is nan"),
        (np.array([1.0, 1.0, 2.0, np.nan]), "labels are missing: that of item 3 is nan"),
        (["a", None, "a", "b"], "labels are missing: that of item 1 is None"),
        (np.array(["a", "a", np.nan, "b"], object), "labels are missing: that of item 2 is nan"),
    ],
)
def test_labels_that_are_missing_are_no_subject(labels: Any, said: str) -> None:
    """All items without one were of a subject called nan, and learnt to be alike."""
    with pytest.raises(DatasetError, match=said):
        datasets.from_arrays(np.eye(4), labels)
    with pytest.raises(DatasetError, match=said.replace("labels", "groups")):
        datasets.from_arrays(np.eye(4), [0, 0, 1, 1], labels)


def test_names_and_numbers_may_be_labels_together() -> None:
    labels = np.array(["Nan", 7, "Nan", "none"], object)
    found = datasets.from_arrays(np.eye(4), labels)
    assert found.subjects == ("7", "Nan", "none") and found.labels.tolist() == [1, 0, 1, 2]
    assert datasets.from_arrays(np.eye(4), np.array([10, 9, 10, 9], object)).subjects == ("9", "10")
