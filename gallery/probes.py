"""Labelled probes, as a calibration and an evaluation take them: (id, items), embedded and named."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from gallery.bulk import Progress, checked_id, source_of
from gallery.encoder import Encoder, embed_probes, listed
from gallery.errors import InvalidItemError, NotEnoughDataError
from gallery.quality import Gatekeeper
from gallery.vectors import FloatRows

_BATCH = 256

Asked = tuple[FloatRows, list[str], list[str | None]]
"""The first three of `Labelled`, as an engine takes them."""


class Labelled(NamedTuple):
    """p probes. rows: (p, dim); the others in step."""

    rows: FloatRows
    ids: list[str]
    sources: list[str | None]
    """The path of each, where it is one."""
    items: list[Any]


def embedded(
    encoder: Encoder, probes: Iterable[Any], gate: Gatekeeper | None, progress: Progress | None = None
) -> Labelled:
    """The probes of an iterable of (id, items). progress(done, total) is called after every batch.

    What `gate` refuses would get no answer in use, and is refused here as well: it must not count among the
    errors, nor be left out unseen. InvalidItemError names the one that cannot be used; NotEnoughDataError
    where there are none.
    """
    items: list[Any] = []
    ids: list[str] = []
    for position, probe in enumerate(probes):
        if not isinstance(probe, (tuple, list)) or len(probe) != 2:
            raise InvalidItemError(f"probe {position}: expected (id, items), got {type(probe).__name__}")
        some = listed(probe[1])
        items += list(some)
        ids += [checked_id(probe[0])] * len(some)
    if not items:
        raise NotEnoughDataError("there are no probes; nothing can be measured")
    sources = [source_of(item) for item in items]
    blocks: list[FloatRows] = []
    try:
        if gate is not None:
            gate.of_probes(items)
        for block in embed_probes(encoder, items, _BATCH):
            blocks.append(block)
            if progress is not None:
                progress(sum(map(len, blocks)), len(items))
    except InvalidItemError as error:
        source = None if error.index is None else sources[error.index]
        if source is None or source in str(error):
            raise
        raise InvalidItemError(f"{source}: {error}", error.index) from error
    return Labelled(np.concatenate(blocks), ids, sources, items)
