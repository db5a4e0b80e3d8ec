"""A first pass with a byte for each value, for processors without matrix units for half precision.

The products are FBGEMM's (Khudia et al., 2021, arXiv:2101.05615), through torch: the rows are the packed
weights of a linear layer, each with a scale and a bias of its own, the queries its activations. On AVX2 the
kernel adds pairs of products in 16 bits, so the queries take 7 bits only: 2 x 127 x 127 stays below 2^15.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from gallery import workers
from gallery.indexes.first_pass import (
    GROUP,
    Asked,
    Block,
    Survivors,
    centre_of,
    centred,
    error_of,
    least_costs,
    least_scores,
    residuals_of,
    spans,
)
from gallery.indexes.ranking import Costs
from gallery.processes import ModuleLock
from gallery.vectors import FloatRows, Numbers

_ZERO = 64
"""The byte that stands for 0 among a query's values."""
_TOP_QUERY, _TOP_ROW = 63, 127
_TOGETHER = 128
"""Queries that are answered in one product; more do not make it faster."""
_QUANTISED_AT_A_TIME = 2048
_PACKING = ModuleLock()
_SCALES = 1e-15, 1e30
_STEPS = 1e-24, 1e35
"""float32 neither overflows nor underflows with these, whatever is multiplied or divided."""
_SLACK = 2.0**-10
"""What float32 may lose of a score near its byte, in steps."""


