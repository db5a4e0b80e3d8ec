"""Which proposed templates are scored: held against looking at every one of them."""

from __future__ import annotations

import numpy as np
import pytest

from gallery.engines.shortlist import shortlist
from gallery.indexes import library


def proposals(seed: int, steps: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(owners, distances), (40, 30) each, nearest first, -1 at +inf at the end of some; steps: many ties."""
    rng = np.random.default_rng(seed)
    owners = rng.integers(9, size=(40, 30))
    distances = np.sort(rng.random((40, 30)), axis=1).astype(np.float32)
    if steps:
        distances = np.floor(distances * steps) / np.float32(steps)
    missing = np.arange(30) >= rng.integers(31, size=40)[:, None]
    return np.where(missing, -1, owners), np.where(missing, np.float32(np.inf), distances)


def nearest_first(owners, distances) -> dict[int, int]:
    """{subject: the column of its first template}, in the order of the columns."""
    first: dict[int, int] = {}
    for column, owner in enumerate(owners.tolist()):
        if owner >= 0 and np.isfinite(distances[column]):
            first.setdefault(owner, column)
    return first


@pytest.mark.parametrize("steps", [0, 5])
@pytest.mark.parametrize("k", [1, 3, 20])
def test_of_exact_distances_the_first_template_of_each_subject_is_left(k, steps):
    owners, distances = proposals(k, steps)
    left = shortlist(owners, distances, k, 0.0)
    for row in range(len(owners)):
        wanted = list(nearest_first(owners[row], distances[row]).values())[:k]
        assert np.flatnonzero(left[row])[: len(wanted)].tolist() == wanted
        assert left[row].sum() == len(wanted) or len(wanted) == k
        # What is there past the k-th subject is no nearer, and only as far.
        assert (distances[row, left[row]][len(wanted) :] == distances[row, wanted[-1:]]).all()


@pytest.mark.parametrize("error", [1e-3, 0.02, 0.3])
@pytest.mark.parametrize("k", [1, 3])
def test_no_error_within_the_bound_changes_the_answer(k, error):
    owners, distances = proposals(7)
    left = shortlist(owners, distances, k, error)
    rng = np.random.default_rng(0)
    passed_over = 0
    for _ in range(50):
        true = distances + rng.choice([-error, 0, error], size=distances.shape)
        for row in range(len(owners)):
            order = np.lexsort((np.arange(30), true[row]))
            first = nearest_first(owners[row, order], true[row, order])
            best = order[list(first.values())[:k]]
            assert left[row, best].all()
            passed_over += int((~left[row]).sum())
    # And it is worth it: most are passed over while the bound is small.
    assert error > 0.1 or passed_over > 0.5 * 50 * left.size


def test_nothing_is_left_of_nothing():
    assert shortlist(np.empty((3, 0), np.int64), np.empty((3, 0), np.float32), 2, 0.0).shape == (3, 0)
    nobody = shortlist(np.full((2, 4), -1), np.full((2, 4), np.inf, np.float32), 2, 0.1)
    assert not nobody.any()


@pytest.mark.parametrize("rows", [50, 3000])
def test_a_small_search_takes_one_thread_and_gives_the_others_back(rows):
    rng = np.random.default_rng(rows)
    held, queries = (rng.standard_normal((count, 16)).astype(np.float32) for count in (rows, 3))
    module, seen = library.faiss(), []
    before = module.omp_get_max_threads()
    knn = module.knn
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            module, "knn", lambda *a, **b: [seen.append(module.omp_get_max_threads()), knn(*a, **b)][1]
        )
        distances, found = library.nearest(queries, held, 5, "euclidean")
    assert seen == [1]
    assert module.omp_get_max_threads() == before
    truth = np.linalg.norm(held[None].astype(np.float64) - queries[:, None], axis=2)
    assert (found == np.argsort(truth, axis=1)[:, :5]).all()
    assert np.abs(distances - np.sort(truth, axis=1)[:, :5]).max() < 1e-5
