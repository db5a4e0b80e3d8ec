"""Trains the encoder `glyph` that ships: `python -m benchmarks.train_glyph --work FOLDER --output glyph`.

Two residual towers are trained on the background set of Omniglot, a tenth of its alphabets held out, the same
for both; their heads are weighed anew, they are joined, rounded to float16, and the threshold is set on the
held-out alphabets. `--work` keeps the trainings, those that are there are taken, and one that was interrupted
goes on. Both may be trained at once by their own commands (`--commands` prints them).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import encoders
from benchmarks import omniglot_data
from encoders import checkpoint, datasets, joining, record, state, training, validation
from encoders.siamese import SiameseEncoder

COMMON: dict[str, Any] = {
    "tower": "residual", "preprocess": {"kind": "ink"}, "augment": "ink", "quarter_turns": True,
    "subjects": 64, "items": 2, "lr": 0.003, "weight_decay": 0.05, "holdout": 0.1, "validate_every": 1000,
    "fmr": 0.01, "seed": 1, "precision": "bfloat16",
}  # fmt: skip
MEMBERS: dict[str, dict[str, Any]] = {
    "plain": {"steps": 19000},
    "deeper": {"steps": 12500, "tower_args": {"blocks": [1, 2, 2, 1]}},
}


def main(argv: Sequence[str] | None = None) -> int:
    """Trains what is not there yet, joins, and writes the checkpoint with the histories of both."""
    arguments = _parser().parse_args(argv)
    work: Path = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    file = work / "background.npz"
    if not file.is_file():
        omniglot_data.export(file)
    if arguments.commands:
        print("\n".join(_command(name, file, work) for name in MEMBERS))
        return 0
    training.threads(1)  # as the one that ships was trained: another number gives other weights
    data = datasets.load(file)
    for name, own in MEMBERS.items():
        _train(data, work / f"{name}.encoder", COMMON | own)
    glyph = joined(data, [work / f"{name}.encoder" for name in MEMBERS], work)
    told = [_history(work / f"{name}.encoder") for name in MEMBERS]
    checkpoint.save(glyph, arguments.output, history={"members": told})
    print(f"written: {arguments.output}, {glyph.dim} numbers, threshold {glyph.threshold:.4f}")
    return 0


def joined(data: datasets.LabelledSet, places: Sequence[Path], work: Path) -> SiameseEncoder:
    """The trained members with their heads weighed anew, as one encoder with its threshold."""
    refined = [_refined(data, place, work) for place in places]
    whole = joining.halved(joining.join(refined, name="glyph", device="cpu"))
    # The same alphabets that every run of this seed and share holds out.
    held = datasets.split(data, COMMON["holdout"], np.random.default_rng(COMMON["seed"]))[1]
    prepared = datasets.prepared(held, whole.preprocess)
    found = validation.measure(whole, prepared, COMMON["fmr"])
    return joining.recommending(whole, found, COMMON["fmr"], unsure=False)


def _refined(data: datasets.LabelledSet, place: Path, work: Path) -> Path:
    refined = work / f"{place.stem}-refined.encoder"
    same = {name: COMMON[name] for name in ("holdout", "seed", "fmr")}
    settings = same | {"base": place, "start": "discriminant", "steps": 0}
    encoders.train(data, output=refined, device="cpu", overwrite=True, **settings)
    return refined


def _train(data: datasets.LabelledSet, place: Path, settings: dict[str, Any]) -> None:
    if not (place / record.RECORD).is_file():
        resume = state.beside(place).is_dir()
        encoders.train(data, output=place, resume=resume, device="cpu", **settings)


def _history(place: Path) -> Any:
    return json.loads((place / record.HISTORY).read_text(encoding="utf-8"))


def _command(name: str, file: Path, work: Path) -> str:
    from benchmarks.accuracy import command

    return (
        f"encoders train {file} --output {work / name}.encoder --threads 1 {command(COMMON | MEMBERS[name])}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.train_glyph")
    parser.add_argument("--work", type=Path, required=True, help="folder of the members, kept")
    parser.add_argument("--output", type=Path, default=Path("glyph"), help="the checkpoint folder to write")
    parser.add_argument("--commands", action="store_true", help="print the trainings, train nothing")
    return parser


if __name__ == "__main__":
    sys.exit(main())
