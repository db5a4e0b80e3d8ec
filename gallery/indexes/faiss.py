"""Any kind that FAISS's `index_factory` can name, "HNSW32" or "IVF1024,SQ8": approximate, with removals.

Removed templates are hidden rather than deleted, because most kinds cannot delete and some relabel what is
left when they do. Until there are enough vectors to train on, an exact index stands in.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gallery.errors import GalleryError
from gallery.indexes import library
from gallery.indexes.base import Neighbours, Selection, nothing
from gallery.indexes.exact import ExactIndex
from gallery.vectors import FloatRows, Numbers

_PER_CELL = 39
"""k-means of FAISS warns below so many training vectors a cell."""
_EF_SEARCH = 128
_BLOCK = 65536
_SELECTIVE = 8
"""Of a selection of less than one in so many the nearest are found by brute force."""


class FaissIndex:
    """See `gallery.indexes.base.VectorIndex`. `floor` is +inf: an approximate index can promise nothing."""

    keeps_removed = True

    def __init__(self, dim: int, metric: str, kind: str) -> None:
        """kind: a factory string of FAISS; ValueError when FAISS cannot make it."""
        self.kind = kind
        self._dim = dim
        self._metric = metric
        self._index = _made(kind, dim, metric)
        self._needed = _training_size(self._index.index)
        self._waiting = ExactIndex(dim, metric) if self._needed else None
        self._dead = np.empty(0, np.int64)

    def rehearse(self) -> None:
        """ValueError for a kind that FAISS makes but that cannot be added to twice and searched."""
        if self._needed:
            return
        rows = np.eye(8, self._dim, dtype=np.float32) + np.float32(0.01)
        try:
            index = _made(self.kind, self._dim, self._metric)
            for first in (0, 4):
                index.add_with_ids(rows[first : first + 4], np.arange(first, first + 4))
                index.search(rows, 1)
        except RuntimeError as error:
            why = str(error).splitlines()[0]
            raise ValueError(f"an index {self.kind!r} cannot grow with a gallery: {why}") from error

    def __len__(self) -> int:
        if self._waiting is not None:
            return len(self._waiting)
        return int(self._index.ntotal) - len(self._dead)

    def add(self, numbers: Numbers, rows: FloatRows) -> None:
        if len(numbers) == 0:
            return
        if self._waiting is None:
            self._index.add_with_ids(rows, numbers)
            return
        self._waiting.add(numbers, rows)
        if len(self._waiting) >= self._needed:
            self._train(self._waiting)

    def _train(self, waiting: ExactIndex) -> None:
        blocks = list(waiting.living())
        rows = np.concatenate([block[1] for block in blocks])
        self._index.train(rows)
        self._index.add_with_ids(rows, np.concatenate([block[0] for block in blocks]))
        self._waiting = None

    def remove(self, numbers: Numbers) -> None:
        if self._waiting is not None:
            self._waiting.remove(numbers)
            return
        known = np.intersect1d(numbers, library.faiss().vector_to_array(self._index.id_map))
        self._dead = np.union1d(self._dead, known)

    def search(self, queries: FloatRows, k: int, among: Selection | None = None) -> Neighbours:
        if self._waiting is not None:
            return self._waiting.search(queries, k, among)
        there = self._selected(among)
        if there == 0:
            return nothing(len(queries), k)
        total = self._index.ntotal
        if among is not None and there < total // _SELECTIVE:
            # Most of what the kind proposes would be hidden.
            return self._by_brute_force(queries, k, among)
        ask = min(total, k + min(total - there, k))
        while True:
            _reach_for(self._index.index, ask)
            scores, numbers = self._index.search(queries, ask)
            alive = self._alive(numbers, among)
            short = alive.sum(axis=1) < min(k, there)
            if ask == total or not (short & (numbers[:, -1] >= 0)).any():
                break
            ask = min(total, 4 * ask)
        distances = np.where(alive, library.as_distances(scores, self._metric), np.float32(np.inf))
        found = _ranked(np.where(alive, numbers, -1), distances, k, there)
        if short.any():
            # Duplicates tear the graph of HNSW apart, and an IVF looks into some of its cells only.
            rows = np.flatnonzero(short)
            filled = self._by_brute_force(queries[rows], k, among)
            found.numbers[rows], found.distances[rows] = filled.numbers, filled.distances
            found.exhausted[rows] = filled.exhausted
        return found

    def _alive(self, numbers: Numbers, among: Selection | None) -> npt.NDArray[np.bool_]:
        """Which of these may be found."""
        alive = (numbers >= 0) & Selection(self._dead, all_but=True).holds(numbers)
        return alive if among is None else alive & among.holds(numbers)

    def _selected(self, among: Selection | None) -> int:
        """How many may be found."""
        if among is None:
            return len(self)
        return int(self._alive(library.faiss().vector_to_array(self._index.id_map), among).sum())

    def _by_brute_force(self, queries: FloatRows, k: int, among: Selection | None) -> Neighbours:
        """The nearest of all that may be found, by the vectors as the kind keeps them."""
        exact = ExactIndex(self._dim, self._metric)
        ivf = library.faiss().try_extract_index_ivf(self._index.index)
        if ivf is not None:
            # It finds a vector by its place only with such a map.
            ivf.make_direct_map()
        ids = library.faiss().vector_to_array(self._index.id_map)
        places = np.flatnonzero(self._alive(ids, among))
        for start in range(0, len(places), _BLOCK):
            block = places[start : start + _BLOCK]
            exact.add(ids[block], self._index.index.reconstruct_batch(block))
        found = exact.search(queries, k)
        return Neighbours(found.numbers, found.distances, np.full(len(queries), np.inf), found.exhausted)

    def saveable(self) -> bool:
        return self._waiting is None

    def save(self, path: Path) -> None:
        library.write(self._index, path)

    def load(self, path: Path) -> None:
        index, _ = library.read(path, self._dim, self._metric, mapped=False)
        made, read = (library.faiss().downcast_index(one.index) for one in (self._index, index))
        # "Flat" is made as IndexFlat and read as IndexFlatIP or IndexFlatL2.
        if not (isinstance(made, type(read)) or isinstance(read, type(made))):
            raise GalleryError(f"{path} does not hold a {self.kind} index")
        self._index, self._waiting, self._dead = index, None, np.empty(0, np.int64)
        _set_probes(self._index.index)

    def worn(self) -> bool:
        return len(self._dead) > max(1000, int(self._index.ntotal) // 4)


def _ranked(numbers: Numbers, distances: npt.NDArray[np.float32], k: int, there: int) -> Neighbours:
    order = np.lexsort((numbers, distances), axis=1)[:, :k]
    lacking = ((0, 0), (0, k - order.shape[1]))
    return Neighbours(
        np.pad(np.take_along_axis(numbers, order, axis=1), lacking, constant_values=-1),
        np.pad(np.take_along_axis(distances, order, axis=1), lacking, constant_values=np.inf),
        np.full(len(order), np.inf),
        np.full(len(order), there <= k),
    )


def _made(kind: str, dim: int, metric: str) -> Any:
    try:
        inner = library.faiss().index_factory(dim, kind, library.faiss_metric(metric))
    except RuntimeError as error:
        raise ValueError(f"FAISS cannot make an index {kind!r} of dim {dim}: {error}") from error
    _set_probes(inner)
    return library.numbered(inner)


def _training_size(inner: Any) -> int:
    """How many vectors the kind wants before it is trained; 0 when it needs no training."""
    if inner.is_trained:
        return 0
    ivf = library.faiss().try_extract_index_ivf(inner)
    return max(_PER_CELL * 256, _PER_CELL * (ivf.nlist if ivf is not None else 0))


def _set_probes(inner: Any) -> None:
    """Recall before speed: FAISS looks into one cell of an IVF unless told otherwise."""
    inner = library.faiss().downcast_index(inner)
    ivf = library.faiss().try_extract_index_ivf(inner)
    if ivf is not None:
        ivf.nprobe = max(8, ivf.nlist // 16)
    if hasattr(inner, "k_factor"):
        inner.k_factor = 4.0


def _reach_for(inner: Any, ask: int) -> None:
    """HNSW finds no more than efSearch neighbours, and few of the last ones well."""
    inner = library.faiss().downcast_index(inner)
    if hasattr(inner, "hnsw"):
        inner.hnsw.efSearch = max(_EF_SEARCH, 2 * ask)
