"""Items for each kind of preprocessing: 20 good ones, and bad ones with the words of their refusal."""

from __future__ import annotations

import io
import wave
from typing import Any

import numpy as np

from encoders import preprocess
from tests.encoders.shapes import picture

RNG = np.random.default_rng(7)


def wav(samples: np.ndarray, rate: int = 8000, width: int = 2, channels: int = 1) -> bytes:
    """The bytes of a WAV file of samples in [-1, 1), (n,) or (n, channels)."""
    held = io.BytesIO()
    scaled = np.round(samples * (2 ** (8 * width - 1) - 1)).astype(np.int64).reshape(-1)
    if width == 1:
        data = (scaled + 128).astype(np.uint8).tobytes()
    else:
        data = scaled.astype("<i4").reshape(-1, 1).view(np.uint8)[:, :width].tobytes()
    with wave.open(held, "wb") as file:
        file.setparams((channels, width, rate, 0, "NONE", ""))
        file.writeframes(data)
    return held.getvalue()


def tone(hertz: float, seconds: float = 0.4, rate: int = 8000) -> np.ndarray:
    """A tone with its overtone, float32 in [-0.8, 0.8]."""
    at = np.arange(int(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * hertz * at) + 0.3 * np.sin(4 * np.pi * hertz * at)).astype(np.float32)


def photo(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size=(30, 36, 3), dtype=np.uint8)


MADE: dict[str, Any] = {
    "ink": preprocess.InkPreprocess(size=32),
    "strokes": preprocess.StrokesPreprocess(height=32, width=48),
    "grey": preprocess.GreyPreprocess(height=32, width=36),
    "rgb": preprocess.RgbPreprocess(size=32),
    "vector": preprocess.VectorPreprocess(12, mean=(0.5,) * 12, std=(2.0,) * 12),
    "sequence": preprocess.SequencePreprocess(5, 30, mean=(0.5,) * 5, std=(2.0,) * 5),
    "audio": preprocess.AudioPreprocess(rate=8000, seconds=0.7),
    "text": preprocess.TextPreprocess("abcdefghijklmnopqrstuvwxyz ,", longest=40),
}
GOOD: dict[str, list[Any]] = {
    "ink": [picture(s) for s in range(20)],
    "strokes": [picture(s) for s in range(20)],
    "grey": [photo(s) for s in range(20)],
    "rgb": [photo(s) for s in range(20)],
    "vector": list(RNG.normal(size=(20, 12))),
    "sequence": [RNG.normal(size=(1 + s, 5)) for s in range(20)],
    "audio": [wav(tone(200 + 30 * s, 0.2 + 0.02 * s)) for s in range(20)],
    "text": [
        f"{first} {last}"
        for first in ("Ann", "Béla", "X", "de la")
        for last in ["Cruz", "Li", "Ott", "Y", "Wu"]
    ],
}
NAN = float("nan")
IMAGES = [(b"", "empty"), (np.full((9, 9), 7, np.uint8), "blank"), (object(), "")]
BAD: dict[str, list[tuple[Any, str]]] = {
    "ink": IMAGES,
    "strokes": IMAGES,
    "grey": IMAGES,
    "rgb": [(b"", "empty"), (b"not a picture", "")],
    "vector": [([1, 2], "12 numbers"), ([NAN] * 12, "NaN"), ("word", "")],
    "sequence": [
        (np.zeros((31, 5)), "31 steps: this encoder takes at most 30"),
        (np.zeros((0, 5)), "no step"),
        (np.zeros((4, 3)), r"\(steps, 5\) is needed, not one of shape \(4, 3\)"),
        (np.full((4, 5), NAN), "NaN"),
        ("word", ""),
    ],
    "audio": [
        (b"RIFF", "not a whole WAV file"),
        (wav(tone(300))[:2000], "cut off"),
        ("/nowhere/a.wav", "No such file"),
        (np.zeros(4000, np.int16), "silent"),
        (np.full(4000, NAN), "NaN"),
        (np.zeros((10, 2)), r"\(n,\) are needed"),
        (np.zeros(0), "no samples"),
    ],
    "text": [
        ("", "empty"),
        (" \n ", "empty"),
        ("a" * 41, "41 characters: this encoder takes 40"),
        (7, "not int"),
    ],
}
