"""ROC, TAR, d' and their resampling, against counting by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoders import charts, evaluation, resampling, retrieval, verification
from encoders.verification import Comparisons

tenths = st.lists(st.integers(0, 12).map(lambda v: v / 10), min_size=1, max_size=30)


@given(mated=tenths, other=tenths, seed=st.integers(0, 99))
def test_the_curve_counts_with_weights(mated: list[float], other: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, two = np.float32(mated), np.float32(other)
    weights = [rng.integers(0, 3, len(part)).astype(float) for part in (one, two)]
    for part in weights:
        part[0] += 1
    curve = Comparisons(one, two).curve(*weights)
    for at, fmr, fnmr in zip(curve.thresholds, curve.fmr, curve.fnmr, strict=True):
        accepted = sum(w for d, w in zip(two, weights[1], strict=True) if d <= at)
        rejected = sum(w for d, w in zip(one, weights[0], strict=True) if d > at)
        assert fmr == pytest.approx(accepted / weights[1].sum())
        assert fnmr == pytest.approx(rejected / weights[0].sum(), abs=1e-12)
    plain = Comparisons(one, two).curve()
    assert verification.eer(plain) == pytest.approx(evaluation.eer(one, two))
    for far in (0.0, 0.1, 0.34):
        within = [at for at in np.unique(np.r_[one, two]) if np.mean(two <= at) <= far]
        expected = np.mean(one <= max(within)) if within else 0.0
        assert verification.tar_at(plain, far) == pytest.approx(expected)
    best = max((np.mean(one <= at) + np.mean(two > at)) / 2 for at in np.r_[one, two])
    assert verification.best_accuracy(plain)[0] == pytest.approx(best)


def test_weights_of_nothing_and_pairs_of_nothing_are_refused() -> None:
    held = Comparisons(np.float32([0.1]), np.float32([0.5]))
    with pytest.raises(ValueError, match="weight 0"):
        held.curve(np.zeros(1), np.ones(1))
    with pytest.raises(ValueError, match="0 mated and 1 non-mated"):
        Comparisons(np.float32([]), np.float32([0.5]))


def test_d_prime_of_two_gaussians() -> None:
    rng = np.random.default_rng(0)
    one, two = rng.normal(0, 1, 20000), rng.normal(3, 2, 20000)
    found = verification.d_prime(one.astype(np.float32), two.astype(np.float32))
    assert found == pytest.approx(3 / math.sqrt(2.5), rel=0.02)
    assert verification.d_prime(np.ones(3, np.float32), np.ones(3, np.float32)) == 0.0
    assert verification.d_prime(np.ones(3, np.float32), np.zeros(3, np.float32)) == math.inf


def test_two_gaussians_are_a_straight_line_on_a_det_plot() -> None:
    from statistics import NormalDist

    cuts = np.linspace(-1, 3, 9)
    fmr = np.array([NormalDist(2, 1).cdf(c) for c in cuts])
    fnmr = np.array([1 - NormalDist(0, 1).cdf(c) for c in cuts])
    x, y = verification.probit(fmr), verification.probit(fnmr)
    assert np.allclose(x + y, -2.0, atol=1e-9)


def test_a_thinned_curve_keeps_its_ends_and_its_shape() -> None:
    rng = np.random.default_rng(0)
    curve = Comparisons(
        rng.normal(0, 1, 3000).astype(np.float32), rng.normal(2, 1, 9000).astype(np.float32)
    ).curve()
    thin = verification.thinned(curve, 100)
    assert len(thin.fmr) <= 102 and (thin.fmr[0], thin.fnmr[-1]) == (curve.fmr[0], curve.fnmr[-1])
    assert verification.eer(thin)[0] == pytest.approx(verification.eer(curve)[0], abs=0.01)
    assert verification.thinned(thin, 200) is thin


def test_ranks_against_a_plain_loop() -> None:
    rng = np.random.default_rng(3)
    labels = np.array([0, 0, 0, 1, 1, 2, 3, 3, 3, 3, 1])
    rows = np.round(rng.normal(size=(11, 2)), 0).astype(np.float32)  # rounded: with ties
    found = retrieval.ranks(rows, labels, "euclidean")
    assert found.probes.tolist() == [i for i in range(11) if labels[i] != 2]
    for k, i in enumerate(found.probes):
        others = [j for j in range(11) if j != i]
        apart = {j: float(evaluation.distances(rows[[i]], rows[[j]], "euclidean")[0, 0]) for j in others}
        order = sorted(others, key=lambda j: (apart[j], labels[j] == labels[i]))
        hits = [labels[j] == labels[i] for j in order]
        assert found.item_rank[k] == hits.index(True) + 1
        near = {s: min(apart[j] for j in others if labels[j] == s) for s in set(labels[others])}
        own = near.pop(labels[i])
        assert found.subject_rank[k] == 1 + sum(d <= own for d in near.values())
        r = sum(hits)
        precision = [sum(hits[: p + 1]) / (p + 1) for p in range(r) if hits[p]]
        assert found.map_at_r[k] == pytest.approx(sum(precision) / r)
    curve = retrieval.cmc(found, 4)
    assert curve.tolist() == [np.mean(found.subject_rank <= k) for k in (1, 2, 3, 4)] and curve[-1] == 1.0
    assert retrieval.recall_at(found, 3).mean() == np.mean(found.item_rank <= 3)


def test_ranks_do_not_depend_on_how_many_are_asked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    rows, labels = rng.normal(size=(70, 4)).astype(np.float32), np.repeat(np.arange(14), 5)
    whole = retrieval.ranks(rows, labels, "euclidean")
    monkeypatch.setattr(retrieval, "ROWS", 7)
    parts = retrieval.ranks(rows, labels, "euclidean")
    assert np.array_equal(whole.map_at_r, parts.map_at_r)
    assert np.array_equal(whole.subject_rank, parts.subject_rank)


def test_episodes_of_perfect_and_of_random_embeddings() -> None:
    labels = np.repeat(np.arange(12), 6)
    settings = {"ways": 5, "shots": 3, "count": 300}
    perfect = np.eye(12, dtype=np.float32)[labels]
    found = retrieval.episodes(perfect, labels, "cosine", rng=np.random.default_rng(0), **settings)
    assert found is not None and found.right.shape == (300, 5) and found.right.all()
    noise = np.random.default_rng(1).normal(size=(72, 8)).astype(np.float32)
    chance = retrieval.episodes(noise, labels, "euclidean", rng=np.random.default_rng(0), **settings)
    assert chance is not None and chance.right.mean() == pytest.approx(0.2, abs=0.06)
    few = retrieval.episodes(
        perfect, labels, "cosine", ways=20, shots=1, count=2, rng=np.random.default_rng(0)
    )
    assert few is not None and few.right.shape == (2, 12)
    assert (
        retrieval.episodes(perfect, labels, "cosine", ways=5, shots=6, count=2, rng=np.random.default_rng(0))
        is None
    )
    same = np.ones((72, 2), np.float32)  # every distance ties: nothing is right
    tied = retrieval.episodes(
        same, labels, "euclidean", ways=5, shots=1, count=5, rng=np.random.default_rng(0)
    )
    assert tied is not None and not tied.right.any()


def test_resampling_subjects_is_wider_when_errors_come_by_subject() -> None:
    rng = np.random.default_rng(0)
    about = np.repeat(np.arange(40), 25)
    by_subject = (about % 2).astype(float)
    mixed = np.tile([0.0, 1.0], 500)
    wide, narrow = (resampling.mean(values, about, rng) for values in (by_subject, mixed))
    assert wide.value == narrow.value == 0.5 and wide.count == 1000
    assert (wide.low, wide.high) == (pytest.approx(0.35, abs=0.05), pytest.approx(0.65, abs=0.05))
    assert narrow.high - narrow.low < 0.065  # as for 1,000 independent trials, and never narrower
    lonely = resampling.mean(np.ones(5), np.zeros(5, np.int64), rng)
    assert (lonely.low, lonely.high) == (0.0, 1.0)


def test_axes_place_values_where_they_belong() -> None:
    assert [charts.Axis("x", 0, 10).place(v) for v in (-1, 0, 5, 10, 11)] == [0, 0, 0.5, 1, 1]
    log = charts.Axis("x", 0.001, 1, "log")
    assert log.place(0.001) == 0 and log.place(0.0316227766) == pytest.approx(0.5)
    assert log.marks() == pytest.approx([0.001, 0.01, 0.1, 1])
    normal = charts.Axis("x", 0.01, 0.99, "probit")
    assert normal.place(0.5) == pytest.approx(0.5) and normal.marks() == [0.01, 0.05, 0.2, 0.5, 0.8]
    assert "nothing recorded" in charts.chart("a < b", {"x": []}, log, log)
    drawn = charts.chart("a < b", {"one": [(0.01, 0.1), (1, 1)], "two": [], "three": [(1, 1)]}, log, log)
    assert drawn.count("<polyline") == 2 and "a &lt; b" in drawn and ">two<" not in drawn
