"""Numbers brought to mean 0 and deviation 1, in float64 until they are: a large mean takes no digits away."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoders import stored

Array = NDArray[np.float32]
Wide = NDArray[np.float64]
LARGEST = float(np.finfo(np.float32).max)
GRAIN = 1e-13  # of a column's size, or of the largest deviation; below it a deviation is but rounding
SMALL = 1e6  # times a deviation that is only rounding: what it is divided by
MEANT = 1e-10  # a deviation above it is no rounding of other columns: nanovolts beside unix seconds


def scale_of(values: Wide) -> dict[str, list[float]]:
    """Mean and deviation by column of (n, d) finite numbers; a column that is only rounding is centred.

    That is a constant, or what a sum in float64 over other columns leaves where it should be 0: a principal
    component beyond the rank, a difference of equals. At deviation 1 it would weigh as much as the others.
    A column 1e13 times smaller than the largest, and below 1e-10, cannot be told from that: give it in
    another unit.
    """
    deviation = values.std(axis=0)
    of_others = min(MEANT, GRAIN * deviation.max())
    varies = deviation > np.maximum(GRAIN * np.abs(values).max(axis=0), of_others)
    small = np.maximum(1.0, SMALL * deviation)
    return {"mean": values.mean(axis=0).tolist(), "std": np.where(varies, deviation, small).tolist()}


def learnt(values: Wide, settings: dict[str, Any]) -> dict[str, Any]:
    """What `scaled` needs, from the values; a mean that `settings` bring is taken off as their encoder does.

    A record that has a mean and no `wide` is of an encoder that is gone on from, and takes it off in float32.
    """
    return scale_of(values) if "mean" in settings else {**scale_of(values), "wide": True}


def scaled(values: Any, mean: tuple[float, ...], std: tuple[float, ...], wide: bool) -> Array:
    """`values` (..., d) less the mean, by the deviation; float32.

    Not `wide`, the mean is taken off in float32, as encoders do that were trained before there was the other
    way, and go on to do. ValueError for numbers that are so far off that float32 cannot hold them.
    """
    kind = np.float64 if wide else np.float32
    with np.errstate(over="ignore"):
        found: Array = ((values - np.array(mean, kind)) / np.array(std, kind)).astype(np.float32)
    if not np.isfinite(found).all():
        raise ValueError("a number is too far from those that were trained on to be scaled")
    return found


def numbers(item: Any, wide: bool) -> NDArray[np.floating[Any]]:
    """The item as an array of float64, or of float32 unless `wide`; a path is that of a .npy file.

    TypeError, ValueError for no numbers.
    """
    if isinstance(item, str | os.PathLike):
        item = stored.array_in(item)
    with np.errstate(over="ignore"):
        try:
            return np.asarray(item, dtype=np.float64 if wide else np.float32)
        except OverflowError as exc:  # a whole number of Python's that no float holds
            raise ValueError(f"a number is too large: {exc}") from exc


def finite(values: NDArray[np.floating[Any]]) -> bool:
    """Whether all are numbers that float32 has."""
    return bool((np.abs(values) <= LARGEST).all())  # false for NaN too
