"""evaluate(...): all that is measured of an encoder, on a labelled set or on a published list of pairs."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoders import datasets, evidence, pair_lists, resampling, retrieval, verification
from encoders.datasets import LabelledSet
from encoders.deciding import Decisions, at_most, decisions
from encoders.embedding import embedded
from encoders.errors import DatasetError, EncoderError
from encoders.evaluation import Rate, distances, paired_distances, threshold_at_fmr
from encoders.evaluation_page import page, plots
from encoders.images import printable
from encoders.spec import METRICS
from encoders.validation import check_options
from encoders.verification import Comparisons, Curve

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
FARS = (0.1, 0.01, 0.001, 0.0001)
SHOTS = ((5, 1), (5, 5), (20, 1), (20, 5))
RECALL = (1, 5, 10)
RANKS = (1, 5, 10, 20)
EPISODES = 400
MOST_ITEMS = 4000  # compared with each other


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was measured, rates in [0, 1], each with its 95 % interval from resampling subjects.

    `eer`; `tar` at each false accept rate that the comparisons support; `d_prime`, without one; `threshold`
    with its `fmr` and `fnmr` (the largest whose FMR is at most `asked_fmr`), all None where there is none;
    `recommended`, the same at the threshold that the encoder comes with, set for `recommended_fmr`. On
    labelled sets also: `few_shot` accuracy {"5-way 1-shot": Rate}, `recall` at k among items, `map_at_r`,
    `cmc` (rank-k identification rate among subjects, k from 1). On lists of pairs `accuracy`, and
    `accuracy_note` how its threshold was chosen. `curve` has FMR and FNMR at rising thresholds.
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

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON values; the curve is thinned to 400 points."""
        thin = verification.thinned(self.curve)
        parts = (("thresholds", thin.thresholds), ("fmr", thin.fmr), ("fnmr", thin.fnmr))
        points = {name: np.round(np.asarray(part, float), 6).tolist() for name, part in parts}
        return asdict(self) | {
            "d_prime": self.d_prime if np.isfinite(self.d_prime) else None,
            "tar": {f"{far:g}": asdict(found) for far, found in self.tar.items()},
            "recall": {str(k): asdict(found) for k, found in self.recall.items()},
            "curve": points,
        }

    def save_page(self, path: str | os.PathLike[str]) -> Path:
        """Writes one self-contained HTML page: the figures, ROC, DET and CMC."""
        place = Path(path)
        place.write_text(
            page(str(self), verification.thinned(self.curve), self._identified()), encoding="utf-8"
        )
        return place

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
        lines = [f"no threshold for FMR {asked}: too many non-mated pairs have distance 0"]
        if self.threshold is not None:
            lines = [f"threshold {self.threshold:.4f}, set on these for FMR {asked}:"]
            lines.append(f"  FMR {self.fmr}, FNMR {self.fnmr}")
        if self.recommended is not None:
            rate = self.recommended_fmr
            set_for = "" if rate is None else f", set for FMR {evidence.percent(rate)}"
            lines.append(f"the encoder's own threshold {self.recommended.threshold:.4f}{set_for}:")
            lines.append(f"  {self.recommended}")
        return lines


def evaluate(
    encoder: Any,
    data: LabelledSet | str | os.PathLike[str],
    *,
    pairs: str | os.PathLike[str] | None = None,
    fmr: float = 0.001,
    seed: int = 0,
    label: str | None = None,
    skip_unreadable: bool = False,
) -> Evaluation:
    """Measures any encoder (`encode(items)`, `metric`) on a labelled set, or on `pairs` of files in a folder.

    Under cosine the embeddings may have any length, as in a gallery. `data` is a LabelledSet, a folder, an
    .npz or a CSV (see `encoders.datasets.load`, also for `label`); with `pairs` it is the folder that the
    list is about (see `encoders.pair_lists.read`). The same seed gives the same episodes and intervals.
    DatasetError without a mated pair, and for items that cannot be read, which it names. `skip_unreadable`
    leaves those out, and the pairs that they are in; encoders that are not of this package name the first.
    """
    check_options(fmr, seed)
    if (metric := getattr(encoder, "metric", None)) not in METRICS:
        raise EncoderError(f"the encoder's metric is {metric!r}: it must be one of {', '.join(METRICS)}")
    if not callable(getattr(encoder, "encode", None)):
        raise EncoderError(f"a {type(encoder).__name__} is no encoder: it has no encode(items)")
    rng = np.random.default_rng(seed)
    if pairs is not None:
        if isinstance(data, LabelledSet):
            raise DatasetError("a list of pairs is about a folder of files, not about a LabelledSet")
        return _on_pairs(encoder, pair_lists.read(Path(pairs), Path(data)), fmr, rng, skip_unreadable)
    held = data if isinstance(data, LabelledSet) else datasets.load(data, label)
    return _on_set(encoder, held, fmr, rng, skip_unreadable)


