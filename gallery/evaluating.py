"""How a gallery does on labelled probes: `Gallery.evaluate`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from gallery import calibration as calibrated
from gallery import evaluation as pure
from gallery.bulk import Progress
from gallery.decisions import checked_threshold
from gallery.encoder import Encoder
from gallery.engines.base import Compared, Engine, State
from gallery.errors import NotCalibratedError, NotEnoughDataError, UnknownSubjectError
from gallery.evaluation import Evaluation, Mistake
from gallery.fusion import NEAREST
from gallery.options import checked_count, checked_seed
from gallery.pictures import picture_of, picture_of_template
from gallery.probes import Labelled, embedded
from gallery.quality import Gatekeeper
from gallery.stores.base import Header
from gallery.vectors import distances

_PLACES = 20


class Evaluating:
    """The part of `gallery.Gallery` that is put to the test."""

    location: Path
    _engine: Engine
    _quality: Gatekeeper | None

    def evaluate(
        self,
        probes: Iterable[Any],
        *,
        threshold: float | None = None,
        group: str | None = None,
        worst: int = 12,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Evaluation:
        """Measures every error rate of the gallery as it stands, on probes of known subjects.

        probes     an iterable of (id, items); those of ids that are not enrolled are strangers, by whom the
                   false positives of searches are measured
        threshold  the one to report errors at; None: the one that the gallery decides by, if it has any
        group      a field of the subjects' metadata: errors are reported for each of its values too
        worst      how many false matches and false non-matches to keep, with pictures
        seed       of the subjects that are drawn to be compared with, where all would be too many
        progress   called with (done, total) while the probes are embedded

        Changes nothing; `gallery.write_evaluation` makes a page of it. A probe is never compared with a
        template of the same file or bytes. One of somebody all of whose templates are in quarantine is a
        search that finds nobody. Raises NotEnoughDataError where nothing can be compared.
        """
        encoder, header = self._bound()
        checked_count(worst, "worst", "mistakes", 0)
        checked_seed(seed)
        limit = self._reported_at(threshold, group)
        source = "given" if threshold is not None else self._threshold_source()
        asked = embedded(encoder, probes, self._quality, progress)
        state, found = self._engine.compared(asked[:3], 0, seed, header, self._fusion())
        self._check_compared(state, found)
        return Evaluation(
            location=self.location.name,
            encoder=header.encoder,
            fingerprint=header.fingerprint,
            metric=header.metric,
            threshold=limit,
            threshold_source=source,
            **_figures(found, state, limit, group),
            false_matches=self._false_matches(asked, found, limit, worst),
            false_non_matches=self._false_non_matches(asked, found, limit, worst),
            seed=seed,
            measured=datetime.now(UTC),
        )

    def _reported_at(self, threshold: float | None, group: str | None) -> float | None:
        """The threshold to report errors at, None for none; what `evaluate` says of both."""
        limit = _finite(self.threshold if threshold is None else checked_threshold(threshold))
        if group is not None and limit is None:
            raise NotCalibratedError(
                f"errors by {group!r} are those at a threshold, and {self.location} has none: pass threshold="
            )
        return limit

    def _check_compared(self, state: State, found: Compared) -> None:
        scores = found.scores
        if not np.isfinite(scores.distances).any() and not np.isfinite(scores.mated).any():
            raise NotEnoughDataError(
                f"{self.location} has {state.subjects} subjects, and none of the {len(scores.mated)} probes "
                "can be compared with any but a copy, or one in quarantine"
            )

    def _false_matches(
        self, asked: Labelled, found: Compared, threshold: float | None, worst: int
    ) -> tuple[Mistake, ...]:
        pairs = pure.nearest_others(found.scores, worst)
        made = [
            self._mistake(
                asked, probe, found.columns[column], float(found.scores.distances[probe, column]), threshold
            )
            for probe, column in pairs
        ]
        return tuple(one for one in made if one is not None)

    def _false_non_matches(
        self, asked: Labelled, found: Compared, threshold: float | None, worst: int
    ) -> tuple[Mistake, ...]:
        made = [
            self._mistake(asked, probe, asked.ids[probe], float(found.scores.mated[probe]), threshold)
            for probe in pure.farthest_own(found.scores, worst)
        ]
        return tuple(one for one in made if one is not None)

    def _mistake(
        self, asked: Labelled, probe: int, id: str, distance: float, threshold: float | None
    ) -> Mistake | None:
        """None when the subject was removed since."""
        try:
            held = self._engine.embeddings(id)
            templates = {int(one): one for one in self._engine.templates(id)}
        except UnknownSubjectError:
            return None
        exact = distances(asked.rows[probe], held.rows, self._engine.header.metric)
        # The one that it was scored by, and not a copy that it was not compared with.
        at = int(np.abs(exact - np.float32(distance)).argmin())
        fuses = self._fusion() != NEAREST
        said = distance if fuses else float(exact[at])
        number = int(held.numbers[at])
        source = templates[number].source if number in templates else None
        accepted = threshold is not None and said <= threshold
        return Mistake(
            probe=asked.sources[probe] or f"probe {probe}",
            probe_id=asked.ids[probe],
            id=id,
            template=number,
            source=source,
            distance=said,
            wrong=threshold is not None and accepted == (id != asked.ids[probe]),
            probe_picture=picture_of(asked.items[probe]),
            template_picture=picture_of_template(self._engine, number, source),
        )

    @property
    def threshold(self) -> float | None:
        raise NotImplementedError

    def _threshold_source(self) -> str:
        raise NotImplementedError

    def _fusion(self) -> str:
        raise NotImplementedError

    def _bound(self) -> tuple[Encoder, Header]:
        raise NotImplementedError


def _finite(threshold: float | None) -> float | None:
    if threshold == math.inf:
        raise ValueError("at an infinite threshold everything is accepted: evaluate at a finite one")
    return threshold


def _figures(found: Compared, state: State, threshold: float | None, group: str | None) -> dict[str, Any]:
    """What is counted, by the names of `Evaluation`."""
    scores = found.scores
    strangers = np.array([one is None for one in found.probe_metadata])
    hidden = ~strangers & (found.own_templates < 1)
    searched, asking = pure.searchers(scores, strangers)
    eer, eer_threshold, det = pure.curves(scores)
    figures: dict[str, Any] = {
        "subjects": state.subjects,
        "templates": state.templates,
        "probes": len(strangers),
        "mated": int(np.isfinite(scores.mated).sum()),
        "strangers": int(strangers.sum()),
        "quarantined": int(hidden.sum()),
        "copied": scores.copied_probes,
        "eer": eer,
        "eer_threshold": eer_threshold,
        "det": det,
        "cmc": pure.cumulative_matches(scores, hidden, _PLACES),
        "searched": searched,
        "open_set": pure.open_set(scores, asking, hidden),
        "open_curve": pure.open_curve(scores, asking, hidden),
        "histogram": pure.histogram(scores),
        "group": group,
        "groups": (),
    }
    rates: dict[str, Any] = dict.fromkeys(("fmr", "fnmr", "fpir", "fnir"))
    if threshold is not None:
        rates = calibrated.rates(scores, threshold) | {
            "fpir": calibrated.false_positives(asking, threshold),
            "fnir": pure.not_found(scores, hidden, threshold),
        }
        if group is not None:
            figures["groups"] = _groups(found, threshold, group)
    return figures | rates


def _groups(found: Compared, threshold: float, field: str) -> tuple[pure.GroupErrors, ...]:
    probes = [None if one is None else pure.group_of(one, field) for one in found.probe_metadata]
    columns = [pure.group_of(one, field) for one in found.metadata]
    if {*columns} == {pure.NO_GROUP}:
        raise NotEnoughDataError(f"no subject has {field!r} in its metadata: there is nothing to group by")
    return pure.by_group(found.scores, threshold, probes, columns)
