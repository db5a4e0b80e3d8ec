"""A tiny labelled set drawn by numpy: strokes between fixed points, shaken; subjects are learnable."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from encoders.datasets import LabelledSet, from_arrays

SIDE = 40


def picture(
    subject: int, shake: np.random.Generator | None = None, *, dark_on_light: bool = True
) -> np.ndarray:
    """One drawing of a subject, (40, 40) uint8; without `shake` its exact form."""
    points = np.random.default_rng(1000 + subject).uniform(6, SIDE - 6, size=(6, 2))
    if shake is not None:
        points = points + shake.normal(0, 1.2, size=points.shape)
    image = Image.new("L", (SIDE, SIDE), 255)
    ImageDraw.Draw(image).line([tuple(p) for p in points], fill=0, width=2)
    pixels = np.asarray(image, dtype=np.uint8)
    return pixels if dark_on_light else 255 - pixels


def labelled(subjects: int = 12, items: int = 8, *, groups: int = 0, seed: int = 0) -> LabelledSet:
    """`subjects` x `items` drawings; `groups` > 0 puts the subjects into so many groups in turn."""
    shake = np.random.default_rng(seed)
    images = np.stack([picture(s, shake) for s in range(subjects) for _ in range(items)])
    labels = np.repeat([f"s{s:02d}" for s in range(subjects)], items)
    members = np.repeat([f"g{s % groups}" for s in range(subjects)], items) if groups else None
    return from_arrays(images, labels, members)
