"""The kinds of index: each inherits the contract, and what is special to one is tested below."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gallery.errors import GalleryError, MissingExtraError
from gallery.indexes import bytes_pass, kinds, library, rehearsing
from gallery.indexes.base import Selection
from gallery.indexes.certified import Plan
from gallery.indexes.exact import ExactIndex
from gallery.indexes.faiss import FaissIndex
from gallery.indexes.half_pass import HalfPass
from gallery.indexes.positions import Positions, within
from gallery.vectors import prepare
from tests.gallery.contracts.index import COUNT, DIM, VectorIndexContract, numbered
from tests.gallery.doubles import METRICS, in_another_process, true_distances, vectors


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
    monkeypatch.setattr(kinds, "_PER_CELL", 2)


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
class TestRefined(VectorIndexContract):
    """Cells, 4-bit codes, and the rows themselves to score the best again."""

    ready_from = 512
    recall = 0.9

    def make(self, dim, metric):
        return FaissIndex(dim, metric, f"IVF8,PQ{dim}x4fs,RFlat")


@pytest.mark.usefixtures("small_training")
class TestWithoutASelector(VectorIndexContract):
    """Codes without cells, which cannot be told what to hide."""

    ready_from = 512
    recall = 0.6
    slack = 0.25

    def make(self, dim, metric):
        return FaissIndex(dim, metric, f"PQ{dim}x6np")


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


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("expected", [1, 500, 600, 800])
def test_what_was_expected_may_come_or_not(metric, expected, tmp_path):
    rows, numbers = prepare(vectors(600, 8), metric), np.arange(1, 601)
    index = ExactIndex(8, metric)
    index.expect(expected)
    left = np.arange(600) % 150 != 0
    for start in range(0, 600, 150):
        index.add(numbers[start : start + 150], rows[start : start + 150])
        index.remove(numbers[start : start + 1])
    for round in range(2):
        again = ExactIndex(8, metric)
        index.save(tmp_path / f"{round}.faiss")
        again.load(tmp_path / f"{round}.faiss")
        for one in (index, again):
            found = one.search(rows[::50], 5)
            truth = np.stack([true_distances(query, rows[left], metric) for query in rows[::50]])
            assert found.numbers.tolist() == numbers[left][np.argsort(truth, kind="stable")[:, :5]].tolist()
        index.remove(numbers[round::3])
        left &= ~np.isin(numbers, numbers[round::3])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux what it took")
def test_building_and_writing_it_takes_the_room_of_the_rows_once(tmp_path):
    """Measured in a process of its own, because FAISS's memory is not numpy's."""
    grown = int(in_another_process(GROWN, str(tmp_path / "rows.faiss")))
    assert 0.9 < grown / (300_000 * 64 * 4) < 1.4


GROWN = """
import re, sys
from pathlib import Path
import numpy as np
from gallery.indexes.exact import ExactIndex
block = np.random.default_rng(0).standard_normal((10_000, 64), dtype=np.float32)
def fill(count):
    index = ExactIndex(64, "euclidean")
    index.expect(count)
    for start in range(0, count, len(block)):
        index.add(np.arange(start, start + len(block)), block)
    index.save(Path(sys.argv[1]))
def most():
    return 1024 * int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
