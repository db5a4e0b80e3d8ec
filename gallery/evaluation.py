"""Pure: from the distances of labelled probes to the figures of an evaluation (ISO/IEC 19795-1).

An evaluation is of a gallery as it stands: its encoder, its templates, its threshold. Rates at a threshold
have intervals that resample subjects, as a calibration's have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from gallery import calibration as pure
from gallery.calibration import FEWEST_ERRORS, Scores
from gallery.curves import Curve, crossing, outline
from gallery.decisions import accepted
from gallery.measures import Rate
from gallery.tables import counted

Flags = npt.NDArray[np.bool_]

FPIRS = (0.001, 0.01, 0.03, 0.1, 0.3)
BINS = 50
NO_GROUP = "(none)"


@dataclass(frozen=True, slots=True)
class OpenSet:
    """Searches at the threshold where no more than a share `target` of strangers finds somebody."""

    target: float
    threshold: float
    fpir: Rate
    fnir: Rate
    """Of searches with somebody enrolled: not among those found."""
    not_first: Rate
    """The same, and those where somebody else was nearer."""


@dataclass(frozen=True, slots=True)
class OpenCurve:
    """FNIR over FPIR, ascending in the threshold. (n,) each."""

    thresholds: tuple[float, ...]
    fpir: tuple[float, ...]
    fnir: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class GroupErrors:
    """What goes wrong at the gallery's threshold for the probes of one group of subjects."""

    group: str
    subjects: int
    probes: int
    fnmr: Rate
    fmr: Rate
    """Of comparisons with anybody else."""
    fmr_within: Rate
    """Of comparisons with others of the same group, who as a rule resemble each other most."""
    fpir: Rate
    """Of searches that find somebody else, as they would if whoever is asked about were not enrolled."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """A probe and a subject that are too near, or one and its own subject that are too far apart."""

    probe: str
    """Its path, or its place among the probes."""
    probe_id: str
    """Whose it is."""
    id: str
    """The subject that it was compared with."""
    template: int
    """That subject's nearest."""
    source: str | None
    """The path that the template came from."""
    distance: float
    wrong: bool
    """At the threshold it is decided wrongly; the rest are merely the nearest to that."""
    probe_picture: bytes | str = ""
    """JPEG, or words where it is a text or could not be read; "" where it is known by its name alone."""
    template_picture: bytes | str = ""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Shares of the distances in bins; edges has one more than the others. () where there are none."""

    edges: tuple[float, ...]
    mated: tuple[float, ...]
    other: tuple[float, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """How a gallery does on labelled probes. `gallery.write_evaluation` makes a page of it."""

    location: str
    encoder: str
    fingerprint: str
    metric: str
    subjects: int
    templates: int
    probes: int
    mated: int
    """Probes that were compared with other templates of their own subject."""
    strangers: int
    """Probes of subjects who are not enrolled."""
    quarantined: int
    """Probes of subjects all of whose templates are in quarantine: no search finds them, and the FNIR counts
    each as not found. The FNMR does not: `verify` refuses to compare."""
    copied: int
    """Probes that equal a template of another subject and were not compared with it, see `Calibration`."""
    threshold: float | None
    threshold_source: str
    fmr: Rate | None
    """This and the next three are at the threshold; None without one."""
    fnmr: Rate | None
    fpir: Rate | None
    fnir: Rate | None
    """Of searches with somebody enrolled: not found, because too far or in quarantine."""
    eer: float | None
    """Where FMR and FNMR are equal; None where one of them could not be measured."""
    eer_threshold: float | None
    det: Curve | None
    cmc: tuple[Rate, ...]
    """The share of searches with somebody enrolled where the right one is among the first 1, 2, 3, ..."""
    searched: str
    """Who searched for the FPIR: "strangers", or "left out" for probes as if their own were not enrolled."""
    open_set: tuple[OpenSet, ...]
    open_curve: OpenCurve
    histogram: Histogram
    group: str | None
    groups: tuple[GroupErrors, ...]
    false_matches: tuple[Mistake, ...]
    false_non_matches: tuple[Mistake, ...]
    seed: int
    measured: datetime
    """UTC."""

    def to_dict(self) -> dict[str, Any]:
        """A plain dict for JSON; NaN, where there was nothing to try, is null."""
        plain: dict[str, Any] = _plain(self)
        return plain

    def __str__(self) -> str:
        who = f"{counted(self.subjects, 'subject')}, {counted(self.probes, 'probe')}"
        said = f"{who}, {self.strangers:,} of them of strangers"
        if self.quarantined:
            said += f", {self.quarantined:,} of subjects in quarantine"
        if self.copied:
            said += f", {self.copied:,} not compared with templates of others that they equal"
        if self.cmc:
            said += f"; first {self.cmc[0]}"
        if self.eer is not None:
            said += f"; EER {self.eer:.3g}"
        if self.threshold is None:
            return f"{said}; no threshold"
        rates = ", ".join(f"{name.upper()} {getattr(self, name)}" for name in ("fmr", "fnmr", "fpir", "fnir"))
        return f"{said}; at threshold {self.threshold:.4f}: {rates}"


def _plain(value: Any) -> Any:
    if isinstance(value, Rate):
        return value.to_dict()
    if isinstance(value, Curve):
        # At the first one nothing is accepted; JSON has no infinity.
        steps = [None, *value.thresholds[1:].tolist()]
        return {"thresholds": steps, "fmr": value.fmr.tolist(), "fnmr": value.fnmr.tolist()}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    if hasattr(value, "__dataclass_fields__"):
        names = [one.name for one in fields(value) if not one.name.endswith("_picture")]
        return {name: _plain(getattr(value, name)) for name in names}
    return value


def only(scores: Scores, probes: Flags) -> Scores:
    """The same of some probes. probes: (p,) which."""
    kept = ("distances", "mated", "nearest", "second", "found", "rank", "probe_subject")
    return replace(scores, **{name: getattr(scores, name)[probes] for name in kept})


def searchers(scores: Scores, strangers: Flags) -> tuple[str, Scores]:
    """Who asks for an FPIR: the strangers; without any, everybody as if their own were not enrolled."""
    if strangers.any():
        return "strangers", only(scores, strangers)
    return "left out", scores


def curves(scores: Scores) -> tuple[float | None, float | None, Curve | None]:
    """(EER, its threshold, the curve); None where no mated or no other comparison was made."""
    mated = scores.mated[np.isfinite(scores.mated)]
    other = scores.distances[np.isfinite(scores.distances)]
    if not len(mated) or not len(other):
        return None, None, None
    return *crossing(mated, other), outline(mated, other)


def cumulative_matches(scores: Scores, hidden: Flags, places: int) -> tuple[Rate, ...]:
    """The CMC: shares of searches with somebody enrolled with the right one among the first 1, 2, ... up to
    `places`. hidden: (p,) probes of subjects whom no search can find.
    """
    ranked = scores.rank > 0
    tried = ranked | hidden
    if not tried.any():
        return ()
    last = min(places, scores.subjects)
    return tuple(
        pure.of_probes(scores, ranked & (scores.rank <= place), tried) for place in range(1, last + 1)
    )


def not_found(scores: Scores, hidden: Flags, threshold: float) -> Rate:
    """The FNIR at a threshold; hidden: as in `cumulative_matches`."""
    return pure.of_probes(scores, *_searches(scores, hidden, threshold))


def _searches(scores: Scores, hidden: Flags, threshold: float) -> tuple[Flags, Flags]:
    """(those that miss, all) of the searches with somebody enrolled."""
    tried = np.isfinite(scores.mated) | hidden
    return tried & ~accepted(scores.mated, threshold), tried


def open_set(scores: Scores, asking: Scores, hidden: Flags) -> tuple[OpenSet, ...]:
    """FNIR at each FPIR that there are searches enough for: three errors' worth.

    asking: see `searchers`; hidden: as in `cumulative_matches`.
    """
    searches = int(np.isfinite(asking.nearest).sum())
    enough = [target for target in FPIRS if searches * target >= FEWEST_ERRORS - 1e-9]
    return tuple(_at(scores, asking, hidden, target) for target in enough)


def open_curve(scores: Scores, asking: Scores, hidden: Flags) -> OpenCurve:
    """The same at many thresholds; empty where there are no searches of the one or of the other kind."""
    mated, others = (some[np.isfinite(some)] for some in (scores.mated, asking.nearest))
    if not len(mated) or not len(others):
        return OpenCurve((), (), ())
    whole = outline(mated, others)
    # Those who are hidden are missed at every threshold.
    lost = int(hidden.sum())
    missed = (whole.fnmr * len(mated) + lost) / (len(mated) + lost)
    return OpenCurve(*(tuple(one[1:].tolist()) for one in (whole.thresholds, whole.fmr, missed)))


def _at(scores: Scores, asking: Scores, hidden: Flags, target: float) -> OpenSet:
    threshold = pure.threshold_for_fpir(asking, target)
    missed, tried = _searches(scores, hidden, threshold)
    return OpenSet(
        target,
        threshold,
        pure.false_positives(asking, threshold),
        pure.of_probes(scores, missed, tried),
        pure.of_probes(scores, missed | (tried & (scores.rank > 1)), tried),
    )


def histogram(scores: Scores) -> Histogram:
    """Of mated and other distances over the range that both span."""
    mated = scores.mated[np.isfinite(scores.mated)]
    other = scores.distances[np.isfinite(scores.distances)]
    both = [float(bound) for some in (mated, other) if len(some) for bound in (some.min(), some.max())]
    if not both:
        return Histogram((), (), ())
    low, high = min(both), max(both)
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    return Histogram(tuple(edges.tolist()), _shares(mated, edges), _shares(other, edges))


def _shares(distances: pure.Distances, edges: npt.NDArray[np.float64]) -> tuple[float, ...]:
    # In float64, or the largest one may lie outside.
    counts = np.histogram(distances.astype(np.float64), edges)[0]
    return tuple((counts / max(1, len(distances))).tolist())


def by_group(
    scores: Scores, threshold: float, probes: Sequence[str | None], columns: Sequence[str]
) -> tuple[GroupErrors, ...]:
    """Errors of each group of subjects. probes: (p,) group of each, None for a stranger; columns: (s,)."""
    of_probe, of_column = np.array(probes, dtype=object), np.array(columns, dtype=object)
    found = []
    for group in sorted({one for one in probes if one is not None}):
        mine = only(scores, of_probe == group)
        within = np.where((of_column == group)[None, :], mine.distances, np.float32(np.inf))
        found.append(
            GroupErrors(
                group,
                len(np.unique(mine.probe_subject)),
                len(mine.mated),
                pure.rates(mine, threshold)["fnmr"],
                pure.false_matches(mine, threshold),
                pure.false_matches(replace(mine, distances=within), threshold),
                pure.false_positives(mine, threshold),
            )
        )
    return tuple(found)


def group_of(metadata: Mapping[str, Any], field: str) -> str:
    """The group that a subject is in, as text."""
    value = metadata.get(field)
    return NO_GROUP if value is None else str(value)


def nearest_others(scores: Scores, most: int) -> list[tuple[int, int]]:
    """(probe, column) of the probes that are nearest to a subject that is not theirs, nearest first."""
    if not scores.distances.size:
        return []
    columns = scores.distances.argmin(axis=1)
    away = scores.distances[np.arange(len(columns)), columns]
    order = np.argsort(away, kind="stable")[:most]
    return [(int(at), int(columns[at])) for at in order if np.isfinite(away[at])]


def farthest_own(scores: Scores, most: int) -> list[int]:
    """The probes that are farthest from their own subject, farthest first."""
    away = np.where(np.isfinite(scores.mated), scores.mated, -np.inf)
    order = np.argsort(-away, kind="stable")[:most]
    return [int(at) for at in order if np.isfinite(away[at])]
