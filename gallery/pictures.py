"""What an item looks like, for a page: a small JPEG, or words in place of one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from encoders.images import ImageError, thumbnail
from gallery.engines.base import Engine
from gallery.errors import CorruptGalleryError
from gallery.folders import IMAGE_SUFFIXES
from gallery.originals import is_file, unpack

Picture = bytes | str
"""JPEG bytes, or words; "" for what is known by its name alone, such as a sound or a vector."""

SIZE = 168
_LONGEST = 160
_NARROWEST = 8
"""Pixels across which something can be seen."""


def picture_of(item: Any) -> Picture:
    """The item as it is shown; why not, where it should be an image."""
    if isinstance(item, str) and not is_file(item):
        return item[:_LONGEST]
    if _is_no_image(item):
        return ""
    try:
        return thumbnail(item, SIZE)
    except ImageError as error:
        return error.reason
    except (TypeError, ValueError):
        return ""


def _is_no_image(item: Any) -> bool:
    """Whether nobody would look for a picture in it: a file of another kind, a vector, a sequence."""
    if isinstance(item, str | os.PathLike):
        suffix = Path(os.fsdecode(item)).suffix.lower()
        return suffix != "" and suffix not in IMAGE_SUFFIXES
    if not isinstance(item, np.ndarray) or item.dtype.kind != "f" or item.ndim > 2:
        return False
    # Grey pictures are given in [0, 1]; numbers of a sequence are seldom all within, or are few a step.
    return item.ndim < 2 or min(item.shape) < _NARROWEST or not bool(((item >= 0) & (item <= 1)).all())


def picture_of_template(engine: Engine, template: int, source: str | None) -> Picture:
    """The item that a template was made of: as it was kept, else as its file is now."""
    try:
        with engine.generations() as generations:
            packed = generations.original(template)
        if packed is not None:
            return _unpacked(*packed)
    except CorruptGalleryError as error:
        return str(error)
    if source is None:
        return "not kept"
    path = Path(os.fsdecode(source))
    if _is_no_image(path):
        return ""
    return picture_of(path) if path.is_file() else "not kept, and its file is gone"


def _unpacked(kind: str, content: bytes) -> Picture:
    if kind.startswith(("file:", "path:")):
        return "" if _is_no_image(f"item{kind[5:]}") else picture_of(content)
    # No other kind needs a folder.
    return picture_of(unpack(kind, content, Path(), ""))
