"""What every adapter is: somebody else's model behind the encoder protocol."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from encoders import batches
from encoders.errors import EncoderError
from encoders.numeric import number
from encoders.spec import METRICS, SHORT, hash_of

Array = NDArray[np.float32]


class Adapter(ABC):
    """An encoder with `dim`, `metric`, `fingerprint`, `encode(items)`, `name`, `threshold`, `provenance`.

    A subclass reads one item (`_read`, which raises ValueError or TypeError with the reason for a bad one)
    and embeds what was read in chunks of at most `chunk` (`_embed`), the same bits in any company. Under the
    cosine metric the rows are brought to unit length here.
    """

    of_images: ClassVar[bool] = False
    suffixes: ClassVar[frozenset[str] | None] = None  # of files that hold its items; None: pictures
    chunk: int = batches.CHUNK

    def __init__(self, name: str, *, dim: int, metric: str, threshold: float | None = None) -> None:
        if metric not in METRICS:
            raise EncoderError(f"metric {metric!r} is neither of {METRICS}")
        if threshold is not None and not (number(threshold) and 0 <= threshold < float("inf")):
            raise EncoderError(f"threshold {threshold!r} is no distance: a number from 0, or None")
        if dim < 1:
            raise EncoderError(f"{name} gives embeddings of {dim} numbers: 1 or more are needed")
        self.name, self.dim, self.metric, self.threshold = name, dim, metric, threshold
        self.fingerprint = ""
        self.provenance: dict[str, str] = {}

    def identify(
        self, kind: str, parts: Mapping[str, str], versions: Mapping[str, str], *counted: str
    ) -> None:
        """Sets the fingerprint and the provenance.

        kind: the adapter and the revision of its own code, such as "faces/1". parts: the whole hash of each
        part. versions: of the packages below; those `counted` belong to the fingerprint up to their minor
        number, the others only explain a mismatch.
        """
        matter = {name: ".".join(versions[name].split(".")[:2]) for name in counted}
        record = {"kind": kind, "dim": self.dim, "metric": self.metric, "parts": dict(parts)}
        self.fingerprint = hash_of(record | {"versions": matter})
        self.provenance = {name: digest[:SHORT] for name, digest in parts.items()} | dict(versions)

    def encode(self, items: Iterable[Any]) -> Array:
        """Embeddings (n, dim) float32 of n items, of unit length under cosine; (0, dim) for none.

        Raises EncodeError with the index and the reason of the first item that cannot be embedded, and
        TypeError for a path, text or picture that is not in a list.
        """
        listed = batches.listed(items, of_images=self.of_images)
        return self.encode_prepared(batches.read_each(listed, self._read))

    def read(self, item: Any) -> Any:
        """One item made ready for `encode_prepared`; ValueError or TypeError says why it cannot be."""
        return self._read(item)

    def encode_prepared(self, prepared: Iterable[Any]) -> Array:
        """Like `encode`, for items that already went through `read`, one chunk at a time."""
        found = [self._rows(chunk) for chunk in batches.chunks(iter(prepared), self.chunk)]
        return np.concatenate(found) if found else np.empty((0, self.dim), dtype=np.float32)

    def _rows(self, chunk: list[Any]) -> Array:
        rows = np.ascontiguousarray(self._embed(chunk), dtype=np.float32)
        if rows.shape != (len(chunk), self.dim):
            raise EncoderError(f"{self.name} gave {rows.shape}: ({len(chunk)}, {self.dim}) was due")
        if self.metric == "euclidean":
            return rows
        lengths = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
        return (rows / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)

    @abstractmethod
    def _read(self, item: Any) -> Any:
        """One item made ready; ValueError or TypeError with the reason where it cannot be."""

    @abstractmethod
    def _embed(self, chunk: list[Any]) -> Array:
        """What `_read` made of 1 to `chunk` items -> (n, dim)."""

    def __repr__(self) -> str:
        kind = type(self).__name__
        return f"{kind}({self.name!r}, dim={self.dim}, metric={self.metric!r}, {self.fingerprint[:12]})"


def hash_of_files(*paths: Path) -> str:
    """sha256 (hex) over the bytes of files, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
