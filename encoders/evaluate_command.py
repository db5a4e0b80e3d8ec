"""The command `encoders evaluate`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from encoders.errors import EncoderError

WORDS = "measure an encoder on a labelled folder, .npz or CSV, or on a list of pairs"


def grammar(command: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add = command.add_argument
    add("encoder", metavar="NAME", help="a name from `encoders list`, or a checkpoint folder")
    add("data", metavar="DATA", help="a folder with one subfolder a subject, an .npz or a CSV")
    add(
        "--label",
        metavar="COLUMN",
        help="the CSV's column with the subject (default: label, ..., or the last)",
    )
    add(
        "--pairs",
        metavar="FILE",
        help="measure on these pairs of files in DATA: CSV (left,right,same) or LFW's",
    )
    add("--fmr", type=float, default=0.001, help="false match rate to set a threshold for")
    add("--seed", type=int, default=0, help="of the episodes and the intervals")
    add("--page", "--report", metavar="PAGE.html", help="write a page with the figures, ROC, DET and CMC")
    add("--plots", metavar="FOLDER", help="write roc.svg, det.svg and cmc.svg")
    add("--skip-unreadable", action="store_true", help="leave out items that cannot be read, and their pairs")
    add("--json", action="store_true", help="print one object")


def run(arguments: argparse.Namespace) -> None:
    """encoders evaluate NAME DATA"""
    import encoders

    _check_place(arguments.page)
    _check_folder(arguments.plots)
    encoder = encoders.load(arguments.encoder)
    found = encoders.evaluate(
        encoder,
        Path(arguments.data),
        pairs=arguments.pairs,
        fmr=arguments.fmr,
        seed=arguments.seed,
        label=arguments.label,
        skip_unreadable=arguments.skip_unreadable,
    )
    if arguments.page:
        found.save_page(arguments.page)
    if arguments.plots:
        found.save_plots(arguments.plots)
    print(json.dumps(found.to_json(), indent=2) if arguments.json else found)


def _check_place(page: str | None) -> None:
    """EncoderError for a page that could not be written once everything is measured."""
    if page is not None and ("\0" in page or Path(page).is_dir() or not Path(page).parent.is_dir()):
        raise EncoderError(f"--page {page!r} cannot be written: it must be a file in a folder that is there")


def _check_folder(plots: str | None) -> None:
    """EncoderError for a folder of plots that could not be made once everything is measured."""
    if plots is None:
        return
    there = (
        [] if "\0" in plots else [place for place in (Path(plots), *Path(plots).parents) if place.exists()]
    )
    if not (there and there[0].is_dir()):
        raise EncoderError(f"--plots {plots!r} cannot be written: it must be a folder, or a new name in one")
