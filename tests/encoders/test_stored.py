"""Items in files of their own: what the command line fills a gallery from, where items are no pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import encoders
from encoders import scaling, stored
from encoders.datasets import from_arrays
from encoders.preprocess import VectorPreprocess
from encoders.sequences import SequencePreprocess
from encoders.text import TextPreprocess
from gallery.cli import main

RNG = np.random.default_rng(5)
PEOPLE = 6
TRAINED: dict[str, Any] = {"steps": 2, "holdout": 0.0, "seed": 1}


def vector(person: int) -> Any:
    return np.eye(PEOPLE)[person] * 10 + RNG.normal(size=PEOPLE)


def sequence(person: int) -> Any:
    return np.stack([vector(person) for _ in range(RNG.integers(4, 9))])


def name(person: int) -> str:
    return ("Anna", "Bertram", "Cosima", "Dorothea", "Emil", "Frederike")[person] + " " * int(RNG.integers(3))


def write(path: Path, item: Any) -> Path:
    if isinstance(item, str):
        path = path.with_suffix(".txt")
        path.write_text(item, encoding="utf-8")
        return path
    np.save(path.with_suffix(".npy"), item)
    return path.with_suffix(".npy")


@pytest.mark.parametrize(
    ("made", "tower", "holds"),
    [(vector, "dense", "vectors"), (sequence, "recurrent", "sequences"), (name, "chars", "texts")],
)
def test_a_gallery_is_filled_from_files_on_the_command_line(
    made: Any, tower: str, holds: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = [person for person in range(PEOPLE) for _ in range(4)]
    items: Any = [made(person) for person in labels]
    items = np.stack(items) if holds == "vectors" else items
    encoders.train(
        from_arrays(items, labels, holds=holds), output=tmp_path / "my.encoder", tower=tower, **TRAINED
    )
    files = []
    for person in range(PEOPLE):
        (tmp_path / "people" / f"p{person}").mkdir(parents=True)
        files.append(write(tmp_path / "people" / f"p{person}" / "one", made(person)))
    place, trained = str(tmp_path / "g"), str(tmp_path / "my.encoder")
    assert main(["enroll", place, str(tmp_path / "people"), "--encoder", trained, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["templates"] == PEOPLE
    asked = [path.read_text(encoding="utf-8") if holds == "texts" else str(path) for path in files]
    assert main(["identify", place, *asked, "--threshold", "1e-5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["candidates"][0]["id"] for one in found] == [f"p{person}" for person in range(PEOPLE)]
    encoder = encoders.load(trained)
    assert encoder.encode([made(0), files[0]]).shape == (2, encoder.dim)


def hostile(path: Path, how: str) -> Path:
    np.save(path, np.arange(4.0) if how != "objects" else np.array([{"a": 1}], object))
    held = bytearray(path.read_bytes())
    if how == "claims":
        held = held.replace(b"'shape': (4,), }           ", b"'shape': (400000000000,), } "[:27])
    path.write_bytes(held[:100] if how == "cut" else b"" if how == "empty" else held)
    return path if how != "missing" else path.with_name("nobody.npy")


@pytest.mark.parametrize("how", ["claims", "objects", "cut", "empty", "missing"])
def test_a_file_that_is_no_array_is_refused_by_its_place(how: str, tmp_path: Path) -> None:
    path = hostile(tmp_path / "x.npy", how)
    with pytest.raises(ValueError, match=r"not a whole \.npy file|cannot be read"):
        stored.array_in(path)
    with pytest.raises(ValueError, match=r"not a whole \.npy file|cannot be read"):
        VectorPreprocess(4)(str(path))


def test_an_array_in_a_file_is_what_was_stored(tmp_path: Path) -> None:
    for array in (RNG.normal(size=5), np.asfortranarray(RNG.normal(size=(3, 4))), np.arange(3, dtype=">i2")):
        np.save(tmp_path / "x.npy", array)
        assert np.array_equal(scaling.numbers(tmp_path / "x.npy", wide=True), array)


def test_a_text_in_a_file_is_the_text(tmp_path: Path) -> None:
    read = TextPreprocess("abc")
    (tmp_path / "x.txt").write_bytes(b"\xef\xbb\xbfAbc\r\n")
    assert np.array_equal(read(tmp_path / "x.txt"), read("abc"))
    (tmp_path / "x.txt").write_bytes(b"ab\xff")
    with pytest.raises(ValueError, match="is no text of UTF-8: byte 2 is 0xff"):
        read(tmp_path / "x.txt")
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        read(tmp_path / "y.txt")


def test_a_file_is_closed_once_it_is_read(tmp_path: Path) -> None:
    """A map keeps it open: of 1,200 files a scale was learnt from the 1,017 that could be."""
    np.save(tmp_path / "x.npy", np.arange(3.0))
    opened = len(list(Path("/proc/self/fd").iterdir()))
    kept = [scaling.numbers(tmp_path / "x.npy", wide=True) for _ in range(20)]
    maps = Path("/proc/self/maps").read_text(encoding="utf-8").count(str(tmp_path))
    assert len(list(Path("/proc/self/fd").iterdir())) == opened and maps == 0 and len(kept) == 20


@pytest.mark.parametrize(
    "header", ["((((", "{'descr': '<f8', 'fortran_order': False, 'shape': (9" + "9" * 30 + ",), }"]
)
def test_a_header_that_is_damaged_is_refused(header: str, tmp_path: Path) -> None:
    """One in 14 files with one to three changed bytes in it ended the training in a traceback of tokenize."""
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY\x01\x00\x76\x00" + header.ljust(117).encode() + b"\n")
    with pytest.raises(ValueError, match=r"not a whole \.npy file"):
        stored.array_in(tmp_path / "x.npy")


def test_a_zip_by_the_name_of_an_array_is_refused(tmp_path: Path) -> None:
    """It was opened as an .npz, stayed open, and its numbers were the names in it."""
    np.savez(tmp_path / "x.npz", x=np.arange(3.0))
    for content in ((tmp_path / "x.npz").read_bytes(), b"PK\x03\x04, and no more"):
        (tmp_path / "x.npy").write_bytes(content)
        with pytest.raises(ValueError, match=r"not a whole \.npy file of a plain array: it does not begin"):
            stored.array_in(tmp_path / "x.npy")


def test_a_whole_number_that_no_float_holds_is_refused() -> None:
    for read in (VectorPreprocess(1), SequencePreprocess(1, 9)):
        with pytest.raises(ValueError, match="a number is too large"):
            read([10**400])


def test_a_column_of_rounding_is_left_small_however_large_it_is() -> None:
    rows = np.c_[RNG.normal(size=480), 1e18 + 128.0 * RNG.integers(-2, 3, 480), np.full(480, 7.0)]
    scale = scaling.scale_of(rows)
    scaled = scaling.scaled(rows, tuple(scale["mean"]), tuple(scale["std"]), wide=True)
    assert np.abs(scaled[:, 1:]).max() < 1e-3 and 0.9 < scaled[:, 0].std() < 1.1
