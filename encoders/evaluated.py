"""What was measured of an encoder: told in lines, as JSON, and drawn as a page."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from encoders import evidence, verification
from encoders.deciding import Decisions
from encoders.evaluation import Rate, share
from encoders.evaluation_page import INTERVALS, Figure, page, plots
from encoders.history_page import wrong
from encoders.names import printable
from encoders.page_frame import note
from encoders.verification import Curve

RANKS = (1, 5, 10, 20)
WORDS = {
    "FMR": "of pairs of different subjects, accepted",
    "FNMR": "of pairs of one subject, rejected",
    "EER": "Errors at the threshold where as many pairs are falsely accepted as are falsely rejected.",
    "TAR": "Pairs of one subject that are accepted where {far} of the others are.",
    "accuracy": "Pairs that are decided rightly, same or different.",
    "rank": "Items whose subject is {k}, all others being enrolled.",
    "recall": "Items with one of their own subject as {k}.",
    "MAP@R": "Precision among an item's R nearest, R as many as its subject has others; wrong ones count "
    "more the nearer they are.",
    "few-shot": "The right one of {ways} subjects, with {items} of each to go by.",
}


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was measured, rates in [0, 1], each with its 95 % interval from resampling subjects.

    `eer`; `tar` at each false accept rate that the comparisons support; `d_prime`, without one; `threshold`
    with its `fmr` and `fnmr` (the largest whose FMR is at most `asked_fmr`), all None where there is none;
    `recommended`, the same at the threshold that the encoder comes with, set for `recommended_fmr`. On
    labelled sets also: `few_shot` accuracy {"5-way 1-shot": Rate}, `recall` at k among items, `map_at_r`,
    `cmc` (rank-k identification rate among subjects, k from 1). On lists of pairs `accuracy`, and
    `accuracy_note` how its threshold was chosen. `curve` has FMR and FNMR at rising thresholds. `mistakes`
    are the pairs decided most wrongly at `mistakes_at`, the encoder's own threshold if it has one, and
    `pictures` what the encoder sees of them as pieces of HTML, which are kept out of JSON.
    """

    encoder: str
    metric: str
    items: int
    subjects: int
    mated: int
    non_mated: int
    eer: Rate
    d_prime: float
    tar: dict[float, Rate]
    threshold: float | None
    fmr: Rate | None
    fnmr: Rate | None
    curve: Curve
    asked_fmr: float = 0.001
    recommended: Decisions | None = None
    recommended_fmr: float | None = None
    few_shot: dict[str, Rate] = field(default_factory=dict)
    recall: dict[int, Rate] = field(default_factory=dict)
    map_at_r: Rate | None = None
    cmc: list[Rate] = field(default_factory=list)
    accuracy: Rate | None = None
    accuracy_note: str = ""
    note: str = ""
    mistakes: list[dict[str, Any]] = field(default_factory=list)
    mistakes_at: float | None = None
    pictures: list[tuple[str, str]] = field(default_factory=list, compare=False, repr=False)

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON values; the curve is thinned to 400 points."""
        thin = verification.thinned(self.curve)
        parts = (("thresholds", thin.thresholds), ("fmr", thin.fmr), ("fnmr", thin.fnmr))
        points = {name: np.round(np.asarray(part, float), 6).tolist() for name, part in parts}
        plain = asdict(replace(self, pictures=[]))
        del plain["pictures"]
        return plain | {
            "d_prime": self.d_prime if np.isfinite(self.d_prime) else None,
            "tar": {f"{far:g}": asdict(found) for far, found in self.tar.items()},
            "recall": {str(k): asdict(found) for k, found in self.recall.items()},
            "curve": points,
        }

    def save_page(self, path: str | os.PathLike[str]) -> Path:
        """Writes one self-contained HTML page: the figures explained, curves, the worst mistakes."""
        place = Path(path)
        title, curve = f"Evaluation of {printable(self.encoder)}", verification.thinned(self.curve)
        text = page(
            title, self._top(), self._said(), self._tables(), curve, self._identified(), self._wrong()
        )
        place.write_text(text, encoding="utf-8", errors="backslashreplace")
        return place

    def _top(self) -> list[tuple[str, str]]:
        own = self.recommended
        first = [("right one first", share(self.cmc[0].value))] if self.cmc else []
        right = [] if self.accuracy is None else [("accuracy", share(self.accuracy.value))]
        return [
            ("items", f"{self.items:,}"),
            ("subjects", f"{self.subjects:,}"),
            ("mated pairs", f"{self.mated:,}"),
            ("non-mated pairs", f"{self.non_mated:,}"),
            ("EER", share(self.eer.value)),
            *first,
            *right,
            ("d'", f"{self.d_prime:.2f}"),
            ("threshold set here", "none" if self.threshold is None else f"{self.threshold:.4f}"),
            ("the encoder's own", "none" if own is None else f"{own.threshold:.4f}"),
        ]

    def _said(self) -> str:
        more = "Smaller is nearer. d' is how far apart the two kinds of distance are, in standard deviations."
        if self.accuracy_note:
            more += f" Accuracy: {self.accuracy_note}."
        return "\n".join(filter(None, (f"{self.metric.capitalize()} distance. {more}", INTERVALS, self.note)))

    def _tables(self) -> dict[str, list[Figure]]:
        """The rates of the page, by heading."""
        own, asked = self.recommended, evidence.percent(self.asked_fmr)
        here = f"Errors at the threshold set on these pairs for FMR {asked}"
        at: dict[str, list[Figure]] = {}
        if own is not None:
            at[f"Errors at the encoder's own threshold {own.threshold:.4f}"] = _errors(own.fmr, own.fnmr)
        if self.fmr is not None and self.fnmr is not None:
            at[here] = _errors(self.fmr, self.fnmr)
        pairs = [Figure("EER", WORDS["EER"], self.eer)]
        if self.accuracy is not None:
            pairs.append(Figure("accuracy", WORDS["accuracy"], self.accuracy))
        for far, found in self.tar.items():
            name = f"TAR at FAR {evidence.percent(far)}"
            pairs.append(Figure(name, WORDS["TAR"].format(far=evidence.percent(far)), found))
        return at | {"Two items: the same subject or not?": pairs, "Whose is it?": self._searches()}

    def _searches(self) -> list[Figure]:
        found = [
            Figure(f"identified at rank {k}", WORDS["rank"].format(k=_nearest(k, "subject")), self.cmc[k - 1])
            for k in RANKS
            if k <= len(self.cmc)
        ]
        found += [
            Figure(f"recall@{k}", WORDS["recall"].format(k=_nearest(k, "item")), one)
            for k, one in self.recall.items()
        ]
        if self.map_at_r is not None:
            found.append(Figure("MAP@R", WORDS["MAP@R"], self.map_at_r))
        for name, one in self.few_shot.items():
            ways, shots = (part.partition("-")[0] for part in name.split())
            items = "one item" if shots == "1" else f"{shots} items"
            found.append(Figure(name, WORDS["few-shot"].format(ways=ways, items=items), one))
        return found

    def _wrong(self) -> str:
        if self.mistakes_at is None:
            return ""
        fmr, fnmr = self.fmr, self.fnmr
        if self.recommended is not None:
            fmr, fnmr = self.recommended.fmr, self.recommended.fnmr
        assert fmr is not None and fnmr is not None
        far, near = (f"{round(rate.value * rate.count):,} of {rate.count:,}" for rate in (fnmr, fmr))
        told = note(
            f"{far} mated pairs lie farther apart than {self.mistakes_at:.4f}, {near} non-mated ones do "
            "not. The worst of each, every item once. Look for wrong labels and bad items."
        )
        return wrong(self.mistakes, self.pictures, "The worst mistakes", told)

    def save_plots(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Writes roc.svg, det.svg and, on labelled sets, cmc.svg into a folder, which is made if need be."""
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        written = []
        for name, text in plots(verification.thinned(self.curve), self._identified()).items():
            (place / f"{name}.svg").write_text(text, encoding="utf-8")
            written.append(place / f"{name}.svg")
        return written

    def _identified(self) -> list[float]:
        return [rate.value for rate in self.cmc]

    def __str__(self) -> str:
        """The figures for people, one a line."""
        pairs = f"{self.mated:,} mated and {self.non_mated:,} non-mated pairs"
        lines = [f"{self.encoder}: {self.items:,} items of {self.subjects:,} subjects, {pairs}"]
        lines.append(f"EER {self.eer}   d' {self.d_prime:.2f}")
        if self.accuracy is not None:
            lines.append(f"accuracy {self.accuracy} ({self.accuracy_note})")
        lines += [f"TAR at FAR {evidence.percent(far)}: {found}" for far, found in self.tar.items()]
        lines += [f"{name} accuracy {found}" for name, found in self.few_shot.items()]
        ranks = [k for k in RANKS if k <= len(self.cmc)]
        lines += [f"identified at rank {k} {self.cmc[k - 1]}" for k in ranks]
        lines += [f"recall@{k} {found}" for k, found in self.recall.items()]
        if self.map_at_r is not None:
            lines.append(f"MAP@R {self.map_at_r}")
        lines += self._thresholds()
        return "\n".join([*lines, self.note] if self.note else lines)

    def _thresholds(self) -> list[str]:
        """What goes wrong at the threshold measured here, and at the encoder's own."""
        asked = evidence.percent(self.asked_fmr)
        lines = [f"no threshold for FMR {asked}: too many non-mated pairs have distance 0, but for rounding"]
        if self.threshold is not None:
            lines = [f"threshold {self.threshold:.4f}, set on these for FMR {asked}:"]
            lines.append(f"  FMR {self.fmr}, FNMR {self.fnmr}")
        if self.recommended is not None:
            rate = self.recommended_fmr
            set_for = "" if rate is None else f", set for FMR {evidence.percent(rate)}"
            lines.append(f"the encoder's own threshold {self.recommended.threshold:.4f}{set_for}:")
            lines.append(f"  {self.recommended}")
        return lines


def _nearest(k: int, what: str) -> str:
    return f"the nearest {what}" if k == 1 else f"one of the {k} nearest {what}s"


def _errors(fmr: Rate, fnmr: Rate) -> list[Figure]:
    return [Figure("FMR", WORDS["FMR"], fmr), Figure("FNMR", WORDS["FNMR"], fnmr)]