class BytePass:
    """See `gallery.indexes.first_pass.FirstPass`. About dim + 16 bytes a row."""

    name = "8 bits, FBGEMM"
    side_by_side = True

    def __init__(self, rows: FloatRows, metric: str, size: int) -> None:
        """rows (n, dim) stay the caller's; size: rows in a block at most."""
        self.blocks: list[Block] = []
        self._rows = rows
        self._metric = metric
        self.spans = spans(len(rows), size)
        self._centre = centre_of(rows)

    def grow(self, blocks: int) -> None:
        first = len(self.blocks)
        self.blocks += workers.each(self._packed, self.spans[first : first + blocks])

    def _packed(self, span: tuple[int, int]) -> Block:
        """One block: quantised in pieces that stay in a core's own cache."""
        torch = _torch()
        start, stop = span
        count = stop - start
        padded = count + -count % GROUP
        values = torch.zeros((padded, self._rows.shape[1]), dtype=torch.int8)
        scales = torch.ones(padded, dtype=torch.float64)
        bias = torch.zeros(padded)
        lost = kept = offset = 0.0
        for at in range(0, count, _QUANTISED_AT_A_TIME):
            piece = slice(at, min(count, at + _QUANTISED_AT_A_TIME))
            rows = torch.from_numpy(self._rows[start:stop][piece] - self._centre)
            scale, whole = _quantised(rows)
            back = whole * scale[:, None]
            lengths = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64)
            residuals = torch.linalg.vector_norm(back - rows, dim=1, dtype=torch.float64)
            # What float32 lost in the subtraction of the centre and in the scaling.
            residuals += 2.0**-21 * lengths
            values[piece], scales[piece] = whole.to(torch.int8), scale.double()
            lost = max(lost, float(residuals.max()))
            kept = max(kept, float((lengths + residuals).max()))
            if self._metric == "euclidean":
                bias[piece] = (lengths.square() / -2).float()
                offset = max(offset, float(lengths.max()) ** 2 / 2)
        return Block(start, stop, lost, kept, offset, _pack(values, scales, bias))

    def ask(self, queries: FloatRows) -> list[Asked]:
        p, lengths, shifts = centred(queries, self._centre, self._metric)
        own = self._metric == "cosine"
        portions = [np.arange(len(p))] if own else _alike(lengths)
        asked = []
        for portion in portions:
            for at in np.array_split(portion, -(-len(portion) // _TOGETHER)):
                tops = np.abs(p[at]).max(axis=1, initial=0).astype(np.float64)
                scales = _scales(tops) if own else _scales(tops.max(keepdims=True)).repeat(len(at))
                whole = np.rint(p[at] / scales[:, None]).clip(-_TOP_QUERY, _TOP_QUERY)
                residuals = residuals_of(p[at], lengths[at], whole * scales[:, None])
                values = (whole + _ZERO).astype(np.uint8)
                # What the product multiplies by, and what is left to multiply it by.
                wide = scales.astype(np.float64)
                held = values, *((1.0, wide) if own else (float(wide[0]), np.ones(len(at))))
                asked.append(Asked(at, lengths[at], residuals, shifts[at], held))
        return asked

    def survivors(self, asked: Asked, block: Block, limits: Costs, most: int) -> Survivors | None:
        error = error_of(asked, block, 2.0**-19)
        values, scale, own = asked.held
        largest = (asked.lengths + asked.residuals) * block.length + block.offset
        least = least_scores(asked, limits, error, self._metric)
        window = _window(least / own, float((largest / own).max()), float((error / own).min()))
        if window is None:
            return None
        step, zero, codes = window
        scores = _products(values, scale, block.held, step, zero)
        width = scores.shape[1] // GROUP
        # Groups are `width` apart, so that a maximum is taken over whole runs of bytes.
        tops = scores.reshape(len(scores), GROUP, width).max(axis=1)
        hot = np.flatnonzero(tops >= codes[:, None])
        if len(hot) > most:
            return None
        query, column = np.divmod(hot, width)
        rows = column[:, None] + width * np.arange(GROUP)
        found = scores.ravel().take(rows + (query * scores.shape[1])[:, None])
        kept = (found >= codes[query][:, None]) & (rows < block.stop - block.start)
        rows, query, found = rows[kept], np.repeat(query, kept.sum(axis=1)), found[kept]
        top = np.where(
            found == 255, np.inf, (found.astype(np.float64) + (0.5 + _SLACK - zero)) * step * own[query]
        )
        return query, rows + block.start, least_costs(asked, query, top, error, self._metric)


def _alike(lengths: Costs) -> list[Numbers]:
    """Which queries can share a scale: it must serve all of a product when rows have a bias of their own."""
    size = np.floor(np.log2(np.maximum(lengths, 1e-300)) / 2)
    order = np.argsort(size, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(size[order])) + 1)


def _scales(tops: Costs) -> FloatRows:
    scales: FloatRows = np.where(tops > 0, tops / _TOP_QUERY, 1).clip(*_SCALES).astype(np.float32)
    return scales


def _products(
    values: npt.NDArray[np.uint8], scale: float, packed: Any, step: float, zero: int
) -> npt.NDArray[np.uint8]:
    """(queries, rows) round(score / step) + zero, in a byte."""
    torch = _torch()
    activation = torch._make_per_tensor_quantized_tensor(torch.from_numpy(values), scale, _ZERO)
    scores = torch.ops.quantized.linear(activation, packed, step, zero)
    # The bytes themselves: `int_repr` would copy them.
    raw = torch.empty(0, dtype=torch.uint8).set_(scores.untyped_storage(), 0, scores.shape)
    found: npt.NDArray[np.uint8] = raw.numpy()
    return found


def _window(least: Costs, largest: float, error: float) -> tuple[float, int, npt.NDArray[np.uint8]] | None:
    """(step, zero, codes): scores are rounded to the byte score / step + zero, and a row is kept when
    that is at least the query's code. None where nothing can be said.

    What is above or below the 256 steps of a byte saturates: that keeps too much, but never too little.
    least: (m,) the scores to tell from lower ones; none is over `largest`; error: what they are off by.
    """
    low, high = float(least.min()), float(least.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        return None
    # FBGEMM rounds to 32 bits, and adds the zero in 16.
    step = max((high - low) / 240, error / 16, max(-low, high) / 16000, largest / 2**29)
    if not _STEPS[0] < step < _STEPS[1]:
        return None
    step = float(np.float32(step))
    zero = 4 - int(np.floor(low / step))
    codes = np.ceil(least / step - 0.5 - _SLACK) + zero
    return step, zero, codes.clip(0, 255).astype(np.uint8)


def _quantised(rows: Any) -> tuple[Any, Any]:
    """(scale of each row, whole numbers of at most 127): rows are about scale x whole."""
    tops = rows.abs().amax(dim=1)
    # A row of zeros, or one far shorter than the others, takes a scale that float32 can work with.
    scale = (tops / _TOP_ROW).clamp_(min=max(float(tops.max()) * 2.0**-20, _SCALES[0]))
    return scale, (rows / scale[:, None]).round_().clamp_(-_TOP_ROW, _TOP_ROW)


def _pack(values: Any, scales: Any, bias: Any) -> Any:
    torch = _torch()
    zeros = torch.zeros(len(values), dtype=torch.int64)
    weights = torch._make_per_channel_quantized_tensor(values, scales, zeros, 0)
    engines = torch.backends.quantized
    with _PACKING.lock:
        # The engine is a setting of the whole process, read when a layer is packed.
        before = engines.engine
        engines.engine = "fbgemm"
        try:
            return torch.ops.quantized.linear_prepack(weights, bias)
        finally:
            engines.engine = before


@cache
def available() -> bool:
    """True where FBGEMM runs and rounds as it is relied upon to do."""
    try:
        torch = _torch()
        with warnings.catch_warnings():
            # torch says once a process that tensors with a scale are deprecated.
            warnings.simplefilter("ignore")
            return _rounds_as_expected(torch)
    except (ImportError, RuntimeError, AttributeError, NotImplementedError):
        return False


def _rounds_as_expected(torch: Any) -> bool:
    if "fbgemm" not in torch.backends.quantized.supported_engines:
        return False
    rng = np.random.default_rng(0)
    rows = rng.integers(-_TOP_ROW, _TOP_ROW + 1, (48, 70))
    queries = rng.integers(-_TOP_QUERY, _TOP_QUERY + 1, (3, 70))
    # Where 16 bits would overflow first.
    rows[0], rows[1], queries[0], queries[1] = _TOP_ROW, -_TOP_ROW, _TOP_QUERY, -_TOP_QUERY
    scales, bias = rng.random(48) + 0.5, (1000 * rng.standard_normal(48)).astype(np.float32)
    packed = _pack(*map(torch.from_numpy, (rows.astype(np.int8), scales, bias)))
    values = (queries + _ZERO).astype(np.uint8)
    scores = queries @ rows.T * 0.25 * scales + bias
    for step, zero in ((50.0, 128), (10.0, -400), (10.0, 500), (0.01, -15000)):
        found = _products(values, 0.25, packed, step, zero)
        if np.abs((scores / step + zero).clip(0, 255) - found).max() > 0.51:
            return False
    return True


def _torch() -> Any:
    import torch

    return torch
