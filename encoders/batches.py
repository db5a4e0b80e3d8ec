"""What every encoder does with its items: refuse one that is not in a list, name a bad one, go in chunks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any, TypeGuard, TypeVar

import numpy as np
from numpy.typing import NDArray

from encoders.errors import EncodeError

T = TypeVar("T")

# Every forward pass has exactly this many rows, the last one padded with zeros: one shape means one kernel,
# so an item embeds to the same bits whatever it is encoded with (asserted for every encoder by its tests).
CHUNK = 16


def listed(items: Any, *, of_images: bool) -> Iterable[Any]:
    """The items; TypeError for a path, bytes or a picture that is not in a list.

    of_images: an item is a picture, so that one array (H, W) or (H, W, c) is one item.
    """
    if isinstance(items, str | bytes | os.PathLike) or not isinstance(items, Iterable):
        raise TypeError(f"encode takes a list of items, not one {type(items).__name__}: encode([item])")
    if of_images and _one_picture(items):
        raise TypeError(f"this is one image array of shape {items.shape}: wrap it in a list")
    return items


def read_each(items: Iterable[Any], read: Callable[[Any], T]) -> Iterator[T]:
    """`read(item)` of each, one at a time; EncodeError with the index for its ValueError or TypeError."""
    for index, item in enumerate(items):
        try:
            yield read(item)
        except (ValueError, TypeError) as exc:
            raise EncodeError(index, str(exc)) from exc


def chunks(things: Iterator[T], size: int = CHUNK) -> Iterator[list[T]]:
    """Lists of `size` things, the last one maybe shorter."""
    while chunk := list(islice(things, size)):
        yield chunk


def exact(device: Any) -> AbstractContextManager[None]:
    """On CUDA: no TF32 and no kernel chosen by timing, so that the same item embeds the same each time.

    device: a torch.device.
    """
    if device.type != "cuda":
        return nullcontext()
    import torch

    flags: AbstractContextManager[None] = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
    return flags


def _one_picture(items: Any) -> TypeGuard[NDArray[Any]]:
    """Whether `items` is one array (H, W) or (H, W, 1 | 3 | 4), and no stack (n, H, W) or (n, H, W, c)."""
    if not isinstance(items, np.ndarray) or items.dtype == object:
        return False
    return items.ndim == 2 or (items.ndim == 3 and items.shape[2] in (1, 3, 4))
