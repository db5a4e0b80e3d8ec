"""Signatures (SigComp 2011, Dutch): genuine or forged, of writers never seen before."""

from __future__ import annotations

import csv
import io
import zipfile
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import data_sets
from benchmarks.tasks.base import Embed, Floats, Fold, Ints, Measure, Scores, Trials, unit_pixels
from encoders import evaluation
from encoders.datasets import from_arrays
from encoders.preprocess import StrokesPreprocess

TITLE = "signatures (SigComp 2011, Dutch), unseen writers"
PROTOCOL = (
    "43 writers to train on, 21 others to test on; 5 or 1 of the 12 genuine signatures of each enrolled, 20 "
    "draws; asked are his other genuine ones, the skilled forgeries of his and the genuine ones of the other "
    "20; score: mean distance to the enrolled, less the mean distance among them where there are 5; EER over "
    "all writers with one threshold; interval from resampling writers"
)
UNIT = "writers"
MEASURES = {
    "skilled5": Measure("EER, skilled forgeries, 5 enrolled", 0.17, False, 0.08, {"SigScatNet": 0.0369}),
    "random5": Measure("EER, random forgeries, 5 enrolled", 0.02, False, 0.005),
    "skilled1": Measure("EER, skilled forgeries, 1 enrolled", None, False),
    "random1": Measure("EER, random forgeries, 1 enrolled", None, False),
}
SETTINGS: dict[str, Any] = {
    "tower": "residual", "tower_args": {"widths": [32, 64, 96, 128]}, "dim": 128,
    "preprocess": {"kind": "strokes", "height": 64, "width": 128}, "augment": "affine", "loss": "margin",
    "steps": 3600, "subjects": 32, "items": 2, "lr": 0.004, "holdout": 0.0,
}  # fmt: skip
SIDE, DRAWS = 256, 20


def read(split: str) -> tuple[Any, Any, Any, Any]:
    """(images (n, 256, 256), writers, genuine, forgers) of one split; paper is put around each signature."""
    place = data_sets.folder("sigcomp2011_dutch")
    with (place / "index.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == split]
    with zipfile.ZipFile(place / "images_256.zip") as held:
        images = np.stack([_framed(io.BytesIO(held.read(row["file"]))) for row in rows])
    columns = (np.array([row[name] for row in rows]) for name in ("writer", "genuine", "forger"))
    writers, genuine, forgers = columns
    return images, writers, genuine == "1", forgers


def _framed(stored: io.BytesIO) -> Any:
    """The picture in the middle of a square of its paper's grey."""
    grey = np.asarray(Image.open(stored).convert("L"))
    frame = np.full((SIDE, SIDE), np.median(grey), np.uint8)
    top, left = (SIDE - grey.shape[0]) // 2, (SIDE - grey.shape[1]) // 2
    frame[top : top + grey.shape[0], left : left + grey.shape[1]] = grey
    return frame


def folds() -> list[Fold]:
    """The one split. The forgeries of a writer by one forger are a class of their own to train on."""
    images, writers, genuine, forgers = read("train")
    labels = [
        writer if own else f"{writer} by {forger or 'others'}"
        for writer, own, forger in zip(writers, genuine, forgers, strict=True)
    ]
    test = read("test")[:3]
    return [
        Fold(
            "given",
            from_arrays(images, labels, writers),
            frozenset(writers.tolist()),
            frozenset(test[1].tolist()),
            test,
        )
    ]


def baseline(fold: Fold) -> tuple[Embed, str]:
    """Ink in a frame of 32 x 64 pixels."""
    return unit_pixels(StrokesPreprocess(32, 64)), "cosine"


def score(embed: Embed, metric: str, fold: Fold) -> dict[str, Trials]:
    """Skilled and random forgeries apart, with five references and with one."""
    images, writers, genuine = fold.test
    rows = embed(images)
    apart = evaluation.distances(rows, rows, metric)
    found: dict[str, Trials] = {}
    for count in (5, 1):
        asked = [_asked(apart, writers, genuine, writer, count) for writer in np.unique(writers)]
        mated, skilled, random = (np.concatenate(part) for part in zip(*asked, strict=True))
        about = [np.repeat(np.unique(writers), [len(one[k]) for one in asked]) for k in range(3)]
        found[f"skilled{count}"] = Scores(mated, about[0], skilled, about[1])
        found[f"random{count}"] = Scores(mated, about[0], random, about[2])
    return found


def _asked(apart: Floats, writers: Any, genuine: Any, writer: str, count: int) -> list[Floats]:
    """Scores of the genuine, the skilled and the random probes of one writer, over all draws."""
    own = np.flatnonzero((writers == writer) & genuine)
    skilled = np.flatnonzero((writers == writer) & ~genuine)
    others = np.flatnonzero((writers != writer) & genuine)
    rng = np.random.default_rng(int(writer))
    parts: list[list[Floats]] = [[], [], []]
    for _ in range(DRAWS):
        enrolled = rng.choice(own, count, replace=False)
        within = spread(apart, enrolled)
        probes = (np.setdiff1d(own, enrolled), skilled, others)
        for part, asked in zip(parts, probes, strict=True):
            part.append(apart[np.ix_(asked, enrolled)].mean(axis=1) - within)
    return [np.concatenate(part).astype(np.float32) for part in parts]


def spread(apart: Floats, enrolled: Ints) -> float:
    """The mean distance among the enrolled, 0 for a single one: how much a writer varies."""
    if len(enrolled) < 2:
        return 0.0
    among = apart[np.ix_(enrolled, enrolled)]
    return float(among[np.triu_indices(len(enrolled), 1)].mean())
