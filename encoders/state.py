"""The state of an unfinished training run on disk: safetensors for tensors, JSON for the rest; no pickle."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from encoders.errors import TrainingError

Flat = dict[str, Tensor]


def beside(output: Path) -> Path:
    """Where the state of the run that writes the checkpoint `output` is kept."""
    return output.with_name(output.name + ".state")


def write(folder: Path, tensors: Flat, record: dict[str, Any]) -> None:
    """Replaces the state in `folder`. The JSON names its tensor file and is renamed last: the commit."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"step-{record['step']}.safetensors"
    save_file({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, folder / f"{name}.part")
    _sync(folder / f"{name}.part", folder / name)
    (folder / "state.json.part").write_text(json.dumps(record | {"tensors": name}), encoding="utf-8")
    _sync(folder / "state.json.part", folder / "state.json")
    for old in folder.glob("step-*.safetensors*"):
        if old.name != name:
            old.unlink()


def read(folder: Path) -> tuple[Flat, dict[str, Any]]:
    """What `write` left in `folder`; TrainingError when there is nothing or it is damaged."""
    record = read_record(folder)
    try:
        return load_file(folder / Path(record["tensors"]).name), record
    except (ValueError, OSError, SafetensorError) as exc:
        raise damaged(folder, exc) from exc


def read_record(folder: Path) -> dict[str, Any]:
    """The part of `read` that is no tensors, as quickly as it is read."""
    path = folder / "state.json"
    if not path.is_file():
        raise TrainingError(f"nothing to resume: {path} does not exist")
    try:
        return _whole(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, OSError, RecursionError) as exc:
        raise damaged(folder, exc) from exc


_PARTS: dict[str, type] = {"settings": dict, "data": str, "history": dict, "recent": list, "step": int}
_PARTS |= {"numpy": dict, "tensors": str}


def _whole(record: Any) -> dict[str, Any]:
    """The record, or ValueError naming the parts that are missing or of another type."""
    if not isinstance(record, dict):
        raise ValueError(f"state.json holds {type(record).__name__}, not an object")
    bad = [name for name, kind in _PARTS.items() if type(record.get(name)) is not kind]
    if bad:
        raise ValueError(f"state.json lacks {', '.join(bad)}, or has them in another type")
    return record


def damaged(folder: Path, why: object) -> TrainingError:
    """The error for a state that cannot be taken up."""
    said = f"{type(why).__name__}: {why}" if isinstance(why, KeyError | TypeError) else why
    said = " ".join(str(said).split())
    return TrainingError(f"the state in {folder} is damaged ({said}): delete it to start anew")


def step_in(folder: Path) -> int | str | None:
    """The step of the state in `folder`, "?" when it is damaged, None when there is none."""
    path = folder / "state.json"
    if not path.is_file():
        return None
    try:
        return int(json.loads(path.read_text(encoding="utf-8"))["step"])
    except (ValueError, KeyError, TypeError):
        return "?"


def remove(folder: Path) -> None:
    """Deletes the state of a run that is done, and its folder when nothing else is in it."""
    for path in [*folder.glob("state.json*"), *folder.glob("step-*.safetensors*")]:
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def flatten_optimizer(state: dict[str, Any]) -> Flat:
    """The tensors of an optimizer's state as {"<parameter number>.<name>": tensor}."""
    return {f"{number}.{name}": v for number, entry in state["state"].items() for name, v in entry.items()}


def unflatten_optimizer(flat: Flat, groups: Any) -> dict[str, Any]:
    """The inverse of `flatten_optimizer`, with the optimizer's own parameter groups."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in flat.items():
        number, name = key.split(".", 1)
        state.setdefault(int(number), {})[name] = value
    return {"state": state, "param_groups": groups}


def _sync(part: Path, final: Path) -> None:
    with part.open("rb") as held:
        os.fsync(held.fileno())
    part.rename(final)
