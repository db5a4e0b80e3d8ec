"""The first pass in bfloat16: what it takes of a GPU's memory, told without one, and when it gives up."""

from __future__ import annotations

import numpy as np

from gallery.indexes import certified, half_pass
from gallery.indexes.certified import Plan
from gallery.indexes.exact import ExactIndex
from gallery.indexes.ranking import Ranking
from gallery.vectors import prepare
from tests.gallery.doubles import vectors


class Card:
    """A GPU in torch's place that only counts its memory."""

    def __init__(self, total):
        self.total, self.free, self.cuda = total, total, self

    def mem_get_info(self):
        return self.free, self.total

    def zeros(self, shape, *, dtype, device=None, pin_memory=False):
        if device == "cuda":
            self.free -= int(np.prod(shape)) * dtype.itemsize
        assert (device == "cuda") != pin_memory
        return device


def test_a_full_card_has_room_for_a_search(monkeypatch):
    """The blocks that stay there leave what one that is sent over, and its products twice, take."""
    torch, total, dim = half_pass._torch(), 8 * 2**30, 512
    monkeypatch.setattr(half_pass, "_torch", lambda: Card(total))
    most = half_pass.largest_block(dim)
    rows = np.lib.stride_tricks.as_strided(np.zeros((1, dim), np.float32), (12_000_000, dim), (0, 4))
    first = half_pass.HalfPass(rows, "euclidean", 32704, "cuda", most)
    card = Card(total)
    monkeypatch.setattr(half_pass, "_torch", lambda: card)
    places = [first._room((stop - start, dim), torch.bfloat16) for start, stop in first.spans]
    assert "cuda" in places and None in places
    needed = most * (2 * dim + 2 * 4 * first._together)
    assert needed < card.free < total / 3


def test_survivors_are_no_more_than_asked_for():
    """In groups in which all rows are near, as in those in which one is."""
    rows = prepare(vectors(64, 24), "cosine")
    first = half_pass.HalfPass(rows, "cosine", 64, "cpu")
    first.grow(1)
    asked, limits = first.ask(rows[:1])[0], np.full(1, 2.5)
    assert first.survivors(asked, first.blocks[0], limits, 63) is None
    assert len(first.survivors(asked, first.blocks[0], limits, 64)[0]) == 64


def test_a_row_that_is_no_number_lets_nothing_be_ruled_out():
    """The door keeps such rows out, and the certificate does not hang on that."""
    rows = prepare(vectors(64, 24), "cosine")
    queries = rows[:1].copy()
    rows[40, 3] = np.nan
    first = half_pass.HalfPass(rows, "cosine", 64, "cpu")
    first.grow(1)
    assert np.isnan([first.blocks[0].residual, first.blocks[0].length]).all()
    assert first.survivors(first.ask(queries)[0], first.blocks[0], np.ones(1), 64) is None


def test_a_crowded_block_is_one_in_vain_however_many_portions_ask_it():
    """A GPU takes few queries at a time beside large blocks: four portions are no four blocks."""

    def make(rows, metric, size):
        first = half_pass.HalfPass(rows, metric, size, "cpu", 16 * size)
        first._together = 256
        return first

    rows = prepare(vectors(20_000, 64), "cosine")
    rows[:256] = prepare(rows[:1] + 1e-4 * vectors(256, 64, seed=5), "cosine")
    index = ExactIndex(64, "cosine", Plan(make, rows=1, dim=1, block=256, patient=False))
    index.add(np.arange(20_000), rows)
    ranking, segment = Ranking(rows[:1].repeat(1024, axis=0), 3, "cosine"), index._segments[0]
    certified._prepare(segment, ranking, index._plan)
    assert certified._promise(segment, ranking)
    left = [(len(which), *run) for which, *run in certified._unanswered(segment, ranking)]
    assert left == [(1024, 0, 256)]


def test_every_place_is_filled_where_float32_cannot_tell_a_crowd_apart():
    """What it names of 4,000 rows in one spot lies past the bound that a sample promised."""
    rows = vectors(5_000, 64)
    rows[:4_000] = rows[:1] + 1e-4 * vectors(4_000, 64, seed=1)
    queries = prepare(rows[:4_000:8] + 1e-3 * vectors(500, 64, seed=2), "euclidean")

    def make(rows, metric, size):
        return half_pass.HalfPass(rows, metric, size, "cpu")

    for k in (1, 3):
        index = ExactIndex(64, "euclidean", Plan(make, rows=1, dim=1, block=64, patient=False))
        index.add(np.arange(5_000), rows)
        found = index.search(queries, k)
        assert (found.numbers >= 0).all()
        assert all(len(set(numbers)) == k for numbers in found.numbers.tolist())
