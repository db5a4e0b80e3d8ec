"""Encoders of other people, under the names, prefixes and suffixes by which `encoders.load` finds them.

An adapter is one file with `adapt(name, device, **settings) -> Adapter`, and a line below. What it needs is
imported when it is used; a package that is absent raises MissingExtraError with the pip line.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

NAMED = {
    "faces": "encoders.adapters.faces",
    "sentences": "encoders.adapters.sentences",
    "voices": "encoders.adapters.voices",
}
PREFIXES = {"hf:": "encoders.adapters.hub", "st:": "encoders.adapters.sentences"}
SUFFIXES = {".onnx": "encoders.adapters.onnx_model"}


def home(name_or_path: str | os.PathLike[str]) -> str | None:
    """The module of the adapter that this name asks for; None for a shipped encoder or a checkpoint."""
    name = os.fspath(name_or_path)
    if name in NAMED:
        return NAMED[name]
    for table, fits in ((PREFIXES, name.startswith), (SUFFIXES, name.endswith)):
        for mark, module in table.items():
            if fits(mark):
                return module
    return None


def adapt(
    module: str, name_or_path: str | os.PathLike[str], device: str | None, settings: dict[str, Any]
) -> Any:
    """The encoder that the adapter in `module` makes of this name."""
    return import_module(module).adapt(os.fspath(name_or_path), device, **settings)
