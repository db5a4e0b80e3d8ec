"""The canary: one made-up item whose embedding a gallery remembers, embedded again whenever it is opened.

A fingerprint says what an encoder claims to be; the canary shows what it computes: an encoder left in train
mode, another resize filter, BGR for RGB. An encoder may name an item of its own as `canary` (None: it needs
none). For any other the item is made up in the likeness of the first one enrolled (an array of its shape, a
picture, a sentence), so that nothing of a person is kept.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from gallery.encoder import Encoder, embed, encoder_name, named_differences, provenance_of
from gallery.errors import EncoderMismatchError
from gallery.vectors import FloatRows, distances

_MOST_VALUES = 2**22
_SENTENCE = "The quick brown fox jumps over the lazy dog, 0123456789."
_PICTURE = (120, 160)
ROUNDING = 1e-4
"""The cosine distance that another batch size, device or BLAS may come to; a resize filter comes to more."""


@dataclass(frozen=True, slots=True)
class Canary:
    """How the item is made, and its embedding."""

    recipe: dict[str, Any]
    embedding: FloatRows

    def to_json(self) -> str:
        """What the store keeps."""
        return json.dumps({"recipe": self.recipe, "embedding": [float(value) for value in self.embedding]})


def canary_of(text: str) -> Canary:
    """What `to_json` wrote."""
    held = json.loads(text)
    return Canary(held["recipe"], np.array(held["embedding"], np.float32))


def new_canary(encoder: Encoder, like: Any) -> Canary | None:
    """The canary of a gallery whose first item is `like`; None when none can be made that it takes."""
    if hasattr(encoder, "canary"):
        recipe = None if encoder.canary is None else {"kind": "own"}
    else:
        recipe = recipe_for(like)
    row = None if recipe is None else _embedded(encoder, recipe)
    return None if recipe is None or row is None else Canary(recipe, row)


def check_canary(encoder: Encoder, canary: Canary, there: dict[str, str], where: str) -> None:
    """EncoderMismatchError unless the encoder still embeds the canary where it did.

    there: the provenance of the encoder that filled the gallery.
    """
    if canary.recipe["kind"] == "own" and getattr(encoder, "canary", None) is None:
        return
    row = _embedded(encoder, canary.recipe)
    if row is None:
        raise EncoderMismatchError(
            f"{where}: {encoder_name(encoder)!r} has the fingerprint of the encoder that filled it, but "
            f"cannot embed the canary item ({canary.recipe['kind']}), which that one did"
            f"{_named(encoder, there)}"
        )
    away = float(distances(row, canary.embedding[None], encoder.metric)[0])
    length = np.linalg.norm(canary.embedding.astype(np.float64))
    limit = float(rounding(np.array([length]), encoder.metric)[0])
    if away > limit:
        raise EncoderMismatchError(
            f"{where}: {encoder_name(encoder)!r} has the fingerprint of the encoder that filled it, but "
            f"computes something else: it embeds the canary item ({canary.recipe['kind']}) at a distance of "
            f"{away:.3g} from where it was, and {limit:.1g} is what rounding comes to{_named(encoder, there)}"
        )


def rounding(lengths: npt.NDArray[np.float64], metric: str) -> npt.NDArray[np.float64]:
    """(n,) how far from n rows of such lengths the same items may be embedded another time.

    Under the euclidean metric: as far as rows of that length are under the cosine.
    """
    if metric == "cosine":
        return np.full(len(lengths), ROUNDING)
    limits: npt.NDArray[np.float64] = np.maximum(lengths, 1e-12) * (2 * ROUNDING) ** 0.5
    return limits


def _named(encoder: Encoder, there: dict[str, str]) -> str:
    """What the provenances say is different, or where to look when they say nothing."""
    different = named_differences(there, provenance_of(encoder))
    if different:
        return f". What differs: {'; '.join(different)}"
    return ". Is it in eval mode, with the same preprocessing and library versions?"


def _embedded(encoder: Encoder, recipe: dict[str, Any]) -> FloatRows | None:
    with _item(encoder, recipe) as item:
        rows, bad = embed(encoder, [item])
    return None if bad else rows[0]


def recipe_for(like: Any) -> dict[str, Any] | None:
    """How to make an item like this one; None for a kind that is not known."""
    if isinstance(like, (str, os.PathLike)):
        return _recipe_for_text(like)
    if type(like).__module__.startswith("PIL."):
        return {"kind": "picture"}
    wrapped = (
        "tensor" if type(like).__module__ == "torch" else "list" if isinstance(like, list | tuple) else None
    )
    try:
        array = np.asarray(like)
    except (TypeError, ValueError, RuntimeError):
        return None
    if array.dtype.kind not in "fiub" or not 0 < array.size <= _MOST_VALUES or array.ndim == 0:
        return None
    recipe = {"kind": "array", "shape": list(array.shape), "dtype": array.dtype.name}
    return recipe if wrapped is None else recipe | {"as": wrapped}


def _recipe_for_text(like: Any) -> dict[str, Any] | None:
    try:
        is_file = Path(os.fsdecode(like)).is_file()
    except (OSError, ValueError):
        is_file = False
    if not is_file:
        return {"kind": "sentence"} if isinstance(like, str) else None
    return (
        {"kind": "picture file", "as": "str" if isinstance(like, str) else "path"}
        if _is_picture(like)
        else None
    )


def _is_picture(path: Any) -> bool:
    from encoders.images import ImageError, image_size

    try:
        image_size(path)
    except ImageError:
        return False
    return True


@contextmanager
def _item(encoder: Encoder, recipe: dict[str, Any]) -> Iterator[Any]:
    kind = recipe["kind"]
    if kind == "own":
        yield encoder.canary  # type: ignore[attr-defined]
    elif kind == "sentence":
        yield _SENTENCE
    elif kind == "array":
        yield _array(recipe)
    elif kind == "picture":
        yield _picture()
    else:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "canary.png"
            _picture().save(path)
            yield str(path) if recipe["as"] == "str" else path


def _noise(shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Bytes that look random and are the same everywhere, whatever the version of numpy."""
    size = int(np.prod(shape))
    return np.frombuffer(hashlib.shake_256(b"canary").digest(size), np.uint8).reshape(shape)


def _array(recipe: dict[str, Any]) -> Any:
    noise, dtype = _noise(tuple(recipe["shape"])), np.dtype(recipe["dtype"])
    if dtype.kind == "f":
        made = (noise / 127.5 - 1).astype(dtype)
    elif dtype.kind == "b":
        made = noise > 127
    else:
        made = (noise % 128).astype(dtype) if dtype == np.int8 else noise.astype(dtype)
    if recipe.get("as") == "list":
        return made.tolist()
    if recipe.get("as") == "tensor":
        import torch

        return torch.from_numpy(np.ascontiguousarray(made))
    return made


def _picture() -> Any:
    """Coloured blocks with fine noise on top: another filter, channel order or scale shows."""
    from PIL import Image

    height, width = _PICTURE
    blocks = np.kron(_noise((height // 20, width // 20, 3)), np.ones((20, 20, 1), np.uint8))
    return Image.fromarray((blocks // 4 * 3 + _noise((height, width, 3)) // 4).astype(np.uint8), "RGB")
