"""Other people's ways to an interval, to be compared with ours: over pairs, and by a bootstrap."""

from __future__ import annotations

import numpy as np

from gallery.calibration import Scores, exact_interval

RESAMPLES = 500


def over_pairs(value: float, trials: int) -> tuple[float, float]:
    """Clopper and Pearson's, as if every comparison were independent of all others."""
    return exact_interval(value * trials, trials)


def resampled_fmr(scores: Scores, threshold: float, chance: np.random.Generator) -> tuple[float, float]:
    """Quantiles of a bootstrap over subjects: a pair counts as often as both of its subjects are drawn."""
    subjects = scores.distances.shape[1]
    whose = np.arange(subjects)[:, None] == scores.probe_subject[None, :]
    compared = np.isfinite(scores.distances)
    tried = whose.astype(np.float32) @ compared.astype(np.float32)
    wrong = whose.astype(np.float32) @ (scores.distances <= np.float32(threshold)).astype(np.float32)
    drawn = chance.multinomial(subjects, np.full(subjects, 1 / subjects), RESAMPLES).astype(np.float32)
    return _quantiles(((drawn @ wrong) * drawn).sum(axis=1), ((drawn @ tried) * drawn).sum(axis=1))


def resampled_fpir(scores: Scores, threshold: float, chance: np.random.Generator) -> tuple[float, float]:
    """Quantiles of a bootstrap over the subjects who are asked about, in the gallery as it is."""
    subjects = scores.distances.shape[1]
    tried = np.bincount(scores.probe_subject, minlength=subjects)
    wrong = np.bincount(scores.probe_subject, scores.nearest <= np.float32(threshold), minlength=subjects)
    drawn = chance.multinomial(subjects, np.full(subjects, 1 / subjects), RESAMPLES)
    return _quantiles(drawn @ wrong, drawn @ tried)


def _quantiles(wrong: np.ndarray, tried: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(wrong / np.maximum(tried, 1), [0.025, 0.975])
    return float(low), float(high)