fill(10_000)
before = most()
fill(300_000)
print(most() - before)
"""


def _counting(sizes, nearest):
    def counted(queries, rows, k, metric):
        sizes.append(len(rows))
        return nearest(queries, rows, k, metric)

    return counted


class PositionsBesideADict(RuleBasedStateMachine):
    """`Positions` beside {number: hidden}."""

    def __init__(self):
        super().__init__()
        self.at, self.hidden, self.last = Positions(), {}, 0

    @rule(steps=st.lists(st.integers(1, 9), max_size=40))
    def append(self, steps):
        numbers = self.last + np.cumsum([0, *steps])[1:]
        self.at.append(numbers.astype(np.int64))
        self.hidden |= dict.fromkeys(numbers.tolist(), False)
        self.last = int(numbers[-1]) if steps else self.last

    @rule(numbers=st.lists(st.integers(-3, 400), max_size=20))
    def hide(self, numbers):
        self.at.hide(np.array(numbers, np.int64))
        self.hidden |= {one: True for one in numbers if one in self.hidden}

    @rule(numbers=st.sets(st.integers(-3, 400), max_size=20))
    def only(self, numbers):
        bits = self.at.only(np.array(sorted(numbers), np.int64))
        wanted = [one in numbers and not hidden for one, hidden in self.hidden.items()]
        assert within(bits, np.arange(len(self.hidden))).tolist() == wanted

    @invariant()
    def both_say_the_same(self):
        assert self.at.numbers.tolist() == list(self.hidden)
        assert (len(self.at), self.at.dead) == (len(self.hidden), sum(self.hidden.values()))
        alive = [not one for one in self.hidden.values()]
        everywhere = np.arange(-1, len(self.hidden))
        assert self.at.are_alive(everywhere).tolist() == [False, *alive]
        assert self.at.living().tolist() == np.flatnonzero(alive).tolist()


TestPositions = PositionsBesideADict.TestCase
TestPositions.settings = settings(max_examples=40, stateful_step_count=15, deadline=None, derandomize=True)

SELECTING = ["Flat", "HNSW16", "IVF8,Flat", "IVF8,PQ8x4fs,RFlat", "PQ8x6np", "PCA8,IVF8,Flat"]


@pytest.mark.usefixtures("small_training")
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", SELECTING)
@pytest.mark.parametrize("share", [0.003, 0.1, 0.9])
def test_searching_among_some_finds_as_many_of_those_as_there_are(metric, kind, share):
    rows = prepare(vectors(COUNT, DIM), metric)
    index = FaissIndex(DIM, metric, kind)
    index.add(numbered(rows), rows)
    index.remove(np.arange(1, COUNT, 3))
    rng = np.random.default_rng(7)
    among = np.sort(rng.choice(COUNT, int(share * COUNT), replace=False)).astype(np.int64) + 1
    allowed = among[(among - 1) % 3 != 0]
    queries = prepare(vectors(20, DIM, 1), metric)
    found = index.search(queries, 10, Selection(np.append(among, 10**9)))
    recall = contract.check_neighbours(found, queries, rows[allowed - 1], allowed, metric, 10)
    assert recall >= (0.5 if kind == "PQ8x6np" else 0.9)


class contract(VectorIndexContract):
    slack = 0.3


contract = contract()


@pytest.mark.parametrize("kind", ["HNSW16", "IVF256,Flat", "IVF256_HNSW8,SQ8", "IVF8,PQ8x4fs,RFlat", "SQ8"])
@pytest.mark.usefixtures("small_training")
def test_it_does_not_reach_for_what_stands_in_until_it_is_trained(kind):
    index = FaissIndex(DIM, "cosine", kind)
    rows = prepare(vectors(600, DIM), "cosine")
    index.add(numbered(rows[:50]), rows[:50])
    waits = kind != "HNSW16"
    assert (index.lacking > 0, index.saveable(), len(index)) == (waits, not waits, 50)
    found = index.search(rows[:1], 3, Selection(np.array([4, 9], np.int64)))
    assert sorted(found.numbers[0].tolist()) == [-1, 4, 9]
    index.add(numbered(rows[50:], 51), rows[50:])
    assert (index.lacking, index.saveable(), len(index)) == (0, True, 600)
    assert index.search(rows[:40], 1).numbers[:, 0].tolist() == list(range(1, 41))


def test_two_threads_may_ask_for_different_efforts():
    """What a search is told is told to it alone: the index itself stays as it was."""
    rows = prepare(vectors(COUNT, DIM), "cosine")
    index = FaissIndex(DIM, "cosine", "HNSW16")
    index.add(numbered(rows), rows)
    before = kinds.effort(index._index)
    index.search(rows[:2], 600)
    assert kinds.effort(index._index) == before == kinds.Effort(reach=128)


@pytest.mark.parametrize("kind", ["NSG16", "IDMap,Flat", "IDMap2,IVF8,Flat", "IVF8,NSG16"])
def test_kinds_that_cannot_grow_are_refused(kind):
    with pytest.raises(ValueError, match=re.escape(kind)):
        rehearsing.try_out(kind, 8, "euclidean")


@pytest.mark.parametrize(
    "kind",
    ["Flat", "HNSW16", "IVF8,Flat", "IVF4096,SQ8", "PQ4", "OPQ4,IVF8,PQ4x4fs,RFlat", "PCA4,Flat", "PQ4x10"],
)
def test_kinds_that_can_grow_are_not_refused(kind):
    for metric in METRICS:
        rehearsing.try_out(kind, 8, metric)


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("PCA64,Flat", "cannot output 64 dimensions"),
        ("IVF16,FlatDedup", "not implemented"),
        ("HNSW16_2+PQ4", "search params not supported"),
        ("IVF16_NSG16,Flat", "NNDescent"),
    ],
)
def test_kinds_that_cannot_be_trained_or_searched_are_refused(kind, why):
    with pytest.raises(ValueError, match=f"{re.escape(repr(kind))} cannot be trained and grow.*{why}"):
        rehearsing.try_out(kind, 32, "cosine")


@pytest.mark.parametrize("kind", ["RR0,Flat", "PQ4x0"])
def test_kinds_that_end_the_process_are_tried_out_in_another_one_and_only_once(kind):
    for _ in range(2):
        with pytest.raises(ValueError, match=r"FAISS ends the process with it \(SIG"):
            rehearsing.rehearse(kind, 32, "euclidean")
    before = rehearsing._verdict.cache_info().misses
    with pytest.raises(ValueError):
        rehearsing.rehearse(kind, 32, "euclidean")
    assert rehearsing._verdict.cache_info().misses == before


def test_the_plainest_kinds_start_no_process_and_the_others_one(monkeypatch):
    started = []
    monkeypatch.setattr(rehearsing, "_verdict", lambda *kind: started.append(kind) or "")
    for kind in ("HNSW32", "Flat", "HNSW16,Flat", "IVF1024,SQ8"):
        rehearsing.rehearse(kind, 8, "cosine")
    assert started == [("IVF1024,SQ8", 8, "cosine")]


def test_only_a_verdict_or_a_crash_speaks_against_a_kind(monkeypatch):
    run, said = subprocess.run, []

    def other(*_, **__):
        patience = 3 if "sleep" in said[-1] else 120
        return run([sys.executable, "-c", said[-1]], capture_output=True, timeout=patience)

    monkeypatch.setattr(subprocess, "run", other)
    asked = rehearsing._verdict.__wrapped__
    for program, why in (
        ("import time; print('begun', flush=True); time.sleep(60)", ""),  # a slow machine
        ("import nothing_of_that_name", ""),
        ("pass", ""),  # another program than Python
        ("print('begun'); print('why: '); print('bye')", ""),
        ("print('begun'); print('why: it is of no use'); print('bye')", "it is of no use"),
        ("import os; print('begun', flush=True); os.abort()", "FAISS ends the process with it (SIGABRT)"),
    ):
        said.append(program)
        told = asked("IVF8,Flat", 8, "cosine")
        assert why in told and bool(told) == bool(why)


@pytest.mark.parametrize(
    ("kind", "wanted"), [("IVF64,Flat", 256), ("PQ4x8", 256), ("PQ4x10", 1024), ("HNSW16_PQ4x12", 4096)]
)
def test_it_waits_for_as_many_vectors_as_its_codes_are_trained_on(kind, wanted):
    assert FaissIndex(32, "euclidean", kind).lacking == 39 * wanted


@pytest.mark.parametrize(
    "kind", ["", "Nonsense", "IVF8", "HNSW16,Nope", "PQ3", "HNSW0", "HNSW01,Flat", "HNSW99999"]
)
def test_kinds_that_faiss_cannot_make(kind):
    with pytest.raises(ValueError, match=f"FAISS cannot make an index '{kind}'"):
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
