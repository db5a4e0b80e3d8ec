"""Pure: how the distances of a probe to the templates of one subject become one.

nearest         the smallest: every further template is another chance to be found, and to be mistaken for
mean2, mean3    the mean of the two, or three, smallest; of all where there are fewer
centroid        the distance to the mean of the templates; cosine: to its direction
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gallery.calibration import Scores
from gallery.decisions import accepted
from gallery.vectors import FloatRows, Numbers
from gallery.vectors import distances as exact_distances

Distances = npt.NDArray[np.float32]
Places = npt.NDArray[np.intp]

NEAREST = "nearest"
AUTO = "auto"
OF_NEAREST = {NEAREST: 1, "mean2": 2, "mean3": 3}
"""How many of the nearest templates they take: such a distance is never smaller than that of the nearest
template, so that a search knows when to stop. That to a centroid may be: a search goes through everybody."""
CENTROID = "centroid"
FUSIONS = (*OF_NEAREST, CENTROID)
BUCKETS = ((1, 1), (2, 2), (3, 4), (5, 8), (9, None))
"""Numbers of templates that errors are reported by, from and up to."""


def checked_fusion(fusion: str) -> str:
    """One that there is; ValueError for any other."""
    if fusion not in FUSIONS:
        raise ValueError(f"fusion must be {AUTO} or one of {', '.join(FUSIONS)}, not {fusion!r}")
    return fusion


def fused(distances: Distances, starts: Places, fusion: str) -> Distances:
    """(p, s) fused distances of (p, m) to templates in order of their subjects, which begin at `starts`.

    +inf is a template that does not count, and a subject of which none does. Not for "centroid".
    """
    most = OF_NEAREST[fusion]
    if most == 1:
        return np.minimum.reduceat(distances, starts, axis=1)
    found = np.empty((len(distances), len(starts)), np.float32)
    sizes = np.diff(np.append(starts, distances.shape[1]))
    for size in np.unique(sizes):
        which = np.flatnonzero(sizes == size)
        each = distances[:, starts[which][:, None] + np.arange(size)]
        found[:, which] = _mean_of(np.sort(each, axis=2)[:, :, :most])
    return found


def _mean_of(nearest: Distances) -> Distances:
    """The mean over the last axis of what is finite; +inf where nothing is."""
    counted = np.isfinite(nearest)
    total = np.where(counted, nearest, 0).sum(axis=2, dtype=np.float64)
    count = counted.sum(axis=2)
    return np.where(count > 0, total / np.maximum(count, 1), np.inf).astype(np.float32)


def fused_one(probe: FloatRows, rows: FloatRows, away: Distances, fusion: str, metric: str) -> float:
    """Of one probe, (dim,), to all templates of one subject, (m, dim), at distances `away`, (m,): exactly."""
    if fusion in OF_NEAREST:
        return float(fused(away[None], np.zeros(1, np.intp), fusion)[0, 0])
    centre = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    if metric == "cosine" and not centre.any():
        return 1.0
    return float(exact_distances(probe, centre[None], metric)[0])


def to_centroids(
    probes: FloatRows, rows: FloatRows, starts: Places, left_out: npt.NDArray[np.bool_], metric: str
) -> Distances:
    """(p, s) distances to the centroids of (m, dim) templates in order of their subjects.

    left_out: (p, m) templates that do not count for a probe; +inf where none does.
    """
    sums = np.add.reduceat(rows.astype(np.float64), starts, axis=0)
    sizes = np.diff(np.append(starts, len(rows)))
    away = _to_sums(probes, sums, sizes, metric)
    without = np.logical_or.reduceat(left_out, starts, axis=1)
    for probe, subject in np.argwhere(without):
        mine = slice(starts[subject], starts[subject] + sizes[subject])
        rest = rows[mine][~left_out[probe, mine]].astype(np.float64)
        some = _to_sums(probes[probe][None], rest.sum(axis=0)[None], np.array([len(rest)]), metric)
        away[probe, subject] = some[0, 0] if len(rest) else np.inf
    return away


def _to_sums(probes: FloatRows, sums: npt.NDArray[np.float64], sizes: Numbers, metric: str) -> Distances:
    exact = probes.astype(np.float64)
    if metric == "cosine":
        lengths = np.sqrt(np.square(sums).sum(axis=1))
        # Templates that cancel each other out have no direction, and nothing in common with anything.
        directions = np.divide(
            sums, lengths[:, None], out=np.zeros_like(sums), where=lengths[:, None] > 1e-12
        )
        cosines: Distances = np.maximum(1 - exact @ directions.T, 0).astype(np.float32)
        return cosines
    means = sums / np.maximum(sizes, 1)[:, None]
    squares = np.square(exact).sum(axis=1)[:, None] + np.square(means).sum(axis=1)[None, :]
    euclidean: Distances = np.sqrt(np.maximum(squares - 2 * exact @ means.T, 0)).astype(np.float32)
    return euclidean


def surely_better(one: Scores, at: float, other: Scores, other_at: float) -> bool:
    """Whether `one` misses fewer of the same mated probes, by more than chance: the 95 % interval of the
    difference, by subjects, is on one side of zero.
    """
    tried = np.isfinite(one.mated) & np.isfinite(other.mated)
    missed = [~accepted(scores.mated, limit) for scores, limit in ((one, at), (other, other_at))]
    gained = (missed[1].astype(np.float64) - missed[0])[tried]
    _, subject = np.unique(one.probe_subject[tried], return_inverse=True)
    if not len(gained) or subject.max() < 1:
        return False
    count = subject.max() + 1
    shares = np.bincount(subject, gained - gained.mean())
    from scipy.special import stdtrit

    spread = np.sqrt(np.square(shares).sum() * count / (count - 1))
    return bool(gained.sum() > stdtrit(count - 1, 0.975) * spread)
