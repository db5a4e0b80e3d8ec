"""What a preprocessing learns from training items, with some bad ones among them or numbers of odd sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import encoders
from encoders import datasets, preprocess
from encoders.errors import DatasetError
from tests.encoders.samples import GOOD

RNG = np.random.default_rng(0)


def bad_among(kind: str) -> list[tuple[Any, str]]:
    vector = RNG.normal(size=8)
    sequence = RNG.normal(size=(12, 3))
    return {
        "vector": [
            (np.where(np.arange(8) == 2, np.nan, vector), "the vector holds NaN or infinity"),
            (vector[:7], r"a vector of 8 numbers is needed, not an array of shape \(7,\)"),
            (vector * 1e40, "the vector holds NaN or infinity"),
        ],
        "sequence": [
            (np.where(np.arange(12)[:, None] == 5, np.nan, sequence), "the sequence holds NaN"),
            (sequence[:0], "the sequence has no step"),
            (sequence[:, :2], r"an array \(steps, 3\) is needed"),
        ],
        "text": [(" ", "the text is empty"), (None, "a text is needed, not NoneType")],
    }[kind]


def good(kind: str) -> list[Any]:
    if kind == "text":
        return [f"{name} {n}" for name in GOOD["text"][:12] for n in range(5)]
    shape = (8,) if kind == "vector" else (12, 3)
    return [RNG.normal(size=shape) + n // 5 for n in range(60)]


@pytest.mark.parametrize("kind", ["vector", "sequence", "text"])
def test_bad_items_are_named_or_left_out(kind: str, tmp_path: Path) -> None:
    """The first one ended the training with the shape of all, whether it was to be skipped or not."""
    items = good(kind)
    for at, (item, said) in zip((0, 7, 59), bad_among(kind), strict=False):
        made = [*items[:at], item, *items[at + 1 :]]
        data = datasets.from_arrays(made, np.repeat(np.arange(12), 5), holds=f"{kind}s")
        named = rf"^1 of 60 items cannot be read [^\n]*--skip-unreadable\):\n  [^\n]*: {said}[^\n]*$"
        with pytest.raises(DatasetError, match=named) as raised:
            encoders.train(data, output=tmp_path / "x", steps=1, progress=False)
        assert kind == "text" or f"item {at}:" in str(raised.value)
        settings = preprocess.fitted({"kind": kind}, made)
        assert settings == preprocess.fitted({"kind": kind}, [*made[:at], *made[at + 1 :]])
        kept = datasets.prepared(data, preprocess.build(settings), skip=True)
        assert len(kept) == 59 and np.isfinite(kept.items).all()
    given = {"tower_args": {"buckets": 256}} if kind == "text" else {}
    encoders.train(data, output=tmp_path / "x", steps=1, progress=False, skip_unreadable=True, **given)


def test_a_cell_that_is_missing_names_row_and_column(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [f"{a:.3f},{b:.3f},s{n // 5}" for n, (a, b) in enumerate(rng.normal(size=(60, 2)))]
    rows[7] = "," + rows[7].split(",", 1)[1]
    place = tmp_path / "t.csv"
    place.write_text("\n".join(["a,b,label", *rows]))
    said = r"1 of 60 items cannot be read .*\n  row 9 \(no number in column a\): the vector holds NaN"
    with pytest.raises(DatasetError, match=said):
        encoders.train(place, output=tmp_path / "x", steps=2, progress=False)
    encoders.train(place, output=tmp_path / "x", steps=2, progress=False, skip_unreadable=True)
    mean = encoders.load(tmp_path / "x", device="cpu").spec.preprocess["mean"]
    assert np.isfinite(mean).all()


@pytest.mark.parametrize("kind", ["vector", "sequence"])
@pytest.mark.parametrize(
    ("size", "offset"), [(20.0, 1.7e9), (1e-9, 0.0), (1e-30, 0.0), (1.0, -3e6), (1e-3, 1.0), (1e20, 1e25)]
)
def test_scale_and_offset_do_not_matter(kind: str, size: float, offset: float) -> None:
    """A mean of 1.7e9 that was taken off in float32 left steps of 128; 1e-9 counted as constant."""
    plain = RNG.normal(size=(200, 6))
    moved = plain * size + offset
    items, others = (plain, moved) if kind == "vector" else (list(plain[:, None]), list(moved[:, None]))
    read, other = (preprocess.build(preprocess.fitted({"kind": kind}, part)) for part in (items, others))
    apart = max(np.abs(read(a) - other(b)).max() for a, b in zip(items, others, strict=True))
    assert apart < 1e-5


def test_what_is_constant_is_only_centred() -> None:
    column = np.full(50, 0.3)
    column[::2] = 0.1 + 0.2  # the same but for rounding
    rows = np.stack([column, np.full(50, 1.7e9), np.zeros(50), np.arange(50.0)], axis=1)
    found = preprocess.fitted({"kind": "vector"}, rows)
    assert found["std"][:3] == [1.0, 1.0, 1.0] and found["std"][3] == pytest.approx(14.43, abs=0.01)
    read = preprocess.build(found)
    assert np.abs(read(rows[1])[:3]).max() < 1e-15
    with pytest.raises(ValueError, match="too far from those that were trained on"):
        preprocess.VectorPreprocess(1, (0.0,), (1e-30,), wide=True)([1e30])


def test_what_other_columns_leave_of_nothing_is_only_centred() -> None:
    """Principal components beyond the rank: at deviation 1 these 34 outweighed the 6 that say something."""
    rows = RNG.normal(size=(300, 6)) @ RNG.normal(size=(6, 40)) * 100
    middle = rows - rows.mean(axis=0)
    parts = middle @ np.linalg.svd(middle, full_matrices=False)[2].T
    assert 0 < parts[:, 6:].std(axis=0).min() < parts[:, 6:].std(axis=0).max() < 1e-12
    std = np.array(preprocess.fitted({"kind": "vector"}, parts)["std"])
    assert np.allclose(std[:6], parts[:, :6].std(axis=0)) and (std[6:] == 1.0).all()
    shifts = np.stack([(rows[:, 0] + 0.1) - rows[:, 0] - 0.1, rows[:, 1]], axis=1)
    assert preprocess.fitted({"kind": "vector"}, shifts)["std"][0] == 1.0


def test_small_units_beside_large_ones_are_kept() -> None:
    """Nanovolts beside the seconds of ten years, and picovolts beside volts, are no rounding."""
    rows = RNG.normal(size=(200, 3)) * (1e-9, 1e8, 1.0) + (0.0, 1.7e9, 0.0)
    assert np.allclose(preprocess.fitted({"kind": "vector"}, rows)["std"], rows.std(axis=0))
    rows = RNG.normal(size=(200, 2)) * (1e-12, 1.0)
    assert np.allclose(preprocess.fitted({"kind": "vector"}, rows)["std"], rows.std(axis=0))


def test_an_older_encoder_reads_as_it_did() -> None:
    """Records without `wide` take the mean off in float32, to the same bits."""
    mean, std = tuple(RNG.normal(size=6).tolist()), tuple(RNG.uniform(1, 2, 6).tolist())
    item = RNG.normal(size=6) + 1000
    old = (item.astype(np.float32) - np.array(mean, np.float32)) / np.array(std, np.float32)
    settings = {"length": 6, "mean": list(mean), "std": list(std)}
    assert np.array_equal(preprocess.build({"kind": "vector"} | settings)(item), old)
    new = preprocess.build({"kind": "vector", "wide": True} | settings)(item)
    assert not np.array_equal(new, old) and np.abs(new - old).max() < 1e-3
    assert np.abs(new - (item - mean) / std).max() < 1e-4
    steps = preprocess.build(
        {"kind": "sequence", "channels": 6, "longest": 2, "mean": list(mean), "std": list(std)}
    )
    assert np.array_equal(steps(item[None])[0, :6], old)
    with pytest.raises(encoders.EncoderError, match="wide is true or false"):
        preprocess.build({"kind": "vector", "wide": 1} | settings)
