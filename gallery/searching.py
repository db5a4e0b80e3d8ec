"""What a gallery answers besides "who is this?": everybody near, and how well its index finds them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from gallery.decisions import checked_threshold
from gallery.encoder import Encoder, embed_probes, listed
from gallery.engines.base import Engine
from gallery.errors import NotEnoughDataError
from gallery.filters import Where, checked_where
from gallery.indexes.choice import check_kind
from gallery.records import Candidate, Recall
from gallery.stores.base import Header
from gallery.vectors import Numbers

RECALL = "recall"
"""The setting that keeps what was measured."""

_RESAMPLES = 2000
_VOID_PAST = 0.1
"""Share by which the number of templates may change before a measured recall says nothing any more."""


class Searching:
    """The part of `gallery.Gallery` that searches without deciding."""

    location: Path
    _engine: Engine

    def within(self, item: Any, radius: float, where: Where | None = None) -> list[Candidate]:
        """Every subject with a template at `radius` or nearer, nearest first, however many there are.

        radius is a distance, as a threshold is; where: see `identify`. With an approximate index every
        candidate that it finds on its way there.
        """
        return self.within_batch([item], radius, where)[0]

    def within_batch(
        self, items: Sequence[Any], radius: float, where: Where | None = None
    ) -> list[list[Candidate]]:
        """`within` for every item, all of one revision."""
        encoder, header = self._bound()
        limit = checked_threshold(radius)
        filter = None if where is None else checked_where(where)
        blocks = list(embed_probes(encoder, listed(items)))
        return self._engine.within(np.concatenate(blocks), limit, header, filter) if blocks else []

    def reindex(self, kind: str = "auto") -> str:
        """Changes the kind of index and builds it anew: the kind that is in use then.

        kind  "auto", "exact", or a factory string of FAISS such as "HNSW32", "IVF1024,SQ8" or
              "IVF1024,PQ64x4fs,RFlat"

        ValueError, and nothing is changed, for a kind that FAISS cannot make or that cannot grow.
        """
        self._check_writable()
        header = self._engine.header
        check_kind(kind, header.dim, header.metric)
        return self._engine.reindex(kind).index

    def recall(self, sample: int = 1000, k: int = 5, seed: int = 0) -> Recall:
        """Measures how many of the true k nearest subjects the index finds, and keeps it for `info`.

        Asks about `sample` enrolled templates, leaving out each one's own subject, and compares with brute
        force. Takes room for all embeddings once. Raises NotEnoughDataError for fewer than two subjects.
        """
        if sample < 1 or k < 1:
            raise ValueError(f"sample and k must be 1 or more, not {sample} and {k}")
        state, overlap = self._engine.recall(sample, k, seed)
        if not overlap.wanted.sum():
            raise NotEnoughDataError(
                f"{self.location} has {state.subjects} subjects: to measure which neighbours are found takes "
                "at least two"
            )
        value, low, high = _share(overlap.found, overlap.wanted, seed)
        now = datetime.now(UTC)
        measured = Recall(state.index, k, value, low, high, len(overlap.found), state.templates, now)
        if not self.read_only:
            self._engine.set_setting(RECALL, json.dumps(measured.to_dict()))
        return measured

    read_only: bool

    def _bound(self) -> tuple[Encoder, Header]:
        raise NotImplementedError

    def _check_writable(self) -> None:
        raise NotImplementedError


def known_recall(text: str | None, index: str, templates: int) -> Recall | None:
    """What was measured, unless it was of another kind of index or of quite another number of templates."""
    if text is None:
        return None
    plain = json.loads(text)
    found = Recall(**plain)
    found = replace(found, measured=datetime.fromisoformat(plain["measured"]))
    changed = abs(templates - found.templates) > _VOID_PAST * found.templates
    return None if changed or found.index != index else found


def _share(found: Numbers, wanted: Numbers, seed: int) -> tuple[float, float, float]:
    """(value, low, high) of found over wanted, by a bootstrap over probes."""
    chance = np.random.default_rng(seed)
    drawn = chance.integers(len(found), size=(_RESAMPLES, len(found)))
    shares = found[drawn].sum(axis=1) / wanted[drawn].sum(axis=1).clip(1)
    low, high = np.quantile(shares, [0.025, 0.975])
    return float(found.sum() / wanted.sum()), float(low), float(high)
