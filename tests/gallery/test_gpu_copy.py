"""FAISS kinds on a GPU: with a double of FAISS's GPU indexes, and with a card where there is one."""

from __future__ import annotations

import gc
import os
import threading

import numpy as np
import pytest

import gallery
from gallery.indexes import gpu_copy, kinds, library
from gallery.indexes.base import Effort
from gallery.indexes.faiss import FaissIndex
from gallery.vectors import prepare
from tests.gallery.contracts.index import COUNT, DIM, VectorIndexContract, numbered
from tests.gallery.doubles import METRICS, true_distances, vectors


class Resources:
    """In place of StandardGpuResources."""

    def setTempMemory(self, most):
        assert most == 256 * 2**20


class Card:
    """In place of FAISS's GPU indexes: what they can do, what they refuse, and how badly they round."""

    def __init__(self):
        self.devices, self.made, self.searched, self.full = 1, 0, 0, False
        self.seen = np.float32

    def copy(self, resources, device, index):
        assert isinstance(resources, Resources) and device == 0
        if self.full:
            raise RuntimeError("Error in void* alloc(int) at /gpu.cpp:65: out of memory on the card\nmore")
        self.made += 1
        return OnCard(self, library.faiss().clone_index(index))


class OnCard:
    def __init__(self, card, index):
        self.card, self.index = card, index

    @property
    def ntotal(self):
        return self.index.ntotal

    def add(self, rows):
        if self.card.full:
            raise RuntimeError("out of memory on the card")
        self.index.add(rows)

    def search(self, queries, k, params=None):
        assert params is None and k <= 2048 and getattr(self, "nprobe", 1) <= 2048
        if self.card.full:
            raise RuntimeError("out of memory on the card")
        self.card.searched += len(queries)
        if hasattr(self, "nprobe"):
            self.index.nprobe = self.nprobe
        return self.index.search(queries.astype(self.card.seen).astype(np.float32), k)


@pytest.fixture
def soon(monkeypatch):
    """The first query is worth a copy, and few vectors train an index."""
    monkeypatch.setattr(gpu_copy, "_WORTH_IT", 0)
    monkeypatch.setattr(kinds, "_PER_CELL", 2)


@pytest.fixture
def double(soon, monkeypatch):
    card = Card()
    module = library.faiss()
    monkeypatch.setattr(module, "get_num_gpus", lambda: card.devices, raising=False)
    monkeypatch.setattr(module, "StandardGpuResources", Resources, raising=False)
    monkeypatch.setattr(module, "index_cpu_to_gpu", card.copy, raising=False)
    return card


@pytest.fixture(params=["a double", "a GPU"])
def card(request, soon):
    """The double, or None where it is a real one."""
    if request.param == "a double":
        return request.getfixturevalue("double")
    if gpu_copy._devices() == 0:
        pytest.skip("FAISS finds no GPU here")
    return None


class OnGpu(VectorIndexContract):
    ready_from = 512

    @pytest.fixture(autouse=True)
    def with_a_card(self, card):
        yield
        assert card is None or card.searched or not card.made


class TestCells(OnGpu):
    recall = 0.9

    def make(self, dim, metric):
        return FaissIndex(dim, metric, "IVF8,Flat")


class TestBytes(OnGpu):
    recall = 0.85
    slack = 0.04

    def make(self, dim, metric):
        return FaissIndex(dim, metric, "IVF8,SQ8")


def filled(kind, metric="cosine", count=COUNT):
    index = FaissIndex(DIM, metric, kind)
    rows = prepare(vectors(count, DIM), metric)
    index.add(numbered(rows), rows)
    return index, rows


@pytest.mark.parametrize("metric", METRICS)
def test_the_copy_grows_with_the_index_and_is_made_once(double, metric):
    index, rows = filled("IVF8,Flat", metric)
    more = prepare(vectors(40, DIM, seed=9), metric)
    for start in range(0, 40, 8):
        assert index.search(rows[:3], 1).numbers.ravel().tolist() == [1, 2, 3]
        index.add(numbered(more[start : start + 8], COUNT + 1 + start), more[start : start + 8])
        index.look(Effort(8))
        assert index.search(more[start : start + 1], 1).numbers.tolist() == [[COUNT + 1 + start]]
    assert double.made == 1 and double.searched == 20


def test_what_is_hidden_is_asked_for_again_and_past_2048_the_cpu_answers(double):
    index, rows = filled("IVF8,Flat", count=5000)
    index.look(Effort(8))
    nearest = index.search(rows[:1], 1500).numbers
    asked = double.searched
    index.remove(nearest[0, :700])
    assert index.search(rows[:1], 300).numbers.tolist() == nearest[:, 700:1000].tolist()
    assert double.searched > asked, "600 asked for, 0 left, so 2,400, which is too much for a card"
    again = double.searched
    assert index.search(rows[:1], 2500).numbers.shape == (1, 2500)
    assert double.searched == again


