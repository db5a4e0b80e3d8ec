"""What an encoder is, apart from its weights: the record that becomes `encoder.json`."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoders.errors import CheckpointError
from encoders.preprocess import REVISION

FORMAT = 1
METRICS = ("cosine", "euclidean")
MOST_NUMBERS = 65_536
RECORD_KEY = "siamese-gallery"  # the metadata of an exported file that holds the record
SHORT = 16  # hexadecimal digits of a part's hash: enough to tell two apart, short enough for a message


@dataclass(frozen=True, slots=True)
class Spec:
    """Name, tower, preprocessing, metric, threshold and card facts of one encoder.

    `threshold` is the recommended distance, None when none was set; `threshold_fmr` is the false match rate
    it was set for (0.001 is 0.1 %). `facts` go on the card and do not change embeddings.
    `comparator`: the weights have a learnt comparison of two embeddings beside the tower.
    """

    name: str
    tower: str
    tower_args: dict[str, Any]
    preprocess: dict[str, Any]
    dim: int
    metric: str = "cosine"
    threshold: float | None = None
    threshold_fmr: float | None = None
    versions: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    comparator: bool = False

    def __post_init__(self) -> None:
        for name, kind in _TYPES.items():
            if type(value := getattr(self, name)) is not kind:
                raise CheckpointError(f"{name} is {_short(value)}: it must be of type {kind.__name__}")
        if self.metric not in METRICS:
            raise CheckpointError(f"metric {_short(self.metric)} is neither of {METRICS}")
        if not 1 <= self.dim <= MOST_NUMBERS:
            raise CheckpointError(f"dim is {self.dim}: an embedding has 1 to {MOST_NUMBERS:,} numbers")
        if not isinstance(self.preprocess.get("kind"), str):
            raise CheckpointError(f"preprocess is {_short(self.preprocess)}: it has no kind in words")
        for name in ("threshold", "threshold_fmr"):
            _check_distance(name, getattr(self, name))

    def to_json(self) -> dict[str, Any]:
        """The record as `encoder.json` holds it, with the format version first."""
        return {"format": FORMAT} | {name: getattr(self, name) for name in self.__slots__}

    def embedding_part(self) -> dict[str, Any]:
        """Only what changes embeddings: the part that the fingerprint covers."""
        names = ("tower", "tower_args", "preprocess", "dim", "metric")
        part = {"format": FORMAT} | {name: getattr(self, name) for name in names}
        return part | ({"comparator": True} if self.comparator else {})


_TYPES = {"name": str, "tower": str, "tower_args": dict, "preprocess": dict, "dim": int, "metric": str}
_TYPES |= {"versions": dict, "facts": dict, "comparator": bool}


def _check_revision(revision: Any) -> None:
    if type(revision) is not int or not 1 <= revision <= REVISION:
        raise CheckpointError(
            f"preprocess has revision {_short(revision)}, this version knows 1 to {REVISION}: "
            "upgrade siamese-gallery"
        )


def _check_distance(name: str, value: Any) -> None:
    if value is not None and (type(value) not in (int, float) or not 0.0 <= value < math.inf):
        raise CheckpointError(f"{name} is {_short(value)}: it must be absent or a number of 0 or more")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "..."


def from_json(record: Any) -> Spec:
    """The record again. CheckpointError names the missing, unknown or newer part."""
    if not isinstance(record, dict) or type(record.get("format")) is not int:
        raise CheckpointError("encoder.json is not the record of an encoder: it has no format number")
    if record["format"] > FORMAT:
        raise CheckpointError(
            f"encoder.json has format {record['format']}, this version reads up to {FORMAT}: "
            "upgrade siamese-gallery"
        )
    if record["format"] < 1:
        raise CheckpointError(f"encoder.json has format {record['format']}: formats begin at 1")
    fields = {k: v for k, v in record.items() if k != "format"}
    try:
        spec = Spec(**fields)
    except TypeError as exc:
        raise CheckpointError(
            f"encoder.json is not whole: {str(exc).removeprefix('Spec.__init__() ')}"
        ) from exc
    _check_revision(spec.preprocess.get("revision", 1))
    return spec


def fingerprint(spec: Spec, weights: Mapping[str, NDArray[np.generic]]) -> str:
    """sha256 (hex) over the weights, by name, and the part of the record that changes embeddings."""
    return hash_of(spec.embedding_part(), weights)


def provenance(spec: Spec, weights: Mapping[str, NDArray[np.generic]]) -> dict[str, str]:
    """A short hash of each part that the fingerprint covers, so that a mismatch can name the part."""
    whole = spec.embedding_part()
    tower = {name: whole[name] for name in ("tower", "tower_args", "dim", "metric")}
    parts = {"weights": hash_of({}, weights), "tower": hash_of(tower)}
    parts["preprocessing"] = hash_of(spec.preprocess)
    return {name: digest[:SHORT] for name, digest in parts.items()}


def hash_of(record: dict[str, Any], weights: Mapping[str, NDArray[np.generic]] | None = None) -> str:
    """sha256 (hex) over a record, its keys in order, and over arrays, each with its name, type and shape."""
    digest = hashlib.sha256(json.dumps(record, sort_keys=True).encode())
    for name, array in sorted((weights or {}).items()):
        digest.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
