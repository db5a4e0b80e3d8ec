"""Siamese encoders: load one that ships, or train one on your own data.

    encoder = encoders.load("glyph")
    embeddings = encoder.encode(["a.png", "b.png"])      # (2, dim) float32

Importing this package loads neither torch nor numpy; a name loads what it needs when it is first used.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

_HOMES = {
    "CheckpointError": "encoders.errors",
    "DatasetError": "encoders.errors",
    "EncodeError": "encoders.errors",
    "EncoderError": "encoders.errors",
    "History": "encoders.history",
    "MissingExtraError": "encoders.errors",
    "SiameseEncoder": "encoders.siamese",
    "TrainingError": "encoders.errors",
    "UnknownEncoderError": "encoders.errors",
    "from_module": "encoders.adapters.module",
    "save": "encoders.checkpoint",
    "train": "encoders.training",
}

__all__ = [
    "CheckpointError",
    "DatasetError",
    "EncodeError",
    "EncoderError",
    "History",
    "MissingExtraError",
    "SiameseEncoder",
    "TrainingError",
    "UnknownEncoderError",
    "from_module",
    "list",
    "load",
    "save",
    "train",
]


def load(name_or_path: Any, device: str | None = None, **settings: Any) -> Any:
    """An encoder by its name or path; `device` is "cpu", "cuda", "mps", or None for the best there is.

    "glyph", "photo", a folder  a SiameseEncoder that ships, or the one in a checkpoint
    "faces"                     pictures of one person each; extra [faces]
    "voices"                    recordings of one person each; extra [voices]
    "sentences", "st:PATH"      texts: MiniLM, or any model of sentence-transformers; extra [sentences]
    "my.safetensors"            a SiameseEncoder that `encoders export` wrote
    "hf:PATH"                   vision models of transformers; extra [hf]
    "model.onnx"                any ONNX model; extra [onnx]

    `settings` are those of the adapter, see docs/adapters.md. Raises UnknownEncoderError, CheckpointError,
    MissingExtraError with the pip line, TypeError for a setting that the encoder does not have.
    """
    from encoders import adapters

    if (home := adapters.home(name_or_path)) is not None:
        return adapters.adapt(home, name_or_path, device, settings)
    if settings:
        raise TypeError(f"{name_or_path} is no adapter and takes no settings, not {', '.join(settings)}")
    if os.fspath(name_or_path).endswith(".safetensors"):
        from encoders import export

        return export.from_safetensors(name_or_path, device)
    from encoders import checkpoint, shipped

    return checkpoint.load(shipped.find(name_or_path), device=device)


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
