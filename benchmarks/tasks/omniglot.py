"""Omniglot: characters of alphabets never seen, by the encoder that ships as `glyph`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks import omniglot, omniglot_data, one_shot, train_glyph
from benchmarks.omniglot_data import Characters
from benchmarks.tasks.base import Answers, Embed, Floats, Fold, Ints, Measure, Trials
from encoders import evaluation
from encoders.datasets import from_arrays

TITLE = "Omniglot, unseen alphabets"
PROTOCOL = (
    "trained on the background set alone; error of the 20 fixed runs (interval from resampling runs) and of "
    "4,000 sampled 20-way episodes within an evaluation alphabet, any two drawers (resampling alphabets); "
    "accuracy of 1,000 episodes of 5 queries a class, as Vinyals et al. have them, quarter turns being "
    "classes, nearest mean of the shots, but the 423 test characters are all of the evaluation set and none "
    "of the other 236 is trained on (resampling characters)"
)
UNIT = "alphabets"
KOCH = {"Koch 2015": 0.080, "people": 0.045, "BPL 2015": 0.033, "ARC 2017": 0.015}
PROTONET, SNAIL = "ProtoNet 2017", "SNAIL 2018"
MEASURES = {
    "fixed": Measure("error, 20 fixed runs", 0.015, False, 0.0075, KOCH),
    "sampled": Measure("error, sampled episodes", 0.07, False, 0.04),
    "5w1s": Measure("5-way 1-shot", 0.985, True, 0.991, {PROTONET: 0.988, SNAIL: 0.9907}),
    "5w5s": Measure("5-way 5-shot", 0.995, True, 0.998, {PROTONET: 0.997, SNAIL: 0.9978}),
    "20w1s": Measure("20-way 1-shot", 0.955, True, 0.976, {PROTONET: 0.960, SNAIL: 0.9764}),
    "20w5s": Measure("20-way 5-shot", 0.987, True, 0.994, {PROTONET: 0.989, SNAIL: 0.9936}),
}
SHIPPED = "glyph"
TRAINED_BY = "python -m benchmarks.train_glyph --work trained --output glyph"
SETTINGS: dict[str, Any] = train_glyph.COMMON | {
    "runs": train_glyph.RUNS, "members": list(train_glyph.MEMBERS), "zooms": list(train_glyph.ZOOMS),
}  # fmt: skip
TESTED, EPISODES, QUERIES = 423, 1000, 5


@dataclass(frozen=True, slots=True)
class Test:
    """The evaluation half, the fixed runs, and the rows (423, 20) of the characters of the episodes."""

    data: Characters
    runs: Sequence[Any]
    rows: Ints


def folds() -> list[Fold]:
    """The one split: 30 background alphabets, 20 others."""
    known, data = omniglot_data.characters("background"), omniglot_data.characters("evaluation")
    train = from_arrays(known.images, _names(known), known.alphabet)
    names = _names(data)
    chosen = np.random.default_rng(2016).permutation(np.unique(names))[:TESTED]
    rows = np.stack([np.flatnonzero(names == name) for name in chosen])
    test = Test(data, omniglot_data.fixed_runs(), rows)
    units = frozenset(known.alphabet.tolist()), frozenset(data.alphabet.tolist())
    return [Fold("background", train, *units, test)]


def _names(data: Characters) -> Any:
    return np.char.add(np.char.add(data.alphabet, "/"), data.character.astype(str))


def baseline(fold: Fold) -> tuple[Embed, str]:
    """Pixels as they are."""
    return omniglot.pixels, "euclidean"


def score(embed: Embed, metric: str, fold: Fold) -> dict[str, Trials]:
    """Wrong answers for the first two measures, right ones for the others."""
    test: Test = fold.test
    rows = embed(test.data.images)
    wrong, alphabets = one_shot.answered(test.data, rows, metric)
    found: dict[str, Trials] = {
        "fixed": Answers(*one_shot.runs(test.runs, embed, metric)),
        "sampled": Answers(wrong / one_shot.WAYS, alphabets),
    }
    drawings = _turned(embed, rows, test)
    for ways in (5, 20):
        for shots in (1, 5):
            found[f"{ways}w{shots}s"] = few_shot(drawings, metric, ways, shots)
    return found


def _turned(embed: Embed, rows: Floats, test: Test) -> Floats:
    """Embeddings of the tested characters and of their quarter turns, (4 * 423, 20, d)."""
    images, parts = test.data.images[test.rows.reshape(-1)], [rows[test.rows]]
    for turns in (1, 2, 3):
        turned = embed(np.ascontiguousarray(np.rot90(images, turns, (1, 2))))
        parts.append(turned.reshape(*test.rows.shape, -1))
    return np.concatenate(parts)


def few_shot(drawings: Floats, metric: str, ways: int, shots: int) -> Answers:
    """Episodes among classes (n, drawings, d): each query is given the class of the nearest mean."""
    rng = np.random.default_rng(ways * 100 + shots)
    characters = len(drawings) // 4
    right, about = [], []
    for _ in range(EPISODES):
        chosen = rng.choice(len(drawings), ways, replace=False)
        picks = np.stack([rng.permutation(drawings.shape[1])[: shots + QUERIES] for _ in range(ways)])
        of = drawings[chosen[:, None], picks]  # (ways, shots + queries, d)
        means = of[:, :shots].mean(axis=1)
        if metric == "cosine":
            means = means / np.linalg.norm(means, axis=1, keepdims=True)
        queries = of[:, shots:].reshape(ways * QUERIES, -1)
        truth = np.repeat(np.arange(ways), QUERIES)
        right.append(evaluation.distances(queries, means, metric).argmin(axis=1) == truth)
        about.append(np.repeat(chosen % characters, QUERIES))
    return Answers(np.concatenate(right).astype(np.float32), np.concatenate(about))
