"""Reading the parts of a checkpoint folder that need no torch: its record and its card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from encoders.errors import CheckpointError
from encoders.spec import Spec, from_json

RECORD, WEIGHTS, CARD, HISTORY = "encoder.json", "weights.safetensors", "card.md", "history.json"


def own_file(folder: Path, name: str) -> Path:
    """A file of the checkpoint; CheckpointError for a link that leads out of it."""
    path = folder / name
    if path.is_symlink() and folder.resolve() not in path.resolve().parents:
        raise CheckpointError(f"{path} is a link out of the checkpoint: refused")
    return path


def read_record(folder: Path) -> dict[str, Any]:
    """The checked content of `encoder.json`. CheckpointError says what is missing, damaged or too new."""
    path = own_file(folder, RECORD)
    if not path.is_file():
        raise CheckpointError(f"{folder} is not a checkpoint: it has no {RECORD}")
    try:
        record: Any = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as exc:
        raise CheckpointError(f"{path} is damaged: {exc}") from exc
    try:
        return from_json(record).to_json()
    except CheckpointError as exc:
        raise CheckpointError(f"{folder}: {exc}") from exc


def read_spec(folder: Path) -> Spec:
    """The record of a checkpoint as a Spec."""
    return from_json(read_record(folder))


def card_text(folder: Path) -> str:
    """The card, or "" when there is none."""
    path = own_file(folder, CARD)
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
