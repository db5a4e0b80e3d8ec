"""What the gallery asks of an encoder, and the encoder for people who bring embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from gallery.errors import EncoderMismatchError, InvalidItemError
from gallery.vectors import METRICS, FloatRows, as_rows, faults, prepare, prepared_if_sound


@runtime_checkable
class Encoder(Protocol):
    """Anything that turns items into embeddings.

    dim          length of an embedding
    metric       "cosine" or "euclidean"
    fingerprint  changes whenever the same item could embed differently (weights, preprocessing, versions)
    encode       items -> (n, dim) float32

    More is used where an encoder has it: `name` (str); `threshold` (float or None), the distance it
    recommends for a gallery that was never calibrated; `provenance` ({str: str}: hashes of its parts,
    versions), by which a mismatch is explained; `canary`, an item that is embedded whenever a gallery is
    opened (None: nothing needs checking; without the attribute an item is made up, see `gallery.canary`).
    """

    dim: int
    metric: str
    fingerprint: str

    def encode(self, items: Sequence[Any]) -> FloatRows:
        """Embeddings of `items`, (n, dim) float32."""
        ...


class Precomputed:
    """The encoder of people who bring embeddings: an item is a vector, a (n, dim) array is n items.

    dim: length of a vector. metric: "cosine" or "euclidean". name: what made the vectors; two galleries of
    vectors with different names do not mix. threshold: the distance to decide by, if you know one.
    """

    def __init__(
        self, dim: int, metric: str = "cosine", name: str = "precomputed", *, threshold: float | None = None
    ) -> None:
        self.dim = dim
        self.metric = metric
        self.name = name
        self.threshold = threshold
        # It computes nothing that could come out otherwise.
        self.canary = None
        # Nothing else is known of the vectors' origin.
        self.fingerprint = f"precomputed/{name}/{dim}/{metric}"
        check_encoder(self)

    def encode(self, items: Sequence[Any]) -> FloatRows:
        """The vectors as a (n, dim) float32 array."""
        if len(items) == 0:
            return np.empty((0, self.dim), np.float32)
        return as_rows(items, self.dim)


def encoder_name(encoder: Encoder) -> str:
    """The encoder's own name, or its class."""
    return str(getattr(encoder, "name", None) or type(encoder).__name__)


def provenance_of(encoder: Encoder) -> dict[str, str]:
    """What the encoder says it is made of; empty when it says nothing."""
    return {str(key): str(value) for key, value in dict(getattr(encoder, "provenance", None) or {}).items()}


def check_encoder(encoder: Any) -> None:
    """Refuses an object that is not an encoder, saying what it lacks."""
    lacking = [name for name in ("dim", "metric", "fingerprint", "encode") if not hasattr(encoder, name)]
    if lacking:
        raise TypeError(
            f"{type(encoder).__name__} is not an encoder: it lacks {', '.join(lacking)}. "
            "An encoder has dim, metric, fingerprint and encode(items)."
        )
    if encoder.metric not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)}, not {encoder.metric!r}")
    if isinstance(encoder.dim, bool) or not isinstance(encoder.dim, int) or encoder.dim < 1:
        raise ValueError(f"dim must be a positive whole number, not {encoder.dim!r}")
    if not isinstance(encoder.fingerprint, str) or not encoder.fingerprint:
        raise ValueError("fingerprint must be a non-empty string")


