"""Pure: from mated and non-mated distances to error rates, their intervals, and thresholds.

Words (ISO/IEC 19795-1): FMR and FNMR are rates of single comparisons of a probe with a subject; FPIR is the
rate of searches with somebody who is not enrolled that find somebody all the same, FNIR of searches with
somebody enrolled that do not find them. A comparison is of one probe with one subject, whose templates are
fused first, as `verify` does it.

Comparisons that share a subject are correlated, so intervals come from resampling subjects, not comparisons.
The variance that a bootstrap over subjects comes to after infinitely many resamples can be computed (Efron
1982; for pairs of subjects see `gallery.crossed`): each subject's share in the error, squared. It says how
many independent comparisons the data is worth, and the exact binomial interval is taken at that number (Korn
and Graubard 1998), because quantiles of a bootstrap are too narrow where few errors were seen.

Searches have one more thing in common: where A finds only B, B as a rule finds A: errors come in twos.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gallery.crossed import alike, crossed, widened
from gallery.decisions import accepted
from gallery.errors import NotEnoughDataError
from gallery.extremes import fitted
from gallery.measures import Rate
from gallery.vectors import Numbers

Distances = npt.NDArray[np.float32]

FEWEST_ERRORS = 3.0
"""The rule of three: so many independent comparisons times the rate are the least that can show a rate."""
SURE_ERRORS = 10.0
"""From so many errors on, a threshold is within a factor of two of the rate asked for, 19 times in 20."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Distances of p probes to s subjects, fused.

    distances      (p, s) float32; +inf where the two must not be compared, as with copies of one file, and
                   for the probe's own subject
    mated          (p,) distance to the probe's own subject; NaN where it has none to compare with
    nearest        (p,) distance to the nearest other subject of the whole gallery
    second         (p,) distance to the second nearest other subject of the whole gallery; +inf without one
    found          (p,) the number of the nearest other subject, as in `probe_subject`; -1 without one
    rank           (p,) the place of the probe's own subject among all, 1 is first, after those as near;
                   0 where `mated` is NaN; of a low place it is only known that it is low
    probe_subject  (p,) a number for each probe's subject: its column, or s and above when it has none
    subjects       how many are enrolled in the whole gallery, of which s were compared with
    copied         (p,) whether it equals a template of another subject, which it was not compared with
    copies         in how many pairs of a probe and one of the s subjects
    """

    distances: Distances
    mated: Distances
    nearest: Distances
    second: Distances
    found: Numbers
    rank: Numbers
    probe_subject: Numbers
    subjects: int
    copied: npt.NDArray[np.bool_] | None = None
    copies: int = 0

    @property
    def copied_probes(self) -> int:
        """How many probes equal a template of another subject."""
        return 0 if self.copied is None else int(self.copied.sum())


def threshold_for_fmr(scores: Scores, target: float) -> float:
    """The largest distance at which no more than a share `target` of non-mated comparisons is accepted."""
    return _quantile(scores.distances[np.isfinite(scores.distances)], target)


def threshold_for_fpir(scores: Scores, target: float) -> float:
    """The largest distance at which no more than a share `target` of searches finds a wrong subject."""
    return _quantile(scores.nearest[np.isfinite(scores.nearest)], target)


def _quantile(distances: Distances, target: float) -> float:
    accepted = int(target * len(distances))
    if accepted == 0:
        # Just below the smallest, so that nobody is accepted wrongly.
        return max(0.0, float(np.nextafter(distances.min(), np.float32(-1))))
    each = np.partition(distances, accepted - 1)
    limit = np.float32(each[accepted - 1])
    # With ties on both sides of the limit it would accept too many.
    if int((distances <= limit).sum()) > accepted:
        limit = np.nextafter(limit, np.float32(-1))
    return max(0.0, float(limit))


def rates(scores: Scores, threshold: float) -> dict[str, Rate]:
    """{"fmr", "fnmr", "fpir", "fnir"} at a threshold, with 95 % intervals and what the data is worth."""
    missed = _missed(scores, threshold)
    return {
        "fmr": false_matches(scores, threshold),
        "fnmr": missed,
        "fpir": false_positives(scores, threshold),
        # A search of the whole gallery by a threshold misses somebody just when a comparison does.
        "fnir": missed,
    }


def false_matches(scores: Scores, threshold: float) -> Rate:
    """The FMR at a threshold."""
    return of_pairs(scores, accepted(scores.distances, threshold), np.isfinite(scores.distances))


def false_positives(scores: Scores, threshold: float) -> Rate:
    """The FPIR at a threshold, of strangers in this very gallery."""
    errors = accepted(scores.nearest, threshold)
    # Where several are found, the error stands without any one of them.
    sole = errors & ~accepted(scores.second, threshold)
    return of_probes(scores, errors, np.isfinite(scores.nearest), _found_both_ways(scores, sole))


def _missed(scores: Scores, threshold: float) -> Rate:
    mated = np.isfinite(scores.mated)
    return of_probes(scores, mated & ~accepted(scores.mated, threshold), mated)


def _found_both_ways(scores: Scores, sole: npt.NDArray[np.bool_]) -> float:
    """The covariance of errors: of any A and B, how often only B is found for A times the other way round."""
    ways = np.stack([scores.probe_subject[sole], scores.found[sole]], axis=1)
    ways, times = np.unique(ways, axis=0, return_counts=True)
    counted = {(one, other): n for (one, other), n in zip(ways.tolist(), times.tolist(), strict=True)}
    return float(sum(n * counted.get((other, one), 0) for (one, other), n in counted.items()))


def of_probes(
    scores: Scores, errors: npt.NDArray[np.bool_], tried: npt.NDArray[np.bool_], shared: float = 0.0
) -> Rate:
    """The rate of errors among the probes tried, (p,) each; those of one subject belong together.

    shared: what the errors of different subjects have in common, to be added to the variance.
    """
    total = float(tried.sum())
    value = float(errors.sum()) / total if total else float("nan")
    off = np.where(tried, errors - value, 0.0) if total else np.zeros(len(errors))
    shares = np.bincount(scores.probe_subject, off)
    sizes = np.bincount(scores.probe_subject[tried])
    variance = widened(float(np.square(shares).sum()) + shared, alike(sizes))
    return rate_of(value, total, variance, int(np.count_nonzero(sizes)), total)


def of_pairs(scores: Scores, errors: npt.NDArray[np.bool_], tried: npt.NDArray[np.bool_]) -> Rate:
    """The rate of errors among the comparisons tried, (p, s) each; those with a subject in common do too."""
    total = float(tried.sum())
    if total == 0:
        return rate_of(float("nan"), 0.0, math.inf, 0, 0.0)
    value = float(errors.sum()) / total
    order = np.argsort(scores.probe_subject, kind="stable")
    owners, starts = np.unique(scores.probe_subject[order], return_index=True)
    # By pairs of subjects: rows are subjects of probes, columns subjects of templates.
    wrong, counts = (
        np.add.reduceat(each[order], starts, axis=0, dtype=np.float32) for each in (errors, tried)
    )
    found = crossed(wrong - np.float32(value) * counts, counts, owners)
    return rate_of(value, total, found.variance, min(found.subjects, found.pairs), found.pairs)


def rate_of(value: float, total: float, variance: float, subjects: int, most: float) -> Rate:
    """A rate with its interval. variance: of the number of errors, by subjects, wide enough for so few.

    The interval is as narrow as the errors themselves say, but nobody is told of more independent ones than
    `most`. Where no error was seen nothing tells how alike the comparisons of a subject are, and each subject
    counts once.
    """
    if total == 0:
        return Rate(value, 0.0, 1.0, 0, 0)
    independent = float(min(total, subjects))
    if 0 < value < 1 and subjects > 1:
        independent = total * min(1.0, total * value * (1 - value) / max(variance, 1e-300))
    # Less than one comparison says nothing.
    low, high = exact_interval(value * independent, independent) if independent >= 1 else (0.0, 1.0)
    return Rate(value, min(low, value), max(high, value), round(total), int(min(independent, most)))


def exact_interval(wrong: float, total: float, confidence: float = 0.95) -> tuple[float, float]:
    """Clopper and Pearson's interval of a binomial rate; neither number needs to be whole."""
    outside = (1 - confidence) / 2
    from scipy.special import betaincinv

    low = 0.0 if wrong <= 0 else float(betaincinv(wrong, total - wrong + 1, outside))
    high = 1.0 if wrong >= total else float(betaincinv(wrong + 1, total - wrong, 1 - outside))
    return low, high


