"""Every loss against a plain double loop in Python floats."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from encoders import losses
from encoders.comparator import Comparator
from encoders.errors import EncoderError, TrainingError
from encoders.losses import bce, contrastive, distances, miners, proxy, reducers, softmax, supcon, triplet
from tests.encoders import made as make

LABELS = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 1])
N = len(LABELS)


def made(seed: int = 0, d: int = 4) -> torch.Tensor:
    return torch.randn(N, d, generator=torch.Generator().manual_seed(seed))


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    return math.sqrt(sum((float(x) - float(y)) ** 2 for x, y in zip(a, b, strict=True)))


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    size = math.sqrt(sum(float(x) ** 2 for x in a)) * math.sqrt(sum(float(x) ** 2 for x in b))
    return sum(float(x) * float(y) for x, y in zip(a, b, strict=True)) / size


def mean(terms: list[float]) -> float:
    return sum(terms) / len(terms)


def nonzero(terms: list[float]) -> float:
    return sum(terms) / max(1, sum(t > 0 for t in terms))


BY_LOOP = {
    "euclidean": apart,
    "squared": lambda a, b: apart(a, b) ** 2,
    "cosine": lambda a, b: 1 - cosine(a, b),
}
REDUCED = {"mean": mean, "nonzero": nonzero, "sum": sum}


@pytest.mark.parametrize("name", sorted(distances.DISTANCES))
def test_distances(name: str) -> None:
    distance, left, right = distances.named(name), made(1), made(2)[:5]
    table = distance.table(left, right)
    assert table.shape == (N, 5)
    for i in range(N):
        for j in range(5):
            assert float(table[i, j]) == pytest.approx(BY_LOOP[name](left[i], right[j]), rel=1e-5)
    assert torch.allclose(distance.pairs(left[:5], right), table[:5].diagonal(), atol=1e-5)


@pytest.mark.parametrize("name", sorted(distances.DISTANCES))
def test_the_gradient_between_equal_rows_is_finite(name: str) -> None:
    distance = distances.named(name)
    for measured in (lambda x: distance.pairs(x, x.detach()), lambda x: distance.table(x, x)):
        rows = torch.ones(2, 3, requires_grad=True)
        measured(rows).sum().backward()
        assert rows.grad is not None and torch.isfinite(rows.grad).all()


@pytest.mark.parametrize("name", sorted(reducers.REDUCERS))
def test_reducers(name: str) -> None:
    reduce = reducers.named(name)
    assert float(reduce(torch.tensor([1.0, 0.0, 5.0]))) == REDUCED[name]([1.0, 0.0, 5.0])
    none = torch.zeros(0, requires_grad=True)
    assert float(reduce(none).detach()) == 0.0


@pytest.mark.parametrize("reducer", sorted(reducers.REDUCERS))
@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("margin", [0.5, 2.5])
def test_contrastive(margin: float, distance: str, reducer: str) -> None:
    embeddings, terms = made(), []
    for i in range(N):
        for j in range(i + 1, N):
            d = BY_LOOP[distance](embeddings[i], embeddings[j])
            terms.append(0.5 * d * d if LABELS[i] == LABELS[j] else 0.5 * max(0.0, margin - d) ** 2)
    loss = losses.build(
        "contrastive", dim=4, classes=3, mining="all", margin=margin,
        arguments={"distance": distance, "reducer": reducer},
    )  # fmt: skip
    assert float(loss(embeddings, LABELS)) == pytest.approx(REDUCED[reducer](terms), rel=1e-5)


def test_contrastive_knows_both_conventions_of_labels() -> None:
    d, same = torch.tensor([2.0, 2.0, 0.25]), torch.tensor([1, 0, 0])
    expected = [2.0, 0.0, 0.5 * 0.75**2]
    assert contrastive.contrastive_terms(d, mated=same).tolist() == expected
    assert contrastive.contrastive_terms(d, y=1 - same).tolist() == expected
    # (1 - Y) D^2 / 2 + Y max(0, m - D)^2 / 2, as the paper has it.
    y = (1 - same).float()
    written = (1 - y) * d**2 / 2 + y * (1.0 - d).clamp_min(0) ** 2 / 2
    assert written.tolist() == expected
    with pytest.raises(TypeError):
        contrastive.contrastive_terms(d, same)  # type: ignore[misc]
    for labels in ({}, {"mated": same, "y": same}):
        with pytest.raises(ValueError, match="either mated"):
            contrastive.contrastive_terms(d, **labels)


@pytest.mark.parametrize("reducer", sorted(reducers.REDUCERS))
@pytest.mark.parametrize("distance", sorted(distances.DISTANCES))
def test_triplet(distance: str, reducer: str) -> None:
    embeddings, terms = made(3), []
    d = BY_LOOP[distance]
    for a in range(N):
        for p in range(N):
            for n in range(N):
                if p != a and LABELS[p] == LABELS[a] != LABELS[n]:
                    near, far = d(embeddings[a], embeddings[p]), d(embeddings[a], embeddings[n])
                    terms.append(max(0.0, near - far + 0.4))
    loss = losses.build(
        "triplet", dim=4, classes=3, mining="all", margin=0.4,
        arguments={"distance": distance, "reducer": reducer},
    )  # fmt: skip
    assert float(loss(embeddings, LABELS)) == pytest.approx(REDUCED[reducer](terms), rel=1e-4)


def test_triplet_is_facenets_unless_told_otherwise() -> None:
    near, far = torch.tensor([[3.0, 4.0], [0.0, 1.0]]), torch.tensor([[0.0, 1.0], [3.0, 4.0]])
    terms = triplet.triplet_terms(near.square().sum(1), far.square().sum(1), 0.2)
    assert terms.tolist() == pytest.approx([25 - 1 + 0.2, 0.0])
    assert isinstance(triplet.Triplet().distance, distances.SquaredEuclidean)


def test_pairwise_bce() -> None:
    comparator, embeddings, terms = Comparator(4), made(4), []
    with torch.no_grad():
        comparator.weight.copy_(torch.tensor([0.5, -0.2, 2.0, 0.0]))
        comparator.bias.fill_(0.7)
    for i in range(N):
        for j in range(i + 1, N):
            weighed = zip(comparator.weight.tolist(), embeddings[i], embeddings[j], strict=True)
            logit = 0.7 - sum(w * abs(float(x) - float(y)) for w, x, y in weighed)
            chance = 1 / (1 + math.exp(-logit))
            terms.append(-math.log(chance if LABELS[i] == LABELS[j] else 1 - chance))
    loss = losses.build("bce", dim=4, classes=3, mining="all", comparator=comparator)
    assert float(loss(embeddings, LABELS).detach()) == pytest.approx(mean(terms), rel=1e-5)
    assert list(loss.parameters()) == list(comparator.parameters())
    terms = [float(t) for t in bce.bce_terms(torch.tensor([2.0, -2.0]), torch.tensor([1, 0]))]
    assert terms == pytest.approx([math.log(1 + math.exp(-2))] * 2)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_supervised_contrastive(temperature: float) -> None:
    embeddings, terms = made(5), []
    for i in range(N):
        below = sum(math.exp(cosine(embeddings[i], embeddings[a]) / temperature) for a in range(N) if a != i)
        positives = [p for p in range(N) if p != i and LABELS[p] == LABELS[i]]
        terms.append(
            mean([math.log(below) - cosine(embeddings[i], embeddings[p]) / temperature for p in positives])
        )
    loss = losses.build("supcon", dim=4, classes=3, arguments={"temperature": temperature})
    assert float(loss(embeddings, LABELS)) == pytest.approx(mean(terms), rel=1e-5)
    single = torch.tensor([0, 0, 1])  # an anchor without a positive has no term
    assert supcon.supcon_terms(distances.Cosine().table(made()[:3], made()[:3]), single).shape == (2,)


def test_proxy_anchor() -> None:
    cosines = F.normalize(made(6)) @ F.normalize(made(7)[:5]).t()  # five classes, two of them not there
    pull, push = [], []
    for c in range(5):
        own = [float(cosines[i, c]) for i in range(N) if LABELS[i] == c]
        other = [float(cosines[i, c]) for i in range(N) if LABELS[i] != c]
        pull += [math.log(1 + sum(math.exp(-16 * (s - 0.1)) for s in own))] * bool(own)
        push.append(math.log(1 + sum(math.exp(16 * (s + 0.1)) for s in other)))
    found = proxy.proxy_anchor(cosines, LABELS, margin=0.1, scale=16.0)
    assert len(pull) == 3 and float(found) == pytest.approx(mean(pull) + mean(push), rel=1e-5)


@pytest.mark.parametrize("kind", ["cosface", "arcface"])
def test_margin_softmax(kind: str) -> None:
    generator = torch.Generator().manual_seed(4)
    cosines, labels = torch.rand(6, 5, generator=generator) * 2 - 1, torch.tensor([0, 1, 2, 3, 4, 0])
    cosines[5, 0] = -0.99  # angle + margin passes 180 degrees
    terms = []
    for row, label in zip(cosines.tolist(), labels.tolist(), strict=True):
        logits = [8.0 * c for c in row]
        angle = math.acos(row[label])
        turned = math.cos(angle + 0.35) if angle <= math.pi - 0.35 else row[label] - 0.35 * math.sin(0.35)
        logits[label] = 8.0 * (row[label] - 0.35 if kind == "cosface" else turned)
        terms.append(math.log(sum(math.exp(x) for x in logits)) - logits[label])
    found = getattr(softmax, f"{kind}_terms")(cosines, labels, margin=0.35, scale=8.0)
    assert found.tolist() == pytest.approx(terms, rel=1e-5)


@pytest.mark.parametrize("kind", [softmax.MarginSoftmax, softmax.ArcFace])
def test_margin_softmax_modules_use_cosines(kind: Any) -> None:
    head = kind(3, 2, margin=0.1, scale=5.0)
    with torch.no_grad():
        head.centres.copy_(torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.5, 0.0]]))
    embeddings, labels = torch.tensor([[10.0, 0.0, 0.0]]), torch.tensor([0])
    expected = kind.terms(torch.tensor([[1.0, 0.0]]), labels, 0.1, 5.0)
    assert float(head(embeddings, labels).detach()) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("loss", sorted(losses.MINING))
def test_every_loss_falls_when_it_is_followed(loss: str) -> None:
    for mining in losses.MINING[loss]:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            objective = losses.build(loss, dim=8, classes=3, mining=mining)
        embeddings = made(8, d=8).requires_grad_()
        optimizer = torch.optim.Adam([embeddings, *objective.parameters()], lr=0.02)
        values = []
        for _ in range(60):
            value = objective(embeddings, LABELS)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            values.append(float(value.detach()))
        assert values[-1] < 0.7 * values[0] or values[0] == 0.0, (mining, values[0], values[-1])


@pytest.mark.parametrize("loss", ["triplet", "contrastive", "supcon"])
def test_a_batch_with_nothing_to_learn_costs_nothing(loss: str) -> None:
    embeddings = made().requires_grad_()
    objective = losses.build(loss, dim=4, classes=3, margin=None)
    labels = torch.zeros(N, dtype=torch.int64) if loss == "triplet" else torch.arange(N)
    value = objective(embeddings, labels)
    value.backward()
    assert float(value.detach()) == 0.0 or loss == "contrastive"
    assert torch.isfinite(embeddings.grad).all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"loss": "hinge"}, "no loss is called 'hinge'; there are margin, arcface"),
        ({"loss": "triplet", "mining": "soft"}, "triplet has no mining 'soft'; it has semi-hard, hard, all"),
        ({"loss": "supcon", "margin": 0.3}, "supcon has no margin"),
        ({"loss": "triplet", "arguments": {"reducer": "median"}}, "no reducer is called 'median'"),
        ({"loss": "triplet", "arguments": {"distance": "far"}}, "no distance is called 'far'"),
        ({"loss": "supcon", "arguments": {"wings": 2}}, "supcon does not take"),
    ],
)
def test_what_a_loss_refuses(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(TrainingError, match=words):
        losses.build(dim=4, classes=3, **settings)
    with pytest.raises(TrainingError, match="no mining of pairs"):
        miners.of_pairs("semi-hard")
    with pytest.raises(TrainingError, match="no mining of triplets"):
        miners.of_triplets("none", 0.2)


def test_an_encoder_keeps_its_comparator(tmp_path: Any) -> None:
    from encoders import checkpoint

    encoder = make.encoder(comparator=True)
    with torch.no_grad():
        encoder.network.comparator.weight.uniform_(-1, 1)
    left, right = made(1, 8).numpy(), made(2, 8).numpy()[:4]
    found = encoder.compare(left, right)
    assert found.shape == (N, 4) and found.dtype == np.float32
    weight = encoder.network.comparator.weight.tolist()
    for i in range(N):
        for j in range(4):
            weighed = sum(
                w * abs(float(x) - float(y)) for w, x, y in zip(weight, left[i], right[j], strict=True)
            )
            assert found[i, j] == pytest.approx(1 - 1 / (1 + math.exp(weighed - 3.0)), rel=1e-4)
    encoder = make.encoder(comparator=True)
    again = checkpoint.load(checkpoint.save(encoder, tmp_path / "c.encoder"), device="cpu")
    assert np.array_equal(again.compare(left, right), encoder.compare(left, right))
    assert again.fingerprint == encoder.fingerprint != make.encoder().fingerprint
    assert encoder.compare(left[:0], right).shape == (0, 4)
    with pytest.raises(EncoderError, match="no learnt comparator"):
        make.encoder().compare(left, right)
