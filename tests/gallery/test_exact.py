"""The exact index: what its first passes rule out, and that every way of searching gives the same answers.

The oracle is brute force in float64.
"""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gallery import workers
from gallery.indexes import bytes_pass, certified, half_pass, library, plain
from gallery.indexes.certified import AUTO, PLAIN, Plan
from gallery.indexes.exact import ExactIndex
from gallery.indexes.first_pass import GROUP, growing_spans, spans
from gallery.indexes.ranking import Ranking
from gallery.vectors import prepare
from tests.gallery.doubles import METRICS, in_another_process, vectors

BLOCK = 64
PASSES = {
    "bytes": bytes_pass.BytePass,
    "halves": lambda rows, metric, size: half_pass.HalfPass(rows, metric, size, "cpu"),
    "growing halves": lambda rows, metric, size: half_pass.HalfPass(rows, metric, size // 2, "cpu", size),
}


@pytest.fixture(autouse=True)
def one_thread():
    """What is searched here is so small that waking threads would take most of the time."""
    before = library.faiss().omp_get_max_threads()
    library.faiss().omp_set_num_threads(1)
    yield
    library.faiss().omp_set_num_threads(before)


@pytest.fixture(params=[*PASSES, "halves on the GPU", "growing halves on the GPU"])
def make(request):
    """Each kind of first pass."""
    if request.param.endswith("on the GPU"):
        if not half_pass.on_gpu():
            pytest.skip("torch finds no GPU here")
        if request.param.startswith("growing"):
            return lambda rows, metric, size: half_pass.HalfPass(rows, metric, size // 2, "cuda", size)
        return lambda rows, metric, size: half_pass.HalfPass(rows, metric, size, "cuda")
    if request.param == "bytes" and not bytes_pass.available():
        pytest.skip("FBGEMM does not run here")
    return PASSES[request.param]


def eager(make, block=BLOCK):
    """A plan that asks a first pass at every size, in many small blocks."""
    return Plan(make, rows=1, dim=1, block=block, patient=False)


def costs(queries, rows, metric):
    """(queries, rows) float64: 1 - cos, or the squared distance."""
    left, right = queries.astype(np.float64), rows.astype(np.float64)
    if metric == "cosine":
        left = left / np.linalg.norm(left, axis=1, keepdims=True)
        right = right / np.linalg.norm(right, axis=1, keepdims=True)
    found = np.stack([((right - one) ** 2).sum(axis=1) for one in left])
    return found / 2 if metric == "cosine" else found


def same_distances(found, queries, rows, numbers, metric, k):
    """Asserts the k nearest in order, but for ties: the right distances, each of its own template."""
    truth = costs(queries, rows, metric)
    truth = (truth if metric == "cosine" else np.sqrt(truth)).astype(np.float32)
    best = np.sort(truth, axis=1)[:, :k]
    np.testing.assert_allclose(found.distances[:, : best.shape[1]], best, rtol=3e-7, atol=1e-15)
    for row, of in enumerate(found.numbers):
        there = of[: best.shape[1]]
        assert len(set(there.tolist())) == best.shape[1]
        own = truth[row][np.searchsorted(numbers, there)]
        np.testing.assert_allclose(found.distances[row, : best.shape[1]], own, rtol=3e-7, atol=1e-15)
        left_out = truth[row][~np.isin(numbers, there)]
        assert found.floor[row] <= left_out.min(initial=np.inf)
    assert (found.numbers[:, best.shape[1] :] == -1).all()


def clustered(count, dim, spread=0.02, size=20):
    rng = np.random.default_rng(7)
    centres = rng.standard_normal((-(-count // size), dim)).repeat(size, axis=0)[:count]
    return rng.permutation(centres + spread * rng.standard_normal((count, dim))).astype(np.float32)


def lengths_apart(count, dim):
    """Rows of lengths from 1e-6 to 1e6."""
    return vectors(count, dim) * np.logspace(-6, 6, count, dtype=np.float32)[:, None]


def sparse(count, dim):
    rows = vectors(count, dim)
    rows[np.abs(rows) < 1.5] = 0
    rows[np.arange(count), np.arange(count) % dim] = 1
    return rows


DATA = {
    "random": lambda: vectors(500, 40),
    "clustered": lambda: clustered(500, 33),
    "near copies": lambda: clustered(500, 40, spread=1e-4, size=50),
    "exact copies": lambda: np.repeat(vectors(10, 24), 50, axis=0),
    "all the same": lambda: np.repeat(vectors(1, 24), 300, axis=0),
    "one dimension": lambda: vectors(300, 1),
    "three dimensions": lambda: vectors(300, 3),
    "many dimensions": lambda: vectors(150, 1100),
    "far from the origin": lambda: vectors(300, 16) + np.float32(1000),
    "one large value": lambda: vectors(300, 32) * np.where(np.arange(32) == 5, 1e4, 1).astype(np.float32),
    "sparse": lambda: sparse(300, 32),
    "lengths apart": lambda: lengths_apart(300, 16),
    "huge": lambda: vectors(300, 16) * np.float32(1e17),
    "tiny": lambda: vectors(300, 16) * np.float32(1e-12),
    "denormal": lambda: vectors(300, 16) * np.float32(1e-40),
    "nine": lambda: vectors(9, 8),
}


def case(name, metric):
    """(rows, queries): queries are rows, near rows, and rows of their own."""
    rows = prepare(DATA[name](), metric)
    rng = np.random.default_rng(11)
    near = rows[rng.integers(0, len(rows), 6)] * (1 + 0.01 * rng.standard_normal((6, 1)))
    other = rng.permutation(rows)[:6] + rows.std(axis=0) * rng.standard_normal((6, rows.shape[1]))
    queries = np.concatenate([rows[:6], near, other]).astype(np.float32)
    queries[~queries.any(axis=1)] = rows[0]
    return rows, prepare(queries, metric)


# -- what a first pass rules out


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", DATA)
def test_what_is_ruled_out_costs_more_than_the_limit(make, name, metric):
    rows, queries = case(name, metric)
    first = make(rows, metric, BLOCK)
    first.grow(2)
    assert len(first.blocks) == min(2, len(first.spans))
    first.grow(1000)
    assert [(b.start, b.stop) for b in first.blocks] == first.spans
    truth = costs(queries, rows, metric)
    for share in (0.0, 0.01, 0.2):
        limits = np.quantile(truth, share, axis=1)
        for asked in first.ask(queries):
            for block in first.blocks:
                found = first.survivors(asked, block, limits[asked.which], 10**9)
                if found is None:
                    continue
                kept = np.zeros_like(truth, bool)
                kept[asked.which[found[0]], found[1]] = True
                inside = np.zeros_like(kept)
                inside[asked.which, block.start : block.stop] = True
                ruled_out = inside & ~kept
                assert not (ruled_out & (truth <= limits[:, None])).any()
                assert (found[2] <= truth[asked.which[found[0]], found[1]] * (1 + 1e-9) + 1e-12).all()


def test_every_query_is_asked_once(make):
    rows, queries = case("lengths apart", "euclidean")
    first = make(rows, "euclidean", BLOCK)
    asked = np.concatenate([one.which for one in first.ask(np.repeat(queries, 70, axis=0))])
    assert sorted(asked.tolist()) == list(range(70 * len(queries)))


@pytest.mark.parametrize("metric", METRICS)
def test_a_first_pass_is_worth_having(make, metric, monkeypatch):
    """Random rows, the hardest: of 20,000 not one in fifty is scored, and no block is searched plainly."""
    rows, queries = prepare(vectors(20_000, 128), metric), prepare(vectors(20, 128, seed=1), metric)
    index = ExactIndex(128, metric, eager(make, 2048))
    index.add(np.arange(len(rows)), rows)
    scored = []
    offer = Ranking.offer

    def counted(self, which, *more):
        scored.append(len(which))
        offer(self, which, *more)

    monkeypatch.setattr(Ranking, "offer", counted)
    monkeypatch.setattr(plain, "search", None)
    found = index.search(queries, 5)
    assert sum(scored) < len(rows) * len(queries) / 50
    same_distances(found, queries, rows, np.arange(len(rows)), metric, 5)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 63, 64, 65, 1000])
def test_blocks_cover_all_rows_once(count):
    parts = spans(count, BLOCK)
    assert [row for start, stop in parts for row in range(start, stop)] == list(range(count))
    assert all(0 < stop - start <= BLOCK for start, stop in parts)
    assert all((stop - start) % GROUP == 0 for start, stop in parts[:-1])


def test_blocks_grow_up_to_the_largest():
    assert growing_spans(1000, 10, 300) == [(0, 16), (16, 144), (144, 440), (440, 736), (736, 1000)]
    assert growing_spans(1000, 64, 64) == [(k, min(1000, k + 64)) for k in range(0, 1000, 64)]
    assert growing_spans(1000, 80, 8) == [(k, min(1000, k + 80)) for k in range(0, 1000, 80)]
    assert growing_spans(5, 8, 64) == [(0, 5)]


# -- the same answers


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", DATA)
def test_every_first_pass_answers_as_brute_force_in_float64(make, name, metric):
    rows, queries = case(name, metric)
    numbers = np.arange(len(rows)) * 3 + 5
    gone = np.random.default_rng(2).random(len(rows)) < 0.2
    for removed in (np.zeros_like(gone), gone):
        for plan in (PLAIN, eager(make)):
            index = ExactIndex(rows.shape[1], metric, plan)
            index.add(numbers, rows)
            index.remove(numbers[removed])
            for k in (1, 5, len(rows) + 3):
                found = index.search(queries, k)
                same_distances(found, queries, rows[~removed], numbers[~removed], metric, k)
                assert (found.exhausted == (k >= (~removed).sum())).all()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 400),
    dim=st.integers(1, 40),
    k=st.integers(1, 20),
    metric=st.sampled_from(METRICS),
    kind=st.sampled_from([name for name in PASSES if name != "bytes" or bytes_pass.available()]),
    copies=st.integers(1, 30),
    share=st.floats(0, 0.9),
    exponent=st.integers(-8, 8),
)
def test_any_rows_and_removals(seed, count, dim, k, metric, kind, copies, share, exponent):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((-(-count // copies), dim)).repeat(copies, axis=0)[:count] * 10.0**exponent
    rows = prepare(
        (rows + 1e-3 * 10.0**exponent * rng.standard_normal(rows.shape)).astype(np.float32), metric
    )
    queries = prepare(np.concatenate([rows[:3], rng.standard_normal((3, dim)).astype(np.float32)]), metric)
    numbers = np.cumsum(rng.integers(1, 4, count))
    index = ExactIndex(dim, metric, eager(PASSES[kind], 32))
    cut = count // 3
    index.add(numbers[:cut], rows[:cut])
    index.add(numbers[cut:], rows[cut:])
    gone = rng.random(count) < share
    index.remove(numbers[gone])
    found = index.search(queries, k)
    if gone.all():
        assert (found.numbers == -1).all()
        return
    truth = costs(queries, rows[~gone], metric)
    by_number = np.full((len(queries), numbers[-1] + 1), np.inf)
    by_number[:, numbers[~gone]] = truth if metric == "cosine" else np.sqrt(truth)
    for row, got in enumerate(found.numbers):
        there = got[got >= 0]
        assert len(there) == min(k, (~gone).sum())
        mine = by_number[row, there]
        np.testing.assert_allclose(found.distances[row, : len(there)], mine, rtol=3e-7, atol=1e-15)
        left_out = np.delete(by_number[row], there).min(initial=np.inf)
        assert found.floor[row] <= left_out
        assert mine.max() <= left_out * (1 + 3e-7) + 1e-15


@pytest.mark.parametrize("metric", METRICS)
def test_several_threads_answer_as_one(make, metric):
    import torch

    rows, queries = prepare(clustered(3000, 48), metric), prepare(vectors(300, 48, seed=1), metric)
    index = ExactIndex(48, metric, eager(make, 512))
    index.add(np.arange(len(rows)), rows)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 4):
            torch.set_num_threads(threads)
            found.append(index.search(queries, 7))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert found[0].numbers.tolist() == found[1].numbers.tolist()
    assert found[0].distances.tobytes() == found[1].distances.tobytes()


# -- giving up


@pytest.mark.parametrize("metric", METRICS)
def test_copies_of_one_are_left_to_plain_float32_after_a_few_blocks(make, metric, monkeypatch):
    rows = prepare(np.repeat(vectors(1, 24), 3000, axis=0), metric)
    index = ExactIndex(24, metric, eager(make))
    index.add(np.arange(1, 3001), rows)
    searched = []
    nearest = library.nearest
    monkeypatch.setattr(
        library, "nearest", lambda q, rows, *more: (searched.append(len(rows)), nearest(q, rows, *more))[1]
    )
    asked = []
    answered = certified._Asking.answered
    monkeypatch.setattr(
        certified._Asking, "answered", lambda self, task: (asked.append(self._asked), answered(self, task))[1]
    )
    found = index.search(rows[:3], 4)
    assert found.distances.max() < 1e-6
    assert sum(searched) <= 3000 + 3000 // 4, "all rows once, and the sample"
    assert max(asked) <= 2 * certified._IN_VAIN, "blocks that the first pass was asked about"


def test_a_first_pass_in_vain_rests_longer_each_time_and_is_tried_again(make, monkeypatch):
    """Most rows are one subject's: asked about that it proves nothing, about the others much."""
    rows = prepare(vectors(4000, 64), "cosine")
    rows[1000:] = prepare(rows[1000:1001] + 1e-4 * vectors(3000, 64, seed=2), "cosine")
    index, numbers = ExactIndex(64, "cosine", eager(make, 256)), np.arange(4000)
    index.add(numbers, rows)
    begun, asked = [], []
    unanswered = certified._unanswered
    monkeypatch.setattr(
        certified, "_unanswered", lambda *given: (asked.append(begun[-1]), unanswered(*given))[1]
    )
    for search in range(20):
        begun.append(search)
        found = index.search(rows[1000:1003], 3)
        same_distances(found, rows[1000:1003], rows, numbers, "cosine", 3)
    assert asked == [0, 3, 8, 17]
    monkeypatch.setattr(certified, "_LONGEST_REST", 3)
    asked.clear()
    for search in range(20):
        begun.append(search)
        few = index.search(rows[:2], 3)
        same_distances(few, rows[:2], rows, numbers, "cosine", 3)
    assert asked == list(range(14, 20)), "after its rest it is of use again, and asked every time"


def test_one_crowded_block_costs_only_that_block(make):
    """A subject with hundreds of copies, added together: the other blocks keep their first pass."""
    rows = prepare(vectors(4000, 64), "cosine")
    rows[1008:1512] = rows[1008]
    index = ExactIndex(64, "cosine", eager(make, 512))
    index.add(np.arange(4000), rows)
    ranking = Ranking(rows[1008:1009].repeat(20, axis=0), 3, "cosine")
    segment = index._segments[0]
    certified._prepare(segment, ranking, index._plan)
    assert certified._promise(segment, ranking)
    crowded = [(start, stop) for start, stop in segment.first.spans if start < 1512 and stop > 1008]
    left = [run[1:] for run in certified._unanswered(segment, ranking)]
    assert left == [(crowded[0][0], crowded[-1][1])] and left[0][1] - left[0][0] <= 1024


def test_more_than_a_sample_can_bound_is_searched_plainly(make, monkeypatch):
    rows = prepare(vectors(800, 16), "cosine")
    index = ExactIndex(16, "cosine", eager(make))
    index.add(np.arange(800), rows)
    monkeypatch.setattr(certified, "_unanswered", None)
    found = index.search(rows[:2], 200)
    same_distances(found, rows[:2], rows, np.arange(800), "cosine", 200)


# -- when there is one


def test_a_first_pass_is_made_when_plain_searches_have_cost_as_much(make):
    rows = prepare(vectors(2000, 32), "cosine")
    index = ExactIndex(32, "cosine", Plan(make, rows=1000, dim=8, block=512))
    index.add(np.arange(2000), rows)
    covered = []
    for _ in range(200):
        found = index.search(rows[:4], 3)
        covered.append(certified._covered(index._segments[0]))
        same_distances(found, rows[:4], rows, np.arange(2000), "cosine", 3)
    assert covered[0] == 0
    assert covered == sorted(covered)
    stops = [stop for _, stop in index._segments[0].first.spans]
    assert {stops[0], stops[1], 2000} <= set(covered)


def test_small_galleries_and_short_rows_get_none(make):
    for count, dim in ((900, 32), (1100, 7)):
        index = ExactIndex(dim, "cosine", Plan(make, rows=1000, dim=8, patient=False))
        rows = prepare(vectors(count, dim), "cosine")
        index.add(np.arange(count), rows)
        index.search(rows[:4], 3)
        assert index.first_passes() == [""]


def test_a_machine_without_a_good_pass_searches_plainly():
    index = ExactIndex(16, "cosine", Plan(lambda *_: None, rows=1, dim=1, patient=False))
    rows = prepare(vectors(300, 16), "cosine")
    index.add(np.arange(300), rows)
    for _ in range(2):
        same_distances(index.search(rows[:4], 3), rows[:4], rows, np.arange(300), "cosine", 3)
    assert index.first_passes() == [""]


@pytest.mark.parametrize(
    ("gpu", "amx", "fbgemm", "name"),
    [
        (False, True, True, "bfloat16, cpu"),
        (False, False, True, "8 bits, FBGEMM"),
        (False, False, False, None),
    ],
)
def test_the_pass_is_chosen_by_what_the_machine_can(gpu, amx, fbgemm, name, monkeypatch):
    monkeypatch.setattr(half_pass, "on_gpu", lambda: gpu)
    monkeypatch.setattr(half_pass, "fast_on_cpu", lambda: amx)
    monkeypatch.setattr(bytes_pass, "available", lambda: fbgemm)
    chosen = certified.best_pass(vectors(64, 8), "cosine", 64)
    assert (chosen and chosen.name) == name


def test_without_torch_there_is_no_first_pass(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    for question in (bytes_pass.available, half_pass.on_gpu, half_pass.fast_on_cpu):
        question.cache_clear()
    try:
        assert not bytes_pass.available()
        assert not half_pass.on_gpu()
        assert certified.best_pass(vectors(64, 8), "cosine", 64) is None or half_pass.fast_on_cpu()
    finally:
        for question in (bytes_pass.available, half_pass.on_gpu, half_pass.fast_on_cpu):
            question.cache_clear()


def test_one_question_to_a_large_gallery_does_not_wait_for_torch():
    printed = in_another_process(
        """
import sys
import tracemalloc

import numpy as np
from gallery.indexes.exact import ExactIndex
rows = np.random.default_rng(0).standard_normal((40_000, 64)).astype(np.float32)
index = ExactIndex(64, "euclidean")
index.add(np.arange(40_000), rows)
print(index.search(rows[:1], 1).numbers.tolist(), "torch" in sys.modules)
"""
    )
    assert printed == "[[0]] False\n"


def test_the_default_makes_one_for_a_large_gallery_and_answers_the_same():
    rows = prepare(vectors(AUTO.rows + 100, 64), "cosine")
    queries = prepare(vectors(40, 64, seed=1), "cosine")
    index, other = ExactIndex(64, "cosine"), ExactIndex(64, "cosine", PLAIN)
    for one in (index, other):
        one.add(np.arange(len(rows)), rows)
    index._segments[0].credit = 1e15
    found, truth = index.search(queries, 10), other.search(queries, 10)
    assert (index.first_passes() == [""]) == (certified.best_pass(rows, "cosine", 64) is None)
    assert found.numbers.tolist() == truth.numbers.tolist()
    assert found.distances.tobytes() == truth.distances.tobytes()


# -- threads


def test_one_query_is_searched_in_parts_by_several_threads():
    for metric in METRICS:
        rows, queries = prepare(vectors(5000, 16), metric), prepare(vectors(2, 16, seed=1), metric)
        whole = library.nearest(queries, rows, 20, metric)
        library.faiss().omp_set_num_threads(3)
        parts = library.nearest_in_parts(queries, rows, 20, metric, 3)
        assert parts[1].tolist() == whole[1].tolist()
        np.testing.assert_array_equal(parts[0], whole[0])
        assert library.faiss().omp_get_max_threads() == 3
        library.faiss().omp_set_num_threads(1)


def test_workers_keep_the_order_and_torch_s_setting():
    import torch

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        inside = workers.each(lambda number: (number, torch.get_num_threads()), range(50))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert inside == [(number, 1) for number in range(50)]


def test_what_a_worker_raises_is_raised():
    with pytest.raises(ZeroDivisionError):
        workers.each(lambda number: 1 // number, [2, 1, 0])


def test_a_mapped_file_is_not_copied_to_score_a_few_of_its_rows(make, tmp_path):
    """FAISS's files have the rows at an odd address, where numpy's `take` would make a copy of them all."""
    rows = prepare(vectors(20_000, 64), "cosine")
    written = ExactIndex(64, "cosine")
    written.add(np.arange(len(rows)), rows)
    written.save(tmp_path / "rows.faiss")
    index = ExactIndex(64, "cosine", eager(make, 4096))
    index.load(tmp_path / "rows.faiss")
    assert not index._segments[0].rows.flags.aligned
    index.search(rows[:4], 3)
    tracemalloc.start()
    try:
        found = index.search(rows[:4], 3)
        assert tracemalloc.get_traced_memory()[1] < rows.nbytes / 2
    finally:
        tracemalloc.stop()
    assert found.numbers[:, 0].tolist() == [0, 1, 2, 3]
