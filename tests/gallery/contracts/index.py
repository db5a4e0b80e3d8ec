"""What every index promises; a new kind inherits this class and says how it is made and how near it comes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gallery.errors import GalleryError
from gallery.indexes.base import HoldsRows, Neighbours, Selection, VectorIndex, keeps_rows
from gallery.vectors import distances, prepare
from tests.gallery.doubles import METRICS, true_distances, vectors

DIM = 8
COUNT = 700


def numbered(rows: np.ndarray, first: int = 1) -> np.ndarray:
    return np.arange(first, first + len(rows), dtype=np.int64)


class VectorIndexContract:
    """Inherit and give `make`; state how far its distances may be off and how many it must find."""

    certain = False
    """It finds every neighbour and gives a floor."""
    recall = 1.0
    """Share of the true ten nearest that it must find on Gaussian rows."""
    slack = 1e-5
    """How far distances may be off: see `check_distances`."""
    ready_from = 1
    """How many rows it needs before it can be saved."""

    def make(self, dim: int, metric: str) -> VectorIndex:
        raise NotImplementedError

    @pytest.fixture(params=METRICS)
    def metric(self, request) -> str:
        return request.param

    def filled(self, rows: np.ndarray, metric: str) -> VectorIndex:
        index = self.make(rows.shape[1], metric)
        index.add(numbered(rows), rows)
        return index

    def check_neighbours(self, found: Neighbours, queries, rows, numbers, metric, k) -> float:
        """Asserts what must hold of any answer; returns the share of the true k nearest that was found."""
        assert (found.numbers.dtype, found.distances.dtype) == (np.int64, np.float32)
        assert found.numbers.shape == found.distances.shape == (len(queries), k)
        assert found.floor.shape == found.exhausted.shape == (len(queries),)
        hits = wanted = 0
        for row, query in enumerate(queries):
            truth = true_distances(query, rows, metric)
            by_number = dict(zip(numbers.tolist(), truth.tolist(), strict=True))
            got, there = found.numbers[row], found.numbers[row] >= 0
            assert there.sum() == min(k, len(rows)), "the places are filled as long as there are templates"
            assert np.isinf(found.distances[row][~there]).all()
            assert not there[there.sum() :].any(), "missing neighbours come last"
            assert len(set(got[there].tolist())) == there.sum(), "no template comes twice"
            expected = np.array([by_number[number] for number in got[there].tolist()])
            self.check_distances(found.distances[row][there], expected, query, rows, metric)
            pairs = list(zip(found.distances[row][there].tolist(), got[there].tolist(), strict=True))
            assert pairs == sorted(pairs), "nearest first, ties by template number"
            self.check_floor(found, row, truth, numbers, got)
            if found.exact:
                its = rows[np.searchsorted(numbers, got[there])]
                assert found.distances[row][there].tobytes() == distances(query, its, metric).tobytes()
            nearest = numbers[np.lexsort((numbers, truth))][:k]
            hits += len(set(nearest.tolist()) & set(got.tolist()))
            wanted += len(nearest)
        return hits / max(1, wanted)

    def check_distances(self, distances, expected, query, rows, metric) -> None:
        """Rounding is relative to the inner products under cosine, to the squares under euclidean."""
        if metric == "cosine" or len(rows) == 0:
            np.testing.assert_allclose(distances, expected, rtol=0, atol=self.slack)
            return
        largest = np.linalg.norm(query.astype(float)) + np.linalg.norm(rows.astype(float), axis=1).max()
        squares = distances.astype(np.float64) ** 2
        np.testing.assert_allclose(squares, expected**2, rtol=0, atol=self.slack * largest**2)

    def check_floor(self, found, row, truth, numbers, got) -> None:
        left_out = truth[~np.isin(numbers, got)]
        if len(left_out) == 0:
            return
        assert not found.exhausted[row], "exhausted, and yet templates were left out"
        if self.certain:
            assert np.isfinite(found.floor[row])
            assert left_out.min() >= found.floor[row], "a template left out is nearer than the floor"

    @pytest.fixture
    def rows(self, metric) -> np.ndarray:
        return prepare(vectors(COUNT, DIM), metric)

    @pytest.fixture
    def queries(self, metric) -> np.ndarray:
        return prepare(vectors(20, DIM, seed=1), metric)

    # -- searching

    def test_only_what_is_selected_is_found(self, metric):
        rows = prepare(vectors(COUNT, DIM), metric)
        index, numbers = self.filled(rows, metric), numbered(rows)
        index.remove(numbers[::5])
        alive = numbers[np.arange(COUNT) % 5 != 0]
        queries = prepare(vectors(6, DIM, 1), metric)
        halves, runs, few = alive[::2], alive[100:160], alive[::70]
        for chosen in (halves, runs, few, alive[:1], alive[:0]):
            for among, left in (
                (Selection(chosen), chosen),
                (Selection(chosen, all_but=True), np.setdiff1d(alive, chosen)),
                (Selection(alive).minus(chosen), np.setdiff1d(alive, chosen)),
                (Selection.everything().minus(chosen), np.setdiff1d(alive, chosen)),
            ):
                for k in (1, 10, COUNT):
                    found = index.search(queries, k, among)
                    self.check_neighbours(found, queries, rows[left - 1], left, metric, k)

    @pytest.mark.parametrize("k", [1, 10])
    def test_it_finds_the_nearest(self, metric, rows, queries, k):
        found = self.filled(rows, metric).search(queries, k)
        assert self.check_neighbours(found, queries, rows, numbered(rows), metric, k) >= self.recall

    def test_an_empty_index_finds_nothing(self, metric, queries):
        found = self.make(DIM, metric).search(queries, 3)
        assert (found.numbers == -1).all()
        assert np.isinf(found.distances).all()
        assert found.exhausted.all()

    @pytest.mark.parametrize("count", [1, 3, COUNT])
    def test_more_than_there_are(self, metric, rows, queries, count):
        index = self.filled(rows[:count], metric)
        found = index.search(queries, count + 5)
        self.check_neighbours(found, queries, rows[:count], numbered(rows[:count]), metric, count + 5)
        assert found.exhausted.all()

    def test_one_query_and_many_find_the_same(self, metric, rows, queries):
        index = self.filled(rows, metric)
        together = index.search(queries, 5)
        for row in range(len(queries)):
            alone = index.search(queries[row : row + 1], 5)
            assert alone.numbers[0].tolist() == together.numbers[row].tolist()

    def test_many_small_additions_are_one_large_one(self, metric, rows, queries):
        index = self.make(DIM, metric)
        start = 0
        for size in [1, 1, 2, 1, 5, 1, 1, 40, 1, 3] * 100:
            batch = rows[start : start + size]
            index.add(numbered(batch, start + 1), batch)
            start += len(batch)
        assert start == len(index) == COUNT
        found = index.search(queries, 10)
        assert self.check_neighbours(found, queries, rows, numbered(rows), metric, 10) >= self.recall

    def test_what_was_given_may_change_afterwards(self, metric, rows, queries):
        given, numbers = rows.copy(), numbered(rows)
        index = self.make(DIM, metric)
        index.add(numbers, given)
        given[:], numbers[:] = 0, 0
        found = index.search(queries, 10)
        assert self.check_neighbours(found, queries, rows, numbered(rows), metric, 10) >= self.recall

    # -- rows

    def test_the_rows_of_some_templates(self, metric, rows):
        index = self.filled(rows[:600], metric)
        index.add(numbered(rows[600:], 601), rows[600:])
        index.remove(np.array([7, 300], np.int64))
        living = list(index.living())
        kept = np.setdiff1d(numbered(rows), [7, 300])
        assert sorted(np.concatenate([numbers for numbers, _ in living]).tolist()) == kept.tolist()
        if keeps_rows(index):
            for numbers, some in living:
                assert some.tobytes() == rows[numbers - 1].tobytes()
        if not isinstance(index, HoldsRows) or (held := index.rows_of(kept)) is None:
            pytest.skip(f"{index.kind} does not give single rows")
        assert held.tobytes() == rows[kept - 1].tobytes()
        assert (
            index.rows_of(np.array([500, 9, 699, 1], np.int64)).tobytes() == rows[[499, 8, 698, 0]].tobytes()
        )
        assert len(index.rows_of(np.array([500, 10**9], np.int64))) == 1, "no row of another template instead"
        assert index.rows_of(np.empty(0, np.int64)).shape == (0, DIM)

    # -- removing

    @pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
    def test_the_removed_are_never_found_and_others_fill_their_places(self, metric, rows, queries, share):
        index = self.filled(rows, metric)
        nearest = index.search(queries, 10).numbers
        gone = np.union1d(nearest[:, :5], np.flatnonzero(np.random.default_rng(2).random(COUNT) < share) + 1)
        index.remove(gone)
        kept = np.setdiff1d(numbered(rows), gone)
        assert len(index) == len(kept)
        found = index.search(queries, 10)
        recall = self.check_neighbours(found, queries, rows[kept - 1], kept, metric, 10)
        assert recall >= self.recall

    def test_removing_all_and_adding_again(self, metric, rows, queries):
        index = self.filled(rows, metric)
        index.remove(numbered(rows))
        assert len(index) == 0
        assert (index.search(queries, 4).numbers == -1).all()
        index.add(numbered(rows[:50], COUNT + 1), rows[:50])
        found = index.search(queries, 4)
        self.check_neighbours(found, queries, rows[:50], numbered(rows[:50], COUNT + 1), metric, 4)

    def test_removing_what_is_not_there_is_passed_over(self, metric, rows, queries):
        index = self.filled(rows, metric)
        index.remove(np.array([0, COUNT + 1, 10**12], np.int64))
        index.remove(np.array([5, 5, 6], np.int64))
        index.remove(np.array([5], np.int64))
        index.remove(np.empty(0, np.int64))
        assert len(index) == COUNT - 2
        assert not np.isin(index.search(queries, COUNT).numbers, [5, 6]).any()

    def test_removing_from_an_empty_index(self, metric):
        index = self.make(DIM, metric)
        index.remove(np.array([1, 2], np.int64))
        assert len(index) == 0

    def test_it_is_worn_when_much_is_gone(self, metric):
        rows = prepare(vectors(2400, 2), metric)
        index = self.filled(rows, metric)
        assert not index.worn()
        index.remove(numbered(rows[:900]))
        assert not index.worn()
        index.remove(numbered(rows[:1200]))
        assert index.worn()

    # -- hard vectors

    def test_exact_duplicates_are_ordered_by_template(self, metric):
        one = prepare(np.array([[3, 1, 4, 1, 5, 9, 2, 6]], np.float32), metric)
        rows = np.repeat(one, 30, axis=0)
        found = self.filled(rows, metric).search(one, 30)
        assert found.numbers[0].tolist() == list(range(1, 31))
        np.testing.assert_allclose(found.distances[0], 0, atol=1e-2 if self.slack > 1e-4 else 1e-5)

    def test_tight_clusters(self, metric):
        rng = np.random.default_rng(3)
        centres = rng.standard_normal((7, DIM)).repeat(100, axis=0)
        rows = prepare((centres + 1e-4 * rng.standard_normal((COUNT, DIM))).astype(np.float32), metric)
        found = self.filled(rows, metric).search(rows[::70], 10)
        recall = self.check_neighbours(found, rows[::70], rows, numbered(rows), metric, 10)
        if self.certain:
            # Distances of 1e-4 drown in float32 here, so only the floor can be trusted, and it was checked.
            assert recall > 0
        own = found.numbers - 1
        assert (own // 100 == (np.arange(COUNT)[::70] // 100)[:, None]).all(), "neighbours of another cluster"

    @pytest.mark.parametrize("scale", [1e-12, 1e6, 1e17])
    def test_any_scale_under_euclidean(self, metric, scale):
        if metric == "cosine":
            pytest.skip("rows of unit length have no scale")
        rows = (vectors(COUNT, DIM) * np.float32(scale)).astype(np.float32)
        queries = (vectors(5, DIM, seed=1) * np.float32(scale)).astype(np.float32)
        found = self.filled(rows, metric).search(queries, 10)
        recall = self.check_neighbours(found, queries, rows, numbered(rows), metric, 10)
        assert recall >= self.recall

    def test_far_from_the_origin(self, metric):
        if metric == "cosine":
            pytest.skip("rows of unit length are never far from the origin")
        rows = vectors(COUNT, DIM) + np.float32(1e4)
        found = self.filled(rows, metric).search(rows[:5], 10)
        self.check_neighbours(found, rows[:5], rows, numbered(rows), metric, 10)

    # -- files

    def saved(self, index: VectorIndex, folder: Path) -> Path:
        if not index.saveable():
            pytest.skip(f"{index.kind} has nothing to save before it has {self.ready_from} rows")
        path = folder / "vectors.faiss"
        index.save(path)
        assert path.stat().st_mode & 0o777 == 0o600
        return path

    def test_a_file_answers_as_the_index_it_came_from(self, metric, rows, queries, tmp_path):
        index = self.filled(rows, metric)
        path = self.saved(index, tmp_path)
        again = self.make(DIM, metric)
        again.load(path)
        assert len(again) == COUNT
        before, after = index.search(queries, 10), again.search(queries, 10)
        assert after.numbers.tolist() == before.numbers.tolist()
        assert after.distances.tobytes() == before.distances.tobytes()

    def test_adding_and_removing_after_loading(self, metric, rows, queries, tmp_path):
        first, second = rows[:650], rows[650:]
        path = self.saved(self.filled(first, metric), tmp_path)
        content = path.read_bytes()
        index = self.make(DIM, metric)
        index.load(path)
        index.remove(np.array([1, 650], np.int64))
        index.add(numbered(second, 651), second)
        index.remove(np.array([651], np.int64))
        kept = np.setdiff1d(numbered(rows), [1, 650, 651])
        found = index.search(queries, 10)
        assert self.check_neighbours(found, queries, rows[kept - 1], kept, metric, 10) >= self.recall
        assert path.read_bytes() == content, "a file never changes"

    def test_a_file_may_hold_the_removed_until_they_are_removed_again(self, metric, rows, queries, tmp_path):
        index = self.filled(rows, metric)
        gone = np.arange(1, COUNT, 2, dtype=np.int64)
        index.remove(gone)
        path = self.saved(index, tmp_path)
        again = self.make(DIM, metric)
        again.load(path)
        again.remove(gone)
        assert len(again) == COUNT // 2
        kept = np.setdiff1d(numbered(rows), gone)
        found = again.search(queries, 10)
        assert self.check_neighbours(found, queries, rows[kept - 1], kept, metric, 10) >= self.recall

    def test_an_emptied_index_can_be_saved_and_used(self, metric, rows, queries, tmp_path):
        index = self.filled(rows, metric)
        index.remove(numbered(rows))
        path = self.saved(index, tmp_path)
        again = self.make(DIM, metric)
        again.load(path)
        again.remove(numbered(rows))
        assert len(again) == 0
        assert (again.search(queries, 3).numbers == -1).all()
        again.add(numbered(rows[:9], COUNT + 1), rows[:9])
        found = again.search(queries, 3)
        self.check_neighbours(found, queries, rows[:9], numbered(rows[:9], COUNT + 1), metric, 3)

    def test_files_that_do_not_fit_are_refused(self, metric, rows, tmp_path):
        path = self.saved(self.filled(rows, metric), tmp_path)
        other = METRICS[1 - METRICS.index(metric)]
        for misfit in (self.make(DIM + 1, metric), self.make(DIM, other)):
            with pytest.raises(GalleryError, match=r"vectors\.faiss"):
                misfit.load(path)

    @pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.999])
    def test_truncated_files_are_refused(self, metric, rows, tmp_path, share):
        path = self.saved(self.filled(rows, metric), tmp_path)
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(GalleryError, match=r"vectors\.faiss"):
            self.make(DIM, metric).load(path)

    @pytest.mark.parametrize("content", [b"", b"SQLite format 3\0" * 100, b"\0" * 5000, b"IxMp" * 50])
    def test_other_files_are_refused(self, metric, tmp_path, content):
        path = tmp_path / "vectors.faiss"
        path.write_bytes(content)
        with pytest.raises(GalleryError, match=r"vectors\.faiss"):
            self.make(DIM, metric).load(path)

    def test_a_missing_file_is_refused(self, metric, tmp_path):
        with pytest.raises(GalleryError, match=r"none\.faiss"):
            self.make(DIM, metric).load(tmp_path / "none.faiss")
