"""evaluate(...): all that is measured of an encoder, on a labelled set or on a published list of pairs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoders import datasets, evidence, mistakes, pair_lists, resampling, retrieval, verification
from encoders.datasets import LabelledSet
from encoders.deciding import Decisions, at_most, decisions
from encoders.embedding import embedded
from encoders.errors import DatasetError, EncoderError
from encoders.evaluated import Evaluation
from encoders.evaluation import Rate, distances, grain, paired_distances, threshold_at_fmr
from encoders.names import printable
from encoders.spec import METRICS
from encoders.validation import check_options
from encoders.verification import Comparisons

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
FARS = (0.1, 0.01, 0.001, 0.0001)
SHOTS = ((5, 1), (5, 5), (20, 1), (20, 5))
RECALL = (1, 5, 10)
EPISODES = 400
MOST_ITEMS = 4000  # compared with each other


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
    shared = _verified(
        encoder, apart, of[left] == of[right], of[left], of[right], fmr, grain(rows, encoder.metric), rng
    )
    found = retrieval.ranks(rows, labels, encoder.metric)
    recall = {k: resampling.mean(retrieval.recall_at(found, k), found.subjects, rng) for k in RECALL}
    subjects = int(labels.max()) + 1
    return Evaluation(
        **shared,
        **_wrong(encoder, data, apart, of[left] == of[right], kept[left], kept[right], shared),
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
    shared = _verified(encoder, apart, listed.mated, left, right, fmr, grain(rows, encoder.metric), rng)
    shared["note"] = "\n".join(filter(None, (note, shared["note"])))
    accuracy, how = _accuracy(apart, listed, left, right, rng)
    items = LabelledSet(
        list(listed.items), of, tuple(subjects.tolist()), names=tuple(map(printable, listed.items))
    )
    return Evaluation(
        **shared,
        **_wrong(encoder, items, apart, listed.mated, listed.left, listed.right, shared),
        items=len(rows),
        subjects=len(subjects),
        accuracy=accuracy,
        accuracy_note=how,
    )


def _wrong(
    encoder: Any,
    data: LabelledSet,
    apart: Floats,
    same: NDArray[np.bool_],
    left: Ints,
    right: Ints,
    shared: dict[str, Any],
) -> dict[str, Any]:
    """The pairs that are decided most wrongly by the encoder's own threshold, else by the one set here."""
    own: Decisions | None = shared["recommended"]
    at = shared["threshold"] if own is None else own.threshold
    if at is None:
        return {}
    found = mistakes.among(apart, same, left, right, at)
    seen = mistakes.shown(found, encoder, data)
    return {"mistakes": mistakes.records(found, data), "mistakes_at": at, "pictures": seen}


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
    least: float,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """The part that labelled sets and lists of pairs share: everything from distances of pairs."""
    mated, other = apart[same], apart[~same]
    if not (len(mated) and len(other)):
        raise DatasetError(
            f"{len(mated)} mated and {len(other)} non-mated pairs: rates need at least one of each"
        )
    curve, threshold = Comparisons(mated, other).curve(), threshold_at_fmr(other, fmr, least)
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
