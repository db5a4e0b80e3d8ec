"""Pure functions that find the ink of a character picture: polarity, contrast, box, square."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float32]
Wide = NDArray[np.float64]

LARGEST = 512  # longer sides are shrunk first: a scan of 4,000 pixels has no more to say about a character
LEAST_CONTRAST = 8.0  # of 255 grey levels between ink and background; below it a picture is blank
LEAST_FALL = 12.0  # grey levels from edge to edge; a smaller fall of light is left alone
INSIDE = 0.35  # what counts as ink for the box, between background 0 and stroke 1


def ink_square(image: Image.Image, size: int, margin: float) -> Array:
    """The ink of a grey image, centred in a square of `size` pixels with a margin; float32 in [0, 1].

    `margin` is a share of the longer side of the ink's box; the aspect is kept. Raises ValueError on a
    picture without contrast.
    """
    ink = ink_of(evenly_lit(_grey(image)))
    canvas, corners = _square(ink[_box(ink)], margin)
    resized = Image.fromarray(canvas).resize((size, size), Image.Resampling.BILINEAR, box=corners)
    return np.clip(np.asarray(resized, dtype=np.float32), 0.0, 1.0)


def ink_frame(image: Image.Image, height: int, width: int) -> Array:
    """The ink of a grey image, as large as it fits a frame, centred, aspect kept; (height, width) in [0, 1].

    Raises ValueError on a picture without contrast.
    """
    ink = ink_of(evenly_lit(_grey(image)))
    ink = ink[_box(ink)]
    scale = min(height / ink.shape[0], width / ink.shape[1])
    tall, wide = max(1, round(ink.shape[0] * scale)), max(1, round(ink.shape[1] * scale))
    small = Image.fromarray(np.ascontiguousarray(ink)).resize((wide, tall), Image.Resampling.BOX)
    frame = np.zeros((height, width), dtype=np.float32)
    top, left = (height - tall) // 2, (width - wide) // 2
    frame[top : top + tall, left : left + wide] = np.asarray(small)
    return np.clip(frame, 0.0, 1.0)


def ink_of(grey: Array) -> Array:
    """How much ink each pixel has, 0 to 1, from grey levels (h, w) in [0, 255], whichever of the two is dark.

    An image and its negative give the same ink.
    """
    cut = otsu(grey)
    bright = grey > cut
    if float(grey.max() - grey.min()) < LEAST_CONTRAST or bright.all() or not bright.any():
        raise ValueError("the picture is blank: it has no contrast between ink and background")
    background = bright if _background_is_bright(bright) else ~bright
    level = float(np.median(grey[background]))
    away = np.abs(grey - np.float32(level)) * np.where(background, 0.0, 1.0) + _halo(grey, level, background)
    full = float(np.percentile(away[~background], 75))
    ink: Array = np.clip(away / np.float32(max(full, 1e-6)), 0.0, 1.0).astype(np.float32)
    return ink


def evenly_lit(grey: Array) -> Array:
    """The picture without a linear fall of light across it, judged by its border; unchanged without one.

    The plane is fitted to the border pixels by least absolute deviations, which ink that touches the border
    does not sway. Pictures with a side under 32 pixels are left alone.
    """
    if min(grey.shape) < 32:
        return grey
    places, levels = _border_places(grey.shape), _border(grey).astype(np.float64)
    plane, rest = _plane(places, levels)
    fall = abs(plane[1]) + abs(plane[2])
    if fall < LEAST_FALL or float(np.median(rest)) > fall / 4:
        return grey
    down, across = (np.linspace(-0.5, 0.5, side) for side in grey.shape)
    light = plane[1] * down[:, None] + plane[2] * across[None, :]
    lit: Array = np.clip(grey - light, 0.0, 255.0).astype(np.float32)
    return lit


def otsu(grey: Array) -> float:
    """The grey level that splits the histogram best in two (Otsu 1979); a negative splits at 255 minus it."""
    counts = np.bincount(np.rint(grey).astype(np.uint8).ravel(), minlength=256).astype(np.float64)
    weight, mass = np.cumsum(counts)[:-1], np.cumsum(counts * np.arange(256.0))[:-1]
    total, whole = counts.sum(), (counts * np.arange(256.0)).sum()
    spread = weight * (total - weight)
    between = np.where(spread > 0, (whole * weight - total * mass) ** 2 / np.maximum(spread, 1.0), 0.0)
    best = np.flatnonzero(between >= between.max() * (1 - 1e-9))
    return float(best[0] + best[-1]) / 2 + 0.5


def _plane(places: Wide, levels: Wide) -> tuple[Wide, Wide]:
    """(coefficients, absolute residuals) of a robust plane, by reweighted least squares."""
    weights = np.ones(len(levels))
    for _ in range(8):
        weighted = places * weights[:, None]
        plane = np.asarray(np.linalg.solve(weighted.T @ places, weighted.T @ levels), dtype=np.float64)
        rest: Wide = np.abs(levels - places @ plane)
        weights = 1.0 / np.maximum(rest, 0.5)
    return plane, rest


def _border(pixels: NDArray[Any]) -> NDArray[Any]:
    """The outermost pixels of a picture (h, w), in a fixed order."""
    return np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])


def _border_places(shape: tuple[int, ...]) -> Wide:
    """(1, down, across) of each border pixel, the picture reaching from -0.5 to 0.5 both ways."""
    down, across = np.meshgrid(*(np.linspace(-0.5, 0.5, side) for side in shape), indexing="ij")
    return np.stack([np.ones(len(_border(down))), _border(down), _border(across)], axis=1)


def _background_is_bright(bright: NDArray[np.bool_]) -> bool:
    """By the border, which is mostly background; by the whole picture when the border is undecided."""
    share = float(_border(bright).mean())
    if abs(share - 0.5) < 0.12:
        share = float(bright.mean())
    return share >= 0.5


def _halo(grey: Array, level: float, background: NDArray[np.bool_]) -> Array:
    """The soft edge of strokes on the background's side of the cut, less what is only the paper's grain."""
    away = np.abs(grey - np.float32(level))
    grain = 3.0 * float(np.median(away[background])) + 2.0
    toward = np.sign(float(np.median(grey[~background])) - level)
    soft = np.where((grey - level) * toward > 0, np.maximum(away - grain, 0.0), 0.0)
    return np.where(background, soft, 0.0).astype(np.float32)


def _grey(image: Image.Image) -> Array:
    longest = max(image.size)
    if longest > LARGEST:
        shrunk = (max(1, round(side * LARGEST / longest)) for side in image.size)
        image = image.resize(tuple(shrunk), Image.Resampling.BOX)  # type: ignore[arg-type]
    return np.asarray(image, dtype=np.float32)


def _box(ink: Array) -> tuple[slice, slice]:
    rows = np.flatnonzero((ink > INSIDE).any(axis=1))
    columns = np.flatnonzero((ink > INSIDE).any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _square(ink: Array, margin: float) -> tuple[Array, tuple[float, float, float, float]]:
    """The ink on a canvas, and the corners (left, top, right, bottom) of the square to cut from it."""
    height, width = ink.shape
    side, edge = max(height, width), margin * max(height, width)
    room = math.ceil(edge) + 1
    canvas = np.zeros((side + 2 * room, side + 2 * room), dtype=np.float32)
    top, left = room + (side - height) // 2, room + (side - width) // 2
    canvas[top : top + height, left : left + width] = ink
    near, far = room - edge, room + side + edge
    return canvas, (near, near, far, far)
