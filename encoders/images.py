"""Reading images safely: one door from a path, bytes, a PIL image or an array to a plain 8-bit picture.

Free of torch, so that `gallery` may use it too. Whatever is wrong with an item comes out as `ImageError`
with a plain reason; no error of Pillow or of the operating system passes this file.

What is done on the way, so that the same picture reads the same however it is stored: EXIF orientation is
applied, transparency is composited over white, palettes are resolved, 16-bit values are scaled (v / 257, not
clipped) unless all are 0..255, which are 8-bit values stored wide, of an animation the first frame is taken,
CMYK becomes RGB. ICC profiles are not applied.
"""

from __future__ import annotations

import io
import os
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from encoders.names import printable

Stored: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview
Item: TypeAlias = Stored | Image.Image | npt.NDArray[Any]
Mode: TypeAlias = Literal["RGB", "L"]

MAX_PIXELS = 100_000_000
ORIENTATION_TAG = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = {_TURNS[orientation] for orientation in (5, 6, 7, 8)}
# Formats that Pillow reads by running another program or the system's own renderer.
_PROGRAMS = {"EPS", "WMF"}
_WIDE = {"I", "I;16", "I;16B", "I;16L", "I;16N"}


class ImageError(ValueError):
    """An item that could not be read as an image; `.reason` says why without naming the item."""

    def __init__(self, reason: str, source: str = "") -> None:
        super().__init__(f"{source}: {reason}" if source else reason)
        self.reason = reason
        self.source = source


def read_image(
    item: Item, *, mode: Mode = "RGB", max_pixels: int = MAX_PIXELS, at_least: int | None = None
) -> Image.Image:
    """One item as an 8-bit PIL image of `mode` ("RGB" or "L"), upright, opaque and independent of the file.

    item: path (str or Path), the bytes of an image file, PIL image (the frame it stands at), or array: HxW,
    HxWx1, HxWx3 or HxWx4 of bool (True is white), uint8, other integers (0..255, else 0..65535) or
    float in [0, 1].
    max_pixels: checked against the header before anything is decoded. at_least: a JPEG may be decoded at a
    half, quarter or eighth of its size, much faster, as long as no side gets shorter than this. Raises
    ImageError, and TypeError for an item of another type.
    """
    if mode not in ("RGB", "L"):
        raise ValueError(f'mode must be "RGB" or "L", not {mode!r}')
    if isinstance(item, Image.Image):
        return _decoded(item, "", mode, max_pixels)
    if isinstance(item, np.ndarray):
        return _flattened(_from_array(item, max_pixels), mode)
    with _opened(item) as (image, source):
        return _decoded(image, source, mode, max_pixels, at_least)


