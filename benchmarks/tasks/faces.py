"""AT&T faces: are two photographs of the same person, people never seen before."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import data_sets
from benchmarks.tasks.base import Embed, Fold, Measure, Scores, Trials, unit_pixels
from encoders import evaluation
from encoders.datasets import from_arrays
from encoders.preprocess import GreyPreprocess

TITLE = "AT&T faces, unseen people"
PROTOCOL = (
    "four folds of ten people: trained on the other thirty; EER over all 450 mated and 4,500 non-mated pairs "
    "of the ten, mean of four folds; interval from resampling people"
)
UNIT = "people"
MEASURES = {
    "eer": Measure(
        "EER", 0.05, higher=False, aim=0.033, published={"Siamese CNN (Khalil-Hani, Liew 2014)": 0.0333}
    )
}
SETTINGS: dict[str, Any] = {
    "tower": "conv", "tower_args": {"widths": [32, 64, 128]}, "dim": 64,
    "preprocess": {"kind": "grey", "height": 56, "width": 46}, "augment": "photo", "loss": "margin",
    "steps": 500, "subjects": 16, "items": 4, "lr": 0.003, "holdout": 0.0,
}  # fmt: skip


def folds() -> list[Fold]:
    """People 1 to 10, 11 to 20, 21 to 30 and 31 to 40 are the test in turn."""
    with np.load(data_sets.folder("att_faces") / "att_faces.npz") as held:
        images, people = held["images"], held["subject"]
    numbers = np.unique(people)
    made = []
    for k, tested in enumerate(np.split(numbers, 4)):
        test = np.isin(people, tested)
        made.append(
            Fold(
                str(k),
                from_arrays(images[~test], people[~test]),
                frozenset(map(str, people[~test])),
                frozenset(map(str, people[test])),
                (images[test], people[test]),
            )
        )
    return made


def baseline(fold: Fold) -> tuple[Embed, str]:
    """Pixels of the standardised picture."""
    return unit_pixels(GreyPreprocess(28, 23)), "cosine"


def score(embed: Embed, metric: str, fold: Fold) -> dict[str, Trials]:
    """The distances of all pairs; a non-mated pair counts for the person of its first picture."""
    images, people = fold.test
    rows = embed(images)
    apart = evaluation.distances(rows, rows, metric)
    left, right = np.triu_indices(len(people), 1)
    same = people[left] == people[right]
    about = people[left]
    return {"eer": Scores(apart[left, right][same], about[same], apart[left, right][~same], about[~same])}