@pytest.mark.parametrize("kind", ["Flat", "HNSW8", "IVF8_HNSW8,Flat", "IVF8,PQ4x4fs,RFlat", "SQ8"])
def test_kinds_that_have_no_copy_stay_on_the_cpu_without_a_word(double, kind):
    index, rows = filled(kind)
    assert (index.search(rows[:200], 3).numbers[:, 0] > 0).all()
    assert (double.made, double.searched) == (0, 0)


def test_a_machine_without_a_gpu_stays_on_the_cpu_without_a_word(double):
    double.devices = 0
    index, rows = filled("IVF8,Flat")
    assert index.search(rows[:1], 1).numbers.tolist() == [[1]]
    assert double.made == 0


def test_what_the_card_rounds_is_within_the_error_that_is_told(double):
    double.seen = np.float16
    index, rows = filled("IVF8,Flat")
    index.look(Effort(8))
    found = index.search(rows[:50], 10)
    off = 0.0
    for query, numbers, told in zip(rows[:50], found.numbers, found.distances, strict=True):
        off = max(off, np.abs(true_distances(query, rows[numbers - 1], "cosine") - told).max())
    assert 1e-5 < off <= found.error < 0.01


def test_a_copy_that_missed_an_addition_is_made_anew(double, monkeypatch):
    index, rows = filled("IVF8,Flat")
    index.look(Effort(8))
    index.search(rows[:1], 1)
    more = prepare(vectors(1, DIM, seed=9), "cosine")
    with monkeypatch.context() as patch:
        patch.setattr(index._gpu, "add", lambda rows: None)  # as Ctrl-C between the two would
        index.add(np.array([COUNT + 1]), more)
    assert index.search(more, 1).numbers.tolist() == [[COUNT + 1]]
    assert double.made == 2


@pytest.mark.parametrize("when", ["made", "searched", "grown"])
def test_a_full_card_is_told_once_and_the_cpu_answers(double, when):
    index, rows = filled("IVF8,Flat")
    index.look(Effort(8))
    if when != "made":
        index.search(rows[:1], 1)
    double.full = True
    if when == "grown":
        index.add(np.array([COUNT + 1]), rows[:1])
    with pytest.warns(UserWarning, match=r"searched on the CPU: its copy on the GPU failed: out of memory"):
        assert index.search(rows[:1], 1).numbers.tolist() == [[1]]
    assert index.search(rows[1:2], 1).numbers.tolist() == [[2]], "and nothing is said"


def test_few_queries_are_not_worth_a_copy(double, monkeypatch):
    monkeypatch.setattr(gpu_copy, "_WORTH_IT", 10)
    index, rows = filled("IVF8,Flat")
    index.search(rows[:10], 1)
    assert double.made == 0
    index.search(rows[:1], 1)
    assert (double.made, double.searched) == (1, 1)


def test_threads_take_turns(double):
    index, rows = filled("IVF8,Flat")
    index.look(Effort(8))
    wrong = []

    def ask():
        found = [index.search(rows[at : at + 1], 1).numbers.item() for at in range(100)]
        wrong.extend(set(found) ^ set(range(1, 101)))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [] and (double.made, double.searched) == (1, 400)


def test_a_forked_process_leaves_the_card_alone(double):
    index, rows = filled("IVF8,Flat")
    index.search(rows[:1], 1)
    asked = double.searched
    child = os.fork()
    if child == 0:
        try:
            index._gpu._lock.acquire()  # as another thread might have done
            index.add(np.array([COUNT + 1]), rows[:1])
            found = index.search(rows[1:2], 1).numbers.tolist() == [[2]] and double.searched == asked
            del index
            gc.collect()
            os._exit(0 if found else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("kind", ["IVF8,Flat", "IVF8,SQ8", "IVF8,PQ4np"])
@pytest.mark.parametrize("metric", METRICS)
def test_a_gallery_decides_as_on_the_cpu(card, kind, metric, tmp_path, monkeypatch):
    if card is not None:
        card.seen = np.float16  # as matrix units would
    rows = vectors(750, DIM, seed=3).reshape(150, 5, DIM)
    probes = rows[:, 0] + np.float32(0.01) * vectors(150, DIM, seed=4)
    answers = []
    for place, worth in (("gpu", 0), ("cpu", 10**9)):
        monkeypatch.setattr(gpu_copy, "_WORTH_IT", worth)
        with gallery.create(tmp_path / place, gallery.Precomputed(DIM, metric), index=kind) as people:
            people.enroll_many([(f"p{at}", list(rows[at])) for at in range(150)])
            people.remove_many([f"p{at}" for at in range(0, 150, 7)])
            people.recall(sample=20, goal=1.0)
            found = people.identify_batch(list(probes), k=3, threshold=0.5)
            answers.append([(one.decision, one.nearest, one.candidates[:1]) for one in found])
    assert card is None or card.searched
    assert answers[0] == answers[1]
