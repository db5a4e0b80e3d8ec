"""A copy of a FAISS index on a CUDA device, for faiss-gpu. It proposes; the index on the CPU stays the truth.

Nothing is ever read back from it, and it can be thrown away at any moment. FAISS's GPU indexes cannot be told
what to hide, so they are asked for more where something is. Graphs, 4-bit codes and refinements have no copy;
the exact index has a first pass for GPUs of its own.
"""

from __future__ import annotations

import ctypes
import os
import threading
import warnings
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt

from gallery.indexes import kinds, library
from gallery.vectors import FloatRows, Numbers

Scores = tuple[npt.NDArray[np.float32], Numbers]
"""FAISS's (scores, positions), both (q, k)."""

MOST = 2048
"""More neighbours FAISS's GPU indexes do not give, and in more cells they do not look."""

ERROR = 2.0**-9
"""How much farther off a cosine distance may be: matrix units may round both factors to eleven bits. FAISS is
not known to let them where cells are gone through; this costs a few more that are scored exactly."""

_WORTH_IT = 256
"""Queries that the CPU answers before the copy is made, which takes a second or several."""
_SCRATCH = 256 * 2**20
"""Bytes on the card for what a search needs meanwhile; FAISS takes six times as much unless told."""
_CELLS = ("IndexIVFFlat", "IndexIVFPQ", "IndexIVFScalarQuantizer")


class Unanswered(Exception):
    """The CPU has to be asked instead."""


class GpuCopy:
    """The copy of one index, made when it is worth it. Threads that search at the same time take turns."""

    def __init__(self) -> None:
        self._asked = 0
        self._lock = threading.Lock()
        self._copy: Any = None
        self._resources: Any = None
        self._refused = False
        self.error = 0.0
        """How much farther off than float32 its cosine distances may be; 0 as long as it gave none."""
        _COPIES.add(self)

    def search(self, index: Any, queries: FloatRows, k: int, cells: int) -> Scores:
        """The k nearest of all that `index` holds, hidden ones too; Unanswered where the CPU has to be asked.

        cells: how many of an IVF to look into.
        """
        if k > MOST or cells > MOST or self._refused or _FORKED.is_set():
            raise Unanswered
        with self._lock:
            self._asked += len(queries)
            if self._asked <= _WORTH_IT:
                raise Unanswered
            try:
                self._bring_up(index)
                if cells:
                    self._copy.nprobe = cells
                scores, at = self._copy.search(queries, k)
            except RuntimeError as error:
                self._give_up(f"an index of {index.ntotal:,} vectors", error)
                raise Unanswered from error
            self.error = ERROR
        return scores, at

    def add(self, rows: FloatRows) -> None:
        """Takes up rows that were just added to the index."""
        # Before the lock, which another thread may have held when this process was forked.
        if _FORKED.is_set():
            return
        with self._lock:
            if self._copy is None:
                return
            try:
                self._copy.add(rows)
            except RuntimeError:
                # It is made anew, or refused, when it is asked next.
                self._copy = None

    def _bring_up(self, index: Any) -> None:
        """Makes the copy, where there is none or it does not hold as much."""
        if self._copy is not None and self._copy.ntotal == index.ntotal:
            return
        module = library.faiss()
        index = module.downcast_index(index)
        if not _is_for_gpus(index) or _devices() == 0:
            self._refused = True
            raise Unanswered
        if self._resources is None:
            # Of its own: those of FAISS may not be used by two indexes at the same time.
            self._resources = module.StandardGpuResources()
            self._resources.setTempMemory(_SCRATCH)
        self._copy = None
        self._copy = module.index_cpu_to_gpu(self._resources, 0, index)

    def _give_up(self, what: str, error: RuntimeError) -> None:
        self._copy, self._refused = None, True
        why = kinds.reason(error).partition("\n")[0]
        warnings.warn(f"{what} is searched on the CPU: its copy on the GPU failed: {why}", stacklevel=2)


_COPIES: weakref.WeakSet[GpuCopy] = weakref.WeakSet()
_FORKED = threading.Event()
"""This process was forked from one that had FAISS: CUDA must not be touched here."""


def _is_for_gpus(index: Any) -> bool:
    if type(index).__name__ not in _CELLS:
        return False
    return type(library.faiss().downcast_index(index.quantizer)).__name__.startswith("IndexFlat")


def _devices() -> int:
    count = getattr(library.faiss(), "get_num_gpus", None)
    return 0 if count is None else int(count())


def _begin_as_a_child() -> None:
    _FORKED.set()
    for copy in list(_COPIES):
        for one in (copy._copy, copy._resources):
            # To free it would ask the card, and FAISS ends a process that the card does not answer.
            if one is not None:
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(one))


os.register_at_fork(after_in_child=_begin_as_a_child)
