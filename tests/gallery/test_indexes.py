"""The kinds of index: each inherits the contract, and what is special to one is tested below."""

from __future__ import annotations

import os

import numpy as np
import pytest

from gallery.errors import GalleryError, MissingExtraError
from gallery.indexes import bytes_pass, faiss, library
from gallery.indexes.certified import Plan
from gallery.indexes.exact import ExactIndex
from gallery.indexes.faiss import FaissIndex
from gallery.indexes.half_pass import HalfPass
from gallery.vectors import prepare
from tests.gallery.contracts.index import COUNT, DIM, VectorIndexContract, numbered
from tests.gallery.doubles import METRICS, in_another_process, vectors


@pytest.fixture(autouse=True)
def one_thread():
    """What is searched here is so small that waking threads would take most of the time."""
    library.faiss().omp_set_num_threads(1)
    yield
    library.faiss().omp_set_num_threads(os.cpu_count())


class TestExact(VectorIndexContract):
    certain = True

    def make(self, dim, metric):
        return ExactIndex(dim, metric)


def forced(make, block=64):
    """A plan that asks a first pass at every size, in many small blocks."""
    return Plan(make, rows=1, dim=1, block=block, patient=False)


PASSES = {
    "bytes": bytes_pass.BytePass,
    "half": lambda rows, metric, size: HalfPass(rows, metric, size, "cpu"),
}


class TestExactByBytes(VectorIndexContract):
    certain = True

    def make(self, dim, metric):
        if not bytes_pass.available():
            pytest.skip("FBGEMM does not run here")
        return ExactIndex(dim, metric, forced(PASSES["bytes"]))


class TestExactByHalves(VectorIndexContract):
    certain = True

    def make(self, dim, metric):
        return ExactIndex(dim, metric, forced(PASSES["half"]))


class TestFlat(VectorIndexContract):
    def make(self, dim, metric):
        return FaissIndex(dim, metric, "Flat")


class TestHNSW(VectorIndexContract):
    recall = 0.97

    def make(self, dim, metric):
        return FaissIndex(dim, metric, "HNSW16")


@pytest.fixture
def small_training(monkeypatch):
    """IVF kinds train on 512 vectors, so that a test can see them trained."""
    monkeypatch.setattr(faiss, "_PER_CELL", 2)


@pytest.mark.usefixtures("small_training")
class TestIVF(VectorIndexContract):
    ready_from = 512

    def make(self, dim, metric):
        return FaissIndex(dim, metric, "IVF8,Flat")


@pytest.mark.usefixtures("small_training")
class TestIVFQuantized(VectorIndexContract):
    ready_from = 512
    recall = 0.85
    slack = 0.04

    def make(self, dim, metric):
        return FaissIndex(dim, metric, "IVF8,SQ8")


@pytest.mark.usefixtures("small_training")
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("cells", [8, 64])
def test_an_ivf_fills_all_places_though_it_looks_into_few_cells(metric, cells):
    rows = prepare(vectors(COUNT, DIM), metric)
    index = FaissIndex(DIM, metric, f"IVF{cells},Flat")
    index.add(numbered(rows), rows)
    found = index.search(rows[:3], COUNT)
    assert sorted(found.numbers[0].tolist()) == list(range(1, COUNT + 1))


@pytest.mark.parametrize("metric", METRICS)
def test_hnsw_fills_all_places_though_duplicates_tear_its_graph(metric):
    rows = np.repeat(prepare(vectors(4, DIM), metric), 500, axis=0)
    index = FaissIndex(DIM, metric, "HNSW16")
    index.add(numbered(rows), rows)
    found = index.search(rows[:1], len(rows))
    assert sorted(found.numbers[0].tolist()) == list(range(1, len(rows) + 1))


@pytest.mark.parametrize("metric", METRICS)
def test_the_exact_floor_settles_which_of_two_is_nearer(metric):
    """A floor that is any higher than the truth would let the engine miss a nearer template."""
    rng = np.random.default_rng(5)
    for dim in (2, 33, 257):
        base = rng.standard_normal((1, dim))
        rows = prepare((base + 1e-3 * rng.standard_normal((300, dim))).astype(np.float32), metric)
        index = ExactIndex(dim, metric)
        index.add(numbered(rows), rows)
        for count in (1, 7):
            found = index.search(rows[:count], 40)
            for row in range(count):
                exact = rows.astype(np.float64)
                if metric == "cosine":
                    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
                    truth = ((exact - exact[row]) ** 2).sum(axis=1) / 2
                else:
                    truth = np.linalg.norm(exact - exact[row], axis=1)
                left_out = np.setdiff1d(np.arange(300), found.numbers[row] - 1)
                assert truth[left_out].min() >= found.floor[row]


def test_segments_stay_few(monkeypatch):
    searched = []
    monkeypatch.setattr(library, "nearest", _counting(searched, library.nearest))
    index = ExactIndex(4, "euclidean")
    rows = vectors(1000, 4)
    for number in range(1000):
        index.add(np.array([number + 1]), rows[number : number + 1])
    index.search(rows[:1], 1)
    assert sum(searched) == 1000
    assert len(searched) <= 10


def _counting(sizes, nearest):
    def counted(queries, rows, k, metric):
        sizes.append(len(rows))
        return nearest(queries, rows, k, metric)

    return counted


@pytest.mark.parametrize("kind", ["", "Nonsense", "IVF8", "HNSW16,Nope", "PQ3"])
def test_kinds_that_faiss_cannot_make(kind):
    with pytest.raises(ValueError, match=f"FAISS cannot make an index '{kind}' of dim 8"):
        FaissIndex(8, "cosine", kind)


def test_an_index_of_another_kind_is_refused(tmp_path):
    index = FaissIndex(DIM, "cosine", "Flat")
    rows = prepare(vectors(20, DIM), "cosine")
    index.add(numbered(rows), rows)
    index.save(tmp_path / "flat")
    with pytest.raises(GalleryError, match="does not hold a HNSW16 index"):
        FaissIndex(DIM, "cosine", "HNSW16").load(tmp_path / "flat")
    hnsw = FaissIndex(DIM, "cosine", "HNSW16")
    hnsw.add(numbered(rows), rows)
    hnsw.save(tmp_path / "hnsw")
    with pytest.raises(GalleryError, match="expected a flat index"):
        ExactIndex(DIM, "cosine").load(tmp_path / "hnsw")


def test_faiss_settings_are_put_back():
    cvar = library.faiss().cvar
    before = cvar.distance_compute_blas_threshold, cvar.distance_compute_blas_database_bs
    library.nearest(vectors(9, 4), vectors(50, 4), 3, "cosine")
    assert (cvar.distance_compute_blas_threshold, cvar.distance_compute_blas_database_bs) == before


def test_without_faiss_the_pip_line_is_given(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'siamese-gallery\[cpu\]'"):
        library.faiss()


def test_adding_to_a_mapped_file_does_not_abort_the_process(tmp_path):
    printed = in_another_process(
        """
import sys
import numpy as np
from gallery.indexes.exact import ExactIndex
from pathlib import Path
rows = np.eye(4, dtype=np.float32)
index = ExactIndex(4, "cosine")
index.add(np.arange(1, 5), rows)
index.save(Path(sys.argv[1]))
again = ExactIndex(4, "cosine")
again.load(Path(sys.argv[1]))
again.add(np.array([9]), rows[:1])
print(again.search(rows[:1], 3).numbers.tolist())
""",
        tmp_path / "mapped",
    )
    assert printed.split("\n")[0].startswith("[[1, 9, ")
