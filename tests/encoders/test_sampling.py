"""Batches keep their promise, and mining agrees with brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders import sampling
from encoders.errors import TrainingError

MARGIN = 0.4


def batch(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.nn.functional.normalize(torch.randn(14, 3, generator=generator))
    return embeddings, torch.randint(0, 4, (14,), generator=generator)


def apart(embeddings: torch.Tensor) -> list[list[float]]:
    return [[float((a - b).square().sum()) for b in embeddings] for a in embeddings]


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(1, 9), min_size=3, max_size=12),
    p=st.integers(2, 6),
    k=st.integers(2, 6),
    seed=st.integers(0, 10_000),
)
def test_batches_of_p_subjects_and_k_items(counts: list[int], p: int, k: int, seed: int) -> None:
    usable = sum(c >= 2 for c in counts)
    labels = np.repeat(np.arange(len(counts)), counts)
    if usable < 2:
        with pytest.raises(TrainingError, match="at least 2 are needed"):
            sampling.PKSampler(labels, p, k, np.random.default_rng(seed))
        return
    drawn = sampling.PKSampler(labels, p, k, np.random.default_rng(seed)).draw().reshape(-1, k)
    assert len(drawn) == min(p, usable)
    subjects = labels[drawn]
    assert (subjects == subjects[:, :1]).all()
    assert len(np.unique(subjects[:, 0])) == len(drawn)
    for row, subject in zip(drawn, subjects[:, 0], strict=True):
        assert counts[subject] >= 2
        assert len(np.unique(row)) == min(k, counts[subject])


def test_subjects_are_drawn_evenly_whatever_their_size() -> None:
    labels = np.repeat(np.arange(4), [2, 2, 50, 200])
    sampler = sampling.PKSampler(labels, 2, 2, np.random.default_rng(0))
    seen = np.bincount(np.concatenate([labels[sampler.draw()] for _ in range(600)]), minlength=4)
    assert (abs(seen / seen.sum() - 0.25) < 0.03).all()


def test_the_same_seed_draws_the_same_batches() -> None:
    labels = np.repeat(np.arange(5), 6)
    one, two = (sampling.PKSampler(labels, 3, 2, np.random.default_rng(8)) for _ in range(2))
    assert all((one.draw() == two.draw()).all() for _ in range(5))


@pytest.mark.parametrize("seed", range(6))
def test_hard_triplets(seed: int) -> None:
    embeddings, labels = batch(seed)
    d, expected = apart(embeddings), []
    for a in range(14):
        positives = [i for i in range(14) if i != a and labels[i] == labels[a]]
        negatives = [i for i in range(14) if labels[i] != labels[a]]
        if positives and negatives:
            expected.append((a, max(positives, key=lambda i: d[a][i]), min(negatives, key=lambda i: d[a][i])))
    found = zip(*(t.tolist() for t in sampling.hard_triplets(embeddings, labels)), strict=True)
    assert list(found) == expected


@pytest.mark.parametrize("seed", range(6))
def test_semi_hard_triplets(seed: int) -> None:
    embeddings, labels = batch(seed)
    d, expected = apart(embeddings), []
    for a in range(14):
        for p in range(14):
            if p == a or labels[p] != labels[a]:
                continue
            inside = [n for n in range(14) if labels[n] != labels[a] and d[a][p] < d[a][n] < d[a][p] + MARGIN]
            if inside:
                expected.append((a, p, min(inside, key=lambda n: d[a][n])))
    found = zip(*(t.tolist() for t in sampling.semi_hard_triplets(embeddings, labels, MARGIN)), strict=True)
    assert list(found) == expected and expected


@pytest.mark.parametrize("seed", range(4))
def test_hard_pairs(seed: int) -> None:
    embeddings, labels = batch(seed)
    d = apart(embeddings)
    pairs = [(i, j) for i in range(14) for j in range(i + 1, 14)]
    mated = [p for p in pairs if labels[p[0]] == labels[p[1]]]
    others = sorted((p for p in pairs if p not in mated), key=lambda p: d[p[0]][p[1]])
    left, right, same = (t.tolist() for t in sampling.hard_pairs(embeddings, labels))
    assert set(zip(left, right, strict=True)) == {*mated, *others[: len(mated)]}
    assert sum(same) == len(mated)


def test_all_pairs() -> None:
    left, right, same = sampling.all_pairs(torch.tensor([5, 7, 5]))
    assert (left.tolist(), right.tolist(), same.tolist()) == ([0, 0, 1], [1, 2, 2], [False, True, False])


def test_a_batch_of_one_subject_has_no_triplets() -> None:
    embeddings, _ = batch(0)
    same = torch.zeros(14, dtype=torch.int64)
    assert [len(t) for t in sampling.hard_triplets(embeddings, same)] == [0, 0, 0]
    assert [len(t) for t in sampling.semi_hard_triplets(embeddings, same)] == [0, 0, 0]
