"""The commands that measure thresholds."""

from __future__ import annotations

from typing import Any

from gallery import opening
from gallery.encoder import Encoder
from gallery.errors import InvalidItemError
from gallery.folders import checked_folder
from gallery.measures import Calibration, said_of_copies
from gallery.tables import table
from gallery.terminal import Arguments, note, opened, print_json, subjects_in
from gallery.validity import DAYS

FOREVER = "forever"


def calibrate(arguments: Arguments) -> int:
    """gallery calibrate LOCATION [PROBES]"""
    # What is mistyped is told before a model is loaded.
    days = _valid_days(arguments.valid_days)
    _check_used(arguments)
    if arguments.probes:
        checked_folder(arguments.probes)
    if arguments.compare_fusions:
        return _compare(arguments)
    with opened(arguments) as people:
        found = people.calibrate(
            **_asked(arguments, people.encoder), **_given(arguments, "misnamed", "fusion")
        )
        encoder = people.encoder
    if arguments.adopt:
        with opening.open(arguments.location, encoder) as people:
            people.adopt(found, days)
    if arguments.json:
        print_json(found.to_dict() | {"adopted": arguments.adopt})
        return 0
    print(f"threshold {found.threshold:.4f}, for {found.target.upper()} {found.requested:g}, {found.fusion}")
    print(table(["rate", "measured", "95 % interval", "trials", "independent"], _rows(found)))
    if found.margin is not None:
        print(
            f"margin {found.margin:.4f}: then {found.misnamed} of matches are of somebody else, and "
            f"{found.ambiguous} of what is found is ambiguous"
        )
    if found.to_nearest is not None:
        singly = found.to_nearest
        print(f"one template against one, for conflicts and audit: {singly.threshold:.4f}, FMR {singly.fmr}")
    for line in _remarks(found):
        note(line)
    print("adopted" if arguments.adopt else "not adopted: --adopt makes the gallery decide by it")
    return 0


def _valid_days(text: str | None) -> int | None:
    """A number of days, None for ever."""
    if text is None:
        return DAYS
    if text == FOREVER:
        return None
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise InvalidItemError(
            f"--valid-days is a whole number of days, 1 or more, or {FOREVER}, not {text!r}"
        )
    return int(text)


def _check_used(arguments: Arguments) -> None:
    """InvalidItemError for an option that would be passed over."""
    if arguments.compare_fusions:
        if arguments.adopt:
            raise InvalidItemError("--compare-fusions adopts nothing: use --fusion auto --adopt")
        for name in _given(arguments, "fusion", "misnamed", "valid_days"):
            raise InvalidItemError(f"--compare-fusions takes no {_option(name)}: it only shows every fusion")
    if arguments.valid_days is not None and not arguments.adopt:
        raise InvalidItemError("--valid-days is of what is adopted: give --adopt too")
    if arguments.sample is not None and arguments.probes:
        raise InvalidItemError("--sample is of enrolled templates, and PROBES are asked about instead")
    if arguments.quality is not None and not arguments.probes:
        raise InvalidItemError("--quality looks at PROBES, and none were given")


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _given(arguments: Arguments, *names: str) -> dict[str, Any]:
    """Those of some options that were given; the library knows what holds for the others."""
    return {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}


def _asked(arguments: Arguments, encoder: Encoder | None) -> dict[str, Any]:
    """What is measured, and for which target."""
    probes = subjects_in(arguments.probes, encoder) if arguments.probes else None
    names = ("target_fmr", "target_fpir", "extrapolate", "sample", "seed")
    return {"probes": probes} | _given(arguments, *names)


def _compare(arguments: Arguments) -> int:
    with opened(arguments) as people:
        found = people.compare_fusions(**_asked(arguments, people.encoder))
    if arguments.json:
        print_json([one.to_dict() for one in found])
        return 0
    rows = []
    for one in found:
        rows.append([one.fusion, "all", f"{one.threshold:.4f}", str(one.fmr), str(one.fnmr)])
        for part in one.by_templates:
            to = "more" if part.high is None else str(part.high)
            many = to if part.low == part.high else f"{part.low} to {to}"
            rows.append(["", many, "", str(part.fmr), str(part.fnmr)])
    print(table(["fusion", "templates", "threshold", "FMR", "FNMR"], rows))
    best = next(one for one in found if one.chosen)
    print(f"--fusion auto takes {best.fusion}")
    return 0


def _rows(found: Calibration) -> list[list[str]]:
    rows = []
    for name in ("fmr", "fnmr", "fpir", "fnir"):
        rate = getattr(found, name)
        if rate.trials:
            between = f"{rate.low:.3g} to {rate.high:.3g}"
            measured = [f"{rate.value:.3g}", between, f"{rate.trials:,}", f"{rate.independent:,}"]
        else:
            measured = ["not measured", "", "0", "0"]
        rows.append([name.upper(), *measured])
    return rows


def _remarks(found: Calibration) -> list[str]:
    remarks = []
    if found.extrapolated:
        remarks.append("the threshold lies beyond the data, where extreme-value theory says what to expect")
    elif not found.sure:
        remarks.append("few errors are behind it: the true rate may be off by more than a factor of two")
    if found.copied:
        remarks.append(said_of_copies(found.copied))
    if not found.margin_sure:
        remarks.append("too few matches to be sure of the margin: more of them may be of somebody else")
    if not found.fnmr.trials:
        remarks.append("no probe has a second template of its own subject, so rejections were not measured")
    return remarks
