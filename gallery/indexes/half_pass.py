"""A first pass in bfloat16: for processors with matrix units for it (AMX), and for GPUs."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from gallery.indexes.first_pass import (
    GROUP,
    Asked,
    Block,
    Survivors,
    centre_of,
    centred,
    error_of,
    growing_spans,
    least_costs,
    least_scores,
    residuals_of,
    spans,
)
from gallery.indexes.ranking import Costs
from gallery.vectors import FloatRows

_TOGETHER = 1024
_LEAST = 1e-24
"""Products of shorter vectors come near what float32 and bfloat16 take for 0."""
_AT_ONCE = 2**15
"""Rows that are rounded at a time: what is made of them on the way is five times as large."""
_SPARE = 0.2
"""Share of a card's free memory that is left alone, besides what a search takes."""
_SCORE = 12
"""Bytes of a card's memory that a search takes for each product: in float32, twice, and what comes of it."""
_PART = 0.05
"""Share of a card's memory that a block takes, and another one its products with some queries."""
_LARGEST = 2**22


class HalfPass:
    """See `gallery.indexes.first_pass.FirstPass`. Two bytes a value, on `device` as far as they fit there.

    What does not fit stays in memory and is sent over at each search, block by block.
    """

    def __init__(
        self, rows: FloatRows, metric: str, size: int, device: str, largest: int | None = None
    ) -> None:
        """rows (n, dim) stay the caller's; device: "cpu" or "cuda".

        size: rows in a block at most, or in the first one where later ones may grow to `largest`.
        """
        self.name = f"bfloat16, {device}"
        self.side_by_side = device == "cpu"
        self.blocks: list[Block] = []
        self._device = device
        self._rows = rows
        self._metric = metric
        count = len(rows)
        self.spans = spans(count, size) if largest is None else growing_spans(count, size, largest)
        self._centre = centre_of(rows)
        most = max((stop - start for start, stop in self.spans), default=1)
        self._together = _TOGETHER if device == "cpu" else _answered_together(most)
        # What a search takes: a block that is sent over, and its products.
        self._searching = most * (2 * rows.shape[1] + _SCORE * self._together)

    def grow(self, blocks: int) -> None:
        first = len(self.blocks)
        for span in self.spans[first : first + blocks]:
            self.blocks.append(self._rounded(*span))

    def _rounded(self, start: int, stop: int) -> Block:
        torch = _torch()
        count, dim = stop - start, self._rows.shape[1]
        room = count + -count % GROUP
        kept, offsets = self._room((room, dim), torch.bfloat16), self._room((room,), torch.float32)
        bounds = torch.zeros(3, dtype=torch.float64, device=self._device)
        for first in range(0, count, _AT_ONCE):
            last = min(count, first + _AT_ONCE)
            rows = torch.from_numpy(self._rows[start + first : start + last] - self._centre).to(self._device)
            halves = rows.bfloat16()
            lengths = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64)
            residuals = torch.linalg.vector_norm(halves.float() - rows, dim=1, dtype=torch.float64)
            residuals += 2.0**-21 * lengths
            kept[first:last] = halves
            squares = lengths.square() / 2 if self._metric == "euclidean" else torch.zeros_like(lengths)
            offsets[first:last] = squares.float()
            found = torch.stack([residuals, lengths + residuals, squares]).amax(dim=1)
            bounds = torch.maximum(bounds, found)  # a NaN stays: nothing is ruled out then
        residual, length, offset = bounds.tolist()
        return Block(start, stop, residual, length, offset, (kept, offsets))

    def _room(self, shape: tuple[int, ...], kind: Any) -> Any:
        """Zeros where a block will stay: on the device while there is room, else in memory it can read."""
        torch = _torch()
        if self._device == "cpu":
            return torch.zeros(shape, dtype=kind)
        free, _ = torch.cuda.mem_get_info()
        if math.prod(shape) * kind.itemsize < (1 - _SPARE) * (free - self._searching):
            return torch.zeros(shape, dtype=kind, device=self._device)
        return torch.zeros(shape, dtype=kind, pin_memory=True)

    def ask(self, queries: FloatRows) -> list[Asked]:
        torch = _torch()
        p, lengths, shifts = centred(queries, self._centre, self._metric)
        kept = torch.from_numpy(p).bfloat16()
        residuals = residuals_of(p, lengths, kept.float().numpy())
        asked = []
        for start in range(0, len(p), self._together):
            part = slice(start, start + self._together)
            asked.append(
                Asked(
                    np.arange(len(p))[part],
                    lengths[part],
                    residuals[part],
                    shifts[part],
                    kept[part].to(self._device),
                )
            )
        return asked

    def survivors(self, asked: Asked, block: Block, limits: Costs, most: int) -> Survivors | None:
        torch = _torch()
        if float(asked.lengths.max()) * block.length < _LEAST:
            return None
        rows, offsets = (tensor.to(self._device, non_blocking=True) for tensor in block.held)
        scores, rounding = _products(rows, asked.held)
        if self._metric == "euclidean":
            scores = scores.float() - offsets
        dim = rows.shape[1]
        error = error_of(asked, block, rounding + (dim + 32) * 2.0**-23)
        least = least_scores(asked, limits, error, self._metric)
        if np.isnan(least).any():
            return None
        with np.errstate(over="ignore"):
            bounds = np.nextafter(least.astype(np.float32), np.float32(-np.inf))
        bounds = torch.from_numpy(bounds)[:, None].to(self._device)
        groups = scores.unflatten(1, (-1, GROUP))
        # Not "below", so that a NaN, from an overflow, is kept.
        hot = (~(groups.amax(dim=2) < bounds)).nonzero()
        if len(hot) > most:
            return None
        query, group = hot[:, 0], hot[:, 1]
        values = groups[query, group]
        near = ~(values < bounds[query])
        if int(near.sum()) > most:
            return None
        at, inside = near.nonzero(as_tuple=True)
        which, row = torch.stack([query[at], group[at] * GROUP + inside]).cpu().numpy()
        there = row < block.stop - block.start
        which = which[there]
        found = values[at, inside].double().cpu().numpy()[there]
        largest = np.where(np.isnan(found), np.inf, found)
        return which, row[there] + block.start, least_costs(asked, which, largest, error, self._metric)


