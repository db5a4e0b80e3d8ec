"""From an item to the float32 array a tower takes. The settings are recorded in the checkpoint.

A kind is a frozen dataclass whose fields are its settings, with `shape` and `__call__(item) -> array`, and a
class method `fit(settings, items) -> settings` where some of them are learnt from training items. A new kind
is a class and a line in `KINDS`. Bump `REVISION` when the same settings give other numbers.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from encoders import scaling, stored
from encoders.errors import EncoderError
from encoders.ink import LEAST_CONTRAST, ink_frame, ink_square
from encoders.sequences import SequencePreprocess
from encoders.sound import AudioPreprocess
from encoders.text import TextPreprocess

Array = NDArray[np.float32]
REVISION = 1
LONGEST = (
    1_000_000  # the most numbers along one side of an array; one of a billion would only fill the memory
)


class Preprocess(Protocol):
    """What a checkpoint rebuilds: called on an item, of the shape it tells; ValueError on a bad item."""

    kind: ClassVar[str]
    of_images: ClassVar[bool]

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __call__(self, item: Any) -> Array: ...


@dataclass(frozen=True, slots=True)
class InkPreprocess:
    """Characters: grey, polarity, contrast, ink box, square, resize; (1, size, size) in [0, 1], 1 is ink.

    Dark on light and light on dark give the same array. A blank image is refused.
    """

    kind: ClassVar[str] = "ink"
    of_images: ClassVar[bool] = True
    size: int = 48
    margin: float = 0.08

    @property
    def shape(self) -> tuple[int, ...]:
        return (1, self.size, self.size)

    def __call__(self, item: Any) -> Array:
        from encoders.images import read_image

        return ink_square(read_image(item, mode="L"), self.size, self.margin)[None]


@dataclass(frozen=True, slots=True)
class RgbPreprocess:
    """Photographs: RGB, resized to a square (aspect not kept), standardised by channel; (3, size, size)."""

    kind: ClassVar[str] = "rgb"
    of_images: ClassVar[bool] = True
    size: int = 96
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    @property
    def shape(self) -> tuple[int, ...]:
        return (3, self.size, self.size)

    def __call__(self, item: Any) -> Array:
        from encoders.images import read_image

        image = read_image(item, mode="RGB").resize((self.size, self.size), Image.Resampling.BILINEAR)
        pixels = np.asarray(image, dtype=np.float32) / np.float32(255)
        scaled = (pixels - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return np.ascontiguousarray(scaled.transpose(2, 0, 1), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class GreyPreprocess:
    """Pictures of one kind, such as faces: grey, resized (aspect not kept), each standardised by itself.

    (1, height, width) with mean 0 and deviation 1, so that brightness and contrast do not matter. A blank
    picture is refused.
    """

    kind: ClassVar[str] = "grey"
    of_images: ClassVar[bool] = True
    height: int = 64
    width: int = 64

    @property
    def shape(self) -> tuple[int, ...]:
        return (1, self.height, self.width)

    def __call__(self, item: Any) -> Array:
        from encoders.images import read_image

        image = read_image(item, mode="L").resize((self.width, self.height), Image.Resampling.BOX)
        pixels = np.asarray(image, dtype=np.float32)
        if float(np.ptp(pixels)) < LEAST_CONTRAST:
            raise ValueError("the picture is blank: it has no contrast")
        scaled: Array = ((pixels - pixels.mean()) / pixels.std())[None].astype(np.float32)
        return scaled


@dataclass(frozen=True, slots=True)
class StrokesPreprocess:
    """Handwriting wider than high, such as signatures: its ink in a frame, aspect kept; 1 is ink.

    (1, height, width) in [0, 1]: grey, polarity, contrast, cut to the ink, made to fit, centred.
    A blank picture is refused.
    """

    kind: ClassVar[str] = "strokes"
    of_images: ClassVar[bool] = True
    height: int = 64
    width: int = 128

    @property
    def shape(self) -> tuple[int, ...]:
        return (1, self.height, self.width)

    def __call__(self, item: Any) -> Array:
        from encoders.images import read_image

        return ink_frame(read_image(item, mode="L"), self.height, self.width)[None]


@dataclass(frozen=True, slots=True)
class VectorPreprocess:
    """Feature vectors of one length, standardised; (length,). NaN and infinity are refused.

    `wide`: the mean is taken off in float64, see `scaling.scaled`.
    """

    kind: ClassVar[str] = "vector"
    of_images: ClassVar[bool] = False
    suffixes: ClassVar[frozenset[str]] = stored.ARRAYS
    length: int
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    wide: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.length,)

    def __call__(self, item: Any) -> Array:
        vector = scaling.numbers(item, self.wide)
        if vector.shape != self.shape:
            raise ValueError(
                f"a vector of {self.length} numbers is needed, not an array of shape {vector.shape}"
            )
        if not scaling.finite(vector):
            raise ValueError("the vector holds NaN or infinity")
        return scaling.scaled(vector, self.mean, self.std, self.wide)

    @classmethod
    def fit(cls, settings: dict[str, Any], items: Any) -> dict[str, Any]:
        """Length, mean and deviation by column from the items; a constant column is only centred.

        The length is the most frequent one. Items that are no such vectors are passed over: they are told all
        together when the set is prepared.
        """
        rows = _rows(items)
        if not rows:
            raise EncoderError(
                "preprocess vector needs numbers, finite and all rows of one length, and none of "
                f"{len(items):,} items is such a row: an .npz with `vectors` or a CSV; "
                "for a folder of images take ink or rgb"
            )
        length = Counter(map(len, rows)).most_common(1)[0][0]
        vectors = np.stack([row for row in rows if len(row) == length])
        return {"length": length, **scaling.learnt(vectors, settings)} | settings


def _rows(items: Any) -> list[Any]:
    """Those items that are vectors of finite numbers."""
    rows = []
    for item in items:
        try:
            row = scaling.numbers(item, wide=True)
        except (TypeError, ValueError):
            continue
        if row.ndim == 1 and len(row) and scaling.finite(row):
            rows.append(row)
    return rows


KINDS: dict[str, type[Any]] = {
    k.kind: k
    for k in (
        *(InkPreprocess, StrokesPreprocess, GreyPreprocess, RgbPreprocess),
        *(VectorPreprocess, SequencePreprocess, AudioPreprocess, TextPreprocess),
    )
}


def build(settings: dict[str, Any]) -> Preprocess:
    """The preprocessing that `settings` describe, e.g. {"kind": "ink", "size": 48}."""
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
    given.pop("kind", None)
    kind = settings.get("kind")
    given.pop("revision", None)
    if not isinstance(kind, str) or kind not in KINDS:
        raise EncoderError(f"no preprocessing is called {kind!r}; there are {', '.join(sorted(KINDS))}")
    known = [one.name for one in fields(KINDS[kind])]
    if unknown := [name for name in given if name not in known]:
        raise EncoderError(
            f"preprocessing {kind!r} has no setting {unknown[0]!r}: it has {', '.join(known) or 'none'}"
        )
    try:
        return _checked(KINDS[kind](**given))
    except (TypeError, ValueError) as exc:
        raise EncoderError(f"preprocessing {kind!r} does not take {str(given)[:200]}: {exc}") from exc


def _checked(made: Any) -> Preprocess:
    """The same, or ValueError for a size that no array can have or a scale that gives no numbers."""
    if not all(type(side) is int and 1 <= side <= LONGEST for side in made.shape):
        raise ValueError(f"sizes are whole numbers from 1 to {LONGEST:,}, not {made.shape}")
    if type(getattr(made, "wide", False)) is not bool:
        raise ValueError(f"wide is true or false, not {made.wide!r}")
    for name, low in (("mean", -np.inf), ("std", 0.0), ("margin", -1e-12)):
        values = np.asarray(getattr(made, name, 1.0), dtype=np.float64)
        if not (np.isfinite(values).all() and (values > low).all()):
            raise ValueError(f"{name} must be finite" + (" and more than 0" if name == "std" else ""))
        np.broadcast_to(values, _wide(made))
    return made  # type: ignore[no-any-return]


def _wide(made: Any) -> tuple[int, ...]:
    """The shape that a mean by channel or by column must fit."""
    return (made.channels,) if made.kind == "sequence" else made.shape[:1]


def fitted(settings: dict[str, Any], items: Any) -> dict[str, Any]:
    """The settings with what the kind learns from training items, where they do not say it themselves."""
    kind = KINDS.get(str(settings.get("kind")))
    fit = getattr(kind, "fit", None)
    if fit is None:
        return settings
    given = {k: v for k, v in settings.items() if k not in ("kind", "revision")}
    learnt: dict[str, Any] = fit(given, items)
    return {"kind": settings["kind"], **learnt}


def settings_of(preprocess: Any) -> dict[str, Any]:
    """The JSON-ready settings from which `build` makes the same preprocessing again.

    Without `wide` where it is not: as records have it that are older, so that fingerprints are the same.
    """
    kept = {name: value for name, value in asdict(preprocess).items() if name != "wide" or value}
    return {"kind": preprocess.kind, "revision": REVISION, **kept}