def _on_set(encoder: Any, data: LabelledSet, fmr: float, rng: np.random.Generator, skip: bool) -> Evaluation:
    rows, data = embedded(encoder, data, skip)
    _, labels = np.unique(data.labels, return_inverse=True)
    kept = _some(labels, rng)
    left, right = np.triu_indices(len(kept), 1)
    apart = distances(rows[kept], rows[kept], encoder.metric)[left, right]
    of = labels[kept]
    shared = _verified(encoder, apart, of[left] == of[right], of[left], of[right], fmr, rng)
    found = retrieval.ranks(rows, labels, encoder.metric)
    recall = {k: resampling.mean(retrieval.recall_at(found, k), found.subjects, rng) for k in RECALL}
    subjects = int(labels.max()) + 1
    return Evaluation(
        **shared,
        items=len(labels),
        subjects=subjects,
        few_shot=_few_shot(rows, labels, encoder.metric, rng),
        recall=recall,
        map_at_r=resampling.mean(found.map_at_r, found.subjects, rng),
        cmc=resampling.means(retrieval.found_within(found, min(50, subjects)), found.subjects, rng),
    )


def _some(labels: Ints, rng: np.random.Generator) -> Ints:
    """All rows, or of a large set whole subjects with mates, up to the most that are compared."""
    if len(labels) <= MOST_ITEMS:
        return np.arange(len(labels))
    counts = np.bincount(labels)
    place = rng.permutation(len(counts)) + len(counts) * (counts < 2)
    return np.sort(np.argsort(place[labels], kind="stable")[:MOST_ITEMS])


def _few_shot(rows: Floats, labels: Ints, metric: str, rng: np.random.Generator) -> dict[str, Rate]:
    found = {}
    for ways, shots in SHOTS:
        made = retrieval.episodes(rows, labels, metric, ways=ways, shots=shots, count=EPISODES, rng=rng)
        if made is not None:
            name = f"{made.right.shape[1]}-way {shots}-shot"
            found[name] = resampling.mean(made.right.reshape(-1), made.subjects.reshape(-1), rng)
    return found


def _on_pairs(
    encoder: Any, listed: pair_lists.PairList, fmr: float, rng: np.random.Generator, skip: bool
) -> Evaluation:
    rows, listed, note = _read_pairs(encoder, listed, skip)
    subjects, of = np.unique(np.array(listed.subjects), return_inverse=True)
    apart = paired_distances(rows[listed.left], rows[listed.right], encoder.metric)
    left, right = of[listed.left], of[listed.right]
    shared = _verified(encoder, apart, listed.mated, left, right, fmr, rng)
    shared["note"] = "\n".join(filter(None, (note, shared["note"])))
    accuracy, how = _accuracy(apart, listed, left, right, rng)
    return Evaluation(**shared, items=len(rows), subjects=len(subjects), accuracy=accuracy, accuracy_note=how)


def _read_pairs(
    encoder: Any, listed: pair_lists.PairList, skip: bool
) -> tuple[Floats, pair_lists.PairList, str]:
    """The embeddings of the items, the list without pairs of what cannot be read, and words for these."""
    numbers = np.arange(len(listed.items))
    rows, read = embedded(encoder, LabelledSet(list(listed.items), numbers, tuple(listed.subjects)), skip)
    if len(read) == len(numbers):
        return rows, listed, ""
    left = pair_lists.only(listed, read.labels)
    gone = f"{len(listed) - len(left):,} of {len(listed):,} pairs were left out"
    bad = f"{len(numbers) - len(read):,} of {len(numbers):,} files cannot be read"
    return rows, left, f"{gone}: {bad}"


