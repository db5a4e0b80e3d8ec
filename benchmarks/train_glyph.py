"""Trains the encoder `glyph` that ships: `python -m benchmarks.train_glyph --work FOLDER --output glyph`.

Two residual towers are trained on the background set of Omniglot, a tenth of its alphabets held out, the
same for both: on pictures of 48 pixels, then, from those weights, on 64. Their heads are weighed anew, and
they are joined, every picture being read a little larger and a little smaller; the weights are rounded to
float16 and the threshold is set on the held-out alphabets. `--work` keeps the trainings, those that are
there are taken, and one that was interrupted goes on. Both towers may be trained at once by their own
commands (`--commands` prints them), each on 64 pixels after its own on 48.
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
from benchmarks.accuracy import command
from encoders import checkpoint, datasets, joining, record, state, training
from encoders.siamese import SiameseEncoder

COMMON: dict[str, Any] = {
    "tower": "residual", "preprocess": {"kind": "ink"}, "augment": "ink", "quarter_turns": True,
    "subjects": 64, "items": 2, "lr": 0.003, "weight_decay": 0.05, "holdout": 0.1, "validate_every": 1000,
    "fmr": 0.01, "seed": 1, "precision": "bfloat16",
}  # fmt: skip
LARGER: dict[str, Any] = {"preprocess": {"kind": "ink", "size": 64}, "lr": 0.0015}
RUNS: dict[str, dict[str, Any]] = {
    "plain": {"steps": 19000},
    "deeper": {"steps": 12500, "tower_args": {"blocks": [1, 2, 2, 1]}},
    "plain-64": LARGER | {"steps": 6000, "base": "plain"},
    "deeper-64": LARGER | {"steps": 4500, "base": "deeper"},
}
MEMBERS = ("plain-64", "deeper-64")
ZOOMS = (1.08, 0.86)


def main(argv: Sequence[str] | None = None) -> int:
    """Trains what is not there yet, joins, and writes the checkpoint with the histories of all trainings."""
    arguments = _parser().parse_args(argv)
    work: Path = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    file = work / "background.npz"
    if not file.is_file():
        omniglot_data.export(file)
    if arguments.commands:
        print("\n".join(_command(name, file, work) for name in RUNS))
        return 0
    training.threads(1)  # as the one that ships was trained: another number gives other weights
    data = datasets.load(file)
    for name in RUNS:
        _train(data, place(work, name), settings(name, work))
    glyph = joined(data, [place(work, name) for name in MEMBERS], work)
    checkpoint.save(
        glyph, arguments.output, history={"members": [_history(place(work, one)) for one in RUNS]}
    )
    print(f"written: {arguments.output}, {glyph.dim} numbers, threshold {glyph.threshold:.4f}")
    return 0


def place(work: Path, name: str) -> Path:
    """The checkpoint folder of a run."""
    return work / f"{name}.encoder"


def settings(name: str, work: Path) -> dict[str, Any]:
    """The settings of a run, its base being the run of that name."""
    own = RUNS[name]
    return COMMON | own | ({"base": place(work, own["base"])} if "base" in own else {})


def joined(data: datasets.LabelledSet, members: Sequence[Path], work: Path) -> SiameseEncoder:
    """The trained members with their heads weighed anew, as one encoder with its threshold."""
    refined = [_refined(data, member, work) for member in members]
    whole = joining.halved(joining.join(refined, zooms=ZOOMS, name="glyph", device="cpu"))
    # The same alphabets that every run of this seed and share holds out.
    held = datasets.split(data, COMMON["holdout"], np.random.default_rng(COMMON["seed"]))[1]
    return joining.with_threshold(whole, held, COMMON["fmr"], unsure=False)[0]


def _refined(data: datasets.LabelledSet, member: Path, work: Path) -> Path:
    refined = place(work, f"{member.stem}-refined")
    same = {name: COMMON[name] for name in ("holdout", "seed", "fmr")}
    weighed = same | {"base": member, "start": "discriminant", "steps": 0}
    encoders.train(data, output=refined, device="cpu", overwrite=True, **weighed)
    return refined


def _train(data: datasets.LabelledSet, output: Path, said: dict[str, Any]) -> None:
    if not (output / record.RECORD).is_file():
        resume = state.beside(output).is_dir()
        encoders.train(data, output=output, resume=resume, device="cpu", **said)


def _history(trained: Path) -> Any:
    """Of a run, without the place of its base on the machine that it was trained on."""
    told = json.loads((trained / record.HISTORY).read_text(encoding="utf-8"))
    if base := told["settings"].get("base"):
        told["settings"]["base"] = Path(base).stem
    return told


def _command(name: str, file: Path, work: Path) -> str:
    told = f"encoders train {file} --output {place(work, name)} --threads 1"
    return f"{told} {command(settings(name, work))}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.train_glyph")
    parser.add_argument("--work", type=Path, required=True, help="folder of the members, kept")
    parser.add_argument("--output", type=Path, default=Path("glyph"), help="the checkpoint folder to write")
    parser.add_argument("--commands", action="store_true", help="print the trainings, train nothing")
    return parser


if __name__ == "__main__":
    sys.exit(main())
