"""One-shot protocols, as functions of embeddings: they know nothing of what made the vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.omniglot_data import Characters
from encoders.evaluation import Rate, distances, grouped_bootstrap, one_shot_error

Floats = NDArray[np.float32]
Embed = Callable[[Sequence[Any]], Floats]

WAYS, EPISODES, SEED, DRAWS = 20, 4000, 2026, 1000


def fixed(given: Sequence[tuple[Any, Any, list[int]]], embed: Embed, metric: str) -> Rate:
    """Error over all trials of the fixed runs; the interval resamples runs, which share their supports."""
    wrong, run = runs(given, embed, metric)
    return grouped_bootstrap(wrong, np.ones(len(wrong)), run, np.random.default_rng(SEED))


def runs(
    given: Sequence[tuple[Any, Any, list[int]]], embed: Embed, metric: str
) -> tuple[Floats, NDArray[np.int64]]:
    """(1 for a wrong answer, the number of its run) of each trial; a tie is wrong."""
    wrong: list[float] = []
    for supports, queries, truth in given:
        apart = distances(embed(queries), embed(supports), metric)
        wrong += [one_shot_error(apart[k : k + 1], np.array([true])) for k, true in enumerate(truth)]
    counts = [len(truth) for _, _, truth in given]
    return np.asarray(wrong, np.float32), np.repeat(np.arange(len(given)), counts)


def sampled(data: Characters, embeddings: Floats, metric: str, episodes: int = EPISODES) -> Rate:
    """Error over sampled within-alphabet 20-way episodes; the interval resamples alphabets."""
    wrong, chosen = answered(data, embeddings, metric, episodes)
    rng = np.random.default_rng(SEED)
    return grouped_bootstrap(wrong, np.full(episodes, WAYS), chosen, rng)


def answered(
    data: Characters, embeddings: Floats, metric: str, episodes: int = EPISODES
) -> tuple[Floats, NDArray[np.int64]]:
    """(wrong answers of 20, the number of its alphabet) of each sampled within-alphabet 20-way episode.

    An episode: an alphabet, 20 of its characters, a drawer for the supports and another one for the queries;
    each of the 20 queries is given the character of its nearest support. Every draw is uniform.
    """
    rng = np.random.default_rng(SEED)
    alphabets = np.unique(data.alphabet)
    chosen = rng.integers(len(alphabets), size=episodes)
    tables = [_table(data, name) for name in alphabets]
    wrong = np.array([_episode(tables[a], embeddings, metric, rng) * WAYS for a in chosen], dtype=np.float32)
    return wrong, chosen


def digits(labels: NDArray[np.int64], vectors: Floats, metric: str) -> dict[str, float]:
    """Ten-way one-shot accuracy: one random image of each digit enrolled, all others asked; over 1,000 draws.

    `low` and `high` hold 95 % of the draws: how much the answer depends on which image was enrolled.
    """
    rng = np.random.default_rng(SEED)
    apart = distances(vectors, vectors, metric)
    members = [np.flatnonzero(labels == d) for d in np.unique(labels)]
    rates = []
    for _ in range(DRAWS):
        supports = np.array([rng.choice(m) for m in members])
        asked = np.setdiff1d(np.arange(len(labels)), supports)
        rates.append(float((apart[np.ix_(asked, supports)].argmin(1) == labels[asked]).mean()))
    low, high = np.quantile(rates, [0.025, 0.975])
    return {"accuracy": float(np.mean(rates)), "low": float(low), "high": float(high), "draws": DRAWS}


def _table(data: Characters, alphabet: np.str_) -> NDArray[np.int64]:
    """Row numbers by (character, drawer) of one alphabet."""
    rows = np.flatnonzero(data.alphabet == alphabet)
    order = rows[np.lexsort((data.drawer[rows], data.character[rows]))]
    return order.reshape(len(np.unique(data.character[rows])), -1)


def _episode(table: NDArray[np.int64], vectors: Floats, metric: str, rng: np.random.Generator) -> float:
    characters = rng.choice(len(table), WAYS, replace=False)
    support, query = rng.choice(table.shape[1], 2, replace=False)
    apart = distances(vectors[table[characters, query]], vectors[table[characters, support]], metric)
    return one_shot_error(apart, np.arange(WAYS))
