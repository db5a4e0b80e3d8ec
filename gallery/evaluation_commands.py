"""The command that puts a gallery to the test."""

from __future__ import annotations

import json
from pathlib import Path

from gallery.errors import GalleryError, InvalidItemError
from gallery.evaluation import Evaluation
from gallery.folders import checked_folder
from gallery.measures import Rate, said_of_copies
from gallery.tables import counted, table
from gallery.terminal import Arguments, check_report, note, opened, print_json, progress_bar, subjects_in


def evaluate(arguments: Arguments) -> int:
    """gallery evaluate LOCATION PROBES"""
    if arguments.report:
        check_report(Path(arguments.report))
    target = None if arguments.json in (None, True) else Path(arguments.json)
    if target is not None:
        _check_json(target)
    checked_folder(arguments.probes)  # a mistyped one is told before a model is loaded
    with opened(arguments) as people, progress_bar("reading") as progress:
        found = people.evaluate(
            subjects_in(arguments.probes, people.encoder),
            threshold=arguments.threshold,
            group=arguments.group,
            worst=arguments.worst,
            seed=arguments.seed,
            progress=progress,
        )
    if arguments.report:
        from gallery.evaluation_page import write_evaluation

        write_evaluation(found, arguments.report)
    if target is not None:
        _write_json(target, found)
    if arguments.json is True:
        print_json(found.to_dict())
        return 0
    _print(found)
    for written in (arguments.report, target):
        if written:
            print(f"written: {written}")
    return 0


def _check_json(target: Path) -> None:
    """Better known before a long run than after it."""
    if not target.resolve().parent.is_dir():
        raise InvalidItemError(f"{target} cannot be written: its folder is not there")
    if target.exists() and (target.is_dir() or target.suffix.lower() != ".json"):
        raise InvalidItemError(f"{target} is there and is no JSON file: --json never replaces another file")


def _write_json(target: Path, found: Evaluation) -> None:
    try:
        target.write_text(json.dumps(found.to_dict(), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise GalleryError(f"{target} cannot be written: {error.strerror or error}") from error


def _print(found: Evaluation) -> None:
    print(
        f"{found.subjects:,} subjects, {found.templates:,} templates; {found.probes:,} probes, "
        f"{found.strangers:,} of them of strangers"
    )
    if found.quarantined:
        print(
            f"{counted(found.quarantined, 'probe')} of subjects all of whose templates are in quarantine: "
            "not found by any search"
        )
    if found.copied:
        print(said_of_copies(found.copied))
    if found.cmc:
        print(f"right one first: {found.cmc[0]}")
    if found.eer is not None:
        print(f"EER {found.eer:.4g} at {found.eer_threshold:.4f}")
    if found.threshold is None:
        note("no threshold is known, so no errors of decisions are reported: --threshold T")
    else:
        print(f"at the threshold {found.threshold:.4f}:")
        rows = [[name.upper(), *_cells(getattr(found, name))] for name in ("fmr", "fnmr", "fpir", "fnir")]
        print(table(["rate", "measured", "95 % interval", "trials", "independent"], rows))
    if found.groups:
        rows = [
            [one.group, f"{one.probes:,}", str(one.fnmr), str(one.fmr_within), str(one.fpir)]
            for one in found.groups
        ]
        head = [
            found.group or "",
            "probes",
            "FNMR",
            "FMR with the same group",
            "FPIR, were they not enrolled",
        ]
        print(table(head, rows))


def _cells(rate: Rate) -> list[str]:
    if not rate.trials:
        return ["not measured", "", "0", "0"]
    between = f"{rate.low:.3g} to {rate.high:.3g}"
    return [f"{rate.value:.3g}", between, f"{rate.trials:,}", f"{rate.independent:,}"]
