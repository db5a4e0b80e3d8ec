"""Small pictures of preprocessed items, as pieces of HTML: what the encoder sees, not what the file held."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from encoders.images import ImageError, thumbnail

Array = NDArray[np.float32]
SIDE = 96  # pixels of the longer side
LONGEST = 160  # letters of a text


def piece(preprocess: Any, array: Array) -> str:
    """An <img> with the picture inside it, or the text of a text."""
    if preprocess.kind == "text":
        return f"<span class='text'>{html.escape(preprocess.text(array))}</span>"
    image = Image.fromarray(_PAINT.get(preprocess.kind, _heat)(preprocess, array))
    scale = SIDE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    held = io.BytesIO()
    image.resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.NEAREST).save(held, "PNG")
    return f"<img alt='' src='data:image/png;base64,{base64.b64encode(held.getvalue()).decode()}'>"


def shown(preprocess: Any, item: Any) -> str:
    """What an encoder sees of an item, else the picture or the text that it is; "" where it is neither."""
    if getattr(preprocess, "kind", None) is not None:
        try:
            return piece(preprocess, preprocess(item))
        except (ValueError, TypeError):
            return ""
    if isinstance(item, str) and not _is_file(item):
        return f"<span class='text'>{html.escape(item[:LONGEST])}</span>"
    try:
        held = thumbnail(item, SIDE)
    except (ImageError, TypeError, ValueError, OSError):
        return ""
    return f"<img alt='' src='data:image/jpeg;base64,{base64.b64encode(held).decode()}'>"


def _is_file(text: str) -> bool:
    """A text may be longer than any name of a file."""
    try:
        return Path(text).is_file()
    except OSError:
        return False


def _ink(preprocess: Any, array: Array) -> NDArray[np.uint8]:
    drawn: NDArray[np.uint8] = np.round(255 * (1 - np.clip(array[0], 0, 1))).astype(np.uint8)
    return drawn


def _rgb(preprocess: Any, array: Array) -> NDArray[np.uint8]:
    std, mean = (np.array(part, np.float32)[:, None, None] for part in (preprocess.std, preprocess.mean))
    levels: NDArray[np.uint8] = np.round(255 * np.clip(array * std + mean, 0, 1)).astype(np.uint8)
    return levels.transpose(1, 2, 0)


def _grey(preprocess: Any, array: Array) -> NDArray[np.uint8]:
    return _stretched(array[0])


def _bars(preprocess: Any, array: Array) -> NDArray[np.uint8]:
    """One bar a number, up or down from the middle; 3 deviations reach the edge."""
    values = array[:64]
    canvas = np.full((49, 6 * len(values)), 255, np.uint8)
    for k, value in enumerate(np.clip(values / 3, -1, 1)):
        end = 24 - round(24 * float(value))
        canvas[min(24, end) : max(24, end) + 1, 6 * k + 1 : 6 * k + 5] = 60
    return canvas


def _sequence(preprocess: Any, array: Array) -> NDArray[np.uint8]:
    """Time across, channels down; the padding is left out."""
    steps = array[: max(1, int(array[:, -1].sum())), :-1]
    return _stretched(steps.T)


def _audio(preprocess: Any, array: Array) -> NDArray[np.uint8]:
    """A spectrogram: time across, low tones at the bottom, 60 decibels from white to black."""
    sounding = array[: max(512, int(np.flatnonzero(array)[-1]) + 1 if array.any() else 512)]
    window = 256
    starts = np.linspace(0, max(0, len(sounding) - window), 96).astype(int)
    frames = np.stack(
        [sounding[s : s + window] * np.hanning(window)[: len(sounding[s : s + window])] for s in starts]
    )
    loud = 20 * np.log10(np.abs(np.fft.rfft(frames, axis=1)).T[::-1] + 1e-6)
    return 255 - _stretched(np.maximum(loud, loud.max() - 60).astype(np.float32))


def _heat(preprocess: Any, array: Array) -> NDArray[np.uint8]:
    """Any other array: its numbers as grey levels."""
    return _stretched(np.atleast_2d(array.reshape(-1, array.shape[-1]))[:128])


def _stretched(values: Array) -> NDArray[np.uint8]:
    low, high = float(values.min()), float(values.max())
    return np.round(255 * (values - low) / max(high - low, 1e-6)).astype(np.uint8)


_PAINT = {
    "ink": _ink,
    "strokes": _ink,
    "grey": _grey,
    "rgb": _rgb,
    "vector": _bars,
    "sequence": _sequence,
    "audio": _audio,
}
