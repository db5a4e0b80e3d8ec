"""The one-shot protocols give the known answer for embeddings whose answer is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import omniglot_data, one_shot, report
from encoders import datasets
from tests.data import needs


def made() -> omniglot_data.Characters:
    """Three alphabets of 25 characters, 4 drawers each, rows shuffled."""
    alphabet, character, drawer = (a.ravel() for a in np.meshgrid(*map(np.arange, (3, 25, 4)), indexing="ij"))
    order = np.random.default_rng(0).permutation(300)
    names = np.array(["a", "b", "c"])[alphabet[order]]
    return omniglot_data.Characters(np.zeros((300, 1, 1), np.uint8), names, character[order], drawer[order])


def test_sampled_with_perfect_random_and_half_right_embeddings() -> None:
    data = made()
    perfect = np.eye(25, dtype=np.float32)[data.character]
    assert one_shot.sampled(data, perfect, "cosine", 200).value == 0.0
    noise = np.random.default_rng(1).normal(size=(300, 12)).astype(np.float32)
    assert one_shot.sampled(data, noise, "euclidean", 400).value == pytest.approx(0.95, abs=0.02)
    broken = np.where((data.alphabet == "a")[:, None], 0, perfect)  # one alphabet in three is always wrong
    found = one_shot.sampled(data, broken, "cosine", 600)
    assert found.value == pytest.approx(1 / 3, abs=0.06) and found.count == 12_000
    assert found.low == 0.0 and found.high == 1.0  # three alphabets say little, and the interval admits it


def test_episodes_never_compare_a_drawing_with_itself() -> None:
    data = made()
    own = np.eye(300, dtype=np.float32)  # every drawing is near only to itself
    assert one_shot.sampled(data, own, "cosine", 100).value == 1.0


def test_digits_protocol() -> None:
    labels = np.repeat(np.arange(10), 5)
    perfect = np.eye(10, dtype=np.float32)[labels]
    assert one_shot.digits(labels, perfect, "cosine") == {
        "accuracy": 1.0,
        "low": 1.0,
        "high": 1.0,
        "draws": 1000,
    }


def test_results_are_written_with_the_machine(tmp_path: Path) -> None:
    path = report.write("x", {"a": 1.5}, tmp_path)
    held = json.loads(path.read_text())
    assert held["a"] == 1.5 and held["machine"]["cores"] >= 1 and "torch" in held["machine"]["packages"]
    with pytest.raises(ValueError, match="not JSON compliant"):
        report.write("x", {"a": float("nan")}, tmp_path)
    assert report.read("x", tmp_path) == held


def test_real_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    place = needs("omniglot", "all_runs.zip").parent
    monkeypatch.setenv("GALLERY_DATA", str(place.parent))
    runs = omniglot_data.fixed_runs()
    assert len(runs) == 20 and all(len(s) == len(q) == 20 for s, q, _ in runs)
    assert all(sorted(truth) == list(range(20)) for _, _, truth in runs)


@pytest.mark.slow
def test_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GALLERY_DATA", str(needs("omniglot", "omniglot.npz").parent.parent))
    assert omniglot_data.export(tmp_path / "b.npz") == 19_280
    data = datasets.load(tmp_path / "b.npz")
    assert len(data.subjects) == 964 and len(data.group_names) == 30
    assert (np.bincount(data.labels) == 20).all() and 0.01 < (data.items == 0).mean() < 0.1