def worth(scores: Scores, target: str, requested: float) -> float:
    """How many independent non-mated comparisons, or searches, the data is worth at about that rate.

    Measured where there are errors enough to tell, which for rarer ones is on the safe side: what comparisons
    of one subject have in common matters less there.
    """
    of_fmr = target == "fmr"
    total = int(np.isfinite(scores.distances if of_fmr else scores.nearest).sum())
    looked_at = min(0.5, max(requested, 30 / max(total, 1)))
    if of_fmr:
        return float(false_matches(scores, threshold_for_fmr(scores, looked_at)).independent)
    return float(false_positives(scores, threshold_for_fpir(scores, looked_at)).independent)


def check_supported(rate: str, target: float, worth: float) -> None:
    """NotEnoughDataError unless so many independent comparisons, or searches, can show so small a rate."""
    needed = FEWEST_ERRORS / target
    if worth < needed:
        what = "independent searches" if rate == "FPIR" else "independent non-mated comparisons"
        raise NotEnoughDataError(
            f"an {rate} of {target:g} needs about {needed:,.0f} {what}, there are {worth:,.0f}: enrol or ask "
            f"about more subjects{_or_choose(worth)}"
        )


def _or_choose(worth: float) -> str:
    """Which rate to ask for instead, rounded up: one rounded down would be refused as well."""
    least = FEWEST_ERRORS / max(worth, 1)
    step = 10.0 ** (math.floor(math.log10(least)) - 1)
    up = math.ceil(least / step - 1e-9) * step
    return f", or choose about {up:.2g} or more" if up < 1 else ""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A threshold for a rate. worth: of how many independent comparisons, or searches, the data is."""

    threshold: float
    worth: float
    sure: bool
    """Whether errors enough are behind it to be within a factor of two."""
    extrapolated: bool = False


def chosen_threshold(scores: Scores, target: str, requested: float, extrapolate: bool = False) -> Chosen:
    """The threshold for an "fmr" or "fpir"; NotEnoughDataError where the data cannot show so small a rate."""
    value = worth(scores, target, requested)
    of_data = threshold_for_fmr if target == "fmr" else threshold_for_fpir
    sure = value * requested >= SURE_ERRORS
    if extrapolate and not sure:
        kept = scores.distances if target == "fmr" else scores.nearest
        try:
            tail = fitted(kept[np.isfinite(kept)].astype(np.float64))
        except ValueError as error:
            raise NotEnoughDataError(f"not even extrapolation can tell: {error}") from error
        if requested < tail.share:
            # Never laxer than what was seen: a curve through few searches may pass the nearest of them.
            beyond = min(tail.quantile(requested), of_data(scores, requested))
            if beyond <= 0:
                raise NotEnoughDataError(
                    "not even extrapolation can tell: by the curve through the nearest distances the "
                    f"{target.upper()} is {tail.rate(0.0):.2g} at distance 0 already, and {requested:g} was "
                    "asked for: enrol or ask about more subjects"
                )
            return Chosen(beyond, value, False, True)
    check_supported(target.upper(), requested, value)
    return Chosen(of_data(scores, requested), value, sure)


def predicted_fpir(scores: Scores, threshold: float, subjects: int) -> float:
    """The FPIR at `threshold` in a gallery of so many subjects.

    In a smaller one by drawing from the subjects compared with (hypergeometric, no assumption). In a larger
    one the chance that nobody is found goes on falling as it did over the last doubling; that is independence
    where probes are alike, and slower where some find somebody in any gallery.
    """
    compared = np.isfinite(scores.distances)
    tried = compared.sum(axis=1).astype(np.float64)
    hits = accepted(scores.distances, threshold).sum(axis=1).astype(np.float64)
    tried, hits = tried[tried > 0], hits[tried > 0]
    if len(tried) == 0:
        return float("nan")
    most = int(tried.min())
    if subjects <= most:
        return float(1 - np.mean(_none_drawn(hits, tried, subjects)))
    whole, half = (-np.log(np.mean(_none_drawn(hits, tried, size))) for size in (most, max(1, most // 2)))
    if not 0 < half < whole:
        return float(1 - np.exp(-whole))
    growth = np.log(whole / half) / np.log(most / max(1, most // 2))
    return float(1 - np.exp(-whole * (subjects / most) ** growth))


def _none_drawn(
    hits: npt.NDArray[np.float64], tried: npt.NDArray[np.float64], draws: int
) -> npt.NDArray[np.float64]:
    """The chance that none of `hits` among `tried` is drawn."""
    from scipy.special import gammaln

    with np.errstate(invalid="ignore"):
        log = (
            gammaln(tried - hits + 1)
            - gammaln(tried - hits - draws + 1)
            - gammaln(tried + 1)
            + gammaln(tried - draws + 1)
        )
    return np.where(tried - hits >= draws, np.exp(log), 0.0)
