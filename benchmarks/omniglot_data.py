"""Omniglot as the benchmarks read it: pictures, labels and the twenty fixed one-shot runs."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks import data_sets

SIDE = 105


@dataclass(frozen=True, slots=True)
class Characters:
    """One half of Omniglot: (n, 105, 105) uint8, dark on light, with alphabet, character and drawer."""

    images: NDArray[np.uint8]
    alphabet: NDArray[np.str_]
    character: NDArray[np.int64]
    drawer: NDArray[np.int64]


def folder() -> Path:
    """Where the data sets are."""
    return data_sets.folder("omniglot")


def characters(half: str) -> Characters:
    """The "background" or the "evaluation" half."""
    with np.load(folder() / "omniglot.npz") as held:
        part = {name: held[f"{half}_{name}"] for name in ("bits", "alphabet", "character", "drawer")}
    ink = np.unpackbits(part["bits"], axis=1)[:, : SIDE * SIDE].reshape(-1, SIDE, SIDE)
    images = (255 * (1 - ink)).astype(np.uint8)
    return Characters(
        images, part["alphabet"], part["character"].astype(np.int64), part["drawer"].astype(np.int64)
    )


def export(path: Path) -> int:
    """Writes the background half as the .npz that `encoders train` takes; gives the number of pictures."""
    data = characters("background")
    labels = np.array([f"{a}/{c:02d}" for a, c in zip(data.alphabet, data.character, strict=True)])
    np.savez_compressed(path, images=data.images, labels=labels, groups=data.alphabet)
    return len(labels)


def fixed_runs() -> list[tuple[list[Image.Image], list[Image.Image], list[int]]]:
    """The 20 runs of Lake et al.: (20 supports, 20 queries, for each query the number of its support)."""
    with zipfile.ZipFile(folder() / "all_runs.zip") as archive:
        return [_run(archive, f"run{number:02d}") for number in range(1, 21)]


def _run(archive: zipfile.ZipFile, name: str) -> tuple[list[Image.Image], list[Image.Image], list[int]]:
    rows = [
        line.split()
        for line in archive.read(f"{name}/class_labels.txt").decode().splitlines()
        if line.strip()
    ]
    supports = sorted({support for _, support in rows})
    numbers = {support: index for index, support in enumerate(supports)}
    queries = [_picture(archive, query) for query, _ in rows]
    return [_picture(archive, s) for s in supports], queries, [numbers[support] for _, support in rows]


def _picture(archive: zipfile.ZipFile, path: str) -> Image.Image:
    with archive.open(path) as held:
        image = Image.open(held)
        image.load()
    return image
