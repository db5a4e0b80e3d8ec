"""Japanese vowels (Kudo 1999): which of nine speakers said it."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import data_sets
from benchmarks.tasks.base import Answers, Embed, Floats, Fold, Measure, Trials, nearest
from encoders import evaluation
from encoders.datasets import from_arrays

TITLE = "Japanese vowels, which speaker"
PROTOCOL = (
    "the published split: trained on the 270 training utterances of nine speakers, the same 30 of each "
    "enrolled; 370 test utterances asked; nearest template; interval from resampling utterances"
)
UNIT = "utterances (the nine speakers are the same: it is the published protocol)"
MEASURES = {
    "accuracy": Measure(
        "rank-1, 30 utterances a speaker enrolled",
        0.97,
        aim=0.99,
        published={"Kudo et al. 1999": 0.941, "best reported": 0.99},
    )
}
SETTINGS: dict[str, Any] = {
    "tower": "recurrent", "tower_args": {"cell": "gru", "width": 64, "dropout": 0.2}, "dim": 64,
    "preprocess": {"kind": "sequence"}, "augment": "sequence", "loss": "supcon",
    "steps": 600, "subjects": 9, "items": 8, "lr": 0.004, "holdout": 0.0,
}  # fmt: skip


def read(split: str) -> tuple[list[Floats], list[str]]:
    """(utterances (steps, 12), speakers) of the TRAIN or the TEST file."""
    path = data_sets.folder("sequences") / f"JapaneseVowels_{split}.ts"
    utterances, speakers = [], []
    lines = path.read_text(encoding="utf-8").partition("@data\n")[2].splitlines()
    for line in filter(None, map(str.strip, lines)):
        *channels, speaker = line.split(":")
        utterances.append(np.array([[float(v) for v in c.split(",")] for c in channels], np.float32).T)
        speakers.append(speaker)
    return utterances, speakers


def folds() -> list[Fold]:
    """The one published split."""
    (train, speakers), (test, truth) = read("TRAIN"), read("TEST")
    return [
        Fold(
            "given",
            from_arrays(train, speakers),
            frozenset(u.tobytes().hex() for u in train),
            frozenset(u.tobytes().hex() for u in test),
            (train, np.array(speakers), test, np.array(truth)),
        )
    ]


def baseline(fold: Fold) -> tuple[Embed, str]:
    """Mean and deviation of each of the twelve coefficients over the utterance."""

    def embed(items: Any) -> Floats:
        return np.stack([np.concatenate([u.mean(0), u.std(0)]) for u in items]).astype(np.float32)

    return embed, "euclidean"


def score(embed: Embed, metric: str, fold: Fold) -> dict[str, Trials]:
    """Right or wrong, for every test utterance."""
    enrolled, owners, asked, truth = fold.test
    apart = evaluation.distances(embed(asked), embed(enrolled), metric)
    return {"accuracy": Answers((nearest(apart, owners) == truth).astype(np.float32), np.arange(len(truth)))}
