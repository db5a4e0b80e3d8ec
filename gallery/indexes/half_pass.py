"""A first pass in bfloat16: for processors with matrix units for it (AMX), and for GPUs."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from gallery.indexes.axes import Axes
from gallery.indexes.first_pass import (
    GROUP,
    Asked,
    Block,
    Survivors,
    error_of,
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
_SPARE = 0.2
"""Share of a card's free memory that is left alone."""


class HalfPass:
    """See `gallery.indexes.first_pass.FirstPass`. Two bytes a value, on `device` as far as they fit there.

    What does not fit stays in memory and is sent over at each search, block by block.
    """

    def __init__(self, rows: FloatRows, metric: str, size: int, device: str) -> None:
        """rows (n, dim) stay the caller's; size: rows in a block at most; device: "cpu" or "cuda"."""
        self.name = f"bfloat16, {device}"
        self.side_by_side = device == "cpu"
        self.blocks: list[Block] = []
        self._device = device
        self._rows = rows
        self._metric = metric
        self._spans = spans(len(rows), size)
        self._axes = Axes(rows)

    def grow(self, blocks: int) -> None:
        first = len(self.blocks)
        for span in self._spans[first : first + blocks]:
            self.blocks.append(self._rounded(*span))

    def complete(self) -> bool:
        return len(self.blocks) == len(self._spans)

    def _rounded(self, start: int, stop: int) -> Block:
        torch = _torch()
        seen = self._axes.of_rows(self._rows[start:stop])
        kept = seen.along.bfloat16()
        lengths = seen.lengths
        residuals = torch.linalg.vector_norm(kept.float() - seen.along, dim=1, dtype=torch.float64)
        residuals += seen.blurs + 2.0**-23 * lengths
        halves = lengths.square() / 2 if self._metric == "euclidean" else torch.zeros_like(lengths)
        padded = torch.zeros((len(kept) + -len(kept) % GROUP, kept.shape[1]), dtype=torch.bfloat16)
        padded[: len(kept)] = kept
        offsets = torch.zeros(len(padded))
        offsets[: len(kept)] = halves.float()
        return Block(
            start,
            stop,
            float(residuals.max()),
            float(seen.rests.max()),
            float((lengths + residuals).max()),
            float(halves.max()),
            (self._settled(padded), self._settled(offsets)),
        )

    def _settled(self, tensor: Any) -> Any:
        """The tensor where it will stay: on the device while there is room, else in memory it can read."""
        if self._device == "cpu":
            return tensor
        free, _ = _torch().cuda.mem_get_info()
        if tensor.nbytes < (1 - _SPARE) * free:
            return tensor.to(self._device)
        return tensor.pin_memory()

    def ask(self, queries: FloatRows) -> list[Asked]:
        torch = _torch()
        seen, shifts = self._axes.of_queries(queries, self._metric)
        kept = torch.from_numpy(seen.along).bfloat16()
        residuals = residuals_of(seen, kept.float().numpy())
        asked = []
        for start in range(0, len(queries), _TOGETHER):
            part = slice(start, start + _TOGETHER)
            asked.append(
                Asked(
                    np.arange(len(queries))[part],
                    seen.lengths[part],
                    residuals[part],
                    seen.rests[part],
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
        at, inside = (~(values < bounds[query])).nonzero(as_tuple=True)
        row = (group[at] * GROUP + inside).cpu().numpy()
        there = row < block.stop - block.start
        which = query[at].cpu().numpy()[there]
        found = values[at, inside].double().cpu().numpy()[there]
        largest = np.where(np.isnan(found), np.inf, found)
        return which, row[there] + block.start, least_costs(asked, which, largest, error, self._metric)


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
