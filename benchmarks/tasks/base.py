"""What the tasks share: folds, measures, trials and their intervals by resampling subjects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    """What a figure is: its name for people, the floor it must not fall below, and what others published."""

    words: str
    floor: float
    higher: bool = True
    aim: float | None = None
    published: dict[str, float] = field(default_factory=dict)

    def reached(self, value: float, mark: float) -> bool:
        """Whether a value is as good as the mark."""
        return value >= mark if self.higher else value <= mark


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
    values = [_value(fold, None) for fold in folds]
    drawn = [[_value(fold, _weights(fold, rng)) for fold in folds] for _ in range(RESAMPLED)]
    low, high = np.quantile(np.mean(drawn, axis=1), [0.025, 0.975])
    trials = sum(len(f.right) if isinstance(f, Answers) else len(f.mated) + len(f.non_mated) for f in folds)
    subjects = sum(len(_names(fold)) for fold in folds)
    spread = [float(value) for value in values]
    return {
        "value": float(np.mean(values)), "low": float(low), "high": float(high),
        "folds": spread, "trials": trials, "subjects": subjects,
    }  # fmt: skip


def _names(fold: Trials) -> NDArray[Any]:
    return np.unique(np.asarray(fold.subjects if isinstance(fold, Answers) else fold.mated_subjects))


def _weights(fold: Trials, rng: np.random.Generator) -> dict[Any, int]:
    """How often each subject was drawn."""
    names = _names(fold)
    drawn = np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names))
    return dict(zip(names.tolist(), drawn.tolist(), strict=True))


def _value(fold: Trials, weights: dict[Any, int] | None) -> float:
    def weigh(subjects: Sequence[Any]) -> Floats:
        if weights is None:
            return np.ones(len(subjects), np.float32)
        return np.array([weights.get(s, 0) for s in np.asarray(subjects).tolist()], np.float32)

    if isinstance(fold, Answers):
        return float(np.average(fold.right, weights=weigh(fold.subjects)))
    curve = Comparisons(fold.mated, fold.non_mated).curve(
        weigh(fold.mated_subjects), weigh(fold.non_mated_subjects)
    )
    return eer(curve)[0]


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
