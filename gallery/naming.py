"""Pure: who is named. How far ahead the nearest subject has to be, and how likely it is the right one.

Both are read off searches whose answer is known: of somebody enrolled, where the right subject may be nearest
or another one, and of somebody who is not, whom nobody should be named for.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gallery.calibration import Distances, Scores, of_probes
from gallery.decisions import accepted
from gallery.measures import Likelihoods, Rate

Flags = npt.NDArray[np.bool_]

FEWEST_OF_A_KIND = 30
"""Searches with somebody enrolled, and of strangers, that a probability takes."""
_IN_A_BIN = 15


def _firsts(scores: Scores) -> tuple[Distances, npt.NDArray[np.float64], Flags]:
    """(distance to the nearest subject, how far the second is behind, whether the nearest is right)."""
    own = np.where(np.isfinite(scores.mated), scores.mated, np.float32(np.inf))
    right = own < scores.nearest
    first = np.minimum(own, scores.nearest)
    second = np.where(right, scores.nearest, np.minimum(own, scores.second))
    with np.errstate(invalid="ignore"):
        # In float64, as it is decided.
        return first, second.astype(np.float64) - first, right


def _answered(scores: Scores, threshold: float, first: Distances, gap: npt.NDArray[np.float64]) -> Flags:
    """Searches with somebody enrolled that find somebody, and have a second to tell from."""
    return np.isfinite(scores.mated) & np.isfinite(gap) & accepted(first, threshold)


def margin_for(scores: Scores, threshold: float, misnamed: float) -> float | None:
    """The smallest margin with which no more than `misnamed` of the matches are of somebody else.

    Of searches with somebody enrolled. 0 where it takes none; None where there are no such searches. One
    subject more than was seen is reckoned with, all of whose searches are wrong, as the next one is of
    somebody on whom the margin was not chosen (Angelopoulos et al., "Conformal risk control", ICLR 2024).
    Where no match is left then, those that were seen have to do.
    """
    first, gap, right = _firsts(scores)
    answered = _answered(scores, threshold, first, gap)
    if not answered.any():
        return None
    order = np.argsort(-gap[answered], kind="stable")
    gaps, wrong = gap[answered][order], ~right[answered][order]
    most = int(np.bincount(scores.probe_subject[answered]).max())
    for more in (most, 0):
        margin = _smallest(gaps, wrong, misnamed, more)
        if margin is not None:
            return margin
    return float(np.nextafter(gaps[0], np.inf))


def _smallest(gaps: npt.NDArray[np.float64], wrong: Flags, misnamed: float, more: int) -> float | None:
    """The smallest margin within the share with `more` wrong matches; None for none. gaps: falling."""
    allowed = np.cumsum(wrong) + more <= misnamed * (np.arange(1, len(gaps) + 1) + more)
    # Those that are equally far ahead are named together or not at all.
    ends = np.append(gaps[1:] != gaps[:-1], True)
    good = np.flatnonzero(allowed & ends)
    if not len(good):
        return None
    return 0.0 if good[-1] == len(gaps) - 1 else float(gaps[good[-1]])


def shows(rate: Rate, misnamed: float) -> bool:
    """Whether a rate that was measured is surely no more than twice what was asked for."""
    return rate.trials > 0 and rate.high <= 2 * misnamed


def naming_rates(scores: Scores, threshold: float, margin: float) -> tuple[Rate, Rate]:
    """(misnamed, ambiguous): matches with somebody else; and what is too close to call, of what is found."""
    first, gap, right = _firsts(scores)
    answered = _answered(scores, threshold, first, gap)
    close = answered & (gap < margin)
    named = answered & ~close
    return of_probes(scores, named & ~right, named), of_probes(scores, close, answered)


def likelihoods(scores: Scores) -> Likelihoods | None:
    """How often searches of each kind come out how near; None where there are too few of them.

    Bins by pooling neighbours until the share of right ones falls with the distance (isotonic regression;
    Ayer et al. 1955, for likelihood ratios Brümmer and du Preez 2006), in none of them fewer than a few
    searches. Half a search is added to each count, so that nothing is ever certain.
    """
    first, _, right = _firsts(scores)
    enrolled, strange = np.isfinite(scores.mated), np.isfinite(scores.nearest)
    if min(enrolled.sum(), strange.sum()) < FEWEST_OF_A_KIND:
        return None
    distances = np.concatenate([first[enrolled], scores.nearest[strange]]).astype(np.float64)
    kinds = np.concatenate([np.where(right[enrolled], 0, 1), np.full(int(strange.sum()), 2)])
    counts = np.stack([_counted(distances, kinds == kind) for kind in range(3)], axis=1)
    ends = np.unique(distances)
    totals = np.array([enrolled.sum(), enrolled.sum(), strange.sum()], np.float64)
    pooled = _pooled(counts, totals)
    last = np.cumsum([size for size, _ in pooled]) - 1
    # Half way to the next, so that a bin reaches as far as it is nearer.
    up_to = [(ends[at] + ends[at + 1]) / 2 for at in last[:-1]]
    shares = (np.array([bin for _, bin in pooled]) + 0.5) / (totals + 0.5 * len(pooled))
    return Likelihoods(tuple(map(float, up_to)), *(tuple(map(float, column)) for column in shares.T))


def _counted(distances: npt.NDArray[np.float64], which: Flags) -> npt.NDArray[np.float64]:
    """How many of `which` are at each distance that there is, ascending."""
    ends, at = np.unique(distances, return_inverse=True)
    return np.bincount(at[which], minlength=len(ends)).astype(np.float64)


def _pooled(
    counts: npt.NDArray[np.float64], totals: npt.NDArray[np.float64]
) -> list[tuple[int, npt.NDArray[np.float64]]]:
    """[(how many distances, counts of each kind)] with a share of right ones that falls from bin to bin."""
    bins: list[tuple[int, npt.NDArray[np.float64]]] = []
    for count in counts:
        bins.append((1, count))
        while len(bins) > 1 and _belong(bins[-2][1], bins[-1][1], totals):
            size, more = bins.pop()
            bins[-1] = (bins[-1][0] + size, bins[-1][1] + more)
    if len(bins) > 1 and bins[-1][1].sum() < _IN_A_BIN:
        size, more = bins.pop()
        bins[-1] = (bins[-1][0] + size, bins[-1][1] + more)
    return bins


def _belong(
    before: npt.NDArray[np.float64], after: npt.NDArray[np.float64], totals: npt.NDArray[np.float64]
) -> bool:
    return bool(before.sum() < _IN_A_BIN or _share(before, totals) <= _share(after, totals))


def _share(count: npt.NDArray[np.float64], totals: npt.NDArray[np.float64]) -> float:
    """Of right ones, when as many are enrolled as not."""
    right, wrong, stranger = count / totals
    return float(right / (right + wrong + stranger))
