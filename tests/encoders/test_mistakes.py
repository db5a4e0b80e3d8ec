"""The worst pairs against a plain search, and a picture for every kind of item."""

from __future__ import annotations

import base64
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import encoders
from encoders import checkpoint, history, mistakes, pictures
from encoders.datasets import from_arrays
from encoders.names import written
from tests.encoders import made
from tests.encoders.samples import GOOD, MADE
from tests.encoders.shapes import labelled


def test_the_worst_pairs_are_found_once_each() -> None:
    rows = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    data = from_arrays(rows, np.repeat(np.arange(15), 4))
    found = mistakes.worst(rows, data, "euclidean", 1.0)
    apart = np.linalg.norm(rows[:, None] - rows[None], axis=2)
    for mated in (True, False):
        pairs = [m for m in found if m.mated == mated]
        wrong = [
            (apart[i, j], i, j)
            for i in range(60)
            for j in range(i + 1, 60)
            if (data.labels[i] == data.labels[j]) == mated and (apart[i, j] > 1.0) == mated
        ]
        _, left, right = max(wrong) if mated else min(wrong)
        assert (pairs[0].left, pairs[0].right) == (left, right) and len(pairs) == 8
        distances = [m.distance for m in pairs]
        assert distances == sorted(distances, reverse=mated)
        ends = [end for m in pairs for end in (m.left, m.right)]
        assert len(ends) == len(set(ends))
        assert all((data.labels[m.left] == data.labels[m.right]) == mated for m in pairs)


def test_a_perfect_encoder_makes_no_mistakes() -> None:
    rows = np.eye(5, dtype=np.float32)[np.repeat(np.arange(5), 3)]
    assert mistakes.worst(rows, from_arrays(rows, np.repeat(np.arange(5), 3)), "cosine", 0.5) == []


@pytest.mark.parametrize("kind", sorted(MADE))
def test_every_kind_has_a_picture(kind: str) -> None:
    read = MADE[kind]
    one, other = (pictures.piece(read, read(item)) for item in GOOD[kind][3:5])
    assert one != other
    if kind == "text":
        assert one == "<span class='text'>ann y</span>"
        return
    image = Image.open(io.BytesIO(base64.b64decode(one.partition("base64,")[2].rstrip("'>"))))
    assert max(image.size) == pictures.SIDE and np.ptp(np.asarray(image.convert("L"))) > 20


def test_ink_is_dark_and_a_photograph_has_its_colours() -> None:
    read = MADE["rgb"]
    red = pictures.piece(read, read(np.full((30, 30, 3), (200, 10, 30), np.uint8)))
    image = Image.open(io.BytesIO(base64.b64decode(red.partition("base64,")[2].rstrip("'>"))))
    assert np.abs(np.asarray(image)[5, 5].astype(int) - (200, 10, 30)).max() <= 1
    ink = pictures.piece(MADE["ink"], MADE["ink"](GOOD["ink"][0]))
    image = Image.open(io.BytesIO(base64.b64decode(ink.partition("base64,")[2].rstrip("'>"))))
    assert np.median(np.asarray(image)) == 255


def test_a_run_shows_what_it_got_wrong(tmp_path: Path) -> None:
    found = encoders.train(
        labelled(12, 6), output=tmp_path / "x.encoder", steps=3, progress=False,
        tower_args={"widths": [4, 6]}, preprocess={"kind": "ink", "size": 24}, dim=8, holdout=0.5,
    )  # fmt: skip
    assert found.mistakes and len(found.pictures) == len(found.mistakes)
    first = found.mistakes[0]
    assert first["mated"] and first["left"]["subject"] == first["right"]["subject"]
    page = found.save_plot(tmp_path / "page.html").read_text()
    assert page.count("<img") == 2 * len(found.mistakes) and "http://www.w3.org/2000/svg" in page
    assert "one subject, too far apart" in page and first["left"]["item"] in page
    kept = json.loads((tmp_path / "x.encoder" / "history.json").read_text())
    assert kept["mistakes"] == found.mistakes and "pictures" not in kept
    again = encoders.History(**kept).save_plot(tmp_path / "again.html").read_text()
    assert "<img" not in again and first["left"]["item"] in again


def test_names_that_are_not_utf_8_do_not_lose_the_run(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for subject in range(8):
        folder = tmp_path / "set" / os.fsdecode(b"%d-M\xfcller" % subject)
        folder.mkdir(parents=True)
        for k in range(3):
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / f"{k}.png")
    place = tmp_path / "x.encoder"
    found = encoders.train(
        tmp_path / "set", output=place, steps=2, progress=False, dim=8, holdout=0.5,
        name=os.fsdecode(b"M\xfcller"), tower="conv",
        tower_args={"widths": [4, 6]}, preprocess={"kind": "rgb", "size": 32},
    )  # fmt: skip
    assert found.mistakes[0]["left"]["subject"].endswith(r"-M\xfcller")
    assert history.load(place / "history.json") == found
    assert encoders.load(place).name == r"M\xfcller"
    assert r"-M\xfcller" in found.save_plot(tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    ("name", "text"),
    [("Müller 王", "Müller 王"), ("M\udcfcller", r"M\xfcller"), ("a\ud800b", r"a\ud800b")],
    ids=["UTF-8", "latin-1", "surrogate"],
)
def test_names_as_any_file_takes_them(name: str, text: str, tmp_path: Path) -> None:
    assert written(name) == text
    place = checkpoint.save(made.encoder(card=f"# {name}"), tmp_path / "x", history={"subject": name})
    assert json.loads((place / "history.json").read_text())["subject"] == name
    assert encoders.load(place).card.encode()
