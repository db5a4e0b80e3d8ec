"""Every loss against pytorch-metric-learning, value and gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from encoders import losses

oracle: Any = pytest.importorskip(
    "pytorch_metric_learning", reason="pytorch-metric-learning is not installed"
)
from pytorch_metric_learning import distances as their_distances  # noqa: E402
from pytorch_metric_learning import losses as theirs  # noqa: E402
from pytorch_metric_learning import miners as their_miners  # noqa: E402
from pytorch_metric_learning import reducers as their_reducers  # noqa: E402

LABELS = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 1, 3, 3, 0])
DIM, CLASSES = 6, 5


def both(ours: nn.Module, other: Any, seed: int, mined: Any = None) -> None:
    """Asserts that value and gradient agree on one batch."""
    rows = torch.randn(len(LABELS), DIM, generator=torch.Generator().manual_seed(seed))
    mine, their = rows.clone().requires_grad_(), rows.clone().requires_grad_()
    found: Tensor = ours(mine, LABELS)
    expected: Tensor = other(their, LABELS, mined(their.detach(), LABELS) if mined else None)
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-4)
    assert float(found.detach()) > 0
    found.backward()
    expected.backward()
    assert torch.allclose(mine.grad, their.grad, atol=1e-5)


SQUARED = {"normalize_embeddings": False, "power": 2}
TRUE = {"normalize_embeddings": False}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("reducer", ["mean", "nonzero"])
def test_triplet_all(seed: int, reducer: str) -> None:
    reduce = their_reducers.MeanReducer() if reducer == "mean" else their_reducers.AvgNonZeroReducer()
    other = theirs.TripletMarginLoss(0.5, distance=their_distances.LpDistance(**SQUARED), reducer=reduce)
    ours = losses.build(
        "triplet", dim=DIM, classes=CLASSES, mining="all", margin=0.5, arguments={"reducer": reducer}
    )
    both(ours, other, seed)


@pytest.mark.parametrize("seed", range(3))
def test_triplet_hard(seed: int) -> None:
    distance = their_distances.LpDistance(**SQUARED)
    other = theirs.TripletMarginLoss(0.5, distance=distance, reducer=their_reducers.MeanReducer())
    ours = losses.build("triplet", dim=DIM, classes=CLASSES, mining="hard", margin=0.5)
    both(ours, other, seed, their_miners.BatchHardMiner(distance=distance))


@pytest.mark.parametrize("seed", range(3))
def test_semi_hard_triplets_are_the_nearest_of_theirs(seed: int) -> None:
    from encoders.losses import distances, miners

    rows = torch.randn(len(LABELS), DIM, generator=torch.Generator().manual_seed(seed))
    distance = their_distances.LpDistance(**SQUARED)
    miner = their_miners.TripletMarginMiner(2.0, type_of_triplets="semihard", distance=distance)
    nearest: dict[tuple[int, int], tuple[float, int]] = {}
    for a, p, n in zip(*(t.tolist() for t in miner(rows, LABELS)), strict=True):
        far = (float((rows[a] - rows[n]).square().sum()), n)
        nearest[a, p] = min(nearest.get((a, p), far), far)
    ours = miners.semi_hard_triplets(rows, LABELS, distances.SquaredEuclidean(), 2.0)
    found = {(a, p): n for a, p, n in zip(*(t.tolist() for t in ours), strict=True)}
    assert found == {pair: n for pair, (_, n) in nearest.items()} and found


@pytest.mark.parametrize("seed", range(3))
def test_contrastive(seed: int) -> None:
    """Theirs has no square, half or joint mean: taken apart, each kind of pair must agree."""
    rows = torch.randn(len(LABELS), DIM, generator=torch.Generator().manual_seed(seed))
    distance = their_distances.LpDistance(**TRUE)
    apart = distance(rows)
    left, right = torch.triu_indices(len(LABELS), len(LABELS), 1)
    from encoders.losses.contrastive import contrastive_terms

    same = LABELS[left] == LABELS[right]
    terms = contrastive_terms(apart[left, right], mated=same, margin=4.0)
    pulled = theirs.ContrastiveLoss(0.0, 0.0, distance=distance, reducer=their_reducers.MeanReducer())
    pushed = theirs.ContrastiveLoss(100.0, 4.0, distance=distance, reducer=their_reducers.MeanReducer())
    assert float((2 * terms[same]).sqrt().mean()) == pytest.approx(float(pulled(rows, LABELS)), rel=1e-5)
    assert float((2 * terms[~same]).sqrt().mean()) == pytest.approx(float(pushed(rows, LABELS)), rel=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_supervised_contrastive(seed: int) -> None:
    ours = losses.build("supcon", dim=DIM, classes=CLASSES, arguments={"temperature": 0.2})
    both(ours, theirs.SupConLoss(temperature=0.2, reducer=their_reducers.MeanReducer()), seed)


def same_centres(ours: nn.Parameter, other: nn.Parameter, transposed: bool) -> None:
    with torch.no_grad():
        other.copy_(ours.t() if transposed else ours)


@pytest.mark.parametrize("seed", range(3))
def test_proxy_anchor(seed: int) -> None:
    ours = losses.build("proxy", dim=DIM, classes=CLASSES, margin=0.1)
    other = theirs.ProxyAnchorLoss(CLASSES, DIM, margin=0.1, alpha=32)
    same_centres(ours.centres, other.proxies, transposed=False)
    both(ours, other, seed)
    assert torch.allclose(ours.centres.grad, other.proxies.grad, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["margin", "arcface"])
def test_margin_softmax(seed: int, name: str) -> None:
    ours = losses.build(name, dim=DIM, classes=CLASSES, margin=0.3, arguments={"scale": 16.0})
    degrees = 0.3 * 180 / torch.pi
    kind = theirs.CosFaceLoss if name == "margin" else theirs.ArcFaceLoss
    other = kind(CLASSES, DIM, margin=0.3 if name == "margin" else degrees, scale=16.0)
    same_centres(ours.centres, other.W, transposed=True)
    both(ours, other, seed)
    assert torch.allclose(ours.centres.grad, other.W.grad.t(), atol=1e-5)
