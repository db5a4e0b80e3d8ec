"""The frozen results of what was measured: rates, calibrations, recall."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gallery.tables import counted


@dataclass(frozen=True, slots=True)
class Rate:
    """An error rate, with a 95 % interval from resampling subjects."""

    value: float
    low: float
    high: float
    trials: int
    """Comparisons, or searches, that it is a rate of."""
    independent: int
    """How many independent ones those are worth; those that share a subject are not.

    Of comparisons never more than there are different pairs of subjects among them.
    """

    def to_dict(self) -> dict[str, Any]:
        """A plain dict for JSON; NaN, where there was nothing to try, is null."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        return plain | {"value": None if self.value != self.value else self.value}

    def __str__(self) -> str:
        if self.trials == 0:
            return "not measured"
        return f"{self.value:.3g} ({self.low:.3g} to {self.high:.3g})"


@dataclass(frozen=True, slots=True)
class Likelihoods:
    """How often a search comes out about that near. Bins of the distance to the nearest subject, ascending.

    up_to: (n - 1,) where each bin but the last one ends; the others: (n,) shares of their kind of search.
    """

    up_to: tuple[float, ...]
    right: tuple[float, ...]
    """Of searches with somebody enrolled: the right one was nearest."""
    wrong: tuple[float, ...]
    """Of the same: somebody else was."""
    stranger: tuple[float, ...]
    """Of searches with somebody who is not enrolled."""

    def probability(self, distance: float, prior: float) -> float:
        """That the nearest subject is the right one, when somebody is enrolled with probability `prior`."""
        at = bisect_left(self.up_to, distance)
        right = prior * self.right[at]
        return right / (right + prior * self.wrong[at] + (1 - prior) * self.stranger[at])

    def to_dict(self) -> dict[str, Any]:
        """A plain dict for JSON."""
        return {name: list(getattr(self, name)) for name in self.__slots__}


def said_of_copies(probes: int) -> str:
    """What is said where so many probes equal a template of another subject."""
    return (
        f"{counted(probes, 'probe')} not compared with a template of another subject that has the same "
        "embedding: if the two are not one item, that is a false match at any threshold"
    )


@dataclass(frozen=True, slots=True)
class ToNearest:
    """The threshold for the same target where one template is compared with one, whatever the fusion."""

    threshold: float
    fmr: Rate

    def to_dict(self) -> dict[str, Any]:
        """A plain dict for JSON."""
        return {"threshold": self.threshold, "fmr": self.fmr.to_dict()}


@dataclass(frozen=True, slots=True)
class Calibration:
    """A threshold measured on data, and what to expect of it. `Gallery.adopt` makes a gallery use it."""

    threshold: float
    target: str
    """"fmr" or "fpir": which rate the threshold was set for."""
    requested: float
    fmr: Rate
    """Of comparisons of a probe with a subject that it is not: accepted."""
    fnmr: Rate
    """Of comparisons of a probe with its own subject: rejected."""
    fpir: Rate
    """Of searches with somebody who is not enrolled, in a gallery of this size: somebody is found."""
    fnir: Rate
    """Of searches with somebody who is enrolled: not found."""
    subjects: int
    """How many were enrolled. An FPIR is of this size."""
    templates: int
    probes: int
    fusion: str
    """How the distances of a subject's templates become one."""
    encoder: str
    fingerprint: str
    extrapolated: bool
    """The threshold lies beyond the data, where only extreme-value theory says what to expect."""
    sure: bool
    """False where so few errors are behind it that it may be off by more than a factor of two."""
    measured: datetime
    """UTC."""
    copied: int = 0
    """Probes that equal a template of another subject and were not compared with it: the same item under two
    ids, as `audit` lists, or an encoder that takes different items for one. Where that is so often that the
    second would be more than the target, `sure` is False."""
    margin: float | None = None
    """How far behind the second subject has to be for a match; None where no probe has a right answer."""
    margin_sure: bool = True
    """False where the interval of `misnamed` reaches beyond twice what was asked for."""
    misnamed: Rate | None = None
    """Of searches with somebody enrolled that end in a match: of somebody else."""
    ambiguous: Rate | None = None
    """Of searches with somebody enrolled that find somebody: too close to call."""
    likelihoods: Likelihoods | None = None
    """What a probability is computed from; None where there are too few searches to tell."""
    to_nearest: ToNearest | None = None
    """Which conflicts at enrolment and `audit` go by; None where the fusion is that of the nearest."""

    def to_dict(self) -> dict[str, Any]:
        """A plain dict for JSON."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        kinds = Rate | Likelihoods | ToNearest
        parts = {name: one.to_dict() for name, one in plain.items() if isinstance(one, kinds)}
        return plain | parts | {"measured": self.measured.isoformat()}

    def __str__(self) -> str:
        said = f"threshold {self.threshold:.4f} for {self.target.upper()} {self.requested:g}"
        if self.extrapolated:
            said += " (extrapolated)"
        rates = ", ".join(f"{name.upper()} {getattr(self, name)}" for name in ("fmr", "fnmr", "fpir", "fnir"))
        return f"{said}: {rates}; {counted(self.subjects, 'subject')}, {counted(self.probes, 'probe')}"


@dataclass(frozen=True, slots=True)
class TemplateErrors:
    """Errors where the subject that is compared with has so many templates."""

    low: int
    high: int | None
    """Up to; None is without end."""
    fnmr: Rate
    fmr: Rate


@dataclass(frozen=True, slots=True)
class FusionErrors:
    """How a gallery would do by one way of fusing, at the threshold for the same target."""

    fusion: str
    threshold: float
    fmr: Rate
    fnmr: Rate
    fpir: Rate
    fnir: Rate
    by_templates: tuple[TemplateErrors, ...]
    chosen: bool
    """By `calibrate(fusion="auto")`: it misses fewest, and surely fewer than "nearest"; or is that."""

    def to_dict(self) -> dict[str, Any]:
        """A plain dict for JSON."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        return plain | {
            **{name: plain[name].to_dict() for name in ("fmr", "fnmr", "fpir", "fnir")},
            "by_templates": [
                {"low": one.low, "high": one.high, "fnmr": one.fnmr.to_dict(), "fmr": one.fmr.to_dict()}
                for one in self.by_templates
            ],
        }


@dataclass(frozen=True, slots=True)
class Recall:
    """How many of the nearest subjects an index finds, measured on the gallery's own templates."""

    index: str
    """The kind that was measured."""
    k: int
    """How many subjects were asked for."""
    value: float
    """The share of the true k nearest subjects that was found, 0 to 1."""
    low: float
    high: float
    """A 95 % interval, by resampling the probes."""
    probes: int
    """How many templates were asked about."""
    templates: int
    """How many were enrolled."""
    measured: datetime
    """UTC."""
    changes: int
    """Templates that were ever added or removed by then."""
    subjects: int | None = None
    """How many were enrolled; None of a measurement that did not say."""

    def to_dict(self) -> dict[str, Any]:
        """A plain dict for JSON."""
        return {name: getattr(self, name) for name in self.__slots__} | {
            "measured": self.measured.isoformat()
        }

    def __str__(self) -> str:
        between = f"{self.low:.4f} to {self.high:.4f}"
        return f"recall@{self.k} {self.value:.4f} ({between}) of {self.index}, {self.probes:,} probes"
