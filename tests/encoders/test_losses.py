"""Every loss against a plain double loop in Python floats."""

from __future__ import annotations

import math

import pytest
import torch

from encoders import losses


def made(seed: int = 0, n: int = 9, d: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator), torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 1])[:n]


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return math.sqrt(sum((float(x) - float(y)) ** 2 for x, y in zip(a, b, strict=True)))


def test_pair_distances_are_true_not_squared() -> None:
    left, right = torch.tensor([[0.0, 0.0], [1.0, 1.0]]), torch.tensor([[3.0, 4.0], [1.0, 1.0]])
    assert losses.pair_distances(left, right).tolist() == pytest.approx([5.0, 1e-6], abs=1e-9)


def test_pair_distance_of_equal_rows_has_a_finite_gradient() -> None:
    left = torch.ones(1, 3, requires_grad=True)
    losses.pair_distances(left, torch.ones(1, 3)).sum().backward()
    assert left.grad is not None and torch.isfinite(left.grad).all()


@pytest.mark.parametrize("margin", [0.5, 1.0, 2.5])
def test_contrastive(margin: float) -> None:
    embeddings, labels = made()
    terms = []
    for i in range(len(labels)):
        for j in range(i + 1, len(labels)):
            d = distance(embeddings[i], embeddings[j])
            terms.append(0.5 * d * d if labels[i] == labels[j] else 0.5 * max(0.0, margin - d) ** 2)
    left, right = torch.triu_indices(len(labels), len(labels), 1)
    apart = losses.pair_distances(embeddings[left], embeddings[right])
    found = losses.contrastive(apart, labels[left] == labels[right], margin)
    assert float(found) == pytest.approx(sum(terms) / len(terms), rel=1e-5)


def test_contrastive_label_convention() -> None:
    far = torch.tensor([2.0])
    assert float(losses.contrastive(far, torch.tensor([1]), 1.0)) == 2.0  # mated and far: costs d^2 / 2
    assert float(losses.contrastive(far, torch.tensor([0]), 1.0)) == 0.0  # non-mated and far: costs nothing


@pytest.mark.parametrize("margin", [0.2, 1.0])
def test_triplet(margin: float) -> None:
    a, p, n = (made(seed)[0] for seed in (1, 2, 3))
    terms = [max(0.0, distance(a[i], p[i]) ** 2 - distance(a[i], n[i]) ** 2 + margin) for i in range(len(a))]
    assert float(losses.triplet(a, p, n, margin)) == pytest.approx(sum(terms) / len(terms), rel=1e-5)


def test_pairwise_bce() -> None:
    apart, mated = torch.tensor([0.1, 0.9, 1.7]), torch.tensor([1, 0, 1])
    terms = []
    for d, same in zip(apart.tolist(), mated.tolist(), strict=True):
        chance = 1 / (1 + math.exp(-(3.0 - 4.0 * d)))
        terms.append(-math.log(chance if same else 1 - chance))
    found = losses.pairwise_bce(apart, mated, torch.tensor(4.0), torch.tensor(3.0))
    assert float(found) == pytest.approx(sum(terms) / 3, rel=1e-5)


def test_margin_softmax() -> None:
    generator = torch.Generator().manual_seed(4)
    cosines, labels = torch.rand(6, 5, generator=generator) * 2 - 1, torch.tensor([0, 1, 2, 3, 4, 0])
    terms = []
    for row, label in zip(cosines.tolist(), labels.tolist(), strict=True):
        logits = [8.0 * (c - (0.35 if k == label else 0.0)) for k, c in enumerate(row)]
        terms.append(math.log(sum(math.exp(x) for x in logits)) - logits[label])
    found = losses.margin_softmax(cosines, labels, margin=0.35, scale=8.0)
    assert float(found) == pytest.approx(sum(terms) / 6, rel=1e-5)


def test_margin_softmax_module_uses_cosines() -> None:
    head = losses.MarginSoftmax(3, 2, margin=0.1, scale=5.0)
    with torch.no_grad():
        head.centres.copy_(torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.5, 0.0]]))
    embeddings, labels = torch.tensor([[10.0, 0.0, 0.0]]), torch.tensor([0])
    expected = losses.margin_softmax(torch.tensor([[1.0, 0.0]]), labels, 0.1, 5.0)
    assert float(head(embeddings, labels).detach()) == pytest.approx(float(expected), rel=1e-6)
