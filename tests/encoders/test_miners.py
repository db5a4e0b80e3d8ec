"""Mining agrees with brute force."""

from __future__ import annotations

import pytest
import torch

from encoders.losses import miners
from encoders.losses.distances import SquaredEuclidean

SQUARED = SquaredEuclidean()
MARGIN = 0.4


def batch(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.nn.functional.normalize(torch.randn(14, 3, generator=generator))
    return embeddings, torch.randint(0, 4, (14,), generator=generator)


def apart(embeddings: torch.Tensor) -> list[list[float]]:
    return [[float((a - b).square().sum()) for b in embeddings] for a in embeddings]


@pytest.mark.parametrize("seed", range(6))
def test_hard_triplets(seed: int) -> None:
    embeddings, labels = batch(seed)
    d, expected = apart(embeddings), []
    for a in range(14):
        positives = [i for i in range(14) if i != a and labels[i] == labels[a]]
        negatives = [i for i in range(14) if labels[i] != labels[a]]
        if positives and negatives:
            expected.append((a, max(positives, key=lambda i: d[a][i]), min(negatives, key=lambda i: d[a][i])))
    found = zip(*(t.tolist() for t in miners.hard_triplets(embeddings, labels, SQUARED)), strict=True)
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
    found = zip(
        *(t.tolist() for t in miners.semi_hard_triplets(embeddings, labels, SQUARED, MARGIN)), strict=True
    )
    assert list(found) == expected and expected


@pytest.mark.parametrize("seed", range(4))
def test_hard_pairs(seed: int) -> None:
    embeddings, labels = batch(seed)
    d = apart(embeddings)
    pairs = [(i, j) for i in range(14) for j in range(i + 1, 14)]
    mated = [p for p in pairs if labels[p[0]] == labels[p[1]]]
    others = sorted((p for p in pairs if p not in mated), key=lambda p: d[p[0]][p[1]])
    left, right, same = (t.tolist() for t in miners.hard_pairs(embeddings, labels, SQUARED))
    assert set(zip(left, right, strict=True)) == {*mated, *others[: len(mated)]}
    assert sum(same) == len(mated)


def test_all_pairs() -> None:
    left, right, same = miners.all_pairs(torch.zeros(3, 1), torch.tensor([5, 7, 5]), SQUARED)
    assert (left.tolist(), right.tolist(), same.tolist()) == ([0, 0, 1], [1, 2, 2], [False, True, False])


def test_a_batch_of_one_subject_has_no_triplets() -> None:
    embeddings, _ = batch(0)
    same = torch.zeros(14, dtype=torch.int64)
    assert [len(t) for t in miners.hard_triplets(embeddings, same, SQUARED)] == [0, 0, 0]
    assert [len(t) for t in miners.semi_hard_triplets(embeddings, same, SQUARED)] == [0, 0, 0]
    assert [len(t) for t in miners.all_triplets(embeddings, same, SQUARED)] == [0, 0, 0]


def test_all_triplets() -> None:
    embeddings, labels = batch(1)
    expected = [
        (a, p, n)
        for a in range(14)
        for p in range(14)
        for n in range(14)
        if p != a and labels[p] == labels[a] != labels[n]
    ]
    found = zip(*(t.tolist() for t in miners.all_triplets(embeddings, labels, SQUARED)), strict=True)
    assert list(found) == expected
