"""The search of one segment: a first pass over it where there is one, float32 where that proves nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

import numpy as np

from gallery import workers
from gallery.indexes import bytes_pass, half_pass, library, plain
from gallery.indexes.first_pass import Asked, Block, FirstPass
from gallery.indexes.ranking import Costs, Ranking
from gallery.indexes.segments import Segment
from gallery.vectors import FloatRows, Numbers

_BLOCK = 32704
"""Not a power of two: rows of scores so far apart would fall into the same lines of the cache."""
_SAMPLE = 4096
_BEST = 2
"""So many times k of a block's survivors are scored before the others."""
_IN_VAIN = 3
"""After so many blocks without an answer, and half of all, the first pass is given up for this search."""
_LONGEST_REST = 64
"""Searches; the first pass then takes at most a few parts in a hundred of the time."""

# Nanoseconds, measured on two cores (AMD EPYC, AVX2), to choose by; no answer depends on them.
_PLAIN_PER_VALUE, _PLAIN_PER_PRODUCT = 0.28, 0.012
_MAKING_PER_VALUE, _LOADING = 6.0, 1.5e9


@dataclass(frozen=True, slots=True)
class Plan:
    """When and how a first pass is made."""

    make: Callable[[FloatRows, str, int], FirstPass | None] | None
    """(rows, metric, rows in a block) -> a first pass, or None where none would help."""
    rows: int = 30_000
    """Segments with fewer are searched plainly."""
    dim: int = 48
    """So are shorter rows: what a first pass keeps beside the values would weigh too much."""
    block: int = _BLOCK
    patient: bool = True
    """Makes it once plain searches have cost about as much as making it would."""


def best_pass(rows: FloatRows, metric: str, size: int) -> FirstPass | None:
    """What this machine is fastest with; None where that is FAISS alone."""
    if half_pass.on_gpu():
        return half_pass.HalfPass(rows, metric, size, "cuda", half_pass.largest_block(rows.shape[1]))
    if half_pass.fast_on_cpu():
        return half_pass.HalfPass(rows, metric, size, "cpu")
    if bytes_pass.available():
        return bytes_pass.BytePass(rows, metric, size)
    return None


AUTO = Plan(best_pass)
PLAIN = Plan(None)


def search(segment: Segment, ranking: Ranking, error: Costs, plan: Plan) -> None:
    """Offers to `ranking` all rows that may be among the nearest.

    error: (queries,) how far a cost computed in float32 may be off.
    """
    every = np.arange(len(ranking.queries))
    _prepare(segment, ranking, plan)
    covered = _covered(segment)
    promised = _promise(segment, ranking) if covered and _is_worth_asking(segment) else None
    if promised is not None:
        unanswered = _unanswered(segment, ranking)
        _learn(segment, unanswered, len(every) * covered)
        for which, start, stop in unanswered:
            plain.search(segment, start, stop, ranking, which, error)
    else:
        covered = 0
    if covered < len(segment):
        plain.search(segment, covered, len(segment), ranking, every, error)
    if promised is not None:
        _keep(segment, ranking, *promised)


def _covered(segment: Segment) -> int:
    return segment.first.blocks[-1].stop if segment.first and segment.first.blocks else 0


def _is_worth_asking(segment: Segment) -> bool:
    """False while the first pass rests."""
    if segment.resting == 0:
        return True
    segment.resting -= 1
    return False


def _learn(segment: Segment, unanswered: list[tuple[Numbers, int, int]], pairs: int) -> None:
    """Lets a first pass rest that left most of the `pairs` of queries and rows unanswered, longer each time.

    Where many rows are about equally near to what is asked, it costs its time and spares nothing. What is
    asked may change, so it is tried again.
    """
    if 2 * sum(len(which) * (stop - start) for which, start, stop in unanswered) <= pairs:
        segment.in_vain = 0
        return
    segment.in_vain += 1
    segment.resting = min(2**segment.in_vain, _LONGEST_REST)


def _prepare(segment: Segment, ranking: Ranking, plan: Plan) -> None:
    """Makes as much of a first pass as plain searches, this one included, have cost.

    So a process that asks once waits for nothing, and one that asks on waits twice as long at most.
    """
    dim = segment.rows.shape[1]
    if plan.make is None or len(segment) < plan.rows or dim < plan.dim:
        return
    first = segment.first
    if first is not None and len(first.blocks) == len(first.spans):
        return
    per_product = _PLAIN_PER_VALUE + _PLAIN_PER_PRODUCT * len(ranking.queries)
    segment.credit += (len(segment) - _covered(segment)) * dim * per_product
    if first is None:
        loading = 0.0 if "torch" in sys.modules else _LOADING
        least = _MAKING_PER_VALUE * min(plan.block, len(segment)) * dim
        if plan.patient and segment.credit < loading + least:
            return
        first = segment.first = plan.make(segment.rows, ranking.metric, plan.block)
        if first is None:
            segment.credit = -np.inf
            return
        segment.credit -= loading
    _grow(segment, first, plan.patient)


