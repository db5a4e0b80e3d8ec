"""Thresholds that are measured: a gallery calibrates itself, and notices when that is void."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from gallery import calibration as pure
from gallery.encoder import Encoder
from gallery.engines.base import Engine
from gallery.errors import (
    EncoderMismatchError,
    NotEnoughDataError,
    StaleCalibrationWarning,
)
from gallery.probes import embedded
from gallery.records import Calibration
from gallery.stores.base import Header

THRESHOLD = "threshold"
"""The setting that keeps what was adopted."""
FUSION = "nearest"

_DEFAULT_FMR = 1e-3
_SAMPLE = 2000
_VOID_PAST = 1.25
"""By what factor the number of subjects may change before an adopted threshold is warned of."""


class Calibrating:
    """The part of `gallery.Gallery` that measures thresholds."""

    location: Path
    _engine: Engine

    def calibrate(
        self,
        probes: Iterable[Any] | None = None,
        target_fmr: float | None = None,
        target_fpir: float | None = None,
        *,
        extrapolate: bool = False,
        sample: int = _SAMPLE,
        seed: int = 0,
    ) -> Calibration:
        """Measures a threshold for an error rate, and what else to expect of it. Changes nothing: `adopt`.

        probes       an iterable of (id, items), of subjects that are enrolled or not; without it up to
                     `sample` enrolled templates are compared with all others, each left out of its own
        target_fmr   the share of comparisons with a wrong subject to accept: for `verify`; 1e-3 by default
        target_fpir  the share of searches with somebody not enrolled that may find somebody: for `identify`,
                     in a gallery of the present size
        extrapolate  go beyond the data by extreme-value theory, which the result says

        The threshold is the largest distance within the target. Two embeddings of one file, or of the same
        bytes, are never compared. Raises NotEnoughDataError where the data cannot show so small a rate, with
        the number that it would take.
        """
        encoder, header = self._bound()
        target, requested = _target(target_fmr, target_fpir)
        asked = None if probes is None else embedded(encoder, probes)[:3]
        state, scores = self._engine.scores(asked, sample, seed, header)
        if not np.isfinite(scores.distances).any():
            raise NotEnoughDataError(
                f"{self.location} has {state.subjects} subjects and there are {len(scores.mated)} probes: "
                "without a probe and a subject that differ nothing can be compared"
            )
        chosen = pure.chosen_threshold(scores, target, requested, extrapolate)
        return Calibration(
            threshold=chosen.threshold,
            target=target,
            requested=requested,
            **pure.rates(scores, chosen.threshold),
            subjects=state.subjects,
            templates=state.templates,
            probes=len(scores.mated),
            fusion=FUSION,
            encoder=header.encoder,
            fingerprint=header.fingerprint,
            extrapolated=chosen.extrapolated,
            sure=chosen.sure,
            measured=datetime.now(UTC),
        )

    def adopt(self, calibration: Calibration) -> None:
        """Makes a calibration's threshold the gallery's own, durably: the only way one gets stored.

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
        self._engine.set_setting(THRESHOLD, json.dumps(calibration.to_dict()), verb="adopt")

    def _warn_when_void(self) -> None:
        """Says so when the adopted threshold was measured in a gallery of quite another size."""
        stored = self._engine.setting(THRESHOLD)
        then = None if stored is None else json.loads(stored).get("subjects")
        now = self._engine.counts()[0]
        if then and not then / _VOID_PAST <= now <= then * _VOID_PAST:
            warnings.warn(
                f"{self.location}: its threshold was calibrated with {then:,} subjects and there are {now:,} "
                "now, so searches find wrong ones at another rate than was measured: calibrate again",
                StaleCalibrationWarning,
                stacklevel=3,
            )

    def _bound(self) -> tuple[Encoder, Header]:
        raise NotImplementedError

    def _check_writable(self) -> None:
        raise NotImplementedError


def _target(fmr: float | None, fpir: float | None) -> tuple[str, float]:
    if fmr is not None and fpir is not None:
        raise ValueError("give target_fmr or target_fpir, not both: a threshold is for one of them")
    name, wanted = ("fpir", fpir) if fpir is not None else ("fmr", _DEFAULT_FMR if fmr is None else fmr)
    if isinstance(wanted, bool) or not 0 < wanted < 1:
        raise ValueError(f"target_{name} is a rate between 0 and 1, not {wanted!r}")
    return name, float(wanted)
