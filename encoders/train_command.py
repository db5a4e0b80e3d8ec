"""The command `encoders train`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from encoders.errors import EncoderError

WORDS = "train an encoder on a labelled folder or .npz"


def grammar(command: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add = command.add_argument
    add(
        "data",
        metavar="DATA",
        help="a folder with one subfolder a subject, or an .npz (images, labels[, groups])",
    )
    add("--output", required=True, metavar="my.encoder", help="the checkpoint folder to write")
    add("--name", help="the encoder's name (default: that of the output)")
    add("--tower", default="conv", help="conv, residual or dense (default: %(default)s)")
    add("--tower-args", default="{}", metavar="JSON", help='e.g. {"widths": [16, 32]}')
    add(
        "--loss",
        default="margin",
        help="margin, arcface, triplet, contrastive, bce, supcon or proxy (default: %(default)s)",
    )
    add("--loss-args", default="{}", metavar="JSON", help='e.g. {"reducer": "nonzero", "distance": "cosine"}')
    add("--mining", help="triplet: semi-hard, hard or all; contrastive and bce: hard or all")
    add("--margin", type=float, help="of the loss (default: that of its paper, or nearly)")
    add(
        "--preprocess", default="ink", metavar="KIND", help="ink, rgb, vector or a JSON object (default: ink)"
    )
    add("--augment", help="none, affine, ink or noise (default: ink for ink, else affine or noise)")
    add(
        "--quarter-turns", action="store_true", help="count each quarter turn of a subject as another subject"
    )
    add("--dim", type=int, default=128, help="numbers in an embedding (default: %(default)s)")
    add("--metric", default="cosine", choices=("cosine", "euclidean"), help="default: %(default)s")
    add("--subjects", type=int, default=32, help="P, subjects in a batch (default: %(default)s)")
    add("--items", type=int, default=4, help="K, items of each (default: %(default)s)")
    _length(command)
    _run(command)


def _length(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    length = command.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, default=2000, help="batches (default: %(default)s)")
    length.add_argument("--epochs", type=float, help="passes over the data, instead of --steps")
    length.add_argument(
        "--minutes", type=float, help="time to take, measured at the start, instead of --steps"
    )
    add("--lr", type=float, default=2e-3, help="peak learning rate (default: %(default)s)")
    add("--weight-decay", type=float, default=0.02, help="default: %(default)s")
    add("--holdout", type=float, default=0.15, help="share of groups or subjects for validation (0: none)")
    add("--validate-every", type=int, metavar="STEPS", help="default: a tenth of the run")


def _run(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--fmr", type=float, default=0.001, help="the false match rate of the recommended threshold")
    add("--seed", type=int, default=0, help="the one seed of the run (default: %(default)s)")
    add("--threads", type=int, help="CPU threads (default: all)")
    add("--device", help="cpu, cuda, mps (default: the best there is)")
    add("--resume", action="store_true", help="go on with an interrupted run of the same settings")
    add("--overwrite", action="store_true", help="replace an encoder, or an interrupted run, that is there")
    add("--skip-unreadable", action="store_true", help="leave out items that cannot be read")
    add("--plot", metavar="PAGE.html", help="write a page with the curves of the run")
    add("--json", action="store_true", help="print the history, without progress")


_SETTINGS = (
    *("tower", "loss", "mining", "margin", "quarter_turns", "dim", "metric", "subjects", "items", "steps"),
    *("lr", "weight_decay", "holdout", "validate_every", "fmr", "seed"),
)


def run(arguments: argparse.Namespace) -> None:
    """encoders train DATA --output my.encoder"""
    from encoders import training

    _check_page(arguments.plot)
    training.threads(arguments.threads)
    prepare = _preprocess(arguments.preprocess)
    usual = {"ink": "ink", "vector": "noise"}.get(str(prepare.get("kind")), "affine")
    history = training.train(
        arguments.data,
        output=arguments.output,
        name=arguments.name,
        minutes=arguments.minutes,
        epochs=arguments.epochs,
        resume=arguments.resume,
        overwrite=arguments.overwrite,
        progress=not arguments.json,
        skip_unreadable=arguments.skip_unreadable,
        device=arguments.device,
        preprocess=prepare,
        tower_args=_json("--tower-args", arguments.tower_args),
        loss_args=_json("--loss-args", arguments.loss_args),
        augment=arguments.augment or usual,
        **{name: getattr(arguments, name) for name in _SETTINGS},
    )
    if arguments.plot:
        history.save_plot(arguments.plot)
    print(json.dumps(history.to_json(), indent=2) if arguments.json else history)


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
