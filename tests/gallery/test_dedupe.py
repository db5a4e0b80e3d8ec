"""The verb on real files: what it groups, what it refuses, what it never does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks import dedupe, photos
from gallery import reading
from gallery.dedupe import find_duplicates
from gallery.duplicates import Duplicates, Picture
from gallery.errors import InvalidItemError, NotCalibratedError
from tests.data import needs


class Tint:
    """The mean red and green of a picture: distances between plain pictures are known to the bit."""

    dim = 2
    metric = "euclidean"
    fingerprint = "tint/1"
    name = "tint"

    def __init__(self, threshold: float | None = 5.0, cursed: int | None = None) -> None:
        self.threshold = threshold
        self.cursed = cursed
        self.calls: list[int] = []

    def encode(self, items: Sequence[Any]) -> np.ndarray:
        self.calls.append(len(items))
        rows = np.array([np.asarray(item, np.float32).mean(axis=(0, 1))[:2] for item in items], np.float32)
        if self.cursed is not None and (rows[:, 0] == self.cursed).any():
            raise ValueError("it is cursed")
        return rows.reshape(len(items), 2)


def plain(path: Path, red: int, green: int = 0, size: tuple[int, int] = (8, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (red, green, 0)).save(path)
    return path


def shape(found: Duplicates, root: Path) -> dict[str, list[tuple[str, float, bool]]]:
    def short(path: str) -> str:
        return str(Path(path).relative_to(root))

    return {
        short(group.keeper): [(short(m.path), m.distance, m.identical) for m in group.members]
        for group in found.groups
    }


def test_equal_files_and_near_ones_inside_on_and_outside_the_threshold(tmp_path: Path) -> None:
    plain(tmp_path / "a.png", 0, size=(20, 20))
    shutil.copy(tmp_path / "a.png", tmp_path / "z a copy.png")
    plain(tmp_path / "sub/in.PNG", 3, 3)
    plain(tmp_path / "sub/on.png", 3, 4)
    plain(tmp_path / "sub/outside.png", 4, 4)
    plain(tmp_path / "far.png", 200)
    found = find_duplicates(tmp_path, Tint(), threshold=5)
    assert shape(found, tmp_path) == {
        "a.png": [
            ("z a copy.png", 0.0, True),
            ("sub/in.PNG", float(np.float32(18**0.5)), False),
            ("sub/on.png", 5.0, False),
        ]
    }
    assert (found.scanned, found.threshold, found.unreadable, found.duplicates) == (6, 5.0, (), 3)
    assert shape(find_duplicates(tmp_path, Tint(), threshold=float(np.nextafter(5, 0))), tmp_path) == {
        "a.png": [("z a copy.png", 0.0, True), ("sub/in.PNG", float(np.float32(18**0.5)), False)],
        "sub/on.png": [("sub/outside.png", 1.0, False)],
    }


def test_the_keeper_has_most_pixels_then_most_bytes_then_the_first_path(tmp_path: Path) -> None:
    plain(tmp_path / "a.png", 10, size=(8, 8))
    plain(tmp_path / "b.png", 10, size=(9, 9))
    Image.new("RGB", (9, 9), (10, 0, 0)).save(tmp_path / "c.bmp")
    Image.new("RGB", (9, 9), (11, 0, 0)).save(tmp_path / "d.bmp")
    found = find_duplicates(tmp_path, Tint())
    assert shape(found, tmp_path) == {
        "c.bmp": [("a.png", 0.0, False), ("b.png", 0.0, False), ("d.bmp", 1.0, False)]
    }
    picture = found.pictures()[str(tmp_path / "b.png")]
    assert (picture.width, picture.height, picture.size) == (9, 9, (tmp_path / "b.png").stat().st_size)


def test_equal_files_are_embedded_once_and_batches_change_nothing(tmp_path: Path) -> None:
    for at in range(10):
        plain(tmp_path / f"{at}.png", 20 * at)
        shutil.copy(tmp_path / f"{at}.png", tmp_path / f"{at} copy.png")
    encoder = Tint()
    told: list[tuple[int, int | None]] = []
    found = find_duplicates(
        tmp_path, encoder, batch_size=4, progress=lambda done, total: told.append((done, total))
    )
    assert encoder.calls == [4, 4, 2]
    assert told == [(8, 20), (16, 20), (20, 20)]
    assert found.groups == find_duplicates(tmp_path, Tint(), batch_size=1).groups
    assert [[m.identical for m in group.members] for group in found.groups] == [[True]] * 10


def test_the_answer_does_not_depend_on_the_order_of_the_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tints = rng.integers(0, 40, (30, 2)).tolist()
    for name, order in (("one", range(30)), ("two", reversed(range(30)))):
        for at in order:
            plain(tmp_path / name / f"{at:02d}.png", *tints[at])
    one, two = (find_duplicates(tmp_path / name, Tint()) for name in ("one", "two"))
    assert shape(one, tmp_path / "one") == shape(two, tmp_path / "two")
    assert len(one.groups) > 3


def test_unreadable_files_are_listed_with_their_copies_and_progress_is_whole(tmp_path: Path) -> None:
    whole = plain(tmp_path / "good.png", 5, size=(64, 64)).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[:60])
    (tmp_path / "cut too.png").write_bytes(whole[:60])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("no picture")
    Image.new("1", (3000, 3000)).save(tmp_path / "huge.png")
    told: list[tuple[int, int | None]] = []
    found = find_duplicates(
        tmp_path, Tint(), max_pixels=1_000_000, progress=lambda done, total: told.append((done, total))
    )
    reasons = {Path(item.path).name: item.reason for item in found.unreadable}
    assert reasons["empty.jpg"] == "is empty (0 bytes)"
    assert reasons["text.jpg"] == "is not an image in a format that can be read"
    assert reasons["huge.png"].startswith("3,000 x 3,000 = 9,000,000 pixels, more than the limit of 1,000")
    assert reasons["cut.png"] == reasons["cut too.png"]
    assert "damaged" in reasons["cut.png"]
    assert list(reasons) == sorted(reasons)
    assert (found.scanned, len(found.unreadable), found.groups) == (6, 5, ())
    assert told[-1] == (6, 6)


def test_an_encoder_that_fails_on_an_item_costs_only_that_item(tmp_path: Path) -> None:
    for at in range(6):
        plain(tmp_path / f"{at}.png", 40 * at)
    plain(tmp_path / "0 near.png", 1)
    found = find_duplicates(tmp_path, Tint(cursed=80))
    assert [(Path(item.path).name, item.reason) for item in found.unreadable] == [
        ("2.png", "cannot be embedded: it is cursed")
    ]
    assert shape(found, tmp_path) == {"0 near.png": [("0.png", 1.0, False)]}


def test_folders_and_settings_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(InvalidItemError, match="no such folder"):
        find_duplicates(tmp_path / "none", Tint())
    with pytest.raises(InvalidItemError, match="is a file; a folder of items is needed"):
        find_duplicates(plain(tmp_path / "a" / "a.png", 1), Tint())
    (tmp_path / "b").mkdir()
    with pytest.raises(InvalidItemError, match=r"b holds no images$"):
        find_duplicates(tmp_path / "b", Tint())
    (tmp_path / "b" / "notes.txt").write_text("")
    with pytest.raises(InvalidItemError, match=r"holds no images \(passed over: 1 other kind of file\)"):
        find_duplicates(tmp_path / "b", Tint())
    with pytest.raises(NotCalibratedError, match=r"'tint' recommends no threshold: pass one, a euclidean"):
        find_duplicates(tmp_path / "a", Tint(threshold=None))
    with pytest.raises(ValueError, match="not -1"):
        find_duplicates(tmp_path / "a", Tint(), threshold=-1)
    with pytest.raises(ValueError, match="batch_size must be 1 or more, not 0"):
        find_duplicates(tmp_path / "a", Tint(), batch_size=0)
    with pytest.raises(TypeError, match="not an encoder"):
        find_duplicates(tmp_path / "a", "photo")  # type: ignore[arg-type]


def test_nothing_is_written_and_nothing_is_deleted(tmp_path: Path) -> None:
    for at in range(4):
        plain(tmp_path / f"{at % 2}" / f"{at}.png", 7)
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in tmp_path.rglob("*.png")}
    assert find_duplicates(tmp_path, Tint()).duplicates == 3
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in tmp_path.rglob("*") if p.is_file()} == before


def test_a_file_that_vanishes_after_the_walk_is_unreadable(tmp_path: Path) -> None:
    for at in range(3):
        plain(tmp_path / f"{at}.png", 90 * at)

    class Deletes(Tint):
        def encode(self, items: Sequence[Any]) -> np.ndarray:
            (tmp_path / "2.png").unlink(missing_ok=True)
            return super().encode(items)

    found = find_duplicates(tmp_path, Deletes(), batch_size=1)
    assert [(Path(item.path).name, item.reason) for item in found.unreadable] == [("2.png", "no such file")]


def test_batches_hold_a_bounded_number_of_pixels() -> None:
    sizes = [(100, 100), (100, 100), (300, 200), (10, 10), (10, 10)]
    pictures = [Picture(str(at), 1, *size) for at, size in enumerate(sizes)]
    runs = reading.bounded(pictures, most=20_000)
    assert [[p.path for p in run] for run in runs] == [["0", "1"], ["2"], ["3", "4"]]
    assert list(reading.bounded([])) == []


def test_names_that_are_not_utf8_are_grouped_and_printed(tmp_path: Path) -> None:
    plain(tmp_path / "a.png", 1)
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")
    try:
        shutil.copy(tmp_path / "a.png", odd)
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    found = find_duplicates(tmp_path, Tint())
    (group,) = found.groups
    assert group.members[0].path == odd
    assert "caf\\xe9.png" in str(found).encode().decode()


@pytest.fixture
def two_photographs() -> list[Image.Image]:
    datasets = pytest.importorskip("sklearn.datasets")
    return [Image.fromarray(image).resize((320, 213)) for image in datasets.load_sample_images().images]


def test_the_shipped_encoder_finds_copies_of_two_photographs(
    tmp_path: Path, two_photographs: list[Image.Image]
) -> None:
    for name, image in zip(("china", "flower"), two_photographs, strict=True):
        image.save(tmp_path / f"{name}.png")
        image.resize((160, 106)).save(tmp_path / f"{name} half.jpg")
        image.save(tmp_path / f"{name} poor.jpg", quality=30)
        image.point(lambda value: min(255, round(1.3 * value))).save(tmp_path / f"{name} bright.jpg")
        image.crop((10, 6, 310, 207)).save(tmp_path / f"{name} crop.jpg")
    found = find_duplicates(tmp_path)
    assert found.unreadable == ()
    assert {k: len(v) for k, v in shape(found, tmp_path).items()} == {"china.png": 4, "flower.png": 4}
    for group in found.groups:
        names = {Path(m.path).name.split()[0] for m in group.members}
        assert names == {Path(group.keeper).stem}


def test_copies_of_real_photographs_with_the_defaults(tmp_path: Path) -> None:
    archive = needs("photos", "imagenet_sample_320.zip")
    with zipfile.ZipFile(archive) as held:
        pool = [(name, held.read(name)) for name in sorted(held.namelist())[:60]]
    labels = dedupe.lay_out(tmp_path / "copies", pool, photos.COPIES)
    scored = dedupe.score(dedupe.names(find_duplicates(tmp_path / "copies")), labels)
    assert (scored["precision"], scored["true"]) == (1.0, 600)
    assert scored["recall"] >= 0.95


def test_the_benchmark_counts_pairs_and_groups_as_it_says() -> None:
    labels = {f"{p}{k}": f"{p}/{kind}" for p in "xy" for k, kind in enumerate(("original", "half", "crop"))}
    groups = [["x0", "x1", "x2"], ["y0", "y1"]]
    assert dedupe.score(groups, labels) == {
        "found": 4,
        "right": 4,
        "true": 6,
        "precision": 1.0,
        "recall": 4 / 6,
        "recall_by_kind": {"half": 1.0, "crop": 0.5},
    }
    assert dedupe.whole_groups(groups, labels) == {"found": 2, "whole": 1, "of": 2, "mixed": 0}
    mixed = [["x0", "x1", "y0"]]
    assert dedupe.score(mixed, labels)["precision"] == 1 / 3
    assert dedupe.whole_groups(mixed, labels) == {"found": 1, "whole": 0, "of": 2, "mixed": 1}


def test_importing_it_loads_neither_torch_nor_faiss() -> None:
    code = "import sys, gallery.dedupe, gallery.report; print({'torch', 'faiss', 'h5py'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
