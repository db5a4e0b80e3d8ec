"""LFW3D: are two frontalised photographs of the same person, people never seen before."""

from __future__ import annotations

import zipfile
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import data_sets
from benchmarks.tasks.base import Answers, Embed, Floats, Fold, Measure, Trials
from encoders.datasets import from_arrays
from encoders.preprocess import GreyPreprocess

TITLE = "LFW3D DevTest, unseen people"
PROTOCOL = (
    "View 1: 500 + 500 pairs of pairsDevTest.txt; trained on the people not among them, 4,785 of 4,786 (one "
    "has no picture but a copy of a tested one); embedded together with its mirror image; the threshold "
    "for each tenth of the pairs is the best on the other nine; interval from resampling people"
)
UNIT = "people"
MEASURES = {
    "accuracy": Measure(
        "accuracy", 0.91, aim=0.95, published={"Hybrid + Sub-SML, View 2 (Hassner 2015)": 0.9165}
    )
}
SETTINGS: dict[str, Any] = {
    "dim": 200, "preprocess": {"kind": "rgb", "size": 90}, "augment": "photo",
    "start": "discriminant", "steps": 0, "holdout": 0.0,
}  # fmt: skip
MEMBERS: dict[str, dict[str, Any]] = {
    "gradients": {"tower": "gradients", "tower_args": {"mirrored": True, "colours": 18}},
    "fisher": {"tower": "fisher", "tower_args": {"mirrored": True}},
}
WEIGHTS = (1, 1)
TENTHS = 10

Pair = tuple[str, str, bool]


def pairs() -> list[Pair]:
    """(file, file, same person) of the 1,000 pairs of the DevTest list."""
    found = []
    text = (data_sets.folder("lfw3d_crop90") / "pairsDevTest.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3:
            found.append((file(words[0], words[1]), file(words[0], words[2]), True))
        elif len(words) == 4:
            found.append((file(words[0], words[1]), file(words[2], words[3]), False))
    return found


def file(person: str, number: str) -> str:
    """The name in the archive of a person's picture of that number."""
    return f"{person}/{person}_{int(number):04d}.jpg"


def folds() -> list[Fold]:
    """The one split: people of the DevTest pairs, and all others."""
    asked = pairs()
    tested = sorted({name for pair in asked for name in pair[:2]})
    people = frozenset(_person(name) for name in tested)
    with zipfile.ZipFile(data_sets.folder("lfw3d_crop90") / "lfw3d_crop90.zip") as held:
        everybody = sorted(name for name in held.namelist() if name.endswith(".jpg"))
        # A picture that is in the collection under two names would be no unseen one.
        seen = {held.read(name) for name in tested}
        rest = [n for n in everybody if _person(n) not in people and held.read(n) not in seen]
        images, test = (np.stack([_pixels(held, name) for name in part]) for part in (rest, tested))
    train = from_arrays(images, [_person(name) for name in rest])
    return [Fold("DevTest", train, frozenset(map(_person, rest)), people, (test, tested, asked))]


def _person(name: str) -> str:
    return name.split("/")[0]


def _pixels(held: zipfile.ZipFile, name: str) -> Any:
    with held.open(name) as stored:
        return np.asarray(Image.open(stored).convert("RGB"))


def baseline(fold: Fold) -> tuple[Embed, str]:
    """Pixels of the standardised picture, 30 x 30."""
    read = GreyPreprocess(30, 30)

    def embed(items: Any) -> Floats:
        return np.stack([read(Image.fromarray(item)).reshape(-1) for item in items])

    return embed, "cosine"


def score(embed: Embed, metric: str, fold: Fold) -> dict[str, Trials]:
    """Right or wrong for each pair; a pair counts for the person of its first picture."""
    images, names, asked = fold.test
    # Raw features see mirror images too; ours are the same for them.
    both = embed(images) + embed(np.ascontiguousarray(images[:, :, ::-1]))
    rows = both / np.linalg.norm(both, axis=1, keepdims=True)
    place = {name: k for k, name in enumerate(names)}
    left, right = ([place[pair[side]] for pair in asked] for side in (0, 1))
    same = np.array([pair[2] for pair in asked])
    apart = (1.0 - (rows[left] * rows[right]).sum(axis=1)).astype(np.float32)
    return {"accuracy": Answers(answers(apart, same), [_person(pair[0]) for pair in asked])}


def answers(apart: Floats, same: Any) -> Floats:
    """1 where a pair is told right, by the threshold that is best on the other nine tenths."""
    # The list has the mated pairs first: each tenth takes every tenth pair.
    tenth = np.arange(len(apart)) % TENTHS
    right = np.zeros(len(apart), np.float32)
    for k in range(TENTHS):
        at = best_threshold(apart[tenth != k], same[tenth != k])
        right[tenth == k] = (apart[tenth == k] <= at) == same[tenth == k]
    return right


def best_threshold(apart: Floats, same: Any) -> float:
    """The distance at or below which most pairs are told right when they are accepted."""
    order = np.argsort(apart, kind="stable")
    gain = np.cumsum(np.where(same[order], 1, -1))
    last = np.append(np.diff(apart[order]) > 0, True)  # equal distances are accepted together
    return float(apart[order][np.argmax(np.where(last, gain, -len(gain) - 1))])
