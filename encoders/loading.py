"""Loading an encoder by its name: one that ships, a checkpoint, an exported file, or one of other people."""

from __future__ import annotations

import os
from typing import Any

from encoders import adapters, checkpoint, export, shipped
from encoders.adapters.base import Adapter
from encoders.siamese import SiameseEncoder


def load(
    name_or_path: str | os.PathLike[str], device: str | None = None, **settings: Any
) -> SiameseEncoder | Adapter:
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
    if (home := adapters.home(name_or_path)) is not None:
        return adapters.adapt(home, name_or_path, device, settings)  # type: ignore[no-any-return]
    if settings:
        raise TypeError(f"{name_or_path} is no adapter and takes no settings, not {', '.join(settings)}")
    if os.fspath(name_or_path).endswith(".safetensors"):
        return export.from_safetensors(name_or_path, device)
    return checkpoint.load(shipped.find(name_or_path), device=device)
