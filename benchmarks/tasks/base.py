"""What the tasks share: folds, measures, trials and their intervals by resampling subjects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from encoders.datasets import LabelledSet
from encoders.verification import Comparisons, eer

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Embed = Callable[[Sequence[Any]], Floats]
RESAMPLED = 1000


@dataclass(frozen=True, slots=True)
class Fold:
    """One training set and the test that goes with it; `units` are the names of what must not be in both."""

    name: str
    train: LabelledSet
    train_units: frozenset[str]
    test_units: frozenset[str]
    test: Any


@dataclass(frozen=True, slots=True)
class Measure:
    """What a figure is: its name for people, the mark it must reach (None: none), what others published."""

    words: str
    floor: float | None
    higher: bool = True
    aim: float | None = None
    published: dict[str, float] = field(default_factory=dict)

    def reached(self, value: float) -> bool:
        """Whether a value is as good as the floor."""
        return self.floor is None or (value >= self.floor if self.higher else value <= self.floor)


@dataclass(frozen=True, slots=True)
class Answers:
    """Right (1) or wrong (0) answers (n,), and the subject that each one is about, for the interval."""

    right: Floats
    subjects: Sequence[Any]


@dataclass(frozen=True, slots=True)
class Scores:
    """Distances of mated and of non-mated comparisons, each with the subject it is about."""

    mated: Floats
    mated_subjects: Sequence[Any]
    non_mated: Floats
    non_mated_subjects: Sequence[Any]


Trials = Answers | Scores


def rate(folds: Sequence[Trials]) -> dict[str, Any]:
    """The mean over the folds, with a 95 % interval from resampling the subjects within each.

    Answers give the share that is right, scores the equal error rate.
    """
    rng = np.random.default_rng(2026)
    names = [_names(fold) for fold in folds]
    measured = [_statistic(fold, known) for fold, known in zip(folds, names, strict=True)]
    spread = [measure(None) for measure in measured]
    drawn = [
        [measure(_drawn(len(known), rng)) for measure, known in zip(measured, names, strict=True)]
        for _ in range(RESAMPLED)
    ]
    low, high = np.quantile(np.mean(drawn, axis=1), [0.025, 0.975])
    trials = sum(len(f.right) if isinstance(f, Answers) else len(f.mated) + len(f.non_mated) for f in folds)
    return {
        "value": float(np.mean(spread)), "low": float(low), "high": float(high),
        "folds": spread, "trials": trials, "subjects": sum(map(len, names)),
    }  # fmt: skip


def _names(fold: Trials) -> NDArray[Any]:
    return np.unique(np.asarray(fold.subjects if isinstance(fold, Answers) else fold.mated_subjects))


def _drawn(count: int, rng: np.random.Generator) -> Floats:
    """How often each of the subjects was drawn."""
    return np.bincount(rng.integers(0, count, count), minlength=count).astype(np.float32)


def _statistic(fold: Trials, names: NDArray[Any]) -> Callable[[Floats | None], float]:
    """From how often each subject counts (None: once) to the share that is right, or to the EER."""
    if isinstance(fold, Answers):
        about = np.searchsorted(names, np.asarray(fold.subjects))
        return lambda drawn: float(np.average(fold.right, weights=None if drawn is None else drawn[about]))
    held = Comparisons(fold.mated, fold.non_mated)
    places = [
        np.searchsorted(names, np.asarray(subjects))
        for subjects in (fold.mated_subjects, fold.non_mated_subjects)
    ]
    return lambda drawn: eer(held.curve(*(None if drawn is None else drawn[place] for place in places)))[0]


def nearest(apart: Floats, owners: Ints) -> Ints:
    """The owner of the nearest template, for each row of (probes, templates)."""
    return owners[apart.argmin(axis=1)]


def draws(labels: Ints, count: int, times: int, seed: int) -> list[tuple[Ints, Ints]]:
    """(enrolled, asked) row numbers: `count` random items of each label enrolled, all others asked."""
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    found = []
    for _ in range(times):
        enrolled = np.concatenate([rng.choice(m, count, replace=False) for m in members])
        found.append((enrolled, np.setdiff1d(np.arange(len(labels)), enrolled)))
    return found


def unit_pixels(read: Callable[[Image.Image], Any]) -> Embed:
    """Raw features: what `read` makes of each picture, at unit length."""

    def embed(items: Any) -> Floats:
        rows = np.stack([read(Image.fromarray(item)).reshape(-1) for item in items])
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    return embed
