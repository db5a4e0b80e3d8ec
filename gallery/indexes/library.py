"""The border to FAISS: where it is imported, and where its errors and its score conventions end."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gallery import workers
from gallery.errors import GalleryError, MissingExtraError
from gallery.processes import ModuleLock
from gallery.vectors import FloatRows, Numbers

_TUNING = ModuleLock()
_WORTH_SHARING = 2**21
"""Values in rows; with fewer, waking threads takes as long as the search."""
_WORTH_THREADS = 2**23
"""Values in rows times queries: with fewer, one core takes a millisecond or two, and where other programs run
FAISS's threads wait for each other many times as long."""


def _one_thread_after_a_fork() -> None:
    """In a forked process: OpenMP would wait for threads that the parent keeps for its next task.

    That is so for the thread that forked; those that are started later have threads of their own.
    """
    for name, setter in (("faiss", "omp_set_num_threads"), ("torch", "set_num_threads")):
        limit = getattr(sys.modules.get(name), setter, None)
        if limit is not None:
            limit(1)


os.register_at_fork(after_in_child=_one_thread_after_a_fork)


def faiss() -> Any:
    """The module, or MissingExtraError with the pip line."""
    try:
        import faiss as module
    except ImportError as error:
        raise MissingExtraError(
            "FAISS is not installed: pip install 'siamese-gallery[cpu]', or 'siamese-gallery[gpu]' with a GPU"
        ) from error
    return module


def faiss_metric(metric: str) -> int:
    """FAISS's number for a metric; unit rows make its inner product the cosine."""
    return int(faiss().METRIC_INNER_PRODUCT if metric == "cosine" else faiss().METRIC_L2)


def as_distances(scores: npt.NDArray[np.float32], metric: str) -> npt.NDArray[np.float32]:
    """FAISS's inner products or squared distances as public distances."""
    if metric == "cosine":
        distances = np.maximum(np.float32(1) - scores, 0)
    else:
        distances = np.sqrt(np.maximum(scores, 0))
    public: npt.NDArray[np.float32] = distances.astype(np.float32, copy=False)
    return public


def nearest(
    queries: FloatRows, rows: FloatRows, k: int, metric: str
) -> tuple[npt.NDArray[np.float32], Numbers]:
    """Brute force: (distances, row numbers), both (q, k), nearest first. k is at most the number of rows."""
    threads = faiss().omp_get_max_threads()
    if len(queries) <= 2 and threads > 1 and k <= len(rows) // threads and rows.size > _WORTH_SHARING:
        return nearest_in_parts(queries, rows, k, metric, threads)
    alone = threads > 1 and len(queries) * rows.size <= _WORTH_THREADS
    try:
        if alone:
            faiss().omp_set_num_threads(1)
        with tuned(rows.shape[1]):
            scores, found = faiss().knn(queries, rows, k, metric=faiss_metric(metric))
    finally:
        if alone:
            faiss().omp_set_num_threads(threads)
    return as_distances(scores, metric), found


def nearest_in_parts(
    queries: FloatRows, rows: FloatRows, k: int, metric: str, threads: int
) -> tuple[npt.NDArray[np.float32], Numbers]:
    """`nearest` of one query or two, with each thread on its own rows: FAISS gives a query one core only.

    k is at most len(rows) // threads.
    """
    module = faiss()
    bounds = [len(rows) * part // threads for part in range(threads + 1)]

    def search(part: int) -> tuple[npt.NDArray[np.float32], Numbers]:
        # It holds for the thread that says it.
        module.omp_set_num_threads(1)
        start, stop = bounds[part], bounds[part + 1]
        scores, found = module.knn(queries, rows[start:stop], k, metric=faiss_metric(metric))
        return as_distances(scores, metric), found + start

    parts = workers.side_by_side(search, range(threads), threads)
    distances = np.concatenate([part[0] for part in parts], axis=1)
    found = np.concatenate([part[1] for part in parts], axis=1)
    order = np.lexsort((found, distances), axis=1)[:, :k]
    return np.take_along_axis(distances, order, axis=1), np.take_along_axis(found, order, axis=1)


@contextmanager
def tuned(dim: int) -> Iterator[None]:
    """Lets FAISS use matrix products from four queries on.

    faiss 1.15 asks for 128,000 / dim queries before it does, and below that every query reads all rows alone:
    12 times slower at 64 queries. The settings are global to FAISS, so they are put back.
    """
    cvar = faiss().cvar
    with _TUNING.lock:
        before = cvar.distance_compute_blas_threshold, cvar.distance_compute_blas_database_bs
        cvar.distance_compute_blas_threshold, cvar.distance_compute_blas_database_bs = 4 * dim, 4096
        try:
            yield
        finally:
            cvar.distance_compute_blas_threshold, cvar.distance_compute_blas_database_bs = before


def flat_with_room(count: int, dim: int, metric: str) -> tuple[Any, FloatRows]:
    """A flat index of `count` rows, all zero, and the rows, (count, dim), to be filled in.

    Adding to it block by block would copy all rows again and again, and take up to three times their room.
    """
    module = faiss()
    index = module.IndexFlat(dim, faiss_metric(metric))
    index.codes.resize(count * index.code_size)
    index.ntotal = count
    if count == 0:
        return index, np.empty((0, dim), np.float32)
    rows: FloatRows = module.rev_swig_ptr(index.get_xb(), count * dim).reshape(count, dim)
    return index, rows


def with_numbers(inner: Any, numbers: Numbers) -> Any:
    """`inner` beside its template numbers, by position, as a file holds both; for writing only."""
    module = faiss()
    index = module.IndexIDMap(module.IndexFlat(inner.d, inner.metric_type))
    # The map would refuse an index that is not empty.
    index.index, index.ntotal, index.own_fields = inner, inner.ntotal, False
    module.copy_array_to_vector(np.ascontiguousarray(numbers), index.id_map)
    return index


def write(index: Any, path: Path) -> None:
    """Writes an index to a new file and waits until it is on the disk."""
    try:
        faiss().write_index(index, str(path))
    except RuntimeError as error:
        raise GalleryError(f"{path} could not be written: {_first_line(error)}") from error
    path.chmod(0o600)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def read(path: Path, dim: int, metric: str, *, mapped: bool) -> tuple[Any, Numbers]:
    """(index, its numbers) from a file; GalleryError when it holds something else.

    mapped: the file is paged in as it is used. Never add to such an index: FAISS aborts the process.
    """
    module = faiss()
    try:
        index = module.read_index(str(path), module.IO_FLAG_MMAP_IFC if mapped else 0)
    except RuntimeError as error:
        raise GalleryError(f"{path} could not be read: {_first_line(error)}") from error
    if not isinstance(index, module.IndexIDMap):
        raise GalleryError(f"{path} holds a {type(index).__name__}, not a numbered index")
    numbers = module.vector_to_array(index.id_map)
    if index.d != dim or index.metric_type != faiss_metric(metric) or index.index.ntotal != len(numbers):
        raise GalleryError(f"{path} does not fit the gallery: {index.index.ntotal} vectors of dim {index.d}")
    return index, numbers


def flat_rows(index: Any) -> FloatRows:
    """The vectors of a numbered flat index, (n, dim), not copied; valid as long as `index` lives."""
    module = faiss()
    inner = module.downcast_index(index.index)
    if not isinstance(inner, module.IndexFlat):
        raise GalleryError(f"expected a flat index, the file holds a {type(inner).__name__}")
    values: FloatRows = module.rev_swig_ptr(inner.get_xb(), inner.ntotal * inner.d)
    return values.reshape(inner.ntotal, inner.d)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
