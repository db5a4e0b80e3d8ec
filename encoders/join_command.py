"""The command `encoders join`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

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
    add("--half", action="store_true", help="round the weights to float16: half the file, as fast as before")
    add("--validation", metavar="DATA", help="subjects that no member was trained on: sets the threshold")
    add("--label", metavar="COLUMN", help="the column of a CSV with the subject")
    add("--fmr", type=float, default=0.001, help="false match rate to set the threshold for (default 0.001)")
    add("--overwrite", action="store_true", help="replace the encoder that is there")
    add("--json", action="store_true", help="print one object")


def run(arguments: argparse.Namespace) -> None:
    """encoders join A B --output C"""
    from encoders import checkpoint, datasets, joining, outputs, training, validation

    place = Path(arguments.output)
    validation.check_options(arguments.fmr, 0)
    outputs.refuse_unusable(place)
    training.refuse_to_lose(place, resume=False, overwrite=arguments.overwrite)
    members = [joining.own(name) for name in arguments.encoders]
    made = joining.join(members, weights=arguments.weights, name=arguments.name or place.stem)
    made = joining.halved(made) if arguments.half else made
    told: dict[str, Any] = {"output": str(place), "dim": made.dim, "fingerprint": made.fingerprint}
    if arguments.validation is not None:
        data = datasets.load(arguments.validation, arguments.label)
        alone = {one.name: joining.with_threshold(one, data, arguments.fmr)[1] for one in members}
        made, found = joining.with_threshold(made, data, arguments.fmr)
        told |= _measured(alone | {made.name: found}, found.doubt_of_threshold(arguments.fmr))
    checkpoint.save(made, place)
    told |= {"threshold": made.threshold, "threshold_fmr": made.spec.threshold_fmr}
    print(json.dumps(told, indent=2) if arguments.json else _told(told))


def _measured(found: dict[str, Any], note: str) -> dict[str, Any]:
    """Every encoder on the validation set, the joined one last."""
    rates = {
        name: {"eer": one.eer, "one_shot_error": one.one_shot_error, "fnmr": one.fnmr}
        for name, one in found.items()
    }
    last = list(found.values())[-1]
    return {"rates": rates, "subjects": last.subjects, "non_mated": last.non_mated, "note": note}


def _told(told: dict[str, Any]) -> str:
    from encoders.evidence import percent, rates_told

    lines = [f"{told['output']}: {told['dim']} numbers"]
    rates = told.get("rates", {})
    lines += [f"{name}: {rates_told(found)}" for name, found in rates.items()]
    if told["threshold"] is not None:
        missed = list(rates.values())[-1]["fnmr"]
        lines.append(
            f"recommended threshold {told['threshold']:.4f} for FMR {percent(told['threshold_fmr'])} "
            f"(FNMR {percent(missed)}), from {told['non_mated']:,} non-mated comparisons of "
            f"{told['subjects']:,} validation subjects, where no member was trained on them"
        )
    else:
        lines.append(
            told.get("note")
            or "no threshold recommended: --validation DATA, or gallery calibrate, measures one"
        )
    return "\n".join(lines)
