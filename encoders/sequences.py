"""Sequences of vectors of any length as arrays of one shape: padded, with a column for what is real."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from encoders.errors import EncoderError

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SequencePreprocess:
    """Sequences of `channels` numbers a step, standardised: (steps, channels) -> (longest, channels + 1).

    The last column is 1 where a step is real and 0 where it is padding, which is 0 throughout. `mean` and
    `std` are by channel. NaN, infinity, no step at all and more steps than `longest` are refused.
    """

    kind: ClassVar[str] = "sequence"
    of_images: ClassVar[bool] = False
    channels: int
    longest: int
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.longest, self.channels + 1)

    def __call__(self, item: Any) -> Array:
        steps = _steps(item, self.channels)
        if len(steps) > self.longest:
            raise ValueError(
                f"a sequence of {len(steps):,} steps: this encoder takes at most {self.longest:,}, "
                "cut it or train with a larger `longest`"
            )
        padded = np.zeros(self.shape, dtype=np.float32)
        padded[: len(steps), :-1] = (steps - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        padded[: len(steps), -1] = 1.0
        return padded

    @classmethod
    def fit(cls, settings: dict[str, Any], items: Sequence[Any]) -> dict[str, Any]:
        """Channels, mean and deviation from the items; room for half as many steps again as they have."""
        if not len(items):
            raise EncoderError("preprocess sequence needs sequences to learn its scale from")
        try:
            first = np.asarray(items[0], dtype=np.float64)
            channels = 1 if first.ndim == 1 else first.shape[-1]
            steps = [_steps(item, channels) for item in items]
        except (TypeError, ValueError) as exc:
            raise EncoderError(f"preprocess sequence needs arrays of shape (steps, channels): {exc}") from exc
        together = np.concatenate(steps).astype(np.float64)
        deviation = together.std(axis=0)
        found = {
            "channels": channels,
            "longest": int(np.ceil(1.5 * max(map(len, steps)))),
            "mean": together.mean(axis=0).tolist(),
            "std": np.where(deviation > 1e-8, deviation, 1.0).tolist(),
        }
        return found | settings


def _steps(item: Any, channels: int) -> Array:
    """The item as (steps, channels) float32; ValueError for another shape, no steps, NaN or infinity."""
    steps = np.asarray(item, dtype=np.float32)
    if steps.ndim == 1 and channels == 1:
        steps = steps[:, None]
    if steps.ndim != 2 or steps.shape[1] != channels:
        raise ValueError(f"an array (steps, {channels}) is needed, not one of shape {steps.shape}")
    if not len(steps):
        raise ValueError("the sequence has no step")
    if not np.isfinite(steps).all():
        raise ValueError("the sequence holds NaN or infinity")
    return steps
