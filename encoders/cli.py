"""The command line of the encoders package: list, info, train, evaluate. It prints; it decides nothing."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from encoders.errors import EncoderError

DONE, MISTAKE, INTERRUPTED = 0, 2, 130
EPILOG = "Exit codes: 0 done; 2 a mistake or a failure, said on standard error; 130 interrupted."


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and gives its exit code. A user's mistake is one line on standard error."""
    arguments = parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except BrokenPipeError:
        # The reader has seen enough, as `encoders info glyph | head` has.
        sys.stderr.close()
        return DONE
    except (EncoderError, OSError) as exc:
        print(f"encoders: {exc}", file=sys.stderr)
        return MISTAKE
    except KeyboardInterrupt as exc:
        print("; ".join(["encoders: interrupted", *map(str, exc.args)]), file=sys.stderr)
        return INTERRUPTED
    return DONE


def parser() -> argparse.ArgumentParser:
    """The whole grammar of the command line."""
    top = argparse.ArgumentParser("encoders", description="Trained Siamese encoders.", epilog=EPILOG)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    _list(_command(commands, "list", "name the encoders that ship", run_list))
    _info(_command(commands, "info", "print the card of an encoder", run_info))
    _train(_command(commands, "train", "train an encoder on a labelled folder or .npz", run_train))
    _evaluate(_command(commands, "evaluate", "measure an encoder on a labelled folder or .npz", run_evaluate))
    return top


def _command(commands: Any, name: str, words: str, run: Any) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=words, description=words, epilog=EPILOG)
    command.set_defaults(run=run)
    return command


def _list(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print a list of objects")


def _info(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "encoder", metavar="NAME", help="a name from `encoders list`, or a checkpoint folder"
    )
    command.add_argument("--json", action="store_true", help="print the record instead of the card")


def _evaluate(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "encoder", metavar="NAME", help="a name from `encoders list`, or a checkpoint folder"
    )
    command.add_argument("data", metavar="DATA", help="a folder with one subfolder a subject, or an .npz")
    command.add_argument("--fmr", type=float, default=0.001, help="false match rate to set a threshold for")
    command.add_argument("--seed", type=int, default=0, help="of the one-shot episodes")
    command.add_argument("--json", action="store_true", help="print one object")


def _train(command: argparse.ArgumentParser) -> None:
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
    add("--loss", default="margin", help="margin, triplet, contrastive or bce (default: %(default)s)")
    add("--mining", help="triplet: semi-hard or hard; contrastive and bce: hard or none")
    add("--margin", type=float, help="of the loss (default: 0.3 margin, 0.2 triplet, 1.0 contrastive)")
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


def run_train(arguments: argparse.Namespace) -> None:
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


def run_list(arguments: argparse.Namespace) -> None:
    """encoders list"""
    from encoders import shipped
    from encoders.evidence import percent

    rows = shipped.rows()
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{'name':12} {'dim':>5}  {'metric':10} {'threshold':>9}  {'for FMR':>8}")
    for row in rows:
        at = "-" if row["threshold"] is None else f"{row['threshold']:.4f}"
        fmr = "-" if row["threshold_fmr"] is None else percent(row["threshold_fmr"])
        print(f"{row['name']:12} {row['dim']:5}  {row['metric']:10} {at:>9}  {fmr:>8}")


def run_info(arguments: argparse.Namespace) -> None:
    """encoders info NAME"""
    from encoders import shipped

    place = shipped.find(arguments.encoder)
    print(json.dumps(shipped.about(place), indent=2) if arguments.json else shipped.card(place))


def run_evaluate(arguments: argparse.Namespace) -> None:
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


if __name__ == "__main__":
    sys.exit(main())
