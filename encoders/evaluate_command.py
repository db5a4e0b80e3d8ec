"""The command `encoders evaluate`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

WORDS = "measure an encoder on a labelled folder or .npz"


def grammar(command: argparse.ArgumentParser) -> None:
    """The options of the command."""
    command.add_argument(
        "encoder", metavar="NAME", help="a name from `encoders list`, or a checkpoint folder"
    )
    command.add_argument("data", metavar="DATA", help="a folder with one subfolder a subject, or an .npz")
    command.add_argument("--fmr", type=float, default=0.001, help="false match rate to set a threshold for")
    command.add_argument("--seed", type=int, default=0, help="of the one-shot episodes")
    command.add_argument("--json", action="store_true", help="print one object")


def run(arguments: argparse.Namespace) -> None:
    """encoders evaluate NAME DATA"""
    from dataclasses import asdict

    from encoders import checkpoint, datasets, evidence, shipped, validation

    validation.check_options(arguments.fmr, arguments.seed)
    encoder = checkpoint.load(shipped.find(arguments.encoder))
    data = datasets.prepared(datasets.load(Path(arguments.data)), encoder.preprocess)
    embeddings = encoder.encode_prepared(data.items)
    found = validation.validate(embeddings, data, encoder.metric, arguments.fmr, arguments.seed)
    note = evidence.too_few(arguments.fmr, round(found.fmr * found.non_mated), found.non_mated)
    if arguments.json:
        print(json.dumps({"encoder": encoder.name, **asdict(found), "note": note}, indent=2))
        return
    pairs = f"{found.mated:,} mated and {found.non_mated:,} non-mated pairs"
    print(f"{encoder.name}: {found.subjects} subjects, {pairs}")
    print(f"EER {found.eer:.2%}   one-shot error {found.one_shot_error:.2%}")
    if found.threshold is None:
        print("no threshold: too many non-mated pairs have distance 0")
    else:
        print(f"threshold {found.threshold:.4f}: FMR {found.fmr:.3%}, FNMR {found.fnmr:.2%}")
    if note:
        print(note)