def _grow(segment: Segment, first: FirstPass, patient: bool) -> None:
    """Makes the blocks that the segment's credit pays for, or all of them."""
    ahead = first.spans[len(first.blocks) :]
    prices = np.cumsum([_MAKING_PER_VALUE * (stop - start) * segment.rows.shape[1] for start, stop in ahead])
    blocks = int(np.searchsorted(prices, segment.credit, side="right")) if patient else len(ahead)
    if blocks > 0:
        first.grow(blocks)
        segment.credit -= prices[blocks - 1]


def _promise(segment: Segment, ranking: Ranking) -> tuple[Numbers, Numbers] | None:
    """Bounds the answer by that of a sample: (queries, rows of the segment), pairs that are to be offered.

    None where that would be too weak to be worth a first pass.
    """
    if segment.sample is None:
        at = np.linspace(0, len(segment) - 1, min(_SAMPLE, len(segment) // 4)).astype(np.int64)
        segment.sample = at, segment.rows[at]
    at, rows = segment.sample
    alive = ~segment.dead[at]
    if not alive.all():
        at, rows = at[alive], rows[alive]
    if len(at) < 8 * ranking.k:
        return None
    _, found = library.nearest(ranking.queries, rows, ranking.k, ranking.metric)
    which = np.repeat(np.arange(len(found)), ranking.k)
    ranking.promise(which, rows, found.ravel())
    return which, at[found.ravel()]


def _keep(segment: Segment, ranking: Ranking, which: Numbers, at: Numbers) -> None:
    """Offers what was promised where places are empty: each pair that is not there already.

    Of a crowd that float32 cannot tell apart, a plain search may name only rows past the promised bound.
    """
    lacking = ranking.numbers[which, -1] < 0
    which, at = which[lacking], at[lacking]
    new = ~(ranking.numbers[which] == segment.numbers[at][:, None]).any(axis=1)
    ranking.offer(which[new], segment.rows, at[new], segment.numbers[at[new]])


def _unanswered(segment: Segment, ranking: Ranking) -> list[tuple[Numbers, int, int]]:
    """Asks the first pass; (queries, start, stop) of the rows about which it could prove too little."""
    first = segment.first
    assert first is not None
    portions = first.ask(ranking.queries)
    tasks = [(asked, block) for block in first.blocks for asked in portions]
    asking = _Asking(segment, first, ranking, _IN_VAIN * len(portions))
    if first.side_by_side:
        answered = workers.each(asking.answered, tasks)
    else:
        answered = [asking.answered(task) for task in tasks]
    left: dict[tuple[int, int], list[Numbers]] = {}
    for number, asked in enumerate(portions):
        for run in _runs(first.blocks, answered[number :: len(portions)]):
            left.setdefault(run, []).append(asked.which)
    return [(np.sort(np.concatenate(which)), *run) for run, which in left.items()]


class _Asking:
    """One search by a first pass, block by block, until that turns out to be in vain."""

    def __init__(self, segment: Segment, first: FirstPass, ranking: Ranking, patience: int) -> None:
        """patience: so many answers too few, and half of all, are enough."""
        self._patience = patience
        self._segment = segment
        self._first = first
        self._ranking = ranking
        self._some_dead = bool(segment.dead.any())
        self._asked = 0
        self._in_vain = 0

    def answered(self, task: tuple[Asked, Block]) -> bool:
        """Offers what may be near; False where that is too much to be scored row by row."""
        if self._in_vain >= self._patience and 2 * self._in_vain > self._asked:
            return False
        asked, block = task
        # Scoring a row by itself costs about as much as 12 of the products of a whole block with all queries,
        # and a block is read once in any case.
        most = (block.stop - block.start) * (1 + len(asked.which) / 12) / 2
        limits = self._ranking.limits(asked.which)
        found = self._first.survivors(asked, block, limits, int(most))
        self._asked += 1
        if found is None or len(found[0]) > most:
            self._in_vain += 1
            return False
        self._ranking.cut(asked.which)
        self._offer(asked, *found)
        return True

    def _offer(self, asked: Asked, which: Numbers, rows: Numbers, least: Costs) -> None:
        """Those first that look best: what they turn out to cost spares most of the others."""
        if self._some_dead:
            alive = ~self._segment.dead[rows]
            which, rows, least = which[alive], rows[alive], least[alive]
        order = np.lexsort((least, which))
        which, rows, least = which[order], rows[order], least[order]
        place = np.arange(len(which)) - np.searchsorted(which, which)
        best = place < _BEST * self._ranking.k
        self._score(asked, which[best], rows[best])
        rest = ~best & (least <= self._ranking.limits(asked.which)[which])
        self._score(asked, which[rest], rows[rest])

    def _score(self, asked: Asked, which: Numbers, rows: Numbers) -> None:
        order = np.argsort(rows)
        which, rows = which[order], rows[order]
        self._ranking.offer(asked.which[which], self._segment.rows, rows, self._segment.numbers[rows])


def _runs(blocks: Sequence[Block], answered: list[bool]) -> Iterator[tuple[int, int]]:
    """(start, stop) of the rows of neighbouring blocks that were not answered."""
    for good, run in groupby(zip(answered, blocks, strict=True), key=itemgetter(0)):
        if not good:
            rows = [block for _, block in run]
            yield rows[0].start, rows[-1].stop
