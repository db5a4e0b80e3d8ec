"""Known voices (FSDD): which of six speakers a new recording is of, five older ones of each enrolled."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.tasks import recordings
from benchmarks.tasks.base import Embed, Floats, Fold, Ints, Measure, Trials
from encoders.datasets import LabelledSet, from_arrays
from encoders.sound import resampled, samples_of

TITLE = "known speakers (FSDD)"
PROTOCOL = (
    "trained on recordings 5 to 49 of all six speakers, five of these enrolled of each, 50 draws, nearest "
    "template; recordings 0 to 4 asked, the published test set; interval from resampling the digits said"
)
UNIT = "recordings (the speakers are the same: unheard ones are the task voices)"
MEASURES = {"heard": Measure("rank-1 of 6, heard speakers", 0.97)}
SETTINGS: dict[str, Any] = {
    "tower": "audio", "tower_args": {"widths": [32, 64, 96], "frames": 32, "grid": [4, 1], "mask": 0.1},
    "dim": 64, "preprocess": {"kind": "audio", "rate": recordings.RATE, "seconds": recordings.SECONDS},
    "augment": "none", "loss": "margin", "steps": 200, "subjects": 20, "items": 4, "lr": 0.004,
    "holdout": 0.0,
}  # fmt: skip
OFFICIAL = 5  # recordings below number 5 are the published test set
SPEEDS = (1.0, 0.82, 0.88, 0.94, 1.06, 1.12, 1.18, 1.24)
EACH = 60  # recordings of every voice that is made from a speaker


def folds() -> list[Fold]:
    """The published split."""
    held = recordings.load()
    asked = held.numbers < OFFICIAL
    names = np.char.add(np.char.add(held.digits.astype(str), held.speakers), held.numbers.astype(str))
    train = np.flatnonzero(~asked)
    units = frozenset(names[train].tolist()), frozenset(names[asked].tolist())
    return [Fold("given", voices(held, train), *units, (held, train, asked))]


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
    held, enrollable, asked = fold.test
    return {"heard": recordings.named(held, embed(held.wavs), metric, enrollable, np.flatnonzero(asked))}
