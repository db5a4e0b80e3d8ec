"""A transform of somebody else with what an encoder must know of it. Free of torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from encoders import preprocess
from encoders.adapters.base import Array
from encoders.errors import EncoderError
from encoders.images import read_image

Transform = Callable[[Any], Any]


class Prepared:
    """A transform with what must be known of it: the shape of its arrays, and what describes it for ever."""

    def __init__(self, call: Transform, shape: tuple[int, ...], described: Any, of_images: bool) -> None:
        self.call, self.shape, self.described, self.of_images = call, shape, described, of_images

    def __call__(self, item: Any) -> Array:
        try:
            with np.errstate(over="ignore"):
                array = np.asarray(self.call(item), dtype=np.float32)
        except (ValueError, TypeError, MemoryError, EncoderError):
            raise
        except Exception as exc:  # somebody else's code: the item must be told, whatever it raises
            raise ValueError(f"the transform failed: {type(exc).__name__}: {exc}") from exc
        if array.shape != self.shape:
            raise ValueError(f"the transform gave an array of shape {array.shape}, not {self.shape}")
        if not np.isfinite(array).all():
            raise ValueError("the transform gave NaN or infinity")
        return array


def prepared(
    transform: Transform | dict[str, Any],
    shape: tuple[int, ...] | None,
    of_images: bool,
    revision: str | None,
) -> Prepared:
    """The settings of a preprocessing of this package, or a callable, as `from_module` takes them."""
    if isinstance(transform, dict):
        built = preprocess.build(transform)
        if shape is not None and tuple(shape) != built.shape:
            raise EncoderError(f"{transform} gives arrays of shape {built.shape}, not {tuple(shape)}")
        return Prepared(built, built.shape, preprocess.settings_of(built), built.of_images)
    if not callable(transform):
        raise EncoderError(f"a transform is a callable or a dict of settings, not {type(transform).__name__}")
    if shape is None:
        raise EncoderError(
            "shape is needed beside a callable: that of one array it gives, e.g. (3, 224, 224)"
        )
    described = revision if revision is not None else repr(transform)
    if revision is None and " at 0x" in described:
        raise EncoderError(
            f"nothing tells {described[:80]} from another transform: pass revision='...', "
            "and change it whenever the transform changes"
        )
    call = (lambda item: transform(read_image(item, mode="RGB"))) if of_images else transform
    return Prepared(call, tuple(shape), described, of_images)
