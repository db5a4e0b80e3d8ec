"""What FAISS's `index_factory` can make, and how a search of it is told how hard to look and what to hide."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from gallery.indexes import library
from gallery.indexes.base import Effort
from gallery.indexes.positions import Bits
from gallery.vectors import FloatRows

_PER_CELL = 39
"""k-means of FAISS warns below so many training vectors a cell."""
_SAMPLE_PER_CELL = 64
"""More than that many make no better cells."""
_EF_SEARCH = 128
_EF_CONSTRUCTION = 100
_BLOCK = 65536
_NO_LINKS = re.compile(r"HNSW0*[01](?!\d)|HNSW[1-9]\d{4}")


def made(kind: str, dim: int, metric: str) -> Any:
    """An empty index of FAISS; ValueError when FAISS cannot make it."""
    if _NO_LINKS.search(kind):
        # FAISS makes it, and ends the process with an assertion at the first vector.
        raise ValueError(f"FAISS cannot make an index {kind!r}: a graph takes 2 to 9,999 links a vector")
    try:
        index = library.faiss().index_factory(dim, kind, library.faiss_metric(metric))
    except (RuntimeError, MemoryError) as error:
        raise ValueError(
            f"FAISS cannot make an index {kind!r} of dim {dim}: {reason(error)}. Kinds are auto, exact, "
            "and its factory strings, such as HNSW32, IVF1024,SQ8 or IVF1024,PQ64x4fs,RFlat"
        ) from error
    ivf, graph, refine = _parts(index)
    # Recall before speed: FAISS looks into one cell of an IVF unless told otherwise.
    if ivf is not None:
        ivf.nprobe = max(8, ivf.nlist // 16)
    if graph is not None:
        graph.hnsw.efConstruction, graph.hnsw.efSearch = _EF_CONSTRUCTION, _EF_SEARCH
    if refine is not None:
        refine.k_factor = 4.0
    return index


def reason(error: Exception) -> str:
    """What FAISS says, without where in its own source it says it."""
    return re.sub(r"^Error in .*? at \S+:\d+: ", "", str(error), flags=re.DOTALL).strip()


def names(index: Any) -> list[str]:
    """What FAISS calls it and those inside it."""
    return [type(one).__name__ for one in _layers(index)]


def training_size(index: Any) -> int:
    """How many vectors the kind wants before it is trained; 0 when it needs no training."""
    return 0 if index.is_trained else _PER_CELL * _cells(index)


def sample_size(index: Any) -> int:
    """How many vectors it is best trained on, where there are so many."""
    return _SAMPLE_PER_CELL * _cells(index)


def _cells(index: Any) -> int:
    # Product quantizers have up to 256 centroids of their own, or more where they are told so.
    return max(256, centroids(index))


def centroids(index: Any) -> int:
    """The most that any k-means of its training looks for; of fewer vectors FAISS refuses to make them."""
    most = 0
    for one in _inside(index):
        bits = [one.pq.nbits] if hasattr(one, "pq") else []
        if hasattr(one, "aq"):
            bits += library.faiss().vector_to_array(one.aq.nbits).tolist()
        most = max(most, getattr(one, "nlist", 0), *(2 ** int(each) for each in bits), 0)
    return most


def hurry(index: Any) -> None:
    """Makes its training as short as it can be, where nothing depends on how good it is."""
    module = library.faiss()
    for one in _inside(index):
        if hasattr(one, "do_polysemous_training"):
            one.do_polysemous_training = False
        if hasattr(one, "lsq"):
            one.lsq.train_iters = one.lsq.encode_ils_iters = one.lsq.train_ils_iters = 1
        for at in range(one.chain.size() if hasattr(one, "chain") else 0):
            step = module.downcast_VectorTransform(one.chain.at(at))
            if isinstance(step, module.OPQMatrix):
                step.niter = 1
            if isinstance(step, module.ITQTransform):
                step.itq.max_iter = 1


def effort(index: Any) -> Effort:
    """How hard its searches look."""
    ivf, graph, refine = _parts(index)
    return Effort(
        0 if ivf is None else int(ivf.nprobe),
        0 if graph is None else int(graph.hnsw.efSearch),
        0 if refine is None else float(refine.k_factor),
    )


def set_effort(index: Any, wanted: Effort) -> None:
    """Makes its searches look as hard as that; a file of it remembers."""
    ivf, graph, refine = _parts(index)
    if ivf is not None:
        ivf.nprobe = max(1, min(wanted.cells, ivf.nlist))
    if graph is not None:
        graph.hnsw.efSearch = max(1, wanted.reach)
    if refine is not None:
        refine.k_factor = max(1.0, wanted.refined)


def most(index: Any) -> Effort:
    """The hardest that its searches can look, but for graphs, where there is no end."""
    ivf, graph, refine = _parts(index)
    now = effort(index)
    cells = 0 if ivf is None else int(ivf.nlist)
    reach = 0 if graph is None else 16 * max(now.reach, _EF_SEARCH)
    return Effort(cells, reach, 0 if refine is None else max(now.refined, 16.0))


def search(index: Any, queries: FloatRows, k: int, look: Effort, only: Bits | None) -> tuple[Any, Any]:
    """FAISS's (scores, positions), both (q, k). only: bits of the positions that may be found; None is all.

    RuntimeError where the kind cannot be told what to hide.
    """
    module = library.faiss()
    selector = None if only is None else module.IDSelectorBitmap(only)
    told = _parameters(index, k, look, selector)
    # Other kinds know no parameters at all, and say so when they are given some.
    scores, at = index.search(queries, k) if told is None else index.search(queries, k, params=told)
    return scores, at


def _parameters(index: Any, k: int, look: Effort, selector: Any) -> Any:
    """What is told to one search, so that searches of other threads are told something else."""
    module = library.faiss()
    index = module.downcast_index(index)
    hidden = {} if selector is None else {"sel": selector}
    if isinstance(index, module.IndexPreTransform):
        inside = _parameters(index.index, k, look, selector)
        return None if inside is None else module.SearchParametersPreTransform(index_params=inside)
    if isinstance(index, module.IndexRefine):
        below = _parameters(index.base_index, int(k * look.refined), look, selector)
        extra = {} if below is None else {"base_index_params": below}
        return module.IndexRefineSearchParameters(k_factor=look.refined, **extra)
    if isinstance(index, module.IndexIVF):
        return module.SearchParametersIVF(nprobe=look.cells, **hidden, **_of_quantizer(index, look))
    if isinstance(index, module.IndexHNSW):
        # It finds no more than efSearch neighbours, and few of the last ones well.
        return module.SearchParametersHNSW(efSearch=max(look.reach, 2 * k), **hidden)
    return module.SearchParameters(**hidden) if hidden else None


def _of_quantizer(ivf: Any, look: Effort) -> dict[str, Any]:
    module = library.faiss()
    if isinstance(module.downcast_index(ivf.quantizer), module.IndexHNSW):
        return {"quantizer_params": module.SearchParametersHNSW(efSearch=max(64, 2 * look.cells))}
    return {}


def _layers(index: Any) -> Iterator[Any]:
    """The index and those inside it, the outermost first."""
    module = library.faiss()
    while index is not None:
        index = module.downcast_index(index)
        yield index
        if isinstance(index, module.IndexRefine):
            index = index.base_index
        elif isinstance(index, (module.IndexPreTransform, module.IndexIDMap)):
            index = index.index
        else:
            index = None


def _inside(index: Any) -> Iterator[Any]:
    """The index and all that it is made of, those that find its cells and that keep its rows among them."""
    for one in _layers(index):
        yield one
        for name in ("quantizer", "storage", "refine_index"):
            if getattr(one, name, None) is not None:
                yield from _inside(getattr(one, name))


def _parts(index: Any) -> tuple[Any, Any, Any]:
    """(the IVF in it, the graph in it, the refinement in it), None each where there is none."""
    module = library.faiss()
    found: list[Any] = [None, None, None]
    for one in _layers(index):
        for at, kind in enumerate((module.IndexIVF, module.IndexHNSW, module.IndexRefine)):
            if isinstance(one, kind):
                found[at] = one
    return found[0], found[1], found[2]


def rows_as_they_were(index: Any) -> FloatRows | None:
    """A view of the rows as they were added, (n, dim), by position; None where the kind does not keep them.

    Valid until something is added. IVF,Flat keeps them too, but in the order of its cells.
    """
    module = library.faiss()
    index = module.downcast_index(index)
    if isinstance(index, module.IndexRefine):
        index = module.downcast_index(index.refine_index)
    if isinstance(index, module.IndexHNSW):
        index = module.downcast_index(index.storage)
    if not isinstance(index, module.IndexFlat) or index.ntotal == 0:
        return None
    values: FloatRows = module.rev_swig_ptr(index.get_xb(), index.ntotal * index.d)
    return values.reshape(index.ntotal, index.d)


def is_lossless(index: Any) -> bool:
    """Whether `reconstructed` gives the rows bit for bit as they were added."""
    ivf = type(library.faiss().downcast_index(index)).__name__ == "IndexIVFFlat"
    return ivf or int(index.ntotal) == 0 or rows_as_they_were(index) is not None


def reconstructed(index: Any) -> Iterator[tuple[int, FloatRows]]:
    """(position of the first, rows as the index knows them) in blocks, by position."""
    held = rows_as_they_were(index)
    if held is not None:
        for start in range(0, len(held), _BLOCK):
            yield start, held[start : start + _BLOCK]
        return
    for start in range(0, int(index.ntotal), _BLOCK):
        count = min(_BLOCK, int(index.ntotal) - start)
        yield start, index.reconstruct_n(start, count)