def largest_block(dim: int) -> int:
    """Rows of `dim` numbers in the largest block for this machine's card."""
    _, total = _torch().cuda.mem_get_info()
    return max(_TOGETHER, min(_LARGEST, int(_PART * total) // (2 * dim)))


def _answered_together(largest: int) -> int:
    """How many queries at a time leave room for their products with the rows of the largest block."""
    _, total = _torch().cuda.mem_get_info()
    return max(16, min(_TOGETHER, int(_PART * total) // (4 * largest)))


def _products(rows: Any, queries: Any) -> tuple[Any, float]:
    """((queries, rows) products of bfloat16, by what share of the magnitudes rounding them cost)."""
    torch = _torch()
    if rows.device.type == "cpu":
        # This way round the processor's kernels are more than twice as fast.
        return (rows @ queries.T).T, 2.0**-8
    try:
        return torch.mm(queries, rows.T, out_dtype=torch.float32), 0.0
    except TypeError:
        # An older torch: partial sums may be rounded to bfloat16 on the way, eight bits each.
        return queries @ rows.T, 2.0**-4


@cache
def fast_on_cpu() -> bool:
    """True where the processor multiplies bfloat16 in matrix units."""
    try:
        return bool(_torch().cpu.get_capabilities().get("amx_bf16", False))
    except (ImportError, AttributeError):
        info = Path("/proc/cpuinfo")
        return info.is_file() and "amx_bf16" in info.read_text(encoding="utf-8", errors="replace")


@cache
def on_gpu() -> bool:
    """True where torch can use a GPU."""
    try:
        return bool(_torch().cuda.is_available())
    except ImportError:
        return False


def _torch() -> Any:
    import torch

    return torch
