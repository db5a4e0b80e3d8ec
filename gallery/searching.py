"""What a gallery answers, and how well its index finds it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from gallery.decisions import (
    checked_prior,
    checked_threshold,
    identification,
    verification,
    with_probability,
)
from gallery.encoder import Encoder, embed_probes, listed
from gallery.engines.base import EFFORT, RECALL, Engine, State
from gallery.errors import NotCalibratedError, NotEnoughDataError
from gallery.filters import Where, checked_where
from gallery.fusion import NEAREST, fused_one
from gallery.indexes.choice import check_kind
from gallery.measures import Likelihoods, Recall
from gallery.options import checked_count, checked_seed, is_number
from gallery.quality import Gatekeeper
from gallery.records import Candidate, Identification, Verification
from gallery.stores.base import Header
from gallery.vectors import FloatRows, Numbers, distances

THRESHOLD = "threshold"
"""The setting that keeps the calibration that was adopted."""

_RESAMPLES = 2000
_VOID_PAST = 0.1
"""Share of the templates, or subjects, that may change before a measured recall says nothing any more."""


class Searching:
    """The part of `gallery.Gallery` that is asked."""

    location: Path
    encoder: Encoder | None
    read_only: bool
    _engine: Engine
    _quality: Gatekeeper | None

    def identify(
        self,
        item: Any,
        k: int = 5,
        threshold: float | None = None,
        where: Where | None = None,
        prior: float | None = None,
    ) -> Identification:
        """Who is this? The k nearest subjects within the threshold, or "unknown".

        By an adopted calibration it is "ambiguous" when the first two subjects are too close to call.

        k          counts subjects, however many templates each has
        threshold  a distance; None: the gallery's own, else the one the encoder recommends, else nothing is
                   decided and the k nearest are ranked
        where      {"site": "north"}: only subjects whose metadata match, as if no others were enrolled; every
                   key has to, and a list is any of its values
        prior      how probable it is, before looking, that whoever is asked about is enrolled: the answer
                   then says how probable it is that its nearest is the right one. Takes an adopted
                   calibration, else NotCalibratedError, and a search of the whole gallery
        """
        return self.identify_batch([item], k, threshold, where, prior)[0]

    def identify_batch(
        self,
        items: Sequence[Any],
        k: int = 5,
        threshold: float | None = None,
        where: Where | None = None,
        prior: float | None = None,
    ) -> list[Identification]:
        """`identify` for every item, with the same answers; much faster than one by one."""
        if isinstance(k, bool) or not isinstance(k, Integral) or k < 1:
            raise ValueError(f"k must be a whole number of subjects, 1 or more, not {k!r}")
        encoder, header = self._bound()
        # After the encoder, so that it is not the threshold of one that was migrated from in between.
        # Once, so that threshold, margin and fusion are of one calibration.
        adopted = self._adopted() or {}
        limit, margin = (
            (checked_threshold(threshold), None) if threshold is not None else self._limits(adopted)
        )
        filter = None if where is None else checked_where(where)
        odds = None
        if prior is not None:
            odds = self._likelihoods(adopted, checked_prior(prior), filter, warn=threshold is not None)
        blocks, objections = self._embedded(encoder, items)
        if not blocks:
            return []
        # A margin takes the second as well. In one call, so that all answers are of one revision.
        most = int(k) if margin is None else max(int(k), 2)
        found = self._engine.nearest(np.concatenate(blocks), most, header, filter, fusion_of(adopted))
        answers = [identification(ranked, limit, int(k), margin) for ranked in found]
        for position, reason in objections.items():
            answers[position] = replace(answers[position], quality=reason)
        if odds is None or prior is None:
            return answers
        return [with_probability(answer, odds, float(prior)) for answer in answers]

    def verify(self, id: str, item: Any, threshold: float | None = None) -> Verification:
        """Is this `id`? Scores all templates of that subject exactly; truthy when accepted.

        Raises UnknownSubjectError, and NotCalibratedError when no threshold is known.
        """
        encoder, header = self._bound()
        adopted = self._adopted() or {}
        limit = (
            checked_threshold(threshold) if threshold is not None else self._limits(adopted, search=False)[0]
        )
        if limit is None:
            raise NotCalibratedError(
                f"{self.location} has no threshold and its encoder recommends none: calibrate and "
                "adopt one, or give one (threshold=, --threshold), the largest distance to accept"
            )
        claimed = self._engine.embeddings(id, header)
        blocks, objections = self._embedded(encoder, [item])
        probe = blocks[0][0]
        scores = distances(probe, claimed.rows, header.metric)
        distance = fused_one(probe, claimed.rows, scores, fusion_of(adopted), header.metric)
        answer = verification(id, distance, scores, claimed.numbers, limit)
        return replace(answer, quality=objections.get(0))

    @property
    def threshold(self) -> float | None:
        """The distance decided by: the gallery's own, else the encoder's recommendation, else None."""
        return self._limit(self._adopted() or {})

    def _limit(self, adopted: Mapping[str, Any]) -> float | None:
        if adopted:
            return float(adopted["threshold"])
        recommended = getattr(self.encoder, "threshold", None)
        return None if recommended is None else checked_threshold(recommended)

    def within(self, item: Any, radius: float, where: Where | None = None) -> list[Candidate]:
        """Every subject with a template at `radius` or nearer, nearest first, however many there are.

        radius is a distance, as a threshold is; where: see `identify`. It goes through all rows, whatever the
        kind of index, and misses nobody.
        """
        return self.within_batch([item], radius, where)[0]

    def within_batch(
        self, items: Sequence[Any], radius: float, where: Where | None = None
    ) -> list[list[Candidate]]:
        """`within` for every item, all of one revision."""
        encoder, header = self._bound()
        limit = checked_threshold(radius, "radius")
        filter = None if where is None else checked_where(where)
        blocks, _ = self._embedded(encoder, items)
        return self._engine.within(np.concatenate(blocks), limit, header, filter) if blocks else []

    def reindex(self, kind: str = "auto") -> str:
        """Changes the kind of index and builds it anew: the kind that is in use then.

        kind  "auto", "exact", or a factory string of FAISS such as "HNSW32", "IVF1024,SQ8" or
              "IVF1024,PQ64x4fs,RFlat"

        ValueError, and nothing is changed, for a kind that FAISS cannot make or train, or that cannot grow:
        it is tried out first, on a few vectors in another process. Where a kind fails with the gallery's own
        embeddings all the same, an exact index stands in, with a warning.
        """
        self._check_writable()
        header = self._engine.header
        check_kind(kind, header.dim, header.metric)
        return self._engine.reindex(kind).index

    def recall(self, sample: int = 1000, k: int = 5, seed: int = 0, *, goal: float | None = None) -> Recall:
        """Measures how many of the true k nearest subjects the index finds, and keeps it for `info`.

        goal: a share such as 0.99. The index is first made to look as hard as that takes, within a factor of
        two, and looks so from now on, in every process that opens the gallery; as hard as it can where that
        is not enough. Without it nothing is changed. An exact index finds everything as it is.

        Asks about `sample` enrolled templates, leaving out each one's own subject, and compares with brute
        force. Takes room for all embeddings once. Raises NotEnoughDataError for fewer than two subjects.
        """
        sample, k = checked_count(sample, "sample", "templates", 1), checked_count(k, "k", "subjects", 1)
        checked_seed(seed)
        if goal is not None:
            self._check_writable()
            if not is_number(goal) or not 0 < goal <= 1:
                raise ValueError(f"a goal is a share of the neighbours above 0 and up to 1, not {goal!r}")
        state, overlap = self._engine.recall(sample, k, seed, goal)
        if not overlap.wanted.sum():
            raise NotEnoughDataError(
                f"{self.location} has {state.subjects} subjects: to measure which neighbours are found takes "
                "at least two"
            )
        value, low, high = _share(overlap.found, overlap.wanted, seed)
        measured = Recall(
            index=state.index,
            k=k,
            value=value,
            low=low,
            high=high,
            probes=len(overlap.found),
            templates=state.templates,
            measured=datetime.now(UTC),
            changes=state.changes,
            subjects=state.subjects,
        )
        if not self.read_only:
            found: dict[str, str | None] = {RECALL: json.dumps(measured.to_dict())}
            if overlap.effort is not None:
                found[EFFORT] = overlap.effort
            # In one commit: nobody is told what holds for another effort.
            self._engine.set_settings(found)
        return measured

    def _embedded(self, encoder: Encoder, items: Sequence[Any]) -> tuple[list[FloatRows], dict[int, str]]:
        """(embeddings in blocks, {position: what the quality gate has against it}) of what is asked about.

        InvalidItemError where the gate refuses, or the encoder.
        """
        probes = listed(items)
        objections = {} if self._quality is None else self._quality.of_probes(probes)
        return list(embed_probes(encoder, probes)), objections

    def _adopted(self) -> dict[str, Any] | None:
        """The adopted calibration, as it is stored."""
        stored = self._engine.setting(THRESHOLD)
        return None if stored is None else dict(json.loads(stored))

    def _fusion(self) -> str:
        return fusion_of(self._adopted() or {})

    def _limits(self, adopted: Mapping[str, Any], search: bool = True) -> tuple[float | None, float | None]:
        """(threshold, margin), with a warning where they are not what they were measured for."""
        self._warn_when_void(adopted, search)
        return self._limit(adopted), adopted.get("margin")

    def _likelihoods(
        self, adopted: Mapping[str, Any], prior: float, filter: Where | None, warn: bool
    ) -> Likelihoods:
        """What the adopted calibration knows of how searches come out.

        warn: say so where it is void; its threshold, where that is used, has said it already.
        """
        if filter is not None:
            raise ValueError(
                "a probability is measured on searches of the whole gallery: give prior or where, not both"
            )
        held = adopted.get("likelihoods")
        if held is None:
            lacks = "no calibration was adopted: calibrate() and adopt()"
            if adopted:
                lacks = "its calibration saw fewer than 30 searches with somebody enrolled, or with strangers"
            raise NotCalibratedError(f"{self.location} can state no probability at prior {prior:g}: {lacks}")
        if warn:
            self._warn_when_void(adopted, search=True)
        return Likelihoods(**{name: tuple(values) for name, values in held.items()})

    def _warn_when_void(self, adopted: Mapping[str, Any], search: bool) -> None:
        raise NotImplementedError

    def _bound(self) -> tuple[Encoder, Header]:
        raise NotImplementedError

    def _check_writable(self) -> None:
        raise NotImplementedError


def fusion_of(adopted: Mapping[str, Any]) -> str:
    """How a gallery fuses the distances of a subject's templates, whatever threshold they meet."""
    return str(adopted.get("fusion", NEAREST))


def known_recall(text: str | None, state: State) -> Recall | None:
    """What was measured, unless it was of another kind of index, or a tenth has changed since.

    Where subjects were merged or split the templates are the same, and the nearest subjects are not.
    """
    if text is None:
        return None
    plain = json.loads(text)
    found = Recall(**plain | {"measured": datetime.fromisoformat(plain["measured"])})
    changed = state.changes - found.changes > _VOID_PAST * found.templates
    if found.subjects is not None:
        changed |= abs(state.subjects - found.subjects) > _VOID_PAST * found.subjects
    return None if changed or found.index != state.index else found


def _share(found: Numbers, wanted: Numbers, seed: int) -> tuple[float, float, float]:
    """(value, low, high) of found over wanted, by a bootstrap over probes."""
    chance = np.random.default_rng(seed)
    drawn = chance.integers(len(found), size=(_RESAMPLES, len(found)))
    shares = found[drawn].sum(axis=1) / wanted[drawn].sum(axis=1).clip(1)
    low, high = np.quantile(shares, [0.025, 0.975])
    return float(found.sum() / wanted.sum()), float(low), float(high)
