"""How well a search names its probes: pure numpy, from the distances of all items to all others.

Every item is a probe against all other items ("leave one out"), or against some that are enrolled.
A tie between a right and a wrong neighbour counts against the encoder.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from encoders import evaluation

Floats = NDArray[np.float32]
Wide = NDArray[np.float64]
Ints = NDArray[np.int64]
ROWS = 512  # probes at a time, so that memory stays bounded


@dataclass(frozen=True, slots=True)
class Ranks:
    """For each probe that has a mate among the others: where its mates came.

    `probes` (n,) are item numbers, `subjects` (n,) their subjects. `item_rank` (n,) is the place of the first
    mate among items, `subject_rank` (n,) that of its subject among subjects, by their nearest item; 1 is the
    first. `map_at_r` (n,) is the average precision over the first R neighbours, R being how many mates there
    are (Musgrave, Belongie, Lim, "A metric learning reality check", ECCV 2020).
    """

    probes: Ints
    subjects: Ints
    item_rank: Ints
    subject_rank: Ints
    map_at_r: Wide


def ranks(embeddings: Floats, labels: Ints, metric: str) -> Ranks:
    """The ranks of all items against all others; items without a mate are not asked, but stand in the way."""
    counts = np.bincount(labels)
    probes = np.flatnonzero(counts[labels] >= 2)
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(labels[order]) > 0])
    parts = [
        _rows(embeddings, labels, metric, probes[at : at + ROWS], order, starts)
        for at in range(0, len(probes), ROWS)
    ]
    item, subject, average = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Ranks(probes, labels[probes], item, subject, average)


def _rows(
    embeddings: Floats, labels: Ints, metric: str, probes: Ints, order: Ints, starts: Ints
) -> tuple[Ints, Ints, Wide]:
    apart = evaluation.distances(embeddings[probes], embeddings, metric)
    apart[np.arange(len(probes)), probes] = np.inf
    same = labels[probes][:, None] == labels[None, :]
    same[np.arange(len(probes)), probes] = False
    first = np.where(same, apart, np.inf).min(axis=1)
    item = 1 + ((apart <= first[:, None]) & ~same & np.isfinite(apart)).sum(axis=1)
    # Subjects by their nearest item.
    nearest = np.minimum.reduceat(apart[:, order], starts, axis=1)
    own = labels[order][starts][None, :] == labels[probes][:, None]
    subject = 1 + ((nearest <= first[:, None]) & ~own).sum(axis=1)
    return item, subject, _map_at_r(apart, same)


def _map_at_r(apart: Floats, same: NDArray[np.bool_]) -> Wide:
    """MAP@R of each row: at equal distances the wrong ones come first."""
    mates = same.sum(axis=1)
    most = int(mates.max())
    order = np.lexsort((same, apart), axis=1)[:, :most]
    hits = np.take_along_axis(same, order, axis=1) & (np.arange(most)[None, :] < mates[:, None])
    precision = np.cumsum(hits, axis=1) / np.arange(1, most + 1)[None, :]
    average: Wide = (precision * hits).sum(axis=1) / mates
    return average


def cmc(found: Ranks, most: int = 50) -> Wide:
    """The share of probes whose subject is among the first k subjects, for k = 1 to `most`."""
    curve: Wide = found_within(found, most).mean(axis=1)
    return curve


def found_within(found: Ranks, most: int) -> Wide:
    """For each k from 1 to `most` and each probe 1 if its subject is among the first k, else 0; (most, n)."""
    places = np.arange(1, most + 1)
    return (found.subject_rank[None, :] <= places[:, None]).astype(np.float64)


def recall_at(found: Ranks, k: int) -> Wide:
    """For each probe 1 if a mate is among its first k neighbours, else 0; (n,)."""
    return (found.item_rank <= k).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Episodes:
    """Right answers of sampled N-way k-shot episodes: `right` and `asked` (episodes, N) by subject.

    `subjects` (episodes, N) are the N subjects of each.
    """

    right: Wide
    asked: Wide
    subjects: Ints


def episodes(
    embeddings: Floats,
    labels: Ints,
    metric: str,
    *,
    ways: int,
    shots: int,
    count: int,
    rng: np.random.Generator,
) -> Episodes | None:
    """`count` random episodes: `ways` subjects, `shots` items of each enrolled, another one of each asked.

    A probe is given the subject with the least mean distance to its enrolled items. Fewer ways are taken
    where there are not so many subjects with `shots` + 1 items; None where there are not even two.
    """
    members = [m for s in np.unique(labels) if len(m := np.flatnonzero(labels == s)) > shots]
    if len(members) < 2:
        return None
    ways = min(ways, len(members))
    right, chosen = np.empty((count, ways)), np.empty((count, ways), np.int64)
    for episode in range(count):
        picked = rng.choice(len(members), ways, replace=False)
        items = np.array([rng.choice(members[p], shots + 1, replace=False) for p in picked])
        apart = evaluation.distances(embeddings[items[:, -1]], embeddings[items[:, :-1].reshape(-1)], metric)
        scores = apart.reshape(ways, ways, shots).mean(axis=2)
        own = np.diagonal(scores).copy()
        np.fill_diagonal(scores, np.inf)
        right[episode] = own < scores.min(axis=1)
        chosen[episode] = labels[items[:, 0]]
    return Episodes(right, np.ones_like(right), chosen)
