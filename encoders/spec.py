"""What an encoder is, apart from its weights: the record that becomes `encoder.json`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoders.errors import CheckpointError

FORMAT = 1
METRICS = ("cosine", "euclidean")


@dataclass(frozen=True, slots=True)
class Spec:
    """Name, tower, preprocessing, metric, threshold and card facts of one encoder.

    `threshold` is the recommended distance, None when none was set; `threshold_fmr` is the false match rate
    it was set for (0.001 is 0.1 %). `facts` go on the card and do not change embeddings.
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

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise CheckpointError(f"metric {self.metric!r} is neither of {METRICS}")
        if self.dim < 1:
            raise CheckpointError(f"an embedding of {self.dim} numbers is none")

    def to_json(self) -> dict[str, Any]:
        """The record as `encoder.json` holds it, with the format version first."""
        return {"format": FORMAT} | {name: getattr(self, name) for name in self.__slots__}

    def embedding_part(self) -> dict[str, Any]:
        """Only what changes embeddings: the part that the fingerprint covers."""
        names = ("tower", "tower_args", "preprocess", "dim", "metric")
        return {"format": FORMAT} | {name: getattr(self, name) for name in names}


def from_json(record: Any) -> Spec:
    """The record again. CheckpointError names the missing, unknown or newer part."""
    if not isinstance(record, dict) or not isinstance(record.get("format"), int):
        raise CheckpointError("encoder.json is not the record of an encoder: it has no format number")
    if record["format"] > FORMAT:
        raise CheckpointError(
            f"encoder.json has format {record['format']}, this version reads up to {FORMAT}: "
            "upgrade siamese-gallery"
        )
    fields = {k: v for k, v in record.items() if k != "format"}
    try:
        return Spec(**fields)
    except TypeError as exc:
        raise CheckpointError(
            f"encoder.json is not whole: {str(exc).removeprefix('Spec.__init__() ')}"
        ) from exc


def fingerprint(spec: Spec, weights: Mapping[str, NDArray[np.generic]]) -> str:
    """sha256 (hex) over the weights, by name, and the part of the record that changes embeddings."""
    digest = hashlib.sha256(json.dumps(spec.embedding_part(), sort_keys=True).encode())
    for name in sorted(weights):
        array = np.ascontiguousarray(weights[name])
        digest.update(f"\n{name} {array.dtype.str} {weights[name].shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
