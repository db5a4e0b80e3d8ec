"""The command `encoders train`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from encoders.errors import EncoderError

WORDS = "train an encoder on a labelled folder, .npz or CSV; what is not said is found from the data"


def grammar(command: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add = command.add_argument
    add(
        "data",
        metavar="DATA",
        help="a folder with one subfolder a subject, a CSV, or an .npz (images, vectors, texts, sequences or "
        "recordings; labels[, groups])",
    )
    add(
        "--label",
        metavar="COLUMN",
        help="the CSV's column with the subject (default: label, ..., or the last)",
    )
    add("--output", required=True, metavar="my.encoder", help="the checkpoint folder to write")
    add("--name", help="the encoder's name (default: that of the output)")
    _model(command)
    _length(command)
    _measuring(command)
    _run(command)


def _model(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add(
        "--tower",
        help="conv, residual, deep, gradients, fisher, dense, recurrent, audio, spectra, chars "
        "(default: by items)",
    )
    add("--tower-args", metavar="JSON", help='e.g. {"widths": [16, 32]}')
    add("--loss", help="margin, arcface, triplet, contrastive, bce, supcon or proxy (default: margin)")
    add("--loss-args", metavar="JSON", help='e.g. {"reducer": "nonzero", "distance": "cosine"}')
    add("--mining", help="triplet: semi-hard, hard or all; contrastive and bce: hard or all")
    add("--margin", type=float, help="of the loss (default: that of its paper, or nearly)")
    add(
        "--preprocess",
        metavar="KIND",
        help="ink, strokes, grey, rgb, vector, sequence, audio, text or a JSON object (default: found)",
    )
    add(
        "--augment",
        help="none, affine, photo, ink, noise, sequence, audio, speech or text (default: suits the items)",
    )
    add(
        "--quarter-turns",
        action="store_true",
        default=None,
        help="count each quarter turn of a subject as another subject",
    )
    add(
        "--start",
        help="where the head starts: random, or from the features, --steps may be 0: discriminant, whitening",
    )
    add("--base", metavar="ENCODER", help="go on from an encoder: its name, its checkpoint or .safetensors")
    add("--dim", type=int, help="numbers in an embedding (default: 128)")
    add("--metric", choices=("cosine", "euclidean"), help="default: cosine")


def _length(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--subjects", type=int, help="P, subjects in a batch (default: up to 32)")
    add("--items", type=int, help="K, items of each (default: so that a batch has about 128)")
    length = command.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, help="batches (default: 40 passes, within 300 to 20,000)")
    length.add_argument("--epochs", type=float, help="passes over what is trained on, instead of --steps")
    length.add_argument(
        "--minutes", type=float, help="time to train for, validations included, instead of --steps"
    )
    add("--lr", type=float, help="peak learning rate (default: 0.002)")
    add("--weight-decay", type=float, help="default: 0.02")


def _measuring(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--validation", metavar="DATA", help="validate on this set instead of held-out subjects")
    add("--holdout", type=float, help="share of groups or subjects for validation (default: 0.15; 0: none)")
    add("--validate-every", type=int, metavar="STEPS", help="default: a twentieth of the run")
    add(
        "--patience",
        type=int,
        help="past half of the steps, stop after so many validations that got worse (default: 10; 0: never)",
    )
    add(
        "--fmr",
        type=float,
        help="false match rate of the recommended threshold (default: 0.001, for 78 held-out subjects up)",
    )


def _run(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--seed", type=int, help="the one seed of the run (default: 0)")
    add("--precision", help="float32, bfloat16 (mixed), or auto: bfloat16 on a GPU that has it (default)")
    add("--threads", type=int, help="CPU threads (default: all); another number gives other weights")
    add("--device", help="cpu, cuda, mps (default: the best there is)")
    add(
        "--resume",
        action="store_true",
        help="go on with an interrupted run: same DATA and --output, its settings are known",
    )
    add("--overwrite", action="store_true", help="replace an encoder, or an interrupted run, that is there")
    add("--skip-unreadable", action="store_true", help="leave out items that cannot be read")
    add(
        *("--plot", "--report"),
        metavar="PAGE.html",
        help="write a page with the curves of the run and the pairs it got wrong",
    )
    add("--json", action="store_true", help="print the history, without progress")


_SETTINGS = (
    *("tower", "loss", "mining", "margin", "augment", "quarter_turns", "dim", "metric", "start", "base"),
    *("subjects", "items", "steps", "lr", "weight_decay", "holdout", "validate_every", "patience", "fmr"),
    *("seed", "precision"),
)


def run(arguments: argparse.Namespace) -> None:
    """encoders train DATA --output my.encoder"""
    from encoders import training

    _check_page(arguments.plot)
    training.threads(arguments.threads)
    history = training.train(
        arguments.data,
        output=arguments.output,
        validation=arguments.validation,
        label=arguments.label,
        name=arguments.name,
        minutes=arguments.minutes,
        epochs=arguments.epochs,
        resume=arguments.resume,
        overwrite=arguments.overwrite,
        progress=not arguments.json,
        skip_unreadable=arguments.skip_unreadable,
        device=arguments.device,
        **_said(arguments),
    )
    if arguments.plot:
        history.save_plot(arguments.plot)
    print(json.dumps(history.to_json(), indent=2) if arguments.json else history)


def _said(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings that the command line says; the others are found from the data."""
    said = {name: value for name in _SETTINGS if (value := getattr(arguments, name)) is not None}
    if arguments.preprocess is not None:
        said["preprocess"] = _preprocess(arguments.preprocess)
    for name in ("tower_args", "loss_args"):
        if (text := getattr(arguments, name)) is not None:
            said[name] = _json("--" + name.replace("_", "-"), text)
    return said


def _check_page(plot: str | None) -> None:
    """EncoderError for a page that could not be written once the training is done."""
    if plot is None:
        return
    page = Path(plot)
    if "\0" in plot or page.is_dir() or not page.parent.is_dir():
        raise EncoderError(f"--plot {plot!r} cannot be written: it must be a file in a folder that is there")


def _preprocess(text: str) -> dict[str, Any]:
    return _json("--preprocess", text) if text.startswith("{") else {"kind": text}


def _json(option: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as exc:
        raise EncoderError(f"{option} {text!r} is not JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise EncoderError(f"{option} {text!r} is not a JSON object")
    return value
