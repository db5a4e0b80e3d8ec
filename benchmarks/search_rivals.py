"""The contenders of the approximate search: ours, FAISS used directly, and four libraries of graphs.

All graphs have 16 links a vector (32 at the lowest level of an HNSW) and look at 100 candidates while they
are built, in float32, on all cores. To add one: one class here with the methods of `Contender`, its name in
`RIVALS`, its package in requirements-search.txt.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

import gallery
from benchmarks.search_data import Crowd, Rows, Whole, index_of, name_of, opened
from gallery.indexes import kinds, library

LINKS, BREADTH, THREADS = 16, 100, 2
REACHES = (96, 128, 192, 256, 384, 512, 640, 1024)


class Contender(Protocol):
    """One way to find the nearest templates of many queries. Made or loaded, then told how hard to look."""

    name: str
    packages: ClassVar[tuple[str, ...]]
    removes: ClassVar[str]
    """What a removal does."""

    def load(self) -> None:
        """Imports what is needed; ImportError when it is not installed."""

    def make(self, crowd: Crowd, folder: Path) -> None:
        """Builds it of the crowd and leaves it in an empty folder."""

    def open(self, crowd: Crowd, folder: Path) -> None:
        """Takes up what is in the folder."""

    def settings(self) -> Sequence[Any]:
        """How hard it may look, the quickest first."""

    def look(self, setting: Any) -> None:
        """Looks as hard as that from now on."""

    def ask(self, queries: Rows, templates: int) -> Whole:
        """(q, m) numbers of templates, nearest first, -1 for none; or of subjects: see `finds_subjects`."""

    def remove(self, subjects: Sequence[int], numbers: Whole) -> None:
        """Takes subjects, with all their templates, out of it."""


class Ours(Contender):
    """`identify_batch` of a gallery, ids, metadata and exact distances included."""

    packages = ("faiss-cpu",)
    removes = "remove_many, durable; gone from the next search"
    finds_subjects = True

    def __init__(self, kind: str) -> None:
        self.kind, self.name = kind, f"ours, {kind}"

    def load(self) -> None:
        import faiss  # noqa: F401

    def make(self, crowd: Crowd, folder: Path) -> None:
        filled = folder.with_name("ours-exact") / "people"
        if filled.is_dir() and filled.parent != folder:
            shutil.copytree(filled, folder / "people")  # enrolled once, indexed in several ways
        opened(crowd, folder / "people", self.kind).close()

    def open(self, crowd: Crowd, folder: Path) -> None:
        self.people = gallery.open(folder / "people", gallery.Precomputed(crowd.dim))
        self.index = index_of(self.people)

    def settings(self) -> Sequence[Any]:
        return efforts(self.index)

    def look(self, setting: kinds.Effort | None) -> None:
        if setting is not None:
            kinds.set_effort(self.index._index, setting)

    def ask(self, queries: Rows, templates: int) -> Any:
        return self.people.identify_batch(queries, k=5)

    def remove(self, subjects: Sequence[int], numbers: Whole) -> None:
        self.people.remove_many([name_of(subject) for subject in subjects])


class Bare(Contender):
    """FAISS's own search of the very index that a gallery of ours made: what the gallery adds is the rest."""

    packages = ("faiss-cpu",)
    finds_subjects = False

    def __init__(self, ours: Ours) -> None:
        self.ours, self.name = ours, f"FAISS {ours.kind}"

    def load(self) -> None:
        import faiss  # noqa: F401

    def make(self, crowd: Crowd, folder: Path) -> None:
        pass

    def open(self, crowd: Crowd, folder: Path) -> None:
        self.index = self.ours.index._index

    def settings(self) -> Sequence[Any]:
        return efforts(self.ours.index)

    def look(self, setting: kinds.Effort) -> None:
        self.ours.look(setting)

    def ask(self, queries: Rows, templates: int) -> Whole:
        with library.tuned(queries.shape[1]):
            return self.index.search(queries, templates)[1]


def efforts(index: Any) -> Sequence[kinds.Effort | None]:
    """Ways to look harder and harder, for a kind that has any."""
    if index.kind == "exact":
        return [None]
    there, most = kinds.effort(index._index), kinds.most(index._index)
    cells = [one for one in (8, 16, 32, 64, 96, 128, 256) if one <= most.cells] or [0]
    refined = [0] if not there.refined else [2, 3, 4, 8]
    reaches = [0] if not there.reach else list(REACHES)
    return [kinds.Effort(*one) for one in product(cells, reaches, refined)]


