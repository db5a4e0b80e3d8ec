"""Siamese encoders: load one that ships, or train one on your own data.

    encoder = encoders.load("glyph")
    embeddings = encoder.encode(["a.png", "b.png"])      # (2, dim) float32

Importing this package loads neither torch nor numpy; a name loads what it needs when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "CheckpointError": "encoders.errors",
    "DatasetError": "encoders.errors",
    "EncodeError": "encoders.errors",
    "EncoderError": "encoders.errors",
    "Evaluation": "encoders.evaluated",
    "History": "encoders.history",
    "MissingExtraError": "encoders.errors",
    "PassedOverWarning": "encoders.errors",
    "SiameseEncoder": "encoders.siamese",
    "TrainingError": "encoders.errors",
    "UnknownEncoderError": "encoders.errors",
    "evaluate": "encoders.evaluating",
    "from_module": "encoders.adapters.module",
    "join": "encoders.joining",
    "load": "encoders.loading",
    "save": "encoders.checkpoint",
    "train": "encoders.training",
}

__all__ = [
    "CheckpointError",
    "DatasetError",
    "EncodeError",
    "EncoderError",
    "Evaluation",
    "History",
    "MissingExtraError",
    "PassedOverWarning",
    "SiameseEncoder",
    "TrainingError",
    "UnknownEncoderError",
    "evaluate",
    "from_module",
    "join",
    "list",
    "load",
    "save",
    "train",
]


def list() -> Any:
    """The names of the encoders that ship, sorted."""
    from encoders import shipped

    return shipped.names()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'encoders' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> Any:
    return sorted({*globals(), *__all__})
