"""The command line: list, info, train, evaluate, join, export. It prints; it decides nothing."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from encoders import evaluate_command, export_command, join_command, train_command
from encoders.errors import EncoderError, PassedOverWarning

DONE, MISTAKE, INTERRUPTED = 0, 2, 130
EPILOG = "Exit codes: 0 done; 2 a mistake or a failure, said on standard error; 130 interrupted."


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and gives its exit code. A user's mistake is one line on standard error."""
    arguments = parser().parse_args(argv)
    try:
        with _warnings_in_a_line():
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


@contextmanager
def _warnings_in_a_line() -> Iterator[None]:
    """Our warnings as one line on standard error, without the place in the code; others as they are."""
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Any, category: Any, *rest: Any, **named: Any) -> None:
            if issubclass(category, PassedOverWarning):
                print(f"encoders: {message}", file=sys.stderr)
            else:
                usual(message, category, *rest, **named)

        warnings.showwarning = show
        yield


def parser() -> argparse.ArgumentParser:
    """The whole grammar of the command line."""
    top = argparse.ArgumentParser("encoders", description="Trained Siamese encoders.", epilog=EPILOG)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    _list(_command(commands, "list", "name the encoders that ship, and those of other people", run_list))
    _info(_command(commands, "info", "print the card of an encoder", run_info))
    train_command.grammar(_command(commands, "train", train_command.WORDS, train_command.run))
    evaluate_command.grammar(_command(commands, "evaluate", evaluate_command.WORDS, evaluate_command.run))
    join_command.grammar(_command(commands, "join", join_command.WORDS, join_command.run))
    export_command.grammar(_command(commands, "export", export_command.WORDS, export_command.run))
    return top


def _command(commands: Any, name: str, words: str, run: Any) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=words, description=words, epilog=EPILOG)
    command.set_defaults(run=run)
    return command


def _list(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print a list of objects")


def _info(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "encoder",
        metavar="NAME",
        help="a name from `encoders list`, a checkpoint folder, a .safetensors, an .onnx",
    )
    command.add_argument("--json", action="store_true", help="print the record instead of the card")


def run_list(arguments: argparse.Namespace) -> None:
    """encoders list"""
    from encoders import adapters, shipped
    from encoders.evidence import percent

    rows = shipped.rows()
    if arguments.json:
        print(json.dumps(rows + adapters.rows(), indent=2))
        return
    print(f"{'name':12} {'dim':>5}  {'metric':10} {'threshold':>9}  {'for FMR':>8}")
    for row in rows:
        at = "-" if row["threshold"] is None else f"{row['threshold']:.4f}"
        fmr = "-" if row["threshold_fmr"] is None else percent(row["threshold_fmr"])
        print(f"{row['name']:12} {row['dim']:5}  {row['metric']:10} {at:>9}  {fmr:>8}")
    print(f"\n{'of other people':15} {'extra':11} {'installed':9}  items")
    for row in adapters.rows():
        there = "yes" if row["installed"] else "no"
        print(f"{row['name']:15} {'[' + row['extra'] + ']':11} {there:9}  {row['items']}")


def run_info(arguments: argparse.Namespace) -> None:
    """encoders info NAME"""
    from encoders import adapters, shipped

    if _is_file(arguments.encoder):
        _info_of_file(arguments)
        return
    if (home := adapters.home(arguments.encoder)) is not None:
        print(json.dumps(adapters.row(home), indent=2) if arguments.json else adapters.about(home))
        return
    place = shipped.find(arguments.encoder)
    print(json.dumps(shipped.about(place), indent=2) if arguments.json else shipped.card(place))


def _is_file(name: str) -> bool:
    """Whether an exported file is meant, and not the kind of adapter that `encoders list` calls FILE.onnx."""
    return name.endswith((".safetensors", ".onnx")) and name != "FILE.onnx"


def _info_of_file(arguments: argparse.Namespace) -> None:
    """The same of an encoder that `encoders export` wrote as one file, and of any ONNX model."""
    from pathlib import Path

    from encoders import export, shipped
    from encoders.adapters import onnx_model

    file = Path(arguments.encoder)
    if file.suffix == ".onnx":
        spec, entries = onnx_model.inside(file)
    else:
        spec, entries = export.from_safetensors(file, "cpu").spec, {}
    if spec is None:
        told = "\n".join(f"{name}: {', '.join(found)}" for name, found in entries.items())
        words = (
            f"# {file.stem}\n\nAn ONNX model without the record of an encoder: see docs/adapters.md.\n{told}"
        )
        print(json.dumps(entries, indent=2) if arguments.json else words)
        return
    record = spec.to_json() | {"weights_bytes": file.stat().st_size}
    print(json.dumps(record, indent=2) if arguments.json else shipped.described(spec, f"{file} has no card."))


if __name__ == "__main__":
    sys.exit(main())