def image_size(item: Item, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """(width, height) of the upright picture, from the header of a path or bytes. Raises as `read_image`."""
    if isinstance(item, Image.Image | np.ndarray):
        return read_image(item, max_pixels=max_pixels).size
    with _opened(item) as (image, source), _pillow_warnings_off():
        _check_pixels(image.width, image.height, source, max_pixels)
        return (image.height, image.width) if _sideways(image) else image.size


def thumbnail(item: Item, size: int, *, max_pixels: int = MAX_PIXELS) -> bytes:
    """The item as JPEG bytes (quality 85, no metadata) whose longer side is at most `size` pixels."""
    image = read_image(item, max_pixels=max_pixels, at_least=size)
    image.thumbnail((size, size), Image.Resampling.LANCZOS)
    held = io.BytesIO()
    image.save(held, "JPEG", quality=85)
    return held.getvalue()


@contextmanager
def _opened(item: Stored) -> Iterator[tuple[Image.Image, str]]:
    """(the image with its header read, what to call it in messages)."""
    if isinstance(item, bytes | bytearray | memoryview):
        yield _header(io.BytesIO(item), len(item), ""), ""
    elif isinstance(item, str | os.PathLike):
        source = printable(item)
        with _stream(os.fspath(item), source) as (stream, size):
            yield _header(stream, size, source), source
    else:
        raise TypeError(f"an image is a path, bytes, a PIL image or a numpy array, not {type(item).__name__}")


@contextmanager
def _stream(path: str, source: str) -> Iterator[tuple[BinaryIO, int]]:
    try:
        status = Path(path).stat()
        if stat.S_ISDIR(status.st_mode):
            raise ImageError("is a folder, not a file", source)
        if not stat.S_ISREG(status.st_mode):
            # Opening a pipe or a device would wait, perhaps for ever.
            raise ImageError("is not a regular file", source)
        with Path(path).open("rb") as stream:
            yield stream, status.st_size
    except ImageError:
        raise
    except (OSError, ValueError) as error:
        raise ImageError(_os_reason(error), source) from error


def _os_reason(error: Exception) -> str:
    match error:
        case FileNotFoundError():
            return "no such file"
        case PermissionError():
            return "permission denied"
        case OSError(strerror=str(text)):
            return f"cannot be opened ({text.lower()})"
        case _:
            return f"cannot be opened ({error})"


def _header(stream: IO[bytes], size: int, source: str) -> Image.Image:
    if size == 0:
        raise ImageError("is empty (0 bytes)", source)
    try:
        with _pillow_warnings_off():
            image = Image.open(stream)
    except Image.DecompressionBombError as error:
        raise ImageError(f"too many pixels to decode safely ({error})", source) from error
    except UnidentifiedImageError as error:
        raise ImageError("is not an image in a format that can be read", source) from error
    except Exception as error:  # a damaged header can raise nearly anything from a Pillow plugin
        raise ImageError(f"has a damaged header ({_said(error)})", source) from error
    if image.format in _PROGRAMS:
        raise ImageError(f"{image.format} is a program to be run, not a picture; convert it first", source)
    return image


def _decoded(
    image: Image.Image, source: str, mode: Mode, max_pixels: int, at_least: int | None = None
) -> Image.Image:
    _check_pixels(image.width, image.height, source, max_pixels)
    try:
        with _pillow_warnings_off():
            if at_least is not None:
                image.draft(None, (at_least, at_least))
            image.load()
            upright = _upright(image)
            return _flattened(upright, mode)
    except ImageError as error:
        raise ImageError(error.reason, source) from error
    except Exception as error:  # the same: damaged data can raise nearly anything
        raise ImageError(f"is cut short or damaged ({_said(error)})", source) from error


def _check_pixels(width: int, height: int, source: str, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise ImageError(f"has no pixels ({width} x {height})", source)
    if width * height > max_pixels:
        count = f"{width:,} x {height:,} = {width * height:,} pixels"
        raise ImageError(f"{count}, more than the limit of {max_pixels:,} (max_pixels)", source)


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        return _TURNS.get(image.getexif().get(ORIENTATION_TAG, 1))
    except Exception:  # damaged metadata is no reason to refuse a sound picture
        return None


def _sideways(image: Image.Image) -> bool:
    if image.format == "TIFF":  # Pillow has already turned the size
        return False
    # Of a PNG without the metadata in its header Pillow would decode the whole picture to look behind it.
    return (image.format != "PNG" or "exif" in image.info) and _turn(image) in _SIDEWAYS


def _upright(image: Image.Image) -> Image.Image:
    turn = _turn(image)
    return image if turn is None else image.transpose(turn)


def _flattened(image: Image.Image, mode: Mode) -> Image.Image:
    """An 8-bit copy without transparency."""
    if image.mode == "LAB":
        raise ImageError("is in the colour mode LAB, which is not read; convert it to RGB first")
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode in _WIDE or image.mode == "F":
        image = _narrowed(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.new("RGBA", rgba.size, "white")
        image.alpha_composite(rgba)
        image = image.convert("RGB")
    image = image.convert(mode) if image.mode != mode else image.copy()
    image.info = {}
    return image


def _narrowed(image: Image.Image) -> Image.Image:
    """16-bit greys scaled to 8 bits; "I" and "F" too where their values are in a range that is known."""
    values = np.asarray(image)
    return _from_array(values.astype(np.float64) if image.mode == "F" else values)


def _from_integers(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Wide integers as 8 bits: 0..255 as they are, for scaled they would be black; else as 16-bit values."""
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise ImageError(f"its integer values run from {low} to {high}; 0..65535 can be read")
    if high <= 255:
        return values.astype(np.uint8)
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _from_array(array: npt.NDArray[Any], max_pixels: int = MAX_PIXELS) -> Image.Image:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim != 2 and not (array.ndim == 3 and array.shape[2] in (3, 4)):
        raise ImageError(f"an array of shape {array.shape} is no image; HxW, HxWx1, HxWx3 and HxWx4 are")
    _check_pixels(array.shape[1], array.shape[0], "", max_pixels)
    return Image.fromarray(np.ascontiguousarray(_as_bytes(array)))


def _as_bytes(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind in "iu":
        return _from_integers(array)
    if array.dtype.kind != "f":
        raise ImageError(f"an array of {array.dtype} has no known range; bool, integers and float have")
    low, high = float(array.min()), float(array.max())
    if not (low >= 0.0 and high <= 1.0):  # false for NaN too
        raise ImageError(f"its float values run from {low:g} to {high:g}; floats in [0, 1] can be read")
    return np.rint(array * 255.0).astype(np.uint8)


def _said(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__


_quiet_lock = threading.Lock()
_quiet_depth = 0
_quiet_filter: Any = None


def _forget_other_threads() -> None:
    """In a forked process: the threads that are inside are not there, and one may have had the lock."""
    global _quiet_lock, _quiet_depth
    _quiet_lock, _quiet_depth = threading.Lock(), 0


os.register_at_fork(after_in_child=_forget_other_threads)


@contextmanager
def _pillow_warnings_off() -> Iterator[None]:
    """Pillow's warnings ignored while any thread is inside.

    `warnings.catch_warnings` restores the wrong filters when threads overlap, so one filter is shared and
    counted. Nothing is lost: the pixel limit is checked here, and what cannot be read is raised.
    """
    global _quiet_depth, _quiet_filter
    with _quiet_lock:
        if _quiet_depth == 0:
            warnings.filterwarnings("ignore", module=r"PIL\.")
            _quiet_filter = warnings.filters[0]
        _quiet_depth += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_depth -= 1
            if _quiet_depth == 0 and _quiet_filter in warnings.filters:
                warnings.filters.remove(_quiet_filter)  # type: ignore[attr-defined]
                warnings._filters_mutated()  # type: ignore[attr-defined]