class Embeds(Protocol):
    """What embeddings are known by: an encoder has these, and so does a gallery's header."""

    @property
    def dim(self) -> int: ...
    @property
    def metric(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...


def differences(ours: Embeds, *, dim: int, metric: str, fingerprint: str) -> str:
    """What tells two kinds of embeddings apart, in words; empty when nothing does."""
    pairs = {
        "dim": (ours.dim, dim),
        "metric": (ours.metric, metric),
        "fingerprint": (ours.fingerprint, fingerprint),
    }
    return "; ".join(
        f"{key} {one} there, {other} here" for key, (one, other) in pairs.items() if one != other
    )


def named_differences(there: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """What tells two provenances apart, part by part."""
    pairs = [(key, there.get(key, "none"), here.get(key, "none")) for key in sorted({*there, *here})]
    return [f"{key} {one} there, {other} here" for key, one, other in pairs if one != other]


def check_same(encoder: Encoder, filled: Embeds, name: str, where: str) -> None:
    """Raises EncoderMismatchError, saying what differs, unless `encoder` filled the gallery `where`."""
    if (encoder.fingerprint, encoder.dim, encoder.metric) == (filled.fingerprint, filled.dim, filled.metric):
        return
    different = differences(filled, dim=encoder.dim, metric=encoder.metric, fingerprint=encoder.fingerprint)
    there, here = dict(getattr(filled, "provenance", {})), provenance_of(encoder)
    said = "; ".join([different, *named_differences(there, here)])
    raise EncoderMismatchError(
        f"{where} was filled by the encoder {name!r}; {encoder_name(encoder)!r} computes something else "
        f"({said}). Their distances mean nothing to each other: open it with {name!r} as it was, or migrate "
        "it to the new encoder (`Gallery.migrate`, `gallery migrate`)."
    )


def listed(items: Any) -> Any:
    """`items` as a sequence; refuses one item passed where a list of items belongs."""
    if type(items) is list:
        return items
    if isinstance(items, (str, bytes, bytearray)) or hasattr(items, "__fspath__"):
        raise InvalidItemError(f"expected a list of items, got one {type(items).__name__}: wrap it in a list")
    if isinstance(items, np.ndarray) and items.ndim < 2:
        raise InvalidItemError(
            f"expected a list of items, got one array of shape {items.shape}: wrap it in a list"
        )
    if isinstance(items, np.ndarray):
        if items.ndim == 3 and items.shape[2] in (3, 4) and items.dtype == np.uint8:
            raise InvalidItemError(
                f"expected a list of items, got what looks like one colour image, an array of shape "
                f"{items.shape}: wrap it in a list"
            )
        return items
    try:
        each = iter(items)
    except TypeError as error:
        raise InvalidItemError(
            f"expected a list of items, got one {type(items).__name__}: wrap it in a list"
        ) from error
    return list(each)


def embed(encoder: Encoder, items: Sequence[Any]) -> tuple[FloatRows, dict[int, str]]:
    """Embeddings ready to store of the items that can be used, and {position: reason} of the others."""
    rows, bad = _encoded(encoder, items)
    if not bad:
        ready = prepared_if_sound(rows, encoder.metric)
        if ready is not None:
            return ready, {}
    bad |= {row: reason for row, reason in faults(rows, encoder.metric).items() if row not in bad}
    good = [row for row in range(len(items)) if row not in bad]
    return prepare(rows[good], encoder.metric), bad


def embed_probes(encoder: Encoder, items: Sequence[Any], block: int = 1024) -> Iterator[FloatRows]:
    """Embeddings of every item, block by block; InvalidItemError names the first that cannot be used."""
    for start in range(0, len(items), block):
        yield _usable(encoder, items[start : start + block], start, len(items))


def _usable(encoder: Encoder, items: Sequence[Any], start: int, total: int) -> FloatRows:
    rows, bad = embed(encoder, items)
    if bad:
        row = min(bad)
        raise InvalidItemError.unusable(start + row, total, bad[row])
    return rows


def _encoded(encoder: Encoder, items: Sequence[Any]) -> tuple[FloatRows, dict[int, str]]:
    """(n, dim) embeddings, zeros where the encoder failed, and {position: reason} of those.

    A batch that the encoder refuses is encoded again in halves, to learn which items are at fault: whatever
    somebody's encoder raises for an item, only that item is refused.
    """
    try:
        rows = as_rows(encoder.encode(items), encoder.dim)
        if len(rows) != len(items):
            raise InvalidItemError(f"the encoder gave {len(rows)} embeddings for {len(items)} items")
        return rows, {}
    except (ImportError, MemoryError, ConnectionError, TimeoutError):
        # Not the item's fault.
        raise
    except Exception as error:
        if len(items) == 1:
            return np.zeros((1, encoder.dim), np.float32), {0: _reason(error)}
    half = len(items) // 2
    first, bad_first = _encoded(encoder, items[:half])
    second, bad_second = _encoded(encoder, items[half:])
    return np.concatenate([first, second]), bad_first | {half + at: why for at, why in bad_second.items()}


def _reason(error: Exception) -> str:
    """What an encoder says is wrong; with the kind of error where it was not meant as an answer."""
    if isinstance(error, ValueError):
        return str(getattr(error, "reason", error))
    return f"{type(error).__name__}: {error}"
