"""How good an encoder is on subjects it was not trained on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoders import choosing, evaluation, evidence
from encoders.datasets import LabelledSet
from encoders.errors import DatasetError, EncoderError

Floats = NDArray[np.float32]
Wide = NDArray[np.float64]
Ints = NDArray[np.int64]

WAYS, EPISODES, MOST_ITEMS = 20, 400, 4000


@dataclass(frozen=True, slots=True)
class Validation:
    """EER over all pairs and one-shot error, rates in [0, 1], with what they rest on.

    `one_shot_error` is over episodes of up to 20 subjects of one group, one item of each enrolled and
    another asked; None where no group has two subjects with two items. `threshold` is the largest distance
    whose FMR on the non-mated pairs is at most `fmr`; None where there is none, and then nothing is
    accepted: `fmr` is 0 and `fnmr` 1. `subjects` are those of the pairs, `errors` (subjects,) what each of
    them has to do with the EER (`choosing.by_subject`).
    """

    eer: float
    one_shot_error: float | None
    threshold: float | None
    fmr: float
    fnmr: float
    subjects: int
    mated: int
    non_mated: int
    errors: Wide = field(repr=False, compare=False)

    def doubt_of_threshold(self, fmr: float) -> str:
        """Why no threshold for `fmr` is to be recommended by this, and what to do about it; "" for none."""
        zero = "no threshold recommended: too many non-mated comparisons have distance 0, but for rounding"
        return evidence.no_threshold(fmr, self.subjects) or (zero if self.threshold is None else "")

    def facts(self, *, with_threshold: bool, unsure: bool) -> dict[str, Any]:
        """What was found, as a record keeps it; unsure: perhaps the subjects are those trained on."""
        left_out = ("errors",) if with_threshold else ("errors", "threshold", "fmr", "fnmr")
        kept = {k: v for k, v in asdict(self).items() if k not in left_out and v is not None}
        facts = {k: v if isinstance(v, int) else round(v, 6) for k, v in kept.items()}
        return {"validation": facts | ({"perhaps_trained_on": True} if unsure else {})}


def validate(embeddings: Floats, data: LabelledSet, metric: str, fmr: float, seed: int = 0) -> Validation:
    """Measures (n, d) embeddings of the n items of `data`; the same seed draws the same episodes.

    DatasetError: embeddings that are no numbers, or no mated or no non-mated pair to measure on.
    """
    check_options(fmr, seed)
    if not np.isfinite(embeddings).all():
        raise DatasetError("the encoder gives NaN or infinity for some items: nothing can be measured")
    rng = np.random.default_rng(seed)
    rows, labels = _at_most(embeddings, data.labels, rng)
    apart = evaluation.distances(rows, rows, metric)
    mated, non_mated = evaluation.parted(apart, labels)
    if not (len(mated) and len(non_mated)):
        raise DatasetError(
            f"{len(mated)} mated and {len(non_mated)} non-mated pairs: rates need at least one of each"
        )
    threshold = evaluation.threshold_at_fmr(non_mated, fmr, evaluation.grain(rows, metric))
    eer, where = evaluation.eer(mated, non_mated)
    errors = choosing.by_subject(apart, labels, where)
    return Validation(
        eer=eer,
        one_shot_error=one_shot(embeddings, data, metric, rng),
        threshold=threshold,
        fmr=0.0 if threshold is None else evaluation.fmr_at(non_mated, threshold),
        fnmr=1.0 if threshold is None else evaluation.fnmr_at(mated, threshold),
        subjects=len(errors),
        mated=len(mated),
        non_mated=len(non_mated),
        errors=errors,
    )


def measure(encoder: Any, held: LabelledSet, fmr: float) -> Validation:
    """The validation of an encoder of this package on a set that went through its preprocessing."""
    return validate(encoder.encode_prepared(held.items), held, encoder.metric, fmr)


def check_options(fmr: float, seed: int) -> None:
    """EncoderError for a false match rate out of (0, 1), or a negative seed."""
    if not 0.0 < fmr < 1.0:
        raise EncoderError(f"fmr is {fmr:g}: a false match rate lies between 0 and 1, 0.001 for example")
    if seed < 0:
        raise EncoderError(f"seed is {seed}: it must be 0 or more")


def one_shot(embeddings: Floats, data: LabelledSet, metric: str, rng: np.random.Generator) -> float | None:
    """Mean error, in [0, 1], of episodes within a group (or the whole set without groups).

    None where there is no episode: no group has two subjects with two items.
    """
    groups = np.zeros(len(data), np.int64) if data.groups is None else data.groups
    pools = [p for g in np.unique(groups) if len(p := _usable(data.labels, np.flatnonzero(groups == g))) >= 2]
    if not pools:
        return None
    errors = [
        _episode(embeddings, pools[int(rng.integers(len(pools)))], metric, rng) for _ in range(EPISODES)
    ]
    return float(np.mean(errors))


def _usable(labels: Ints, indexes: Ints) -> list[Ints]:
    """The items of each subject that has two or more."""
    return [m for s in np.unique(labels[indexes]) if len(m := indexes[labels[indexes] == s]) >= 2]


def _episode(embeddings: Floats, pool: list[Ints], metric: str, rng: np.random.Generator) -> float:
    chosen = rng.choice(len(pool), min(WAYS, len(pool)), replace=False)
    picks = np.array([rng.choice(pool[c], 2, replace=False) for c in chosen])
    apart = evaluation.distances(embeddings[picks[:, 1]], embeddings[picks[:, 0]], metric)
    return evaluation.one_shot_error(apart, np.arange(len(chosen)))


def _at_most(embeddings: Floats, labels: Ints, rng: np.random.Generator) -> tuple[Floats, Ints]:
    if len(labels) <= MOST_ITEMS:
        return embeddings, labels
    kept = rng.choice(len(labels), MOST_ITEMS, replace=False)
    if len(np.unique(labels[kept])) == MOST_ITEMS:
        # So many subjects that no two items of one were drawn: whole subjects instead, single items last.
        _, subjects, counts = np.unique(labels, return_inverse=True, return_counts=True)
        place = rng.permutation(len(counts)) + len(counts) * (counts < 2)
        kept = np.argsort(place[subjects], kind="stable")[:MOST_ITEMS]
    return embeddings[kept], labels[kept]
