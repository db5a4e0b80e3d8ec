"""Which kind of index serves a gallery: what was asked for, or what its size asks for."""

from __future__ import annotations

from dataclasses import dataclass

from gallery.indexes.base import VectorIndex
from gallery.indexes.exact import ExactIndex

AUTO = "auto"
EXACT = "exact"

_EXACT_UP_TO = 4 * 10**9
"""Bytes of embeddings that are gone through for every answer before an approximate kind takes over."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A kind of index, and why it was chosen."""

    kind: str
    why: str


def choose(wish: str, templates: int, dim: int) -> Choice:
    """The kind for a wish: "auto" is exact, which is certain, as long as it answers fast enough."""
    if wish != AUTO:
        return Choice(wish, "asked for")
    size = 4 * templates * dim
    gone_through = f"{size / 1e9:.2g} GB of embeddings"
    if size <= _EXACT_UP_TO:
        most = f"up to {_EXACT_UP_TO / 1e9:.0f} GB are gone through for each answer"
        return Choice(EXACT, f"chosen automatically: {gone_through}, {most}")
    # About 4 sqrt(n) cells, in powers of two so that a gallery that grows seldom changes its kind.
    cells = _power_of_two(4 * templates**0.5)
    return Choice(f"IVF{cells},Flat", f"chosen automatically: {gone_through} are too much for each answer")


def _power_of_two(number: float) -> int:
    """The largest one that is no larger."""
    return 1 << (int(number).bit_length() - 1)


def new_index(kind: str, dim: int, metric: str) -> VectorIndex:
    """An empty index; ValueError for a kind that FAISS cannot make."""
    if kind == EXACT:
        return ExactIndex(dim, metric)
    from gallery.indexes.faiss import FaissIndex

    return FaissIndex(dim, metric, kind)


def check_kind(kind: str, dim: int, metric: str) -> None:
    """ValueError for what is no kind of index, or none that can grow with a gallery."""
    if kind not in (AUTO, EXACT):
        from gallery.indexes.kinds import rehearse

        rehearse(kind, dim, metric)
