"""The encoders that ship with the package, and finding one by its name or folder. Free of torch."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from encoders.errors import UnknownEncoderError
from encoders.evidence import percent, rates_told
from encoders.record import CARD, HISTORY, RECORD, card_text, own_file, read_record, read_spec
from encoders.spec import Spec

LONGEST = 60  # letters of one setting
PRETRAINED = Path(__file__).parent / "pretrained"


def names() -> list[str]:
    """The names of the shipped encoders, sorted."""
    return sorted(path.parent.name for path in PRETRAINED.glob(f"*/{RECORD}"))


def find(name_or_path: str | os.PathLike[str]) -> Path:
    """The folder of a shipped encoder, or the folder given. UnknownEncoderError when neither is there."""
    name = os.fspath(name_or_path)
    if name in names():
        return PRETRAINED / name
    if Path(name).is_dir():
        return Path(name)
    if Path(f"{name}.state").is_dir():
        raise UnknownEncoderError(
            f"the training of {name} was interrupted: "
            f"encoders train DATA --output {name} --resume finishes it"
        )
    raise UnknownEncoderError(
        f"no encoder is called {name!r} and no folder of that name exists; "
        f"shipped: {', '.join(names()) or 'none'}"
    )


def rows() -> list[dict[str, Any]]:
    """One object for each shipped encoder: name, dim, metric, threshold, threshold_fmr."""
    kept = ("name", "dim", "metric", "threshold", "threshold_fmr")
    return [{k: getattr(read_spec(PRETRAINED / name), k) for k in kept} for name in names()]


def about(place: Path) -> dict[str, Any]:
    """The record of the checkpoint in `place`, with the bytes of its weights."""
    size = sum(path.stat().st_size for path in place.glob("*.safetensors"))
    return read_record(place) | {"weights_bytes": size}


def card(place: Path) -> str:
    """The model card in Markdown; of a checkpoint without one, its record in a few lines."""
    if text := card_text(place):
        return text.rstrip()
    return described(read_spec(place), f"{_trained(place)}This checkpoint has no {CARD}.")


def described(spec: Spec, closing: str) -> str:
    """A record in a few lines of Markdown, for an encoder without a card."""
    at = "no recommended threshold"
    if spec.threshold is not None:
        rate = "-" if spec.threshold_fmr is None else percent(spec.threshold_fmr)
        fnmr = spec.facts.get("validation", {}).get("fnmr")
        missed = f", FNMR {percent(fnmr)}" if isinstance(fnmr, float) else ""
        at = f"recommended threshold {spec.threshold:.4f} (set for FMR {rate}{missed})"
    preprocess = {key: value for key, value in spec.preprocess.items() if key not in ("kind", "revision")}
    return (
        f"# {spec.name}\n\n{spec.tower} tower, {spec.dim} numbers, {spec.metric} distance, {at}.\n"
        f"Tower: {spec.tower}{_fields(spec.tower_args)}.\n{_members(spec.facts)}"
        f"Preprocessing: {spec.preprocess['kind']}{_fields(preprocess)}.\n"
        f"{_validated(spec.facts)}{closing}"
    )


def _fields(settings: dict[str, Any]) -> str:
    """Settings in words: ", height 64, widths 32 64 96"; a long one, such as an alphabet, is cut short."""

    def part(value: Any) -> str:  # a member of a joined tower is a record, too long to be read here
        return str(value["tower"] if isinstance(value, dict) and "tower" in value else value)

    def told(value: Any) -> str:
        text = " ".join(map(part, value)) if isinstance(value, list) else str(value)
        return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."

    return "".join(f", {name} {told(value)}" for name, value in settings.items() if value is not None)


def _members(facts: dict[str, Any]) -> str:
    """Which encoders a joined one was made of, in a line."""
    found = facts.get("members")
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        return ""
    told = ", ".join(f"{one.get('name')} ({str(one.get('fingerprint'))[:12]})" for one in found)
    return f"Joined of {told}.\n"


def _trained(place: Path) -> str:
    """What it was trained with, in a line, where its history is there and whole."""
    try:
        history = json.loads(own_file(place, HISTORY).read_text(encoding="utf-8"))
        settings, stopped = history["settings"], history["stopped"]
        steps, loss, base, start = (settings[name] for name in ("steps", "loss", "base", "start"))
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    begun = f"from {base}" if base is not None else f"from {start} weights"
    begun += f", {start} head" if base is not None and start != "random" else ""
    taught = f", loss {loss}, augment {settings.get('augment', 'none')}" if steps else ""
    ended = "" if stopped is None else f"{stopped:,} of "
    return f"Trained {begun}, {ended}{steps:,} step{'s' if steps != 1 else ''}{taught}.\n"


def _validated(facts: dict[str, Any]) -> str:
    """What its training found on the subjects that it was validated on, in a line."""
    found = facts.get("validation")
    if not isinstance(found, dict) or not {"eer", "subjects"} <= found.keys():
        return ""
    whose = "validation" if (unsure := found.get("perhaps_trained_on")) else "held-out"
    told = f"On {found['subjects']:,} {whose} subjects: {rates_told(found)}"
    return told + (", where these are not those that it was trained on.\n" if unsure else ".\n")
