"""UCI banknotes: genuine or forged, from five notes of each enrolled."""

from __future__ import annotations

import csv
from typing import Any

import numpy as np

from benchmarks import data_sets
from benchmarks.tasks.base import Answers, Embed, Floats, Fold, Measure, Trials, draws, nearest
from encoders import evaluation
from encoders.datasets import from_arrays

TITLE = "banknotes, genuine or forged"
PROTOCOL = (
    "stratified 5-fold: trained on four fifths of the notes; of the last fifth 5 genuine and 5 forged notes "
    "are enrolled and all others asked, 100 draws; nearest template; interval from resampling notes"
)
UNIT = "notes (the classes are the same two: it is the published protocol)"
MEASURES = {"accuracy": Measure("accuracy, 5 + 5 enrolled", 0.98, aim=1.0, published={"full training": 1.0})}
SETTINGS: dict[str, Any] = {
    "tower": "dense", "tower_args": {"widths": [64, 64]}, "dim": 16, "loss": "supcon", "steps": 600,
    "subjects": 2, "items": 48, "lr": 0.005, "holdout": 0.0, "preprocess": {"kind": "vector"},
}  # fmt: skip
FOLDS, DRAWS, ENROLLED = 5, 100, 5


def folds() -> list[Fold]:
    """The five folds; notes that are alike to the last digit are put into the same one."""
    path = data_sets.folder("tabular") / "banknote_authentication.csv"
    with path.open(encoding="utf-8") as file:
        rows = np.array([[float(cell) for cell in row] for row in csv.reader(file)])
    vectors, labels = rows[:, :-1], rows[:, -1].astype(np.int64)
    # Equal notes share a fold: a copy in training would be no unseen note.
    _, note = np.unique(vectors, axis=0, return_inverse=True)
    fold = _stratified(labels, note)
    names = np.array([f"note {n}" for n in note])
    made = []
    for k in range(FOLDS):
        train, test = fold != k, fold == k
        made.append(
            Fold(
                str(k),
                from_arrays(vectors[train], labels[train]),
                frozenset(names[train]),
                frozenset(names[test]),
                (vectors[test], labels[test], names[test]),
            )
        )
    return made


def _stratified(labels: Any, note: Any) -> Any:
    """The fold of each note: within a class, distinct notes are dealt out in a random order."""
    rng, fold = np.random.default_rng(0), np.zeros(len(labels), np.int64)
    dealt = np.zeros(note.max() + 1, np.int64)
    for label in np.unique(labels):
        notes = rng.permutation(np.unique(note[labels == label]))
        dealt[notes] = np.arange(len(notes)) % FOLDS
    fold[:] = dealt[note]
    return fold


def baseline(fold: Fold) -> tuple[Embed, str]:
    """The four numbers themselves, standardised on the training notes."""
    middle, spread = fold.train.items.mean(0), fold.train.items.std(0)

    def embed(items: Any) -> Floats:
        return ((np.asarray(items) - middle) / spread).astype(np.float32)

    return embed, "euclidean"


def score(embed: Embed, metric: str, fold: Fold) -> dict[str, Trials]:
    """Right or wrong, for every note asked in every draw."""
    vectors, labels, names = fold.test
    apart = evaluation.distances(*(2 * (embed(vectors),)), metric)
    right, about = [], []
    for enrolled, asked in draws(labels, ENROLLED, DRAWS, seed=int(fold.name)):
        right.append(nearest(apart[np.ix_(asked, enrolled)], labels[enrolled]) == labels[asked])
        about.append(names[asked])
    return {"accuracy": Answers(np.concatenate(right).astype(np.float32), np.concatenate(about))}
