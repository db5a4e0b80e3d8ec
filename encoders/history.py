"""What a training run did: a record that is written as JSON, told in a few lines and drawn as a page."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from encoders import choosing
from encoders.evidence import percent, rates_told
from encoders.history_page import page


@dataclass(slots=True)
class History:
    """The settings of a run and what was measured on the way.

    `used` are those of `settings` that were completed from the data: `tower_args` and `preprocess`.
    `losses` has {"step", "loss", "seconds"}, the loss a mean since the one before; `validations` has {"step",
    "eer", "one_shot_error"[, "worse"]}, rates in [0, 1], the second None where there is no episode, `worse`
    whether the best before was better beyond chance. `best` is the validation of which the weights were kept
    (`encoders.choosing`); `stopped` the step at which a run was ended early, because it got worse or its
    minutes were over (`ended` says so); `learnt` whether what was kept is better than the first validation
    beyond chance, None where there was no other. `threshold` was set for `threshold_fmr` on the non-mated
    comparisons of the validation, and rejects `threshold_fnmr` of the mated ones; `evidence` says how many
    there are and of how many subjects; when these are too few for that rate all three are None and `note`
    says so. `doubt` says why the subjects that were validated on may be those trained on, where that is not
    known. `mistakes` are the validation pairs that the encoder gets most wrong, `pictures` what it sees of
    them as pieces of HTML, which are kept out of files.
    """

    settings: dict[str, Any]
    losses: list[dict[str, float]] = field(default_factory=list)
    validations: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] | None = None
    threshold: float | None = None
    threshold_fmr: float | None = None
    evidence: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    output: str | None = None
    used: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    stopped: int | None = None
    threshold_fnmr: float | None = None
    learnt: bool | None = None
    ended: str = ""
    doubt: str = ""
    mistakes: list[dict[str, Any]] = field(default_factory=list)
    pictures: list[tuple[str, str]] = field(default_factory=list, compare=False, repr=False)

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON values."""
        return {name: value for name, value in asdict(self).items() if name != "pictures"}

    def save_plot(self, path: str | os.PathLike[str]) -> Path:
        """Writes one self-contained HTML page: loss and error rates over steps, the pairs it gets wrong."""
        place = Path(path)
        parts = self.losses, self.validations, self.settings | self.used, self.mistakes, self.pictures
        place.write_text(page(str(self), *parts), encoding="utf-8", errors="backslashreplace")
        return place

    def __str__(self) -> str:
        """The closing lines of a run: where and how long, the best validation, the threshold or why none."""
        done = self.settings["steps"] if self.stopped is None else self.stopped
        lines = [f"{self.output}: {done:,} steps in {_lasted(self.seconds)}"]
        if self.stopped is not None:
            why = self.ended or f"{self.settings['patience']} validations beyond chance worse"
            lines[0] += f", ended early: {why}"
        return "\n".join([*lines, *_kept(self), *_threshold(self), *([self.doubt] if self.doubt else [])])


def load(path: str | os.PathLike[str]) -> History:
    """The record that `to_json` gave, from a file (a checkpoint's `history.json`)."""
    return History(**json.loads(Path(path).read_text(encoding="utf-8")))


def _lasted(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def _kept(history: History) -> list[str]:
    """Which weights were kept and why, and whether the held-out subjects show that anything was learnt."""
    best, validations = history.best, history.validations
    if best is None:
        return []
    lines = [f"kept: step {best['step']:,}, {rates_told(best)}{_because(history, best)}"]
    subjects, whose = history.evidence.get("subjects", 0), _whose(history)
    if history.learnt is False and best["step"] > validations[0]["step"]:
        first = f"step {validations[0]['step']:,} (EER {validations[0]['eer']:.2%})"
        told = (
            f"no better beyond chance than {first} for the {subjects:,} {whose} subjects: "
            "try other settings (--lr, --loss, --tower)"
        )
        if subjects < choosing.FEWEST:
            told = (
                f"{subjects} {whose} subjects are too few to tell it from {first}: hold out more, or "
                "--holdout 0 to learn from all"
            )
        lines.append(told)
    return lines


def _whose(history: History) -> str:
    """What the subjects are called that were validated on."""
    return "validation" if history.doubt else "held-out"


def _because(history: History, best: dict[str, Any]) -> str:
    """Why those weights, where it is not plain: they are not the last, or not those with the least EER."""
    last, least = history.validations[-1], min(history.validations, key=choosing.rank)
    if best["step"] == 0 and last["step"] > 0:
        base = history.settings.get("base")
        kept = base is not None and history.settings.get("start", "random") == "random"
        whose = f"the weights of {base} as they are" if kept else "the head as it was found"
        return f": {whose}, since training brought nothing better"
    if best["step"] < last["step"]:
        beaten = "worse beyond chance" if last.get("worse") else "no better than where it began"
        return f"; the last, step {last['step']:,} (EER {last['eer']:.2%}), is {beaten}"
    if choosing.rank(least) < choosing.rank(best):
        return f", the last; step {least['step']:,} ({rates_told(least)}) is not better beyond chance"
    return ""


def _threshold(history: History) -> list[str]:
    if history.threshold is None or history.threshold_fmr is None:
        return [history.note] if history.note else []
    counts, missed = history.evidence, history.threshold_fnmr
    fnmr = "" if missed is None else f" (FNMR {percent(missed)})"
    return [
        f"recommended threshold {history.threshold:.4f} for FMR {percent(history.threshold_fmr)}{fnmr}, from "
        f"{counts['non_mated']:,} non-mated comparisons of {counts['subjects']:,} {_whose(history)} subjects"
        "; gallery calibrate measures both on items of your own"
    ]
