"""The enrolled items themselves, packed to be kept: (kind, bytes), never a pickle.

file:.png, path:.png   the bytes of a file that was given as a string, or as a path; with its suffix
image, image/MODE/WxH  a PIL image as PNG, or as its raw pixels where a PNG would come back otherwise
array, scalar, list, tuple, tensor   numbers, as .npy
text, bytes            as they are
"""

from __future__ import annotations

import io
import os
import re
from numbers import Number
from pathlib import Path
from typing import Any

import numpy as np

from gallery.errors import CorruptGalleryError, InvalidItemError

Packed = tuple[str, bytes]
"""(kind, content)"""

KEEP_ITEMS = "keep_items"
"""The setting under which a gallery remembers that it keeps the enrolled items too."""
_MOST_BYTES = 900_000_000
"""Less than the longest record that SQLite takes."""
_MOST_PIXELS = 50_000_000
"""Of a PNG: less than what Pillow takes for a decompression bomb."""
_SUFFIX = re.compile(r"\.[A-Za-z0-9_+-]{1,16}")
_RAW = re.compile(r"image/(\w{1,8})/(\d{1,9})x(\d{1,9})")


def pack(item: Any) -> Packed:
    """What to keep of an item; InvalidItemError for one that cannot be kept, with its type."""
    try:
        kind, content = _packed(item)
        if len(content) > _MOST_BYTES:
            raise ValueError(f"it has {len(content):,} bytes, and no more than {_MOST_BYTES:,} are kept")
        return kind, content
    except (OSError, ValueError, TypeError, RuntimeError, SyntaxError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InvalidItemError(
            f"this gallery keeps its items (keep_items), and this {type(item).__name__} cannot be kept: "
            f"{reason}"
        ) from error


def _packed(item: Any) -> Packed:
    if isinstance(item, str | os.PathLike):
        return _packed_text(item)
    if isinstance(item, bytes | bytearray | memoryview):
        return "bytes", bytes(item)
    if type(item).__module__.startswith("PIL."):
        return _packed_image(item)
    return _packed_numbers(item)


def is_file(text: str) -> bool:
    """Whether a string names a file; what an encoder of sentences takes may be no name at all."""
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        return False


def _packed_text(item: str | os.PathLike[Any]) -> Packed:
    if isinstance(item, str) and not is_file(item):
        return "text", item.encode()
    path = Path(os.fsdecode(item))
    suffix = path.suffix if _SUFFIX.fullmatch(path.suffix) else ""
    return f"{'file' if isinstance(item, str) else 'path'}:{suffix}", path.read_bytes()


def _packed_image(image: Any) -> Packed:
    from PIL import Image

    image.load()
    stream, exif = io.BytesIO(), image.getexif()
    try:
        if image.width * image.height <= _MOST_PIXELS:
            image.save(stream, "PNG", **({"exif": exif.tobytes()} if exif else {}))
            with Image.open(io.BytesIO(stream.getvalue())) as again:
                if _look_the_same(image, again):
                    return "image", stream.getvalue()
    except (OSError, ValueError):
        # PNG does not know every mode.
        pass
    if image.mode in ("P", "PA"):
        raise ValueError(f"its mode {image.mode} does not come back from a PNG as it was")
    return f"image/{image.mode.replace(';', '_')}/{image.width}x{image.height}", image.tobytes()


def _look_the_same(one: Any, other: Any) -> bool:
    if (one.mode, one.size, one.tobytes()) != (other.mode, other.size, other.tobytes()):
        return False
    return one.mode != "P" or bool(one.convert("RGBA").tobytes() == other.convert("RGBA").tobytes())


def _packed_numbers(item: Any) -> Packed:
    kind = next((kind for kind, fits in _KINDS.items() if fits(item)), None)
    if kind is None:
        raise TypeError(
            "what can be kept is a file, a PIL image, an array or list of numbers, a torch tensor, a string "
            "or bytes"
        )
    array = np.asarray(item.detach().cpu().numpy() if kind == "tensor" else item)
    stream = io.BytesIO()
    # Refuses an array of objects.
    np.save(stream, array, allow_pickle=False)
    return kind, stream.getvalue()


_KINDS: dict[str, Any] = {
    "array": lambda item: isinstance(item, np.ndarray) and not isinstance(item, np.ma.MaskedArray),
    "scalar": lambda item: isinstance(item, np.generic),
    "list": lambda item: isinstance(item, list) and _holds_numbers(item),
    "tuple": lambda item: isinstance(item, tuple) and _holds_numbers(item),
    "tensor": lambda item: type(item).__module__ == "torch",
}


def _holds_numbers(item: Any) -> bool:
    if isinstance(item, list | tuple):
        return all(_holds_numbers(one) for one in item)
    return isinstance(item, Number | np.generic)


def unpack(kind: str, content: bytes, folder: Path, name: str) -> Any:
    """The item as it was given, of what `pack` made of it.

    A file is written to `folder` under `name` and the suffix it had, and given as a path there: `folder` has
    to be private and to stay while the item is used. CorruptGalleryError for what `pack` does not make.
    """
    try:
        form, colon, suffix = kind.partition(":")
        if colon and form in ("file", "path") and (suffix == "" or _SUFFIX.fullmatch(suffix)):
            path = folder / f"{name}{suffix}"
            path.touch(mode=0o600, exist_ok=False)
            path.write_bytes(content)
            return path if form == "path" else str(path)
        if kind == "text":
            return content.decode()
        if kind == "bytes":
            return content
        if kind == "image" or _RAW.fullmatch(kind):
            return _unpacked_image(kind, content)
        if kind in _KINDS:
            return _unpacked_numbers(kind, content)
    except (ValueError, EOFError, SyntaxError, MemoryError) as error:
        raise CorruptGalleryError(f"what was kept of an item is no {kind}: {error}") from error
    raise CorruptGalleryError(
        f"an item was kept as {kind!r}, which this version does not know: upgrade siamese-gallery"
    )


def _unpacked_image(kind: str, content: bytes) -> Any:
    from PIL import Image

    raw = _RAW.fullmatch(kind)
    if raw:
        mode, width, height = raw.groups()
        if int(width) * int(height) > 8 * len(content):
            # Pillow would make room for all that it claims first; no mode packs more than eight in a byte.
            raise ValueError(f"{len(content)} bytes are not {width} x {height} pixels")
        return Image.frombytes(mode.replace("_", ";"), (int(width), int(height)), content)
    try:
        image = Image.open(io.BytesIO(content), formats=["PNG"])
        image.load()
    except (OSError, Image.DecompressionBombError) as error:
        raise ValueError(str(error)) from error
    return image


def _unpacked_numbers(kind: str, content: bytes) -> Any:
    if not content.startswith(b"\x93NUMPY"):
        raise ValueError("it does not begin as one")
    try:
        array = np.load(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # a damaged header can raise nearly anything: numpy has it read as Python
        raise ValueError(str(error)) from error
    if kind == "scalar":
        return array[()]
    if kind in ("list", "tuple"):
        return array.tolist() if kind == "list" else tuple(array.tolist())
    if kind == "tensor":
        import torch

        return torch.from_numpy(array)
    return array
