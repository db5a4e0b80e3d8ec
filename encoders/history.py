"""What a training run did: a record that is written as JSON, told in a few lines and drawn as a page."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from encoders.evidence import percent, rates_told
from encoders.history_page import page


@dataclass(slots=True)
class History:
    """The settings of a run and what was measured on the way.

    `used` are those of `settings` that were completed from the data: `tower_args` and `preprocess`.
    `losses` has {"step", "loss", "seconds"}, the loss a mean since the one before; `validations` has
    {"step", "eer", "one_shot_error"}, rates in [0, 1], the second None where no episode can be made. `best`
    is the validation with the least EER, then the least one-shot error, of which the weights were kept;
    `stopped` the step at which a run without a lower EER, or one whose minutes were over (`ended` says so),
    was ended early. `threshold` was set for `threshold_fmr` on the validation non-mated comparisons,
    `evidence` says how many of them and of how many subjects; when they are too few for that rate both are
    None and `note` says so. `mistakes` are the validation pairs that the encoder gets most wrong,
    `pictures` what it sees of them as pieces of HTML, which are kept out of files.
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
    ended: str = ""
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
            why = self.ended or f"{self.settings['patience']} validations without a lower EER"
            lines[0] += f", ended early: {why}"
        if self.best is not None:
            by = "EER" if self.best["one_shot_error"] is None else "EER, then one-shot error"
            lines.append(f"best by {by}: step {self.best['step']:,}, {rates_told(self.best)}")
        return "\n".join([*lines, *_threshold(self)])


def load(path: str | os.PathLike[str]) -> History:
    """The record that `to_json` gave, from a file (a checkpoint's `history.json`)."""
    return History(**json.loads(Path(path).read_text(encoding="utf-8")))


def _lasted(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def _threshold(history: History) -> list[str]:
    if history.threshold is None or history.threshold_fmr is None:
        return [history.note] if history.note else []
    counts = history.evidence
    return [
        f"recommended threshold {history.threshold:.4f} for FMR {percent(history.threshold_fmr)}, from "
        f"{counts['non_mated']:,} non-mated comparisons of {counts['subjects']} held-out subjects"
    ]
