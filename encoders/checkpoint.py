"""A checkpoint is a folder: `encoder.json`, `weights.safetensors`, and maybe `card.md`, `history.json`.

Only these names are ever read or written, so nothing inside a checkpoint can point out of it. A folder is
written beside its place under a temporary name and then renamed.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from encoders.errors import CheckpointError, EncoderError
from encoders.network import SiameseNetwork
from encoders.record import CARD, HISTORY, RECORD, WEIGHTS, card_text, own_file, read_spec
from encoders.siamese import SiameseEncoder
from encoders.spec import Spec


def save(encoder: SiameseEncoder, folder: str | os.PathLike[str], *, history: Any = None) -> Path:
    """Writes the checkpoint atomically. Replaces an older one of that name; refuses any other folder."""
    place = Path(folder)
    refuse_foreign(place)
    place.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    try:
        _fill(fresh, encoder, history)
        _replace(fresh, place)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return place


def refuse_foreign(place: Path) -> None:
    """CheckpointError when something else than a checkpoint is in the way, or the name can be no file's."""
    if "\0" in str(place) or not place.name:
        raise CheckpointError(f"{str(place)!r} cannot be the name of a checkpoint folder")
    if place.is_symlink() and not place.exists():
        raise CheckpointError(f"{place} is a link to nothing: remove it, or choose another name")
    if place.exists() and not (place / RECORD).is_file():
        raise CheckpointError(f"{place} exists and is not a checkpoint: choose another name")


def load(folder: str | os.PathLike[str], *, device: str | None = None) -> SiameseEncoder:
    """The encoder in `folder`. CheckpointError: which part is missing, damaged, unsafe or too new."""
    place = Path(folder)
    spec = read_spec(place)
    network = network_of(spec, _weights(place))
    return SiameseEncoder(spec, network, card_text(place), device)


def _fill(fresh: Path, encoder: SiameseEncoder, history: Any) -> None:
    save_file(kept_weights(encoder.network), fresh / WEIGHTS)
    _write_json(fresh / RECORD, encoder.spec.to_json())
    if encoder.card:
        (fresh / CARD).write_text(encoder.card, encoding="utf-8", errors="backslashreplace")
    if history is not None:
        _write_json(fresh / HISTORY, history)


def kept_weights(network: SiameseNetwork) -> dict[str, Tensor]:
    """Every tensor of the network as a file keeps it: float16 where that loses nothing, half the room.

    Only rounded weights lose nothing (`encoders.joining.halved`); they come back as the float32 they were.
    """
    weights = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    return {name: half if (half := _halved(value)) is not None else value for name, value in weights.items()}


def _halved(value: Tensor) -> Tensor | None:
    if value.dtype != torch.float32 or value.ndim < 1:
        return None
    half = value.half()
    return half if torch.equal(half.float(), value) else None


def _write_json(path: Path, value: Any) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # A lone surrogate, of a name that is not UTF-8, becomes the escape for it in JSON: never worth a run.
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


def _replace(fresh: Path, place: Path) -> None:
    fresh.chmod(0o755)
    for path in fresh.iterdir():
        path.chmod(0o644)
        with path.open("rb") as held:
            os.fsync(held.fileno())
    old = Path(tempfile.mkdtemp(prefix=f".{place.name}.old.", dir=place.parent)) if place.exists() else None
    if old is not None:
        place.rename(old / place.name)
    fresh.rename(place)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


def _weights(place: Path) -> dict[str, Tensor]:
    path = own_file(place, WEIGHTS)
    if not path.is_file():
        raise CheckpointError(f"{place} is not a whole checkpoint: it has no {WEIGHTS}")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as exc:
        raise CheckpointError(f"{path} is truncated or not a safetensors file: {exc}") from exc


# What building a tower raises, whatever the sizes are that a record asks for.
_UNFIT = (
    *(EncoderError, RuntimeError, TypeError, ValueError, LookupError),
    *(ArithmeticError, AttributeError, AssertionError, MemoryError),
)


def network_of(spec: Spec, weights: dict[str, Tensor]) -> SiameseNetwork:
    """The network that a record describes, with these weights. CheckpointError where they do not fit."""
    try:
        with torch.random.fork_rng(
            devices=[]
        ):  # fresh random weights must not move the caller's random state
            network = SiameseNetwork(spec)
        network.load_state_dict(weights)
    except _UNFIT as exc:
        said = str(exc)[:1000]
        raise CheckpointError(f"the weights do not fit the tower that {RECORD} describes: {said}") from exc
    return network
