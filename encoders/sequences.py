"""Sequences of vectors of any length as arrays of one shape: padded, with a column for what is real."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from encoders import scaling, stored
from encoders.errors import EncoderError

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SequencePreprocess:
    """Sequences of `channels` numbers a step, standardised: (steps, channels) -> (longest, channels + 1).

    The last column is 1 where a step is real and 0 where it is padding, which is 0 throughout. `mean` and
    `std` are by channel, and `wide` is that of `scaling.scaled`. NaN, infinity, no step at all and more steps
    than `longest` are refused.
    """

    kind: ClassVar[str] = "sequence"
    of_images: ClassVar[bool] = False
    suffixes: ClassVar[frozenset[str]] = stored.ARRAYS
    channels: int
    longest: int
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    wide: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.longest, self.channels + 1)

    def __call__(self, item: Any) -> Array:
        steps = _steps(item, self.channels, self.wide)
        if len(steps) > self.longest:
            raise ValueError(
                f"a sequence of {len(steps):,} steps: this encoder takes at most {self.longest:,}, "
                "cut it or train with a larger `longest`"
            )
        padded = np.zeros(self.shape, dtype=np.float32)
        padded[: len(steps), :-1] = scaling.scaled(steps, self.mean, self.std, self.wide)
        padded[: len(steps), -1] = 1.0
        return padded

    @classmethod
    def fit(cls, settings: dict[str, Any], items: Sequence[Any]) -> dict[str, Any]:
        """Channels, mean and deviation from the items; room for half as many steps again as they have.

        The most frequent number of channels counts. Items that are no such sequences are passed over: they
        are told all together when the set is prepared.
        """
        arrays = [array for item in items if (array := _read(item)) is not None]  # a file is read once
        channels = Counter(n for array in arrays if (n := _channels(array))).most_common(1)
        steps = [s for array in arrays if channels and (s := _good(array, channels[0][0])) is not None]
        if not steps:
            raise EncoderError(
                "preprocess sequence needs arrays of shape (steps, channels), finite and with a step at "
                f"least, to learn its scale from: none of {len(items):,} items is one"
            )
        found = {"channels": channels[0][0], "longest": int(np.ceil(1.5 * max(map(len, steps))))}
        return found | scaling.learnt(np.concatenate(steps), settings) | settings


def _read(item: Any) -> NDArray[np.floating[Any]] | None:
    """The numbers of an item; None for what holds none."""
    try:
        return scaling.numbers(item, wide=True)
    except (TypeError, ValueError):
        return None


def _channels(array: NDArray[np.floating[Any]]) -> int:
    """How many it has; 0 for what is no sequence."""
    return 0 if array.ndim not in (1, 2) else 1 if array.ndim == 1 else array.shape[1]


def _good(array: NDArray[np.floating[Any]], channels: int) -> NDArray[np.floating[Any]] | None:
    """The steps of a good item; None for one that is refused."""
    try:
        return _steps(array, channels, wide=True)
    except ValueError:
        return None


def _steps(item: Any, channels: int, wide: bool) -> NDArray[np.floating[Any]]:
    """The item as (steps, channels); ValueError for another shape, no steps, NaN or infinity."""
    steps = scaling.numbers(item, wide)
    if steps.ndim == 1 and channels == 1:
        steps = steps[:, None]
    if steps.ndim != 2 or steps.shape[1] != channels:
        raise ValueError(f"an array (steps, {channels}) is needed, not one of shape {steps.shape}")
    if not len(steps):
        raise ValueError("the sequence has no step")
    if not scaling.finite(steps):
        raise ValueError("the sequence holds NaN or infinity")
    return steps
