"""Spoken digits of a speaker who was never heard: one recording of each digit enrolled."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.tasks import recordings
from benchmarks.tasks.base import Answers, Embed, Fold, Measure, Trials, draws, nearest
from encoders import evaluation
from encoders.datasets import from_arrays

TITLE = "spoken digits (FSDD), an unheard speaker"
PROTOCOL = (
    "leave one speaker out: trained on the digits of five speakers; one recording of each digit of the sixth "
    "is enrolled and his other 490 asked, 50 draws, mean of six speakers; interval from resampling digits"
)
UNIT = "speakers"
MEASURES = {
    "accuracy": Measure("10-way one-shot accuracy", 0.80, aim=0.95, published={"random splits": 0.97})
}
SETTINGS: dict[str, Any] = {
    "tower": "audio", "tower_args": {"widths": [32, 64, 96], "centred": True, "grid": [2, 4]}, "dim": 64,
    "preprocess": {"kind": "audio", "rate": recordings.RATE, "seconds": recordings.SECONDS},
    "augment": "speech", "loss": "margin", "steps": 300, "subjects": 10, "items": 8, "lr": 0.004,
    "holdout": 0.0,
}  # fmt: skip
DRAWS = 50


def folds() -> list[Fold]:
    """One fold a speaker."""
    held = recordings.load()
    made = []
    for speaker in np.unique(held.speakers):
        train, test = np.flatnonzero(held.speakers != speaker), np.flatnonzero(held.speakers == speaker)
        made.append(
            Fold(
                str(speaker),
                from_arrays([held.wavs[i] for i in train], held.digits[train], held.speakers[train]),
                frozenset(held.speakers[train].tolist()),
                frozenset(held.speakers[test].tolist()),
                ([held.wavs[i] for i in test], held.digits[test]),
            )
        )
    return made


def baseline(fold: Fold) -> tuple[Embed, str]:
    """Log-mel spectrograms, stretched to one length."""
    return recordings.spectrograms, "euclidean"


def score(embed: Embed, metric: str, fold: Fold) -> dict[str, Trials]:
    """Right or wrong, for every recording asked in every draw."""
    wavs, digits = fold.test
    rows = embed(wavs)
    apart = evaluation.distances(rows, rows, metric)
    right, about = [], []
    for enrolled, asked in draws(digits, 1, DRAWS, seed=1):
        right.append(nearest(apart[np.ix_(asked, enrolled)], digits[enrolled]) == digits[asked])
        about.append(digits[asked])
    return {"accuracy": Answers(np.concatenate(right).astype(np.float32), np.concatenate(about))}
