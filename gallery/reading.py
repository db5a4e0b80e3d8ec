"""Reading many image files: decoded in threads, in batches that are bounded in number and in pixels."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from PIL import Image

from encoders.images import ImageError, image_size, read_image
from gallery.duplicates import Picture
from gallery.folders import FoundFile, Unreadable

BATCH_PIXELS = 64_000_000  # decoded pixels held at a time, unless one picture alone has more
DECODED_SIDE = 512  # JPEGs with both sides beyond twice this are decoded at a fraction of their size


@dataclass(frozen=True, slots=True)
class Batch:
    """Some files of a folder: those that could be read, with their images, and those that could not."""

    pictures: tuple[Picture, ...]
    images: tuple[Image.Image, ...]
    refused: tuple[Unreadable, ...]


def read_batches(files: Sequence[FoundFile], size: int, max_pixels: int) -> Iterator[Batch]:
    """The files in order, at most `size` a batch and about `BATCH_PIXELS` of pixels."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        for start in range(0, len(files), size):
            measured = list(threads.map(partial(_measured, max_pixels), files[start : start + size]))
            refused = tuple(item for item in measured if isinstance(item, Unreadable))
            if refused:
                yield Batch((), (), refused)
            for pictures in bounded([item for item in measured if isinstance(item, Picture)]):
                read = threads.map(partial(_decoded, max_pixels), pictures)
                yield _batch(pictures, list(read))


def bounded(pictures: Sequence[Picture], most: int = BATCH_PIXELS) -> Iterator[list[Picture]]:
    """Runs of pictures with at most `most` pixels together, or of one picture that has more."""
    run: list[Picture] = []
    held = 0
    for picture in pictures:
        pixels = picture.width * picture.height
        if run and held + pixels > most:
            yield run
            run, held = [], 0
        run.append(picture)
        held += pixels
    if run:
        yield run


def _measured(max_pixels: int, file: FoundFile) -> Picture | Unreadable:
    try:
        return Picture(file.path, file.size, *image_size(file.path, max_pixels=max_pixels))
    except ImageError as error:
        return Unreadable(file.path, error.reason)


def _decoded(max_pixels: int, picture: Picture) -> Image.Image | Unreadable:
    try:
        return read_image(picture.path, max_pixels=max_pixels, at_least=DECODED_SIDE)
    except ImageError as error:
        return Unreadable(picture.path, error.reason)


def _batch(pictures: Sequence[Picture], read: Sequence[Image.Image | Unreadable]) -> Batch:
    both = zip(pictures, read, strict=True)
    good = [(picture, item) for picture, item in both if isinstance(item, Image.Image)]
    return Batch(
        tuple(picture for picture, _ in good),
        tuple(image for _, image in good),
        tuple(item for item in read if isinstance(item, Unreadable)),
    )
