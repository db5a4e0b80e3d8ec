"""Error rates against counting by hand, and intervals against known values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoders import evaluation, validation
from encoders.datasets import from_arrays


def floats(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)


def test_rates_count_the_threshold_as_accepted() -> None:
    apart = floats(0.1, 0.2, 0.3, 0.4)
    assert evaluation.fmr_at(apart, 0.2) == 0.5
    assert evaluation.fnmr_at(apart, 0.2) == 0.5
    assert evaluation.fmr_at(apart, float(np.nextafter(np.float32(0.2), np.float32(0)))) == 0.25


@given(
    values=st.lists(st.integers(0, 20), min_size=1, max_size=60),
    fmr=st.sampled_from([0.01, 0.05, 0.1, 0.5]),
)
def test_threshold_is_the_largest_that_keeps_the_fmr(values: list[int], fmr: float) -> None:
    apart = floats(*(v / 10 for v in values))
    found = evaluation.threshold_at_fmr(apart, fmr)
    assert evaluation.fmr_at(apart, found) <= fmr
    more = apart[apart > np.float32(found)]
    assert len(more) == 0 or evaluation.fmr_at(apart, float(more.min())) > fmr


def test_eer_of_known_distances() -> None:
    mated, other = floats(0.1, 0.2, 0.3, 0.6), floats(0.25, 0.5, 0.7, 0.8)
    error, threshold = evaluation.eer(mated, other)
    assert error == 0.25
    assert threshold + 1e-6 >= 0.3 and threshold < 0.5
    assert evaluation.eer(floats(0.1, 0.2), floats(0.5, 0.6))[0] == 0.0
    assert evaluation.eer(floats(0.5, 0.6), floats(0.1, 0.2))[0] == 1.0


def test_distances_by_metric() -> None:
    left, right = floats(1, 0, 0, 1).reshape(2, 2), floats(0.6, 0.8).reshape(1, 2)
    assert evaluation.distances(left, right, "cosine").ravel().tolist() == pytest.approx([0.4, 0.2], abs=1e-6)
    expected = [np.hypot(0.4, 0.8), np.hypot(0.6, 0.2)]
    assert evaluation.distances(left, right, "euclidean").ravel().tolist() == pytest.approx(
        expected, abs=1e-6
    )


def test_comparisons_are_every_pair_once() -> None:
    mated, other = evaluation.comparisons(
        floats(0, 1, 3, 7).reshape(4, 1), np.array([0, 0, 1, 1]), "euclidean"
    )
    assert sorted(mated.tolist()) == [1.0, 4.0]
    assert sorted(other.tolist()) == [2.0, 3.0, 6.0, 7.0]


def test_wilson_of_known_values() -> None:
    found = evaluation.wilson(0, 100)
    assert (found.value, found.low) == (0.0, 0.0)
    assert found.high == pytest.approx(0.0370, abs=1e-4)
    half = evaluation.wilson(50, 100)
    assert (half.low, half.high) == (pytest.approx(0.4038, abs=1e-4), pytest.approx(0.5962, abs=1e-4))


def test_grouped_bootstrap_is_wider_when_errors_come_in_groups() -> None:
    rng = np.random.default_rng(0)
    wrong = np.tile([20.0, 0.0], 100).astype(np.float32)  # every other episode is all wrong
    counts = np.full(200, 20)
    alone = evaluation.grouped_bootstrap(wrong, counts, np.arange(200), rng)
    halves = evaluation.grouped_bootstrap(wrong, counts, np.tile(np.arange(4), 50), rng)
    assert alone.value == halves.value == 0.5
    assert (alone.low, alone.high) == (pytest.approx(0.43, abs=0.01), pytest.approx(0.57, abs=0.01))
    assert (halves.low, halves.high) == (0.0, 1.0)


def test_one_shot_error_counts_ties_against_the_encoder() -> None:
    apart = floats(0.1, 0.5, 0.9, 0.4, 0.4, 0.9, 0.3, 0.2, 0.9).reshape(3, 3)
    assert evaluation.one_shot_error(apart, np.array([0, 1, 0])) == pytest.approx(2 / 3)


def test_validation_of_perfect_and_of_random_embeddings() -> None:
    labels = np.repeat(np.arange(30), 5)
    data = from_arrays(np.zeros((150, 1)), labels)
    perfect = np.eye(30, dtype=np.float32)[labels]
    found = validation.validate(perfect, data, "cosine", 0.001)
    assert (found.eer, found.one_shot_error, found.fmr, found.fnmr) == (0.0, 0.0, 0.0, 0.0)
    assert (found.subjects, found.mated, found.non_mated) == (30, 300, 10875)
    noise = np.random.default_rng(0).normal(size=(150, 16)).astype(np.float32)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    chance = validation.validate(noise, data, "cosine", 0.001)
    assert chance.eer == pytest.approx(0.5, abs=0.05)
    assert chance.one_shot_error == pytest.approx(0.95, abs=0.02)
    assert chance.fmr <= 0.001


def test_one_shot_stays_within_the_group() -> None:
    # Across groups the embeddings collide; within a group they are perfect.
    labels, groups = np.repeat(np.arange(8), 2), np.repeat([0, 1], 8)
    embeddings = np.eye(4, dtype=np.float32)[labels % 4]
    data = from_arrays(np.zeros((16, 1)), labels, groups)
    assert validation.one_shot(embeddings, data, "cosine", np.random.default_rng(0)) == 0.0
    without = from_arrays(np.zeros((16, 1)), labels)
    assert validation.one_shot(embeddings, without, "cosine", np.random.default_rng(0)) == 1.0