class Hnswlib(Contender):
    """hnswlib."""

    name = "hnswlib"
    packages = ("hnswlib",)
    removes = "mark_deleted"
    finds_subjects = False

    def load(self) -> None:
        import hnswlib

        self._module = hnswlib

    def make(self, crowd: Crowd, folder: Path) -> None:
        index = self._module.Index("ip", crowd.dim)
        index.init_index(crowd.count, M=LINKS, ef_construction=BREADTH)
        index.set_num_threads(THREADS)
        for first, rows in crowd.blocks():
            index.add_items(rows, np.arange(first, first + len(rows)))
        index.save_index(str(folder / "index"))

    def open(self, crowd: Crowd, folder: Path) -> None:
        self._index = self._module.Index("ip", crowd.dim)
        self._index.load_index(str(folder / "index"))
        self._index.set_num_threads(THREADS)

    def settings(self) -> Sequence[Any]:
        return REACHES

    def look(self, setting: int) -> None:
        self._reach = setting

    def ask(self, queries: Rows, templates: int) -> Whole:
        self._index.set_ef(max(self._reach, templates))
        return self._index.knn_query(queries, templates)[0].astype(np.int64)

    def remove(self, subjects: Sequence[int], numbers: Whole) -> None:
        for number in numbers.tolist():
            self._index.mark_deleted(number)


class Usearch(Contender):
    """usearch."""

    name = "usearch"
    packages = ("usearch",)
    removes = "remove"
    finds_subjects = False

    def load(self) -> None:
        from usearch.index import Index

        self._class = Index

    def _made(self, crowd: Crowd) -> Any:
        return self._class(
            ndim=crowd.dim, metric="ip", dtype="f32", connectivity=LINKS, expansion_add=BREADTH
        )

    def make(self, crowd: Crowd, folder: Path) -> None:
        index = self._made(crowd)
        for first, rows in crowd.blocks():
            index.add(np.arange(first, first + len(rows)), rows, threads=THREADS)
        index.save(str(folder / "index"))

    def open(self, crowd: Crowd, folder: Path) -> None:
        self._index = self._made(crowd)
        self._index.load(str(folder / "index"))

    def settings(self) -> Sequence[Any]:
        return REACHES

    def look(self, setting: int) -> None:
        self._index.expansion_search = setting

    def ask(self, queries: Rows, templates: int) -> Whole:
        return self._index.search(queries, templates, threads=THREADS).keys.astype(np.int64)

    def remove(self, subjects: Sequence[int], numbers: Whole) -> None:
        self._index.remove(numbers)


class Voyager(Contender):
    """Spotify's voyager."""

    name = "voyager"
    packages = ("voyager",)
    removes = "mark_deleted"
    finds_subjects = False

    def load(self) -> None:
        import voyager

        self._module = voyager

    def make(self, crowd: Crowd, folder: Path) -> None:
        space = self._module.Space.InnerProduct
        index = self._module.Index(space, crowd.dim, M=LINKS, ef_construction=BREADTH)
        for first, rows in crowd.blocks():
            index.add_items(rows, list(range(first, first + len(rows))), num_threads=THREADS)
        index.save(str(folder / "index"))

    def open(self, crowd: Crowd, folder: Path) -> None:
        self._index = self._module.Index.load(str(folder / "index"))

    def settings(self) -> Sequence[Any]:
        return REACHES

    def look(self, setting: int) -> None:
        self._reach = setting

    def ask(self, queries: Rows, templates: int) -> Whole:
        reach = max(self._reach, templates)
        found = self._index.query(queries, templates, num_threads=THREADS, query_ef=reach)[0]
        return found.astype(np.int64)

    def remove(self, subjects: Sequence[int], numbers: Whole) -> None:
        for number in numbers.tolist():
            self._index.mark_deleted(number)


class Svs(Contender):
    """Intel's scalable-vs: a Vamana graph that can delete. Its compressed kinds run on Intel alone."""

    name = "scalable-vs"
    packages = ("scalable-vs",)
    removes = "delete, consolidate"
    finds_subjects = False

    def load(self) -> None:
        import svs

        self._module = svs

    def make(self, crowd: Crowd, folder: Path) -> None:
        module = self._module
        # As many as the lowest level of the HNSWs has, where the search spends its time.
        told = module.VamanaBuildParameters(alpha=0.95, graph_max_degree=2 * LINKS, window_size=BREADTH)
        numbers = np.arange(crowd.count, dtype=np.uint64)
        index = module.DynamicVamana.build(told, crowd.rows(), numbers, module.MIP, THREADS)
        index.save(*(str(folder / part) for part in ("config", "graph", "data")))

    def open(self, crowd: Crowd, folder: Path) -> None:
        module = self._module
        config, graph, data = (str(folder / part) for part in ("config", "graph", "data"))
        rows = module.VectorDataLoader(data, module.DataType.float32)
        graph_loader = module.GraphLoader(graph)
        self._index = module.DynamicVamana(config, graph_loader, rows, module.MIP, num_threads=THREADS)

    def settings(self) -> Sequence[Any]:
        return REACHES

    def look(self, setting: int) -> None:
        self._index.search_window_size = setting

    def ask(self, queries: Rows, templates: int) -> Whole:
        return self._index.search(queries, templates)[0].astype(np.int64)

    def remove(self, subjects: Sequence[int], numbers: Whole) -> None:
        self._index.delete(numbers.astype(np.uint64))
        self._index.consolidate()


RIVALS: dict[str, type[Contender]] = {one.name: one for one in (Hnswlib, Usearch, Voyager, Svs)}
