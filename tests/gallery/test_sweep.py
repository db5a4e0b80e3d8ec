"""Going through all rows, and whose each template is, beside plain loops."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gallery.engines import sweep as sweeping
from gallery.engines.register import OutOfStep, Register
from gallery.engines.seeking import as_finalists
from gallery.engines.sweep import Sweep
from gallery.stores.base import NewTemplates
from gallery.stores.sqlite import SqliteStore, new_header
from gallery.vectors import distances, prepare
from tests.gallery.doubles import METRICS, vectors

DIM = 3


class Owners:
    """A store as far as a register asks it, of templates 1, 2, 3, ... with these owners."""

    def __init__(self, owners: list[int]) -> None:
        self.owned = np.array(owners, np.int64)
        self.header = new_header(DIM, "cosine", "e", "f")

    def owners(self, after: int = 0):
        return np.arange(after + 1, len(self.owned) + 1), self.owned[after:]

    def revision(self) -> int:
        return 1

    def last_template(self) -> int:
        return len(self.owned)


def swept(owners: list[int], rows: np.ndarray, metric: str, among=None, block: int = 7) -> Sweep:
    register = Register(Path("place"))
    register.bring_up(Owners(owners))
    numbers = np.arange(1, len(rows) + 1)

    def blocks():
        for start in range(0, len(rows), block):
            yield numbers[start : start + block], rows[start : start + block]

    return Sweep(register, metric, blocks, lambda wanted: rows[wanted - 1], among)


def by_loops(probe, rows, owners, metric, allowed):
    """[(subject, template, distance)] of every subject, nearest first, ties by template."""
    best: dict[int, tuple[float, int]] = {}
    for at, row in enumerate(rows):
        if at + 1 in allowed:
            away = float(distances(probe, row[None], metric)[0])
            best[owners[at]] = min(best.get(owners[at], (np.inf, 0)), (away, at + 1))
    ranked = sorted((away, number, owner) for owner, (away, number) in best.items())
    return [(owner, number, away) for away, number, owner in ranked]


WHOLE = st.lists(st.integers(-2, 2), min_size=DIM, max_size=DIM).filter(any)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    rows=st.lists(st.tuples(WHOLE, st.integers(1, 5)), min_size=1, max_size=40),
    probes=st.lists(WHOLE, min_size=1, max_size=4),
    k=st.integers(1, 7),
    metric=st.sampled_from(METRICS),
    data=st.data(),
)
def test_a_sweep_finds_what_plain_loops_find(rows, probes, k, metric, data):
    """Whole numbers, so that ties are everywhere."""
    owners = [owner for _, owner in rows]
    embedded = prepare(np.array([row for row, _ in rows], np.float32), metric)
    asked = prepare(np.array(probes, np.float32), metric)
    everyone = range(1, len(rows) + 1)
    allowed = data.draw(st.none() | st.sets(st.sampled_from(everyone)), label="among")
    among = None if allowed is None else np.array(sorted(allowed), np.int64)
    sweep = swept(owners, embedded, metric, among)
    meant = set(everyone) if allowed is None else allowed
    found = as_finalists(sweep.nearest(asked, k), len(asked))
    for probe, mine in zip(asked, found, strict=True):
        assert mine == by_loops(probe, embedded, owners, metric, meant)[:k]
    radius = data.draw(st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 3.0]))
    within = as_finalists(sweep.within(asked, radius), len(asked))
    for probe, mine in zip(asked, within, strict=True):
        everybody = by_loops(probe, embedded, owners, metric, meant)
        assert mine == [one for one in everybody if one[2] <= radius]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("scale", [1e-15, 1.0, 1e17])
def test_what_float32_cannot_tell_is_settled(metric, scale):
    """Rows that differ in their last digits, at any scale, with as many subjects as fit in a chunk or not."""
    rng = np.random.default_rng(3)
    base = rng.standard_normal((1, 64))
    rows = prepare((scale * (base + 1e-5 * rng.standard_normal((400, 64)))).astype(np.float32), metric)
    owners = (rng.integers(0, 60, 400) + 1).tolist()
    probes = rows[:5]
    register = Register(Path("place"))
    register.bring_up(Owners(owners))
    sweep = Sweep(register, metric, lambda: [(np.arange(1, 401), rows)], lambda wanted: rows[wanted - 1])
    found = as_finalists(sweep.nearest(probes, 6), len(probes))
    for probe, mine in zip(probes, found, strict=True):
        assert mine == by_loops(probe, rows, owners, metric, set(range(1, 401)))[:6]


def test_many_probes_are_taken_in_chunks(monkeypatch):
    rows, probes = vectors(50, DIM), vectors(9, DIM, 1)
    sweep = swept([1 + n % 20 for n in range(50)], rows, "euclidean")
    together = as_finalists(sweep.nearest(probes, 4), len(probes))
    monkeypatch.setattr(sweeping, "_CELLS", 40)
    monkeypatch.setattr(sweeping, "_ROWS", 3)
    assert as_finalists(sweep.nearest(probes, 4), len(probes)) == together


def peak_of(work) -> int:
    """Bytes that numpy took for it, at most."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("metric", METRICS)
