"""Voices (FSDD): which of six speakers a recording is of, five recordings of each enrolled."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.tasks import recordings
from benchmarks.tasks.base import Answers, Embed, Floats, Fold, Ints, Measure, Trials
from encoders import evaluation
from encoders.datasets import LabelledSet, from_arrays
from encoders.sound import resampled, samples_of

TITLE = "speakers (FSDD)"
PROTOCOL = (
    "five recordings of each of the six enrolled, 50 draws, nearest template; unheard: trained without one "
    "speaker, who alone is asked, mean of six; heard: trained on recordings 5 to 49 of all six, 0 to 4 "
    "asked; interval from resampling the digits that are said"
)
UNIT = "speakers who are asked (of the last fold: recordings)"
MEASURES = {
    "unheard": Measure("rank-1 of 6, unheard speaker", 0.97),
    "heard": Measure("rank-1 of 6, heard speakers", 0.97),
}
SETTINGS: dict[str, Any] = {
    "tower": "audio", "tower_args": {"widths": [32, 64, 96], "frames": 32, "grid": [4, 1], "mask": 0.1},
    "dim": 64, "preprocess": {"kind": "audio", "rate": recordings.RATE, "seconds": recordings.SECONDS},
    "augment": "none", "loss": "margin", "steps": 200, "subjects": 20, "items": 4, "lr": 0.004,
    "holdout": 0.0,
}  # fmt: skip
ENROLLED, DRAWS, OFFICIAL = 5, 50, 5  # recordings below number 5 are the published test set
SPEEDS = (1.0, 0.82, 0.88, 0.94, 1.06, 1.12, 1.18, 1.24)
EACH = 60  # recordings of every voice that is made from a speaker


def folds() -> list[Fold]:
    """One fold a speaker who is not heard, and one in which all are."""
    held = recordings.load()
    made = [_fold(held, str(name), held.speakers == name) for name in np.unique(held.speakers)]
    return [*made, _heard(held)]


def _fold(held: recordings.Recordings, name: str, asked: Any) -> Fold:
    train = np.flatnonzero(~asked)
    units = frozenset(held.speakers[train].tolist()), frozenset(held.speakers[asked].tolist())
    return Fold(name, voices(held, train), *units, ("unheard", held, np.arange(len(asked)), asked))


def _heard(held: recordings.Recordings) -> Fold:
    asked = held.numbers < OFFICIAL
    names = np.char.add(np.char.add(held.digits.astype(str), held.speakers), held.numbers.astype(str))
    train = np.flatnonzero(~asked)
    units = frozenset(names[train].tolist()), frozenset(names[asked].tolist())
    return Fold("heard", voices(held, train), *units, ("heard", held, train, asked))


def voices(held: recordings.Recordings, rows: Ints) -> LabelledSet:
    """Each speaker as he is and at seven speeds, every one a voice of its own with its own microphone.

    Five voices are few to learn from: a recording played quicker is higher, too, and so is of somebody else.
    """
    rng = np.random.default_rng(0)
    items: list[Floats] = []
    labels = []
    for speaker in np.unique(held.speakers[rows]):
        own = rows[held.speakers[rows] == speaker]
        for speed in SPEEDS:
            knots = rng.normal(0.0, 0.0 if speed == 1.0 else 0.4, 8)
            for row in rng.choice(own, EACH, replace=False):
                items.append(played(samples_of(held.wavs[row], recordings.RATE)[0], speed, knots))
                labels.append(f"{speaker} at {speed:g}")
    return from_arrays(items, labels)


def played(samples: Floats, speed: float, knots: Any) -> Floats:
    """The samples at another speed, through a filter: `knots` log gains, evenly over the frequencies."""
    quick = resampled(samples, recordings.RATE, round(recordings.RATE / speed))
    spectrum = np.fft.rfft(quick)
    curve = np.interp(np.linspace(0, 1, len(spectrum)), np.linspace(0, 1, len(knots)), knots)
    return np.fft.irfft(spectrum * np.exp(curve), len(quick)).astype(np.float32)


def baseline(fold: Fold) -> tuple[Embed, str]:
    """Mean and deviation over time of each band of the log-mel spectrogram."""
    return recordings.spectra, "euclidean"


def score(embed: Embed, metric: str, fold: Fold) -> dict[str, Trials]:
    """Right or wrong, for every recording asked in every draw."""
    key, held, enrollable, asked = fold.test
    rows = embed(held.wavs)
    right, about = [], []
    rng = np.random.default_rng(1)
    for _ in range(DRAWS):
        own = [enrollable[held.speakers[enrollable] == name] for name in np.unique(held.speakers)]
        enrolled = np.concatenate([rng.choice(some, ENROLLED, replace=False) for some in own])
        probes = np.setdiff1d(np.flatnonzero(asked), enrolled)
        apart = evaluation.distances(rows[probes], rows[enrolled], metric)
        right.append(held.speakers[enrolled][apart.argmin(axis=1)] == held.speakers[probes])
        about.append(held.digits[probes])
    return {key: Answers(np.concatenate(right).astype(np.float32), np.concatenate(about))}
