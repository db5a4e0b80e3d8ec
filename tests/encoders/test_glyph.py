"""The shipped encoder: its files, its card, and regression numbers on a small fixed slice of real data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import encoders
from benchmarks import omniglot_data, one_shot, report, train_glyph
from benchmarks.glyph_card import card
from encoders import evaluation, record, shipped
from encoders.history import History
from tests.data import needs
from tests.encoders.shapes import picture


@pytest.fixture(scope="module")
def glyph() -> Any:
    return encoders.load("glyph")


@pytest.fixture
def omniglot(monkeypatch: pytest.MonkeyPatch) -> Path:
    place = needs("omniglot", "omniglot.npz").parent
    monkeypatch.setenv("GALLERY_DATA", str(place.parent))
    return place


def test_ships_within_six_megabytes_with_a_threshold(glyph: Any) -> None:
    place = shipped.find("glyph")
    assert (place / "weights.safetensors").stat().st_size <= 6_000_000
    assert (glyph.dim, glyph.metric, glyph.name) == (256, "cosine", "glyph")
    assert 0.05 < glyph.threshold < 0.9 and glyph.spec.threshold_fmr == 0.01


def test_card_and_results_are_of_these_weights(glyph: Any) -> None:
    results = report.read("omniglot")
    assert results["encoder"]["fingerprint"] == glyph.fingerprint
    assert glyph.card == card(shipped.find("glyph"), results)
    assert glyph.fingerprint in glyph.card and "MIT" in glyph.card
    assert results["glyph"]["fixed"]["value"] <= 0.045 and results["glyph"]["sampled"]["value"] <= 0.14


@pytest.mark.parametrize("subject", range(6))
def test_a_negative_embeds_the_same(glyph: Any, subject: int) -> None:
    dark = picture(subject)
    one, two = glyph.encode([dark, 255 - dark])
    assert 1.0 - float(one @ two) < 1e-6


def test_size_contrast_and_place_hardly_matter(glyph: Any) -> None:
    dark = picture(3)
    page = np.full((200, 300), 255, dtype=np.uint8)
    page[100:140, 200:240] = dark
    large = np.asarray(Image.fromarray(dark).resize((160, 160), Image.Resampling.BICUBIC))
    faint = (130 + dark * 0.3).astype(np.uint8)
    apart = 1.0 - glyph.encode([page, large, faint]) @ glyph.encode([dark])[0]
    assert apart[0] < 1e-6 and apart[1] < glyph.threshold and apart[2] < 0.02


def test_the_same_bits_alone_and_in_a_batch(glyph: Any) -> None:
    pictures = [picture(s) for s in range(37)]
    together = glyph.encode(pictures)
    assert all(np.array_equal(glyph.encode([p])[0], row) for p, row in zip(pictures, together, strict=True))


def test_fixed_runs(glyph: Any, omniglot: Path) -> None:
    found = one_shot.fixed(omniglot_data.fixed_runs(), glyph.encode, glyph.metric)
    assert found.count == 400 and found.value <= 0.045


def test_a_slice_of_the_sampled_episodes(glyph: Any, omniglot: Path) -> None:
    data = omniglot_data.characters("evaluation")
    kept = np.isin(data.alphabet, ["Angelic", "Ge_ez", "Tengwar"]) & (data.drawer <= 5)
    part = omniglot_data.Characters(
        data.images[kept], data.alphabet[kept], data.character[kept], data.drawer[kept]
    )
    embeddings = glyph.encode(part.images)
    found = one_shot.sampled(part, embeddings, glyph.metric, episodes=300)
    raw = one_shot.sampled(
        part, 1 - part.images.reshape(len(part.images), -1) / np.float32(255), "euclidean", 300
    )
    assert found.count == 6000 and found.value <= 0.14 < 0.7 < raw.value
    subjects = np.unique(np.char.add(part.alphabet, part.character.astype(str)), return_inverse=True)[1]
    _, other = evaluation.comparisons(embeddings, subjects, glyph.metric)
    assert 0.0005 < evaluation.fmr_at(other, glyph.threshold) < 0.02


def test_digits_one_shot_beats_raw_pixels(glyph: Any) -> None:
    load_digits = pytest.importorskip("sklearn.datasets").load_digits
    held = load_digits()
    chosen = np.arange(600)
    labels = held.target[chosen]
    images = (held.images[chosen] * (255 / 16)).astype(np.uint8)
    found = one_shot.digits(labels, glyph.encode(images), glyph.metric)
    raw = one_shot.digits(labels, held.data[chosen].astype(np.float32), "euclidean")
    assert found["accuracy"] > raw["accuracy"]


def test_the_histories_of_all_its_trainings_are_beside_the_weights() -> None:
    told = json.loads((shipped.find("glyph") / record.HISTORY).read_text(encoding="utf-8"))["members"]
    past = [History(**one) for one in told]
    assert [one.settings["steps"] for one in past] == [own["steps"] for own in train_glyph.RUNS.values()]
    for one, own in zip(past, train_glyph.RUNS.values(), strict=True):
        said = {k: v for k, v in (train_glyph.COMMON | own).items() if k not in ("preprocess", "tower_args")}
        assert one.used["preprocess"]["size"] == own.get("preprocess", {}).get("size", 48)
        assert {k: one.settings[k] for k in said} == said and one.settings["loss"] == "margin"
        assert one.evidence["subjects"] >= 60