def _accuracy(
    apart: Floats,
    listed: pair_lists.PairList,
    left: Ints,
    right: Ints,
    rng: np.random.Generator,
) -> tuple[Rate, str]:
    """Accuracy over all pairs: each fold at the threshold that is best for the others."""
    folds = int(listed.fold.max()) + 1
    right_answers = np.empty(len(apart))
    for fold in range(folds):
        tested = listed.fold == fold
        known = ~tested if folds > 1 else tested
        at = _best(apart[known], listed.mated[known])
        right_answers[tested] = (apart[tested] <= at) == listed.mated[tested]
    note = f"{folds} folds, the threshold from the others" if folds > 1 else (
        "the threshold that is best for these very pairs, so a little optimistic"
    )  # fmt: skip

    def measure(drawn: NDArray[np.float64]) -> float | None:
        weights = resampling.pair_weights(drawn, left, right)
        return float(weights @ right_answers / weights.sum()) if weights.sum() else None

    count = int(max(left.max(), right.max())) + 1
    return resampling.interval(float(right_answers.mean()), len(apart), count, measure, rng), note


def _best(apart: Floats, mated: NDArray[np.bool_]) -> float:
    """The threshold with the most right answers; just below all distances where accepting none is best."""
    order = np.argsort(apart, kind="stable")
    gain = np.cumsum(np.where(mated[order], 1, -1))
    last = np.r_[apart[order][1:] > apart[order][:-1], True]  # ties are accepted together
    best = int(np.argmax(np.where(last, gain, gain.min() - 1)))
    if gain[best] < 0:
        return float(np.nextafter(apart[order][0], np.float32(-np.inf)))
    return float(apart[order][best])


def _verified(
    encoder: Any,
    apart: Floats,
    same: NDArray[np.bool_],
    left: Ints,
    right: Ints,
    fmr: float,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """The part that labelled sets and lists of pairs share: everything from distances of pairs."""
    mated, other = apart[same], apart[~same]
    if not (len(mated) and len(other)):
        raise DatasetError(
            f"{len(mated)} mated and {len(other)} non-mated pairs: rates need at least one of each"
        )
    curve, threshold = Comparisons(mated, other).curve(), threshold_at_fmr(other, fmr)
    fars = [far for far in FARS if len(other) >= evidence.needed(far)]
    drawn = _resampled(apart, same, left, right, fars, rng)
    worth = min(resampling.independent(left[part], right[part]) for part in (same, ~same))
    at, own = (
        None if one is None else decisions(one, apart, same, left, right, rng)
        for one in (threshold, getattr(encoder, "threshold", None))
    )
    return {
        "encoder": printable(str(getattr(encoder, "name", type(encoder).__name__))),
        "metric": encoder.metric,
        "mated": len(mated),
        "non_mated": len(other),
        "eer": resampling.bounded(verification.eer(curve)[0], len(apart), worth, drawn["eer"]),
        "d_prime": verification.d_prime(mated, other),
        "tar": {
            far: resampling.bounded(verification.tar_at(curve, far), len(mated), worth, drawn[f"{far:g}"])
            for far in fars
        },
        "threshold": threshold,
        "fmr": None if at is None else at.fmr,
        "fnmr": None if at is None else at.fnmr,
        "curve": curve,
        "asked_fmr": fmr,
        "recommended": own,
        "recommended_fmr": getattr(getattr(encoder, "spec", None), "threshold_fmr", None),
        "note": evidence.too_few(fmr, len(other)),
    }


def _resampled(
    apart: Floats,
    same: NDArray[np.bool_],
    left: Ints,
    right: Ints,
    fars: list[float],
    rng: np.random.Generator,
) -> dict[str, list[float]]:
    """EER and TAR of every resample of the subjects, from at most 200,000 pairs of each kind."""
    parts = [at_most(np.flatnonzero(part), rng) for part in (same, ~same)]
    held = Comparisons(*(apart[part] for part in parts))
    found: dict[str, list[float]] = {"eer": [], **{f"{far:g}": [] for far in fars}}
    subjects = int(max(left.max(), right.max())) + 1
    for drawn in resampling.draws(subjects, rng) if subjects > 1 else ():
        weights = [resampling.pair_weights(drawn, left[part], right[part]) for part in parts]
        if not all(w.any() for w in weights):
            continue
        curve = held.curve(*weights)
        found["eer"].append(verification.eer(curve)[0])
        for far in fars:
            found[f"{far:g}"].append(verification.tar_at(curve, far))
    return found
