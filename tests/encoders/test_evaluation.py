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


def by_differences(left: np.ndarray, right: np.ndarray, metric: str) -> np.ndarray:
    """Every distance by itself, in float64."""
    wide = [part.astype(np.float64) for part in (left, right)]
    if metric == "cosine":
        wide = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in wide]
    squares = ((wide[0][:, None] - wide[1][None]) ** 2).sum(axis=2)
    return squares / 2 if metric == "cosine" else np.sqrt(squares)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("offset", [0.0, 100.0, 1e4, 1e6])
def test_distances_keep_their_digits(metric: str, offset: float) -> None:
    """In float32 all digits are lost: at 10,000 under euclidean, and under cosine in a narrow cone."""
    rng = np.random.default_rng(0)
    left, right = ((rng.normal(size=(n, 32)) + offset).astype(np.float32) for n in (30, 40))
    left[7] = right[9]
    right[20], right[21] = 1e7, 1e7 + 1  # so that no origin is near to all
    truth = by_differences(left, right, metric)
    found = evaluation.distances(left, right, metric)
    assert found == pytest.approx(truth, rel=3e-7) and found[7, 9] == 0.0
    assert evaluation.paired_distances(left, right[:30], metric) == pytest.approx(truth.diagonal(), rel=3e-7)


def test_under_cosine_rows_of_any_length_are_the_same() -> None:
    rng = np.random.default_rng(0)
    left, right = (rng.normal(size=(n, 8)).astype(np.float32) for n in (20, 30))
    unit = evaluation.distances(left, right, "cosine")
    for scale in (1e-20, 0.1, 3.0, 1e20):
        scales = np.float32(scale) * rng.uniform(0.5, 2, (20, 1)).astype(np.float32)
        assert evaluation.distances(left * scales, right, "cosine") == pytest.approx(unit, abs=1e-6)
        paired = evaluation.paired_distances(left, right[:20] * scales, "cosine")
        assert paired == pytest.approx(unit.diagonal(), abs=1e-6)
    opposite = evaluation.distances(left, -left, "cosine")
    assert opposite.max() == 2.0 and opposite.diagonal() == pytest.approx(np.full(20, 2.0))
    left[3] = 0  # no direction
    assert (evaluation.distances(left, right, "cosine")[3] == 1.0).all()
    assert (evaluation.distances(right, left, "cosine")[:, 3] == 1.0).all()
    assert evaluation.paired_distances(left, right[:20], "cosine")[3] == 1.0


def test_distances_in_blocks_and_of_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    left, right = (rng.normal(size=(n, 8)).astype(np.float32) for n in (20, 30))
    whole = evaluation.distances(left, right, "euclidean")
    monkeypatch.setattr(evaluation, "NUMBERS", 100)
    assert evaluation.distances(left, right, "euclidean") == pytest.approx(whole, rel=1e-6)
    for metric in ("cosine", "euclidean"):
        assert evaluation.distances(left[:0], right, metric).shape == (0, 30)
        assert evaluation.distances(left, right[:0], metric).shape == (20, 0)
    with pytest.raises(ValueError, match="metric 'dot' is none of cosine, euclidean"):
        evaluation.distances(left, right, "dot")


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
