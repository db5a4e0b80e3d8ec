"""What the gallery asks of an encoder, and the encoder for people who bring embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from gallery.errors import EncoderMismatchError, InvalidItemError
from gallery.vectors import METRICS, FloatRows, as_rows, faults, prepare


@runtime_checkable
class Encoder(Protocol):
    """Anything that turns items into embeddings.

    dim          length of an embedding
    metric       "cosine" or "euclidean"
    fingerprint  changes whenever the same item could embed differently (weights, preprocessing, versions)
    encode       items -> (n, dim) float32

    Two more are used where an encoder has them: `name` (str) and `threshold` (float or None), the distance it
    recommends for a gallery that was never calibrated.
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


def check_same(encoder: Encoder, dim: int, metric: str, fingerprint: str, name: str, where: str) -> None:
    """Raises EncoderMismatchError, saying what differs, unless `encoder` filled the gallery."""
    ours = {"dim": encoder.dim, "metric": encoder.metric, "fingerprint": encoder.fingerprint}
    theirs = {"dim": dim, "metric": metric, "fingerprint": fingerprint}
    different = [key for key in ours if ours[key] != theirs[key]]
    if different:
        listed = "; ".join(f"{key}: gallery {theirs[key]}, encoder {ours[key]}" for key in different)
        raise EncoderMismatchError(
            f"{where} was filled by the encoder {name!r}; {encoder_name(encoder)!r} computes something else "
            f"({listed}). Their distances mean nothing to each other: open it with {name!r} as it was, or "
            "enrol the original items into a new gallery."
        )


def listed(items: Any) -> Any:
    """`items` as a sequence; refuses one item passed where a list of items belongs."""
    if isinstance(items, (str, bytes, bytearray)) or hasattr(items, "__fspath__"):
        raise InvalidItemError(f"expected a list of items, got one {type(items).__name__}: wrap it in a list")
    if isinstance(items, np.ndarray) and items.ndim < 2:
        raise InvalidItemError(
            f"expected a list of items, got one array of shape {items.shape}: wrap it in a list"
        )
    if isinstance(items, np.ndarray):
        return items
    try:
        return list(items)
    except TypeError as error:
        raise InvalidItemError(
            f"expected a list of items, got one {type(items).__name__}: wrap it in a list"
        ) from error


def embed(encoder: Encoder, items: Sequence[Any]) -> tuple[FloatRows, dict[int, str]]:
    """Embeddings ready to store of the items that can be used, and {position: reason} of the others.

    A batch that the encoder refuses is encoded again item by item, to learn which one is at fault.
    """
    try:
        rows = as_rows(encoder.encode(items), encoder.dim)
        if len(rows) != len(items):
            raise InvalidItemError(f"the encoder gave {len(rows)} embeddings for {len(items)} items")
        bad = faults(rows, encoder.metric)
    except (ImportError, MemoryError):
        raise
    except Exception:
        rows, bad = _one_by_one(encoder, items)
    good = [row for row in range(len(items)) if row not in bad]
    return prepare(rows[good], encoder.metric), bad


def embed_probe(encoder: Encoder, items: Sequence[Any]) -> FloatRows:
    """Embeddings of every item, or InvalidItemError naming the first one that cannot be used."""
    rows, bad = embed(encoder, items)
    if bad:
        index, reason = next(iter(sorted(bad.items())))
        which = f"item {index} of {len(items)}" if len(items) > 1 else "the item"
        raise InvalidItemError(f"{which} cannot be used: {reason}", index)
    return rows


def _one_by_one(encoder: Encoder, items: Sequence[Any]) -> tuple[FloatRows, dict[int, str]]:
    rows = np.zeros((len(items), encoder.dim), np.float32)
    bad: dict[int, str] = {}
    for index, item in enumerate(items):
        try:
            row = as_rows(encoder.encode([item]), encoder.dim)
        except (ImportError, MemoryError):
            raise
        except Exception as error:  # whatever somebody's encoder raises for an item it cannot use
            bad[index] = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            continue
        if len(row) != 1:
            bad[index] = f"the encoder gave {len(row)} embeddings for it"
            continue
        fault = faults(row, encoder.metric)
        if fault:
            bad[index] = fault[0]
        rows[index] = row[0]
    return rows, bad
