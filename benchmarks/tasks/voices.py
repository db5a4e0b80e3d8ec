"""Voices (FSDD) that were never heard before: who a recording is of, five recordings of each enrolled."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np

from benchmarks.tasks import recordings
from benchmarks.tasks.base import Embed, Fold, Measure, Trials
from encoders.datasets import from_arrays

TITLE = "unheard speakers (FSDD)"
PROTOCOL = (
    "five recordings of each enrolled, 50 draws, nearest template; of six: trained without one speaker, who "
    "alone is asked, mean of six; of three: trained on three, the other three enrolled and asked, mean of "
    "all twenty choices; interval from resampling the digits that are said"
)
UNIT = "speakers who are asked"
MEASURES = {
    "one": Measure("rank-1 of 6, one of them unheard, who is asked", 0.97),
    "three": Measure("rank-1 of 3, none of them heard", None),
}
SETTINGS: dict[str, Any] = {
    "tower": "spectra", "tower_args": {"bands": 512, "window": 0.128}, "dim": 512,
    "preprocess": {"kind": "audio", "rate": recordings.RATE, "seconds": recordings.SECONDS},
    "augment": "none", "start": "whitening", "steps": 0, "holdout": 0.0,
}  # fmt: skip


def folds() -> list[Fold]:
    """One fold a speaker who alone is not heard, and one for every three of the six."""
    held = recordings.load()
    everybody = np.unique(held.speakers).tolist()
    made = [_fold(held, "one", (name,), everybody) for name in everybody]
    return [*made, *(_fold(held, "three", three, list(three)) for three in combinations(everybody, 3))]


def _fold(held: recordings.Recordings, key: str, unheard: tuple[str, ...], enrolled: list[str]) -> Fold:
    asked = np.isin(held.speakers, unheard)
    train = from_arrays([held.wavs[k] for k in np.flatnonzero(~asked)], held.speakers[~asked])
    test = (key, held, np.flatnonzero(np.isin(held.speakers, enrolled)), np.flatnonzero(asked))
    return Fold(" ".join(unheard), train, frozenset(train.subjects), frozenset(unheard), test)


def baseline(fold: Fold) -> tuple[Embed, str]:
    """Mean and deviation over time of each band of the log-mel spectrogram."""
    return recordings.spectra, "euclidean"


def score(embed: Embed, metric: str, fold: Fold) -> dict[str, Trials]:
    """Right or wrong, for every recording asked in every draw."""
    key, held, enrollable, asked = fold.test
    return {key: recordings.named(held, embed(held.wavs), metric, enrollable, asked)}
