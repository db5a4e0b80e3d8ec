"""Reading recordings: WAV files, bytes or arrays to one channel of float32 samples at one rate."""

from __future__ import annotations

import io
import os
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from encoders.errors import EncoderError

Array = NDArray[np.float32]
FRAME = 0.01  # seconds over which loudness is measured
MOST_SECONDS = 3600  # of one recording; more would only fill the memory


@dataclass(frozen=True, slots=True)
class AudioPreprocess:
    """Recordings as (rate * seconds,) samples: resampled, trimmed of silence, of unit loudness.

    An item is the path or the bytes of a WAV file (PCM of 8 to 32 bits, channels are averaged), an array of
    samples (integers are scaled by their range) at `rate`, or a pair (array, its rate). Frames quieter than
    the loudest by more than `trim` decibels are cut off at both ends (0: nothing is); of what is longer than
    `seconds` the middle is kept, and what is shorter has zeros after it. Silence and NaN are refused.
    """

    kind: ClassVar[str] = "audio"
    of_images: ClassVar[bool] = False
    suffixes: ClassVar[frozenset[str]] = frozenset({".wav", ".wave"})
    rate: int = 16_000
    seconds: float = 1.0
    trim: float = 40.0

    def __post_init__(self) -> None:
        if not 1_000 <= self.rate <= 192_000 or not 0.05 <= self.seconds <= 60 or not 0 <= self.trim <= 200:
            raise ValueError(
                "rate lies within 1,000 to 192,000, seconds within 0.05 to 60, trim within 0 to 200"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        return (round(self.rate * self.seconds),)

    def __call__(self, item: Any) -> Array:
        samples, rate = samples_of(item, self.rate)
        heard = trimmed(resampled(samples, rate, self.rate), self.rate, self.trim)
        loudness = np.float32(np.sqrt(np.mean(np.square(heard, dtype=np.float64))))
        if not loudness > 0:  # the few samples of a rate that cannot be right, once resampled
            raise ValueError(f"the recording of {len(samples):,} samples at {rate:,} a second is silent")
        heard = heard / loudness
        room = self.shape[0]
        start = max(0, (len(heard) - room) // 2)
        heard = heard[start : start + room]
        return np.pad(heard, (0, room - len(heard)))

    @classmethod
    def fit(cls, settings: dict[str, Any], items: Sequence[Any]) -> dict[str, Any]:
        """The most frequent rate, and seconds for 95 % of what is heard in the items."""
        rates, lengths = [], []
        for item in items:
            try:
                samples, rate = samples_of(item, int(settings.get("rate", 16_000)))
                lengths.append(len(trimmed(samples, rate, float(settings.get("trim", 40.0)))) / rate)
                rates.append(rate)
            except (ValueError, TypeError):
                continue  # the unreadable ones are told all together when the set is prepared
        if not rates:
            raise EncoderError("preprocess audio needs recordings (WAV files or arrays): none could be read")
        values, counts = np.unique(rates, return_counts=True)
        seconds = float(np.clip(np.quantile(lengths, 0.95), 0.1, 10.0))
        return {"rate": int(values[counts.argmax()]), "seconds": round(seconds, 2)} | settings


def samples_of(item: Any, rate: int) -> tuple[Array, int]:
    """(samples (n,) float32, their rate) of an item; ValueError with the reason for what is no recording."""
    if isinstance(item, tuple) and len(item) == 2:
        item, rate = item[0], _rate(item[1])
    elif isinstance(item, str | os.PathLike | bytes | bytearray | memoryview):
        return _read(item)
    samples = np.asarray(item)
    if samples.ndim != 1 or samples.dtype.kind not in "iuf":
        raise ValueError(f"samples (n,) are needed, not an array of shape {samples.shape} of {samples.dtype}")
    return _checked(_scaled(samples)), rate


def _rate(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError) as exc:
        raise ValueError(f"a rate in samples a second is needed, not {value!r}") from exc


def _read(item: Any) -> tuple[Array, int]:
    try:
        stored = item if isinstance(item, bytes | bytearray | memoryview) else Path(item).read_bytes()
        with wave.open(io.BytesIO(stored)) as file:
            rate, channels, width, frames = (
                file.getframerate(), file.getnchannels(), file.getsampwidth(), file.getnframes()
            )  # fmt: skip
            if not 0 < frames <= MOST_SECONDS * rate:
                raise ValueError(f"{frames:,} samples at {rate:,} a second: more than 0 and at most an hour")
            data = file.readframes(frames)
    except (wave.Error, EOFError, RuntimeError) as exc:  # a bare RuntimeError for chunks of wrong lengths
        reason = str(exc) or "a chunk is cut off, or of another length than it says"
        raise ValueError(f"not a whole WAV file of PCM samples: {reason}") from exc
    except OSError as exc:
        raise ValueError(f"cannot be read: {exc.strerror or exc}") from exc
    if len(data) != frames * channels * width:
        raise ValueError(f"the file is cut off: {len(data):,} bytes of {frames * channels * width:,}")
    return _checked(_decoded(data, width).reshape(-1, channels).mean(axis=1, dtype=np.float32)), rate


def _decoded(data: bytes, width: int) -> Array:
    """PCM samples of 1 to 4 bytes as float32 in [-1, 1)."""
    if width == 1:  # the only width that WAV keeps unsigned
        return (np.frombuffer(data, np.uint8).astype(np.float32) - np.float32(128)) / np.float32(128)
    if width == 3:
        raw = np.frombuffer(data, np.uint8).reshape(-1, 3)
        wide = np.concatenate([np.zeros((len(raw), 1), np.uint8), raw], axis=1).reshape(-1)
        return (wide.view("<i4") / np.float32(2**31)).astype(np.float32)
    return _scaled(np.frombuffer(data, "<i2" if width == 2 else "<i4"))


def _scaled(samples: NDArray[Any]) -> Array:
    if samples.dtype.kind == "f":
        return samples.astype(np.float32)
    half = np.float64(2) ** (8 * samples.dtype.itemsize - 1)
    middle = half if samples.dtype.kind == "u" else 0.0
    return ((samples - middle) / half).astype(np.float32)


def _checked(samples: Array) -> Array:
    if not len(samples):
        raise ValueError("the recording has no samples")
    if not np.isfinite(samples).all():
        raise ValueError("the recording holds NaN or infinity")
    if not np.any(samples):
        raise ValueError("the recording is silent")
    return samples


def resampled(samples: Array, rate: int, wanted: int) -> Array:
    """The recording at another rate, band-limited, by cutting or padding its spectrum."""
    if rate == wanted:
        return samples
    count = max(1, round(len(samples) * wanted / rate))
    spectrum = np.fft.rfft(samples)
    kept = np.zeros(count // 2 + 1, dtype=spectrum.dtype)
    shared = min(len(kept), len(spectrum))
    kept[:shared] = spectrum[:shared]
    return (np.fft.irfft(kept, count) * (count / len(samples))).astype(np.float32)


def trimmed(samples: Array, rate: int, decibels: float) -> Array:
    """The recording without the quiet frames at its ends; all of it when `decibels` is 0."""
    frame = max(1, round(FRAME * rate))
    count = len(samples) // frame
    if decibels == 0 or count < 2:
        return samples
    loudness = np.square(samples[: count * frame].reshape(count, frame), dtype=np.float64).mean(axis=1)
    heard = np.flatnonzero(loudness >= loudness.max() * 10 ** (-decibels / 10))
    last = len(samples) if heard[-1] == count - 1 else (heard[-1] + 1) * frame
    return samples[heard[0] * frame : last]
