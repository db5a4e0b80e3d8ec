"""Which kind of index serves a gallery: what was asked for, or what its size asks for."""

from __future__ import annotations

from dataclasses import dataclass

from gallery.indexes.base import VectorIndex
from gallery.indexes.exact import ExactIndex

AUTO = "auto"
EXACT = "exact"

_EXACT_UP_TO = 4 * 10**9
"""Bytes of embeddings that are gone through for every answer before an approximate kind takes over."""
_LEEWAY = 2
"""A kind that is there is kept until the size is so many times what it was chosen for."""
_LONG = 256
"""Of vectors of so many values four share a code."""
_LONGEST = 200
"""Characters of a kind. FAISS ends the process with texts of many thousand."""
SOON = 20_000
"""Templates that any kind is made of in a second or two."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A kind of index, and why it was chosen."""

    kind: str
    why: str


def choose(wish: str, templates: int, dim: int, there: str | None = None, makes: bool = True) -> Choice:
    """The kind for a wish: "auto" is exact, which is certain, as long as it answers fast enough.

    there: the kind that there is an index of already. makes: what is made is kept for the next opening;
    where it is not, as by a session that only reads, nothing is made that takes longer than it saves.
    """
    choice = _by_size(templates, dim, there) if wish == AUTO else Choice(wish, "asked for")
    if makes or choice.kind in (EXACT, there) or templates <= SOON:
        return choice
    if wish == AUTO and there is not None:
        return Choice(there, "chosen automatically for an earlier size; whoever writes next chooses anew")
    return Choice(EXACT, f"there is no file of {choice.kind} yet, and this session only reads and makes none")


def _by_size(templates: int, dim: int, there: str | None) -> Choice:
    size = 4 * templates * dim
    gone_through = f"chosen automatically: {_size(size)} of embeddings"
    most = _EXACT_UP_TO * (_LEEWAY if there == EXACT else 1)
    large = size * _LEEWAY > _EXACT_UP_TO
    if there is not None and there != EXACT and large and _fits(there, templates, dim):
        return Choice(there, f"{gone_through} are too much for each answer")
    if size <= most:
        most_said = f"up to {_EXACT_UP_TO / 1e9:.0f} GB are gone through for each answer"
        return Choice(EXACT, f"{gone_through}, {most_said}")
    return Choice(_cells(_best_cells(templates), dim), f"{gone_through} are too much for each answer")


def _size(bytes: int) -> str:
    return f"{bytes / 1e9:.2g} GB" if bytes >= 1e8 else f"{bytes / 1e6:,.1f} MB"


def _cells(count: int, dim: int) -> str:
    """Cells in 4 bits for 4 values, for 2 of shorter vectors, and the best of those scored again in full.

    At the same recall several times as quick as going through the cells in full (docs/search.md).
    """
    together = 4 if dim >= _LONG and dim % 4 == 0 else 2
    return f"IVF{count},PQ{dim // together}x4fs,RFlat" if dim % together == 0 else _whole_cells(count)


def _whole_cells(count: int) -> str:
    return f"IVF{count},Flat"


def _best_cells(templates: int) -> int:
    """About 4 sqrt(n) cells, in powers of two so that a gallery that grows seldom changes its kind."""
    return 1 << (int(4 * templates**0.5).bit_length() - 1)


def _fits(there: str, templates: int, dim: int) -> bool:
    """Whether a kind was chosen for about that size, by this version or the one before."""
    best = _best_cells(templates)
    counts = (best // _LEEWAY, best, best * _LEEWAY)
    return there in [kind for count in counts for kind in (_cells(count, dim), _whole_cells(count))]


def new_index(kind: str, dim: int, metric: str) -> VectorIndex:
    """An empty index; ValueError for a kind that FAISS cannot make."""
    if kind == EXACT:
        return ExactIndex(dim, metric)
    from gallery.indexes.faiss import FaissIndex

    return FaissIndex(dim, metric, kind)


def check_kind(kind: str, dim: int, metric: str) -> None:
    """ValueError for what is no kind of index, or none that can be trained and grow with a gallery."""
    if not isinstance(kind, str):
        raise ValueError(f"a kind of index is a text such as 'exact' or 'HNSW32', not {kind!r}")
    if len(kind) > _LONGEST or not (kind.isascii() and kind.isprintable()):
        raise ValueError(
            f"a kind of index is a text of at most {_LONGEST} printable ASCII characters such as 'HNSW32', "
            f"not {kind[:_LONGEST]!a}{' ...' if len(kind) > _LONGEST else ''}"
        )
    if kind not in (AUTO, EXACT):
        from gallery.indexes.rehearsing import rehearse

        rehearse(kind, dim, metric)
