"""The command `encoders join`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from encoders.errors import EncoderError

WORDS = "make one encoder of several that read the same items: its distance is the mean of theirs"


def grammar(command: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add = command.add_argument
    add(
        "encoders", metavar="ENCODER", nargs="+", help="two or more: shipped names, checkpoints, .safetensors"
    )
    add("--output", required=True, metavar="NAME.encoder", help="the checkpoint folder to write")
    add("--name", help="default: that of the folder")
    add(
        "--weights", type=float, nargs="+", metavar="W", help="what each distance counts for (default: alike)"
    )
    add("--zooms", type=float, nargs="+", metavar="Z", help="read pictures at each of these magnifications")
    add("--half", action="store_true", help="round weights to float16: half their bytes, as fast as before")
    add("--validation", metavar="DATA", help="subjects that no member was trained on: sets the threshold")
    add("--label", metavar="COLUMN", help="the column of a CSV with the subject")
    add("--fmr", type=float, default=0.001, help="false match rate to set the threshold for (default 0.001)")
    add("--skip-unreadable", action="store_true", help="leave out validation items that cannot be read")
    add("--overwrite", action="store_true", help="replace the encoder that is there")
    add("--json", action="store_true", help="print one object")


def run(arguments: argparse.Namespace) -> None:
    """encoders join A B --output C"""
    from encoders import checkpoint, joining, outputs, validation

    place = Path(arguments.output)
    validation.check_options(arguments.fmr, 0)
    outputs.refuse_unusable(place)
    _refuse_to_lose(place, arguments.encoders, arguments.overwrite)
    members = [joining.own(name) for name in arguments.encoders]
    name = arguments.name or place.stem
    made = joining.join(members, weights=arguments.weights, zooms=arguments.zooms, name=name)
    made = joining.halved(made) if arguments.half else made
    told: dict[str, Any] = {"output": str(place), "dim": made.dim, "fingerprint": made.fingerprint}
    if arguments.validation is not None:
        made, found = _validated(members, made, arguments)
        told |= found
    checkpoint.save(made, place)
    told |= {"threshold": made.threshold, "threshold_fmr": made.spec.threshold_fmr}
    print(json.dumps(told, indent=2) if arguments.json else _told(told))


def _refuse_to_lose(place: Path, members: list[str], overwrite: bool) -> None:
    """EncoderError where a member, an interrupted run or, unless told to, an encoder would be replaced."""
    from encoders import state, training

    if place.exists() and any(Path(one).exists() and place.samefile(one) for one in members):
        raise EncoderError(f"{place} is one of the members: choose another name for the whole")
    folder = state.beside(place)
    if (step := state.step_in(folder)) is not None:
        raise EncoderError(
            f"an interrupted run at step {step} is kept in {folder}, and would write {place} "
            "when it goes on: choose another name, or delete it"
        )
    training.refuse_to_lose(place, resume=False, overwrite=overwrite)


def _validated(members: list[Any], made: Any, arguments: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """(the encoder with its threshold, what to tell): every encoder on the set, the joined one last."""
    from encoders import datasets, joining, validation

    data = datasets.load(arguments.validation, arguments.label)
    held = datasets.prepared(data, made.preprocess, skip=arguments.skip_unreadable)
    found = [validation.measure(one, held, arguments.fmr) for one in (*members, made)]
    places = [*arguments.encoders, arguments.output]  # names need not differ
    rates = [
        {"encoder": place, "eer": one.eer, "one_shot_error": one.one_shot_error, "fnmr": one.fnmr}
        for place, one in zip(places, found, strict=True)
    ]
    last = found[-1]
    note = last.doubt_of_threshold(arguments.fmr)
    told = {"rates": rates, "subjects": last.subjects, "non_mated": last.non_mated, "note": note}
    return joining.recommending(made, last, arguments.fmr), told


def _told(told: dict[str, Any]) -> str:
    from encoders.evidence import percent, rates_told
    from encoders.names import printable

    rates = told.get("rates", [])
    lines = [f"{told['output']}: {told['dim']} numbers"]
    lines += [f"{printable(found['encoder'])}: {rates_told(found)}" for found in rates]
    if told["threshold"] is not None:
        lines.append(
            f"recommended threshold {told['threshold']:.4f} for FMR {percent(told['threshold_fmr'])} "
            f"(FNMR {percent(rates[-1]['fnmr'])}), from {told['non_mated']:,} non-mated comparisons of "
            f"{told['subjects']:,} validation subjects, where no member was trained on them"
        )
    else:
        lines.append(
            told.get("note")
            or "no threshold recommended: --validation DATA, or gallery calibrate, measures one"
        )
    return "\n".join(lines)
