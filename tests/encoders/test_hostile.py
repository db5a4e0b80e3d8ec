"""What a user or a damaged file may hand over: a refusal in words, before any training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from encoders import datasets, evaluation, validation
from encoders.datasets import LabelledSet, from_arrays
from encoders.errors import DatasetError, EncoderError
from tests.encoders.shapes import labelled


def mostly_single(singles: int = 16, repeated: int = 4, groups: int = 0) -> LabelledSet:
    """`singles` subjects of one vector, then `repeated` subjects of three."""
    labels = np.concatenate([np.arange(singles), np.repeat(np.arange(singles, singles + repeated), 3)])
    vectors = np.random.default_rng(0).normal(size=(len(labels), 6)).astype(np.float32)
    return from_arrays(vectors, labels, labels % groups if groups else None)


def repeated(data: LabelledSet) -> int:
    return int((np.bincount(data.labels) >= 2).sum())


@pytest.mark.parametrize("seed", range(8))
def test_subjects_of_one_item_are_not_held_out(seed: int) -> None:
    train, held = datasets.split(mostly_single(), 0.15, np.random.default_rng(seed))
    assert (repeated(train), repeated(held), len(held), len(train)) == (2, 2, 6, 22)
    train, held = datasets.split(mostly_single(18, 12, groups=3), 0.15, np.random.default_rng(seed))
    assert (repeated(train), repeated(held)) == (8, 4)


def test_too_few_subjects_with_two_items_are_counted_before_training() -> None:
    for groups in (0, 2):
        with pytest.raises(DatasetError, match=r"19 subjects cannot be split .*: 3 have 2 items"):
            datasets.split(mostly_single(16, 3, groups), 0.15, np.random.default_rng(0))


def test_the_split_of_a_set_without_single_items_has_not_moved() -> None:
    _, held = datasets.split(labelled(10, 3), 0.3, np.random.default_rng(3))
    units = np.random.default_rng(3).permutation(10)
    assert set(held.labels.tolist()) == set(units[:3].tolist())


def test_no_threshold_is_negative() -> None:
    apart = np.array([0, 0, 0.5, 1], np.float32)
    assert evaluation.threshold_at_fmr(apart, 0.25) is None
    assert evaluation.threshold_at_fmr(apart, 0.5) == pytest.approx(0.5)
    one = np.tile(np.array([1, 0], np.float32), (8, 1))
    found = validation.validate(one, from_arrays(one, np.arange(8) // 2), "cosine", 0.01)
    assert (found.threshold, found.fmr, found.fnmr) == (None, 0.0, 1.0)


def test_rates_of_a_huge_set_of_pairs_are_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "MOST_ITEMS", 4)
    vectors = np.random.default_rng(0).normal(size=(600, 3)).astype(np.float32)
    labels = np.concatenate([np.arange(500), np.repeat(np.arange(500, 550), 2)])
    found = validation.validate(vectors, from_arrays(vectors, labels), "euclidean", 0.01)
    assert (found.mated, found.non_mated) == (2, 4) and 0.0 <= found.eer <= 1.0


@pytest.mark.parametrize(("fmr", "seed"), [(np.nan, 0), (0.0, 0), (2.0, 0), (-1.0, 0), (0.1, -1)])
def test_impossible_rates_and_seeds(fmr: float, seed: int) -> None:
    one = np.ones((8, 2), np.float32)
    with pytest.raises(EncoderError, match=f"{'seed' if seed else 'fmr'} is"):
        validation.validate(one, from_arrays(one, np.arange(8) // 2), "cosine", fmr, seed)


def test_embeddings_that_are_no_numbers_are_not_measured() -> None:
    bad = np.full((8, 2), np.nan, np.float32)
    with pytest.raises(DatasetError, match="NaN or infinity"):
        validation.validate(bad, from_arrays(bad, np.arange(8) // 2), "cosine", 0.01)


@pytest.mark.parametrize("labels", [np.zeros((6, 2), np.int64), np.int64(3)])
def test_labels_that_are_no_row(labels: np.ndarray, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", vectors=np.zeros((6, 4)), labels=labels)
    with pytest.raises(DatasetError, match="labels are one number or name an item"):
        datasets.load(tmp_path / "x.npz")
