"""Thresholds that are measured: a gallery calibrates itself, and notices when that is void."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from gallery import calibration as pure
from gallery.comparing import chosen_fusion, fusion_errors
from gallery.encoder import Encoder
from gallery.engines.base import Engine, State
from gallery.errors import (
    EncoderMismatchError,
    GalleryError,
    NotEnoughDataError,
    StaleCalibrationWarning,
)
from gallery.fusion import AUTO, FUSIONS, NEAREST, checked_fusion
from gallery.measures import Calibration, FusionErrors, ToNearest
from gallery.naming import likelihoods, margin_for, naming_rates, shows
from gallery.options import checked_count, checked_seed, is_number
from gallery.probes import Asked, embedded
from gallery.quality import Gatekeeper
from gallery.searching import THRESHOLD
from gallery.stores.base import Header
from gallery.validity import DAYS, aged, checked_days, void_because

_DEFAULT_FMR = 1e-3
_SAMPLE = 2000


@dataclass(frozen=True, slots=True)
class Target:
    """The rate that a threshold is for: "fmr" or "fpir", and whether to go beyond the data for it."""

    name: str
    rate: float
    extrapolate: bool

    def chosen(self, scores: pure.Scores) -> pure.Chosen:
        """The threshold; NotEnoughDataError."""
        return pure.chosen_threshold(scores, self.name, self.rate, self.extrapolate)

    def left_out(self, scores: pure.Scores) -> float:
        """What the rate would be of copies alone if they are different items, as no threshold helps."""
        if self.name == "fpir":
            return scores.copied_probes / len(scores.mated)
        return scores.copies / max(1, int(np.isfinite(scores.distances).sum()))


class Calibrating:
    """The part of `gallery.Gallery` that measures thresholds."""

    location: Path
    _engine: Engine
    _quality: Gatekeeper | None

    def calibrate(
        self,
        probes: Iterable[Any] | None = None,
        target_fmr: float | None = None,
        target_fpir: float | None = None,
        *,
        extrapolate: bool = False,
        misnamed: float | None = 0.01,
        fusion: str = NEAREST,
        sample: int = _SAMPLE,
        seed: int = 0,
    ) -> Calibration:
        """Measures a threshold for an error rate, and what else to expect of it. Changes nothing: `adopt`.

        probes       an iterable of (id, items), of subjects that are enrolled or not; without it up to
                     `sample` enrolled templates are compared with all others, each left out of its own; of
                     no subject more than three times as many as of most, or ten
        target_fmr   the share of comparisons with a wrong subject to accept: for `verify`; 1e-3 by default
        target_fpir  the share of searches with somebody not enrolled that may find somebody: for `identify`,
                     in a gallery of the present size
        extrapolate  go beyond the data by extreme-value theory, which the result says
        fusion       how the distances of a subject's templates become one: "nearest", "mean2" or "mean3" (of
                     the nearest), "centroid" (searches go through everybody), or "auto": "nearest" unless
                     another one surely misses fewer
        misnamed     the share of matches that may be of somebody else, when somebody enrolled is searched
                     for: it sets the margin below which an answer is "ambiguous"; None: no margin. 0.01 takes
                     matches of about 180 subjects, else `margin_sure` is False

        The threshold is the largest distance within the target. Two embeddings of one file, or of the same
        bytes, are never compared; of one path that holds something else by now they are. Raises
        NotEnoughDataError where the data cannot show so small a rate, with the number that it would take.
        """
        encoder, header = self._bound()
        target = _target(target_fmr, target_fpir, extrapolate)
        _check_options(fusion, misnamed, sample, seed)
        asked = None if probes is None else embedded(encoder, probes, self._quality)[:3]
        if fusion == AUTO:
            fusion = chosen_fusion(self._fusions(asked, target, sample, seed))
        state, found = self._engine.compared(asked, sample, seed, header, fusion)
        self._check_comparable(state, found.scores)
        singly = None
        if fusion != NEAREST:
            again, other = self._engine.compared(asked, sample, seed, header, NEAREST)
            self._check_unchanged({state.revision, again.revision})
            singly = _to_nearest(other.scores, target)
        return Calibration(
            to_nearest=singly,
            **_measured(found.scores, target, misnamed),
            **_conditions(state, found.scores, header, fusion),
        )

    def compare_fusions(
        self,
        probes: Iterable[Any] | None = None,
        target_fmr: float | None = None,
        target_fpir: float | None = None,
        *,
        extrapolate: bool = False,
        sample: int = _SAMPLE,
        seed: int = 0,
    ) -> tuple[FusionErrors, ...]:
        """How the gallery would do by each way of fusing a subject's templates, at its own threshold.

        Each threshold is for the same target, as in `calibrate`, and so are probes, sample and seed. Errors
        are given by number of templates too. Changes nothing: `calibrate(fusion="auto")`, adopted, does.
        """
        encoder, _ = self._bound()
        target = _target(target_fmr, target_fpir, extrapolate)
        _check_options(NEAREST, None, sample, seed)
        asked = None if probes is None else embedded(encoder, probes, self._quality)[:3]
        return self._fusions(asked, target, sample, seed)

    def _fusions(
        self, asked: Asked | None, target: Target, sample: int, seed: int
    ) -> tuple[FusionErrors, ...]:
        _, header = self._bound()
        found, revisions = {}, set()
        for fusion in FUSIONS:
            state, one = self._engine.compared(asked, sample, seed, header, fusion)
            self._check_comparable(state, one.scores)
            threshold = target.chosen(one.scores).threshold
            found[fusion] = one, threshold
            revisions.add(state.revision)
        self._check_unchanged(revisions)
        return fusion_errors(found)

    def _check_unchanged(self, revisions: set[int]) -> None:
        if len(revisions) > 1:
            raise GalleryError(f"{self.location} changed while it was compared: call it again")

    def _check_comparable(self, state: State, scores: pure.Scores) -> None:
        if not np.isfinite(scores.distances).any():
            raise NotEnoughDataError(
                f"{self.location} has {state.subjects} subjects and there are {len(scores.mated)} probes: "
                "without a probe and a subject that differ nothing can be compared"
            )

    def adopt(self, calibration: Calibration, valid_days: int | None = DAYS) -> None:
        """Makes a calibration's threshold the gallery's own, durably: the only way one gets stored.

        valid_days: how long after it was measured it holds, None: for ever. Past that `identify` and `verify`
        warn with StaleCalibrationWarning, and `identify` once the number of subjects has grown by more than a
        quarter or fallen by more than a fifth.
        Raises EncoderMismatchError when it was measured with another encoder than the gallery's.
        """
        self._check_writable()
        if not isinstance(calibration, Calibration):
            raise TypeError(f"expected what calibrate() returns, not {type(calibration).__name__}")
        fingerprint = self._engine.header.fingerprint
        if calibration.fingerprint != fingerprint:
            raise EncoderMismatchError(
                f"it was calibrated with an encoder of fingerprint {calibration.fingerprint}, and "
                f"{self.location} is of {fingerprint}: calibrate this gallery"
            )
        stored = calibration.to_dict() | {"valid_days": checked_days(valid_days)}
        self._engine.set_setting(THRESHOLD, json.dumps(stored), verb="adopt")

    def _warn_when_void(self, adopted: Mapping[str, Any], search: bool) -> None:
        """Says so when the adopted threshold was measured in other conditions than there are now.

        search: of all subjects; whether an item is of one claimed subject does not depend on their number.
        """
        if not adopted:
            return
        now = datetime.now(UTC)
        reasons = void_because(adopted, self._engine.counts()[0], now) if search else aged(adopted, now)
        if reasons:
            warnings.warn(
                f"{self.location}: its threshold was {' and '.join(reasons)}: calibrate again",
                StaleCalibrationWarning,
                stacklevel=4,
            )

    def _bound(self) -> tuple[Encoder, Header]:
        raise NotImplementedError

    def _check_writable(self) -> None:
        raise NotImplementedError


def _measured(scores: pure.Scores, target: Target, misnamed: float | None) -> dict[str, Any]:
    """The threshold and what is measured at it, by the names of `Calibration`."""
    chosen = target.chosen(scores)
    return {
        "target": target.name,
        "requested": target.rate,
        "threshold": chosen.threshold,
        "extrapolated": chosen.extrapolated,
        "sure": chosen.sure and target.left_out(scores) <= target.rate,
        "copied": scores.copied_probes,
        **pure.rates(scores, chosen.threshold),
        **_naming(scores, chosen.threshold, misnamed),
    }


def _to_nearest(scores: pure.Scores, target: Target) -> ToNearest:
    threshold = target.chosen(scores).threshold
    return ToNearest(threshold, pure.false_matches(scores, threshold))


def _conditions(state: State, scores: pure.Scores, header: Header, fusion: str) -> dict[str, Any]:
    """What a calibration was measured in, by the names of `Calibration`."""
    return {
        "subjects": state.subjects,
        "templates": state.templates,
        "probes": len(scores.mated),
        "fusion": fusion,
        "encoder": header.encoder,
        "fingerprint": header.fingerprint,
        "measured": datetime.now(UTC),
    }


def _check_options(fusion: str, misnamed: float | None, sample: int, seed: int) -> None:
    """ValueError for what cannot be measured with."""
    if misnamed is not None and not (is_number(misnamed) and 0 <= misnamed < 1):
        raise ValueError(f"misnamed is a rate of 0 or more and below 1, not {misnamed!r}")
    if fusion != AUTO:
        checked_fusion(fusion)
    checked_count(sample, "sample", "templates", 1)
    checked_seed(seed)


def _naming(scores: pure.Scores, threshold: float, misnamed: float | None) -> dict[str, Any]:
    """What a calibration says of who is named, by the names of `Calibration`."""
    found: dict[str, Any] = {"likelihoods": likelihoods(scores)}
    margin = None if misnamed is None else margin_for(scores, threshold, misnamed)
    if misnamed is not None and margin is not None:
        found["margin"] = margin
        found["misnamed"], found["ambiguous"] = naming_rates(scores, threshold, margin)
        found["margin_sure"] = shows(found["misnamed"], misnamed)
    return found


def _target(fmr: float | None, fpir: float | None, extrapolate: bool) -> Target:
    if fmr is not None and fpir is not None:
        raise ValueError("give target_fmr or target_fpir, not both: a threshold is for one of them")
    name, wanted = ("fpir", fpir) if fpir is not None else ("fmr", _DEFAULT_FMR if fmr is None else fmr)
    if not is_number(wanted) or not 0 < wanted < 1:
        raise ValueError(f"target_{name} is a rate between 0 and 1, not {wanted!r}")
    return Target(name, float(wanted), extrapolate)
