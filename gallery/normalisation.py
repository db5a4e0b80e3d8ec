"""Pure: distances made comparable between probes, and between subjects, by those to a cohort of other people.

Some probes are near to everybody, and so are some subjects (Doddington's lambs and wolves); one threshold
for all is then too wide for some and too strict for others. A distance is replaced by how many standard
deviations it is from what is usual with people who are certainly somebody else: the cohort. Smaller stays
nearer, and a threshold for distances means nothing to normalised ones.

Z-norm looks at the subject's side (Reynolds 1997), T-norm at the probe's (Auckenthaler, Carey and
Lloyd-Thomas 2000), S-norm is the mean of both (Kenny 2010), and the adaptive one takes of the cohort only
those who are nearest to each side (Matějka et al. 2017, "AS-norm1").

distances  (p, s) of probes to subjects; +inf, "not compared", stays
probes     (p, c) of the probes to the cohort
subjects   (s, c) of the subjects to the cohort
The cohort is of people who are neither enrolled nor among the probes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Normalised = npt.NDArray[np.float64]

FEWEST = 2
"""Of a cohort: one has no spread."""


def z_norm(distances: Floats, subjects: Floats) -> Normalised:
    """(p, s), by each subject's distances to the cohort. ValueError where they have no spread."""
    middle, spread = _usual(subjects, "subject")
    return (distances.astype(np.float64) - middle[None, :]) / spread[None, :]


def t_norm(distances: Floats, probes: Floats) -> Normalised:
    """(p, s), by each probe's distances to the cohort. ValueError where they have no spread."""
    middle, spread = _usual(probes, "probe")
    return (distances.astype(np.float64) - middle[:, None]) / spread[:, None]


def s_norm(distances: Floats, probes: Floats, subjects: Floats) -> Normalised:
    """(p, s), the mean of both."""
    return (z_norm(distances, subjects) + t_norm(distances, probes)) / 2


def adaptive_s_norm(distances: Floats, probes: Floats, subjects: Floats, nearest: int) -> Normalised:
    """(p, s), `s_norm` by the `nearest` of the cohort to each probe, and to each subject."""
    if not FEWEST <= nearest <= min(probes.shape[1], subjects.shape[1]):
        most = min(probes.shape[1], subjects.shape[1])
        raise ValueError(f"nearest is a number of the cohort, {FEWEST} to {most}, not {nearest}")
    return s_norm(distances, _nearest(probes, nearest), _nearest(subjects, nearest))


def _nearest(cohort: Floats, count: int) -> Floats:
    some: Floats = np.partition(cohort, count - 1, axis=1)[:, :count]
    return some


def _usual(cohort: Floats, side: str) -> tuple[Normalised, Normalised]:
    """(mean, standard deviation) of each row."""
    if cohort.ndim != 2 or cohort.shape[1] < FEWEST:
        raise ValueError(f"a cohort is of {FEWEST} or more, as (n, c) distances, not {cohort.shape}")
    exact = cohort.astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(exact).all(axis=1))
    if len(bad):
        raise ValueError(f"{side} {bad[0]} has a distance to the cohort that is not finite")
    spread = exact.std(axis=1)
    flat = np.flatnonzero(spread <= 1e-12 * np.abs(exact).max(axis=1, initial=0))
    if len(flat):
        raise ValueError(f"{side} {flat[0]} is as far from everybody in the cohort: it has no spread")
    return exact.mean(axis=1), spread
