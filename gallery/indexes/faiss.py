"""Any kind that FAISS's `index_factory` can name, "HNSW32" or "IVF1024,SQ8": approximate, with removals.

Removed templates are hidden rather than deleted, because most kinds cannot delete and some relabel what is
left when they do. Until there are enough vectors to train on, an exact index stands in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gallery.errors import GalleryError
from gallery.indexes import kinds, library
from gallery.indexes.base import Effort, Neighbours, Selection, UnfitIndex, nothing
from gallery.indexes.exact import ExactIndex
from gallery.indexes.gpu_copy import GpuCopy, Scores, Unanswered
from gallery.indexes.positions import Bits, Positions, within
from gallery.vectors import FloatRows, Numbers, sum_error

Found = tuple[npt.NDArray[np.float32], Numbers]
"""(distances, positions), both (q, m), (inf, -1) where nothing was found; in no order."""

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
        self._index = kinds.made(kind, dim, metric)
        self.untold = kinds.effort(self._index)
        self._needed = kinds.training_size(self._index)
        self._waiting = ExactIndex(dim, metric) if self._needed else None
        self._owner: Any = None
        self._gpu = GpuCopy()
        self._at = Positions()
        self._can_select = True
        self.trained_on = 0
        """How many there were when it was trained; 0 for what needs no training."""

    def __len__(self) -> int:
        return len(self._waiting) if self._waiting is not None else len(self._at) - self._at.dead

    # -- training

    @property
    def lacking(self) -> int:
        """How many templates it still waits for until it can be trained, 0 when it is."""
        return 0 if self._waiting is None else max(1, self._needed - len(self._waiting))

    @property
    def centroids(self) -> int:
        """How many vectors it cannot be trained without."""
        return kinds.centroids(self._index)

    def hurry(self) -> None:
        """Makes its training quick and poor, as a rehearsal may be."""
        kinds.hurry(self._index)

    def sample(self, templates: int) -> int:
        """On how many of so many templates it is best trained now; 0 where that is done, or cannot be yet."""
        if self._waiting is None or templates < self._needed:
            return 0
        return min(templates, max(self._needed, kinds.sample_size(self._index)))

    def train(self, rows: FloatRows, templates: int) -> None:
        """Trains it on a sample, (m, dim), of so many templates, and takes up what waited for that."""
        with _blamed(self.kind):
            self._index.train(rows)
        waiting, self._waiting, self.trained_on = self._waiting, None, templates
        if waiting is not None:
            for numbers, some in waiting.living():
                self._append(numbers, some)

    # -- changing

    def add(self, numbers: Numbers, rows: FloatRows) -> None:
        if len(numbers) == 0:
            return
        if self._waiting is None:
            self._append(numbers, rows)
            return
        self._waiting.add(numbers, rows)
        if len(self._waiting) >= self._needed:
            self.train(np.concatenate([block[1] for block in self._waiting.living()]), len(self))

    def _append(self, numbers: Numbers, rows: FloatRows) -> None:
        with _blamed(self.kind):
            self._index.add(rows)
        self._gpu.add(rows)
        self._at.append(numbers)

    def remove(self, numbers: Numbers) -> None:
        if self._waiting is not None:
            self._waiting.remove(numbers)
        else:
            self._at.hide(numbers)

    def worn(self) -> bool:
        return self._at.dead > max(1000, len(self._at) // 4)

    # -- searching

    def search(self, queries: FloatRows, k: int, among: Selection | None = None) -> Neighbours:
        if self._waiting is not None:
            return self._waiting.search(queries, k, among)
        bits = self._allowed(among)
        there = len(self) if bits is None else int(np.bitwise_count(bits).sum())
        if there == 0:
            return nothing(len(queries), k)
        with _blamed(self.kind):
            if there < len(self._at) // _SELECTIVE:
                # A graph or the cells near a query would mostly lead to what may not be found.
                return self._answer(self._swept(queries, min(k, there), bits), k, there)
            return self._answer(self._search(queries, min(k, there), there, bits), k, there)

    def _allowed(self, among: Selection | None) -> Bits | None:
        """The positions that may be found; None is all of them."""
        if among is None:
            return self._at.alive if self._at.dead else None
        return self._at.without(among.numbers) if among.all_but else self._at.only(among.numbers)

    def _search(self, queries: FloatRows, k: int, there: int, bits: Bits | None) -> Found:
        """At least the k nearest positions of `there` allowed ones: looks harder where it found too few."""
        look, hardest = kinds.effort(self._index), kinds.most(self._index)
        found = self._found(queries, k, look, bits)
        while len(short := np.flatnonzero((found[1] >= 0).sum(axis=1) < k)) and look != hardest:
            look = _harder(look, hardest)
            found = _put(found, short, self._found(queries[short], k, look, bits))
        if len(short):
            # Duplicates tear the graph of HNSW apart, and hidden ones may be all that it comes by.
            found = _put(found, short, self._swept(queries[short], k, bits))
        return found

    def _found(self, queries: FloatRows, k: int, look: Effort, bits: Bits | None) -> Found:
        """What FAISS finds of the allowed, on the GPU where a copy of it is."""
        with suppress(Unanswered):
            return self._proposed(
                lambda ask: self._gpu.search(self._index, queries, ask, look.cells), k, bits
            )
        with library.tuned(self._dim):
            if bits is not None and self._can_select:
                try:
                    return self._public(*kinds.search(self._index, queries, k, look, bits), bits)
                except RuntimeError:
                    self._can_select = False
            return self._proposed(lambda ask: kinds.search(self._index, queries, ask, look, None), k, bits)

    def _proposed(self, search: Callable[[int], Scores], k: int, bits: Bits | None) -> Found:
        """What a search for so many finds; where it cannot be told what to hide, it is asked for more."""
        if bits is None:
            return self._public(*search(k), None)
        total = int(self._index.ntotal)
        ask = min(total, 2 * k)
        while True:
            scores, at = search(ask)
            found = self._public(scores, at, bits)
            if ask == total or not (((found[1] >= 0).sum(axis=1) < k) & (at[:, -1] >= 0)).any():
                return found
            ask = min(total, 4 * ask)

    def _public(self, scores: npt.NDArray[np.float32], at: Numbers, bits: Bits | None) -> Found:
        allowed = at >= 0 if bits is None else within(bits, at)
        distances = np.where(allowed, library.as_distances(scores, self._metric), np.float32(np.inf))
        return distances, np.where(allowed, at, -1)

    def _swept(self, queries: FloatRows, k: int, bits: Bits | None) -> Found:
        """Brute force over the allowed, as the kind knows them."""
        bits = self._at.alive if bits is None else bits
        best = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        for start, rows in kinds.reconstructed(self._index):
            at = np.flatnonzero(within(bits, np.arange(start, start + len(rows))))
            if len(at) == 0:
                continue
            distances, found = library.nearest(queries, rows[at], min(k, len(at)), self._metric)
            both = np.hstack([best[0], distances]), np.hstack([best[1], start + at[found]])
            order = np.lexsort((both[1], both[0]), axis=1)[:, :k]
            best = np.take_along_axis(both[0], order, 1), np.take_along_axis(both[1], order, 1)
        return best

    def _answer(self, found: Found, k: int, there: int) -> Neighbours:
        distances, at = found
        numbers = np.where(at >= 0, self._at.numbers[np.maximum(at, 0)], -1)
        _put_in_order(distances, numbers)
        lacking = ((0, 0), (0, max(0, k - numbers.shape[1])))
        return Neighbours(
            np.pad(numbers[:, :k], lacking, constant_values=-1),
            np.pad(distances[:, :k], lacking, constant_values=np.inf),
            np.full(len(numbers), np.inf),
            np.full(len(numbers), there <= k),
            error=self._error(),
        )

    def _error(self) -> float:
        """How far its distances may be off: see `ExactIndex._error`. Lossy kinds compare with other rows."""
        if self._metric != "cosine" or not self.lossless:
            return np.inf
        return sum_error(self._dim + 20) + self._gpu.error

    # -- how hard it looks

    def effort(self) -> Effort:
        return kinds.effort(self._index)

    def hardest(self) -> Effort:
        """The hardest that is worth it; nothing while an exact index stands in."""
        return Effort() if self._waiting is not None else kinds.most(self._index)

    def look(self, effort: Effort) -> None:
        kinds.set_effort(self._index, effort)

    # -- rows

    @property
    def lossless(self) -> bool:
        """Whether it knows the rows bit for bit."""
        return self._waiting is not None or kinds.is_lossless(self._index)

    def living(self) -> Iterator[tuple[Numbers, FloatRows]]:
        """What can be found, (numbers, rows) in blocks, by number; the rows as the kind knows them."""
        if self._waiting is not None:
            yield from self._waiting.living()
            return
        for start, rows in kinds.reconstructed(self._index):
            at = np.arange(start, start + len(rows))
            alive = self._at.are_alive(at)
            if alive.all():
                yield self._at.numbers[at], rows
            elif alive.any():
                yield self._at.numbers[at[alive]], rows[alive]

    def rows_of(self, numbers: Numbers) -> FloatRows | None:
        """The rows of templates that can be found, as they were added; None where they are not kept."""
        held = None if self._waiting is not None else kinds.rows_as_they_were(self._index)
        return None if held is None else held[self._at.of(numbers)]

    # -- files

    def saveable(self) -> bool:
        return self._waiting is None

    def save(self, path: Path) -> None:
        library.write(library.with_numbers(self._index, self._at.numbers), path)

    def load(self, path: Path) -> None:
        whole, numbers = library.read(path, self._dim, self._metric, mapped=False)
        made, read = (library.faiss().downcast_index(one) for one in (self._index, whole.index))
        # "Flat" is made as IndexFlat and read as IndexFlatIP or IndexFlatL2.
        if not (isinstance(made, type(read)) or isinstance(read, type(made))):
            raise GalleryError(f"{path} does not hold a {self.kind} index")
        self._index, self._waiting, self._at = read, None, Positions(numbers)
        # It owns the memory. The numbers are ours from now on, and it need not hold them too.
        self._owner, self._gpu = whole, GpuCopy()
        whole.id_map.clear()


@contextmanager
def _blamed(kind: str) -> Iterator[None]:
    """What FAISS raises of its own is said of the kind."""
    try:
        yield
    except RuntimeError as error:
        raise UnfitIndex(kind, kinds.reason(error).partition("\n")[0]) from error


def _put_in_order(distances: npt.NDArray[np.float32], numbers: Numbers) -> None:
    """Sorts (q, m) in place by distance, ties by number. FAISS has them in order but for ties, mostly."""
    before, after = distances[:, :-1], distances[:, 1:]
    wrong = np.flatnonzero(~((before < after) | np.isinf(after)).all(axis=1))
    if len(wrong):
        order = np.lexsort((numbers[wrong], distances[wrong]), axis=1)
        numbers[wrong] = np.take_along_axis(numbers[wrong], order, axis=1)
        distances[wrong] = np.take_along_axis(distances[wrong], order, axis=1)


def _harder(look: Effort, hardest: Effort) -> Effort:
    return replace(
        look,
        cells=min(hardest.cells, 4 * look.cells),
        reach=min(hardest.reach, 4 * look.reach),
        refined=min(hardest.refined, 4 * look.refined),
    )


def _put(found: Found, rows: Numbers, new: Found) -> Found:
    """The answers with those of `rows` replaced, as wide as the wider of both."""
    width = max(found[1].shape[1], new[1].shape[1])
    distances, at = _wide(found[0], width, np.inf), _wide(found[1], width, -1)
    distances[rows], at[rows] = _wide(new[0], width, np.inf), _wide(new[1], width, -1)
    return distances, at


def _wide(array: Any, width: int, value: float) -> Any:
    return np.pad(array, ((0, 0), (0, width - array.shape[1])), constant_values=value)
