"""Writes glyph's model card from its record, its history and the results: `python -m benchmarks.glyph_card`.

No figure of the card is typed by hand; a test holds the card to what this writes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.omniglot import PUBLISHED
from encoders import record, shipped
from encoders.history import History
from encoders.spec import Spec

TEMPLATE = Path(__file__).with_name("glyph_card.template.md")


def main() -> int:
    """Writes `card.md` beside the shipped weights."""
    place = shipped.find("glyph")
    (place / record.CARD).write_text(card(place, report.read("omniglot")), encoding="utf-8")
    print(f"written: {record.CARD} of glyph")
    return 0


def card(place: Path, measured: dict[str, Any]) -> str:
    """The card in Markdown, of the checkpoint in `place` and the results of `benchmarks.omniglot`."""
    spec, told = record.read_spec(place), json.loads((place / record.HISTORY).read_text(encoding="utf-8"))
    facts = _encoder(place, spec, measured) | _figures(measured) | _verification(measured)
    facts |= _training(spec, [History(**one) for one in told["members"]])
    return TEMPLATE.read_text(encoding="utf-8").format(**facts)


def _encoder(place: Path, spec: Spec, measured: dict[str, Any]) -> dict[str, Any]:
    return {
        "dim": spec.dim,
        "metric": spec.metric,
        "size": spec.preprocess["size"],
        "zooms": " and ".join(map(str, spec.tower_args["zooms"])),
        "megabytes": f"{(place / record.WEIGHTS).stat().st_size / 1e6:.1f}",
        "fingerprint": measured["encoder"]["fingerprint"],
        "threshold": f"{spec.threshold:.4f}",
        "threshold_fmr": f"{spec.threshold_fmr:.1%}",
    }


def _figures(measured: dict[str, Any]) -> dict[str, Any]:
    ways = [(way, measured[way]["fixed"], measured[way]["sampled"]) for way in ("glyph", "raw pixels")]
    rows = [f"| {way} | {_rate(fixed)} | {_rate(sampled)} |" for way, fixed, sampled in ways]
    rows += [f"| {who} | {error:.1%} | |" for who, error in PUBLISHED.items()]
    speed, machine = measured["speed"], measured["machine"]
    return {
        **{f"{name}_protocol": words for name, words in measured["protocols"].items()},
        "omniglot_rows": "\n".join(rows),
        "digit_rows": "\n".join(f"| {way} | {_spread(found)} |" for way, found in measured["digits"].items()),
        "cores": machine["cores"],
        "processor": machine["processor"],
        "one_ms": speed["one_picture_ms"],
        "per_second": f"{speed['encoded_per_second']:.0f}",
    }


def _verification(measured: dict[str, Any]) -> dict[str, str]:
    found = measured["verification"]
    strict = found["at_fmr_0.1%"]
    return {
        "mated": f"{found['mated']:,}",
        "non_mated": f"{found['non_mated']:,}",
        "eval_fmr": f"{found['fmr']:.2%}",
        "eval_fnmr": f"{found['fnmr']:.1%}",
        "eer": f"{found['eer']:.2%}",
        "strict": f"{strict['threshold']:.4f}",
        "strict_fnmr": f"{strict['fnmr']:.1%}",
    }


def _training(spec: Spec, members: list[History]) -> dict[str, Any]:
    found = spec.facts["validation"]
    common = members[0].settings
    return {
        **{name: common[name] for name in ("subjects", "items", "seed")},
        "holdout": f"{common['holdout']:.0%}",
        "member_rows": "\n".join(map(_member, members)),
        "minutes": f"{sum(one.seconds for one in members) / 60:.0f}",
        "val_eer": f"{found['eer']:.2%}",
        "val_one_shot": f"{found['one_shot_error']:.2%}",
        "val_fnmr": f"{found['fnmr']:.0%}",
        "val_non_mated": f"{found['non_mated']:,}",
        "val_subjects": found["subjects"],
    }


def _member(past: History) -> str:
    best, used = past.best or {}, past.used
    cells = [
        str(used["preprocess"]["size"]),
        " ".join(map(str, used["tower_args"]["blocks"])),
        f"{past.settings['steps']:,}",
        f"{past.seconds / 60:.0f} min",
        f"{best['eer']:.2%}",
        f"{best['one_shot_error']:.2%}",
    ]
    return f"| {' | '.join(cells)} |"


def _rate(found: dict[str, Any]) -> str:
    return f"{found['value']:.1%} [{found['low']:.1%}, {found['high']:.1%}]"


def _spread(found: dict[str, Any]) -> str:
    return f"{found['accuracy']:.1%} (95 % of draws: {found['low']:.1%} to {found['high']:.1%})"


if __name__ == "__main__":
    sys.exit(main())
