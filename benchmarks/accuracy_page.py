"""Writes the accuracy tables of docs/benchmarks.md from the results: `python -m benchmarks.accuracy_page`.

No figure of them is typed by hand; a test holds the page to what this writes.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from benchmarks import report

PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
BEGIN, END = "<!-- accuracy: written by python -m benchmarks.accuracy_page -->\n", "<!-- /accuracy -->\n"


def main() -> int:
    """Puts the tables between the two marks of the page."""
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(inserted(text, report.read("accuracy")), encoding="utf-8")
    print(f"written: {PAGE.name}")
    return 0


def inserted(page: str, measured: dict[str, Any]) -> str:
    """The page with its tables written anew."""
    before, rest = page.split(BEGIN)
    return before + BEGIN + tables(measured["tasks"]) + END + rest.split(END)[1]


def tables(tasks: dict[str, Any]) -> str:
    """What was measured, in percent, and how each encoder was trained; Markdown."""
    lines = [
        "",
        "| task | measure | ours, % | raw features | others, same run | published | floor |",
        "|---|---|---|---|---|---|---|",
    ]
    for found in tasks.values():
        lines += [_row(found["title"], one) for one in found["measures"].values()]
    lines += ["", "| task | never in training and test | folds | steps a fold | training, all folds |"]
    lines += ["|---|---|---|---|---|"]
    lines += [_training(found) for found in tasks.values()]
    lines += [""]
    lines += [f"- **{found['title']}**: {found['protocol']}." for found in tasks.values()]
    return "\n".join(lines) + "\n\n"


def _row(title: str, one: dict[str, Any]) -> str:
    ours = one["ours"]
    told = f"{_percent(ours['value'])} [{_percent(ours['low'])}, {_percent(ours['high'])}]"
    others = ", ".join(f"{who} {_percent(other['value'])}" for who, other in one["others"].items())
    published = ", ".join(f"{who} {100 * value:.4g}" for who, value in one["published"].items())
    cells = [title, one["words"], told, _percent(one["raw"]["value"]), others, published, _floor(one)]
    return f"| {' | '.join(cells)} |"


def _floor(one: dict[str, Any]) -> str:
    if one["floor"] is None:
        return ""
    bound = "at least" if one["higher_is_better"] else "at most"
    return f"{bound} {100 * one['floor']:.4g}: {'reached' if one['floor_reached'] else 'not reached'}"


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"


def _training(found: dict[str, Any]) -> str:
    cpu = found.get("training_cpu_seconds")
    took = (
        f"{found['training_seconds'] / 60:.0f} min of wall clock"
        if cpu is None
        else f"{cpu / 60:.1f} CPU min"
    )
    return f"| {found['title']} | {found['disjoint']} | {found['folds']} | {found['steps']:,} | {took} |"


if __name__ == "__main__":
    sys.exit(main())