def test_ties_are_settled_without_a_row_for_each_pair(metric):
    """As of a blank picture that many subjects have: 4,000 of them are as near as each other to 64 probes."""
    rows, probes = np.repeat(vectors(1, 256), 4000, axis=0), prepare(vectors(64, 256, 1), metric)
    sweep = swept(list(range(1, 4001)), prepare(rows, metric), metric, block=4000)
    found: list = []
    taken = peak_of(lambda: found.append(sweep.nearest(probes, 5)))
    which, subjects, numbers, _ = found[0]
    assert which.tolist() == np.repeat(np.arange(64), 5).tolist()
    assert subjects.tolist() == numbers.tolist() == [1, 2, 3, 4, 5] * 64
    # A float32 row for each of the 256,000 pairs would be 262 MB.
    assert taken < 100e6


@pytest.mark.parametrize("k", [2, 5])
def test_few_subjects_with_many_templates_take_room_for_a_part_of_the_rows(k):
    """50,000 rows beside 250 probes are 50 MB of scores; in an order that has to be sorted, twice that."""
    rows, probes = vectors(50_000, 8), vectors(250, 8, 1)
    sweep = swept([1 + n % 5 for n in range(50_000)], rows, "euclidean", block=50_000)
    found: list = []
    assert peak_of(lambda: found.append(sweep.nearest(probes, k))) < 35e6
    assert len(found[0][0]) == 250 * k


@pytest.mark.parametrize("k", [3, 50])
@pytest.mark.parametrize("metric", METRICS)
def test_what_is_scored_at_once_and_kept_does_not_change_a_bit(monkeypatch, metric, k):
    rows, probes = prepare(vectors(300, DIM).round(1), metric), prepare(vectors(9, DIM, 1), metric)
    sweep = swept([1 + n * 7 % 60 for n in range(300)], rows, metric, block=200)
    whole = [sweep.nearest(probes, k), sweep.within(probes, 0.4)]
    for scores, pending in ((1, 1), (23, 7), (400, 50)):
        monkeypatch.setattr(sweeping, "_SCORES", scores)
        monkeypatch.setattr(sweeping, "_LEAST_ROWS", 1)
        monkeypatch.setattr(sweeping, "_PENDING", pending)
        monkeypatch.setattr(sweeping, "_ROWS", 100)
        again = [sweep.nearest(probes, k), sweep.within(probes, 0.4)]
        assert [[part.tobytes() for part in one] for one in again] == [
            [part.tobytes() for part in one] for one in whole
        ]


def new(id: str, count: int, metadata: dict | None = None) -> NewTemplates:
    return NewTemplates(id, vectors(count, DIM), [None] * count, metadata)


@pytest.fixture
def store(tmp_path):
    store = SqliteStore.create(tmp_path / "catalog.sqlite", new_header(DIM, "euclidean", "e", "f"))
    yield store
    store.close()


def test_a_register_follows_its_store(store):
    """Through additions to old and new subjects and removals of both, also of what came in between."""
    rng = np.random.default_rng(0)
    register = Register(Path("place"))
    for step in range(60):
        with store.commit():
            for _ in range(rng.integers(0, 3)):
                store.add([new(f"s{rng.integers(0, 12)}", int(rng.integers(1, 4)))])
            numbers = store.owners()[0] if store.counts()[1] else np.empty(0, np.int64)
            if len(numbers) > 5 and step % 3 == 0:
                store.remove_templates(rng.choice(numbers, 3, replace=False).tolist())
        if step % 2:
            continue
        with store.snapshot():
            register.bring_up(store)
            expected = {
                int(number): int(owner)
                for stored in store.scan()
                for number, owner in zip(stored.numbers, stored.subjects, strict=True)
            }
            fresh = store.owners()
        assert dict(zip(register.numbers.tolist(), register.owners.tolist(), strict=True)) == expected
        assert [one.tolist() for one in fresh] == [register.numbers.tolist(), register.owners.tolist()]
        assert register.subjects.tolist() == sorted(set(expected.values()))
        for subject in register.subjects[::3]:
            mine = [number for number, owner in expected.items() if owner == subject]
            assert register.templates_of(np.array([subject])).tolist() == mine
        everyone = register.templates_of(register.subjects)
        assert everyone.tolist() == list(expected)
        assert register.subjects[register.slots_of(everyone)].tolist() == list(expected.values())


def test_a_template_that_is_not_enrolled_is_named(store):
    with store.commit():
        store.add([new("a", 3)])
        store.remove_templates([2])
    register = Register(Path("place"))
    with store.snapshot():
        register.bring_up(store)
    assert register.of(np.array([3, 1])).tolist() == [1, 1]
    for missing in (2, 4, 0):
        with pytest.raises(OutOfStep, match=f"template {missing} of place is enrolled, but cannot be found"):
            register.of(np.array([1, missing]))
