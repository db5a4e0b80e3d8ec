"""Settings found from the data, and never overruled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import encoders
from encoders import defaults
from encoders.datasets import from_arrays, load
from encoders.errors import EncoderError, TrainingError
from tests.encoders.samples import GOOD, photo, tone, wav
from tests.encoders.shapes import labelled, picture

RNG = np.random.default_rng(0)
FACES = RNG.integers(60, 200, size=(20, 30, 24)).astype(np.uint8)


@pytest.mark.parametrize(
    ("items", "kind"),
    [
        ([picture(s) for s in range(9)], "ink"),
        ([255 - picture(s) for s in range(9)], "ink"),
        (FACES, "grey"),
        ([photo(s) for s in range(9)], "rgb"),
        (np.zeros((4, 3)), "vector"),
        ([np.zeros((n + 1, 4)) for n in range(4)], "sequence"),
        ([np.zeros(100 + n) for n in range(4)], "audio"),
        ([wav(tone(300))], "audio"),
        ([Path("a/x.WAV")], "audio"),
        (["Ann Li", "A. Li"], "text"),
    ],
)
def test_what_the_items_are(items: Any, kind: str) -> None:
    assert defaults.kind_of(items) == kind


def test_the_rest_follows_from_the_kind_and_the_numbers() -> None:
    found = defaults.found(labelled(40, 8), {})
    assert found == {
        "preprocess": {"kind": "ink"}, "tower": "conv", "augment": "ink",
        "subjects": 32, "items": 4, "steps": 300,
    }  # fmt: skip
    few = from_arrays(np.zeros((400, 3)), np.repeat([0, 1], 200))
    found = defaults.found(few, {})
    assert (found["tower"], found["augment"], found["subjects"], found["items"]) == ("dense", "noise", 2, 64)
    pairs = from_arrays(np.zeros((9000, 3)), np.repeat(np.arange(4500), 2))
    found = defaults.found(pairs, {})
    assert (found["subjects"], found["items"], found["steps"]) == (32, 2, 40 * 9000 // 64)


def test_what_was_said_is_kept() -> None:
    said = {"preprocess": {"kind": "grey", "height": 9}, "tower": "dense", "augment": "none", "steps": 7}
    assert defaults.found(labelled(), said).items() >= said.items()
    assert defaults.found(labelled(), {"tower": "residual"})["preprocess"] == {"kind": "ink"}
    assert defaults.found(labelled(), {"tower": "audio"})["preprocess"] == {"kind": "audio"}


def test_items_that_cannot_be_told() -> None:
    with pytest.raises(EncoderError, match="say it with --preprocess"):
        defaults.kind_of([b"x", b"y"])


SETS = {
    "vector": (lambda s, n: RNG.normal(size=6) * 0.2 + np.eye(6)[s % 6] * (1 + s // 6), {}),
    "sequence": (
        lambda s, n: np.cumsum(RNG.normal(size=(5 + n, 3)) * 0.1, 0) + np.eye(3)[s % 3] * (1 + s),
        {},
    ),
    "recording": (lambda s, n: tone(200 + 40 * s, 0.25) + 0.01 * RNG.normal(size=2000), {}),
    "text": (lambda s, n: GOOD["text"][s] + "abcdefgh"[n], {"tower_args": {"buckets": 512}}),
}


@pytest.mark.parametrize("kind", sorted(SETS))
def test_every_kind_trains_from_nothing_but_its_data(kind: str, tmp_path: Path) -> None:
    item, extra = SETS[kind]
    items = [item(s, n) for s in range(12) for n in range(6)]
    if kind == "vector":
        items = np.array(items)
    data = from_arrays(items, np.repeat(np.arange(12), 6))
    found = encoders.train(data, output=tmp_path / "x", steps=12, progress=False, holdout=0.3, **extra)
    encoder = encoders.load(tmp_path / "x", device="cpu")
    dim = 512 if kind == "text" else 128
    assert encoder.encode(items).shape == (72, dim) and found.best is not None
    assert found.best["eer"] < 0.45
    assert found.settings["tower"] == encoder.spec.tower


def test_a_recipe_for_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="augmentation speech is not for ink; for that there are affine"):
        encoders.train(labelled(), output=tmp_path / "x", augment="speech", progress=False)
    with pytest.raises(EncoderError, match=r"tower conv takes .*, not text"):
        data = from_arrays(["aa", "ab", "ba", "bb"] * 4, np.repeat(np.arange(8), 2))
        encoders.train(data, output=tmp_path / "x", tower="conv", preprocess={"kind": "text"}, progress=False)


def test_a_csv_of_names_trains_an_encoder(tmp_path: Path) -> None:
    rows = [
        f'"{name}",{k}' for k, name in enumerate(GOOD["text"]) for name in (name, name + "e", name[:-1] + "i")
    ]
    (tmp_path / "names.csv").write_text("\n".join(["text,person", *rows]), encoding="utf-8")
    assert len(load(tmp_path / "names.csv")) == 60
    found = encoders.train(
        tmp_path / "names.csv", output=tmp_path / "n", steps=3, progress=False, tower_args={"buckets": 256}
    )
    assert found.settings["preprocess"]["kind"] == "text"
