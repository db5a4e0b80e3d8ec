"""The exact index on a GPU beside what the card can do at most: `python -m benchmarks.search_gpu`.

Gaussian rows of unit length, cosine; half of the queries are noisy rows, half are strangers. A search reads
every row in bfloat16 on the card and scores in float32 on the CPU what cannot be ruled out, so two ceilings
bind it: how fast the card reads memory (one query), and how fast it multiplies bfloat16 (many). Both are
measured in the same run, by the card's own library: a copy, counting bytes read and written, and a product of
two large square matrices. FAISS on all cores of the CPU searches a tenth of the rows, and its time is counted
ten times. Every answer is compared with float32 products on the card: the same rows, or no farther ones.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks import report
from gallery.indexes import half_pass, library
from gallery.indexes.certified import Plan, best_pass
from gallery.indexes.exact import ExactIndex

QUERIES = (1, 64, 1024)
K = 10
FAISS_ROUNDS = 5
BLOCK = 250_000
SIDE = 8192
Rows = npt.NDArray[np.float32]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; 1 without a GPU, or when an answer was worse than the card's float32 one."""
    arguments = _parser().parse_args(argv)
    if not half_pass.on_gpu():
        print("torch finds no GPU here: nothing to measure")
        return 1
    count, dim = map(int, arguments.shape.split("x"))
    begun = time.perf_counter()
    rows, queries = made(count, dim)
    print(f"made in {time.perf_counter() - begun:.0f} s", flush=True)
    ceilings = {"bytes_per_second": bandwidth(), "products_per_second": matrix_rate()}
    index, making = prepared(rows)
    sizes = {}
    for size in QUERIES:
        found = measured(index, rows, queries[:size], ceilings, arguments.rounds)
        sizes[str(size)] = found
        print(told(size, found), flush=True)
    farther = worse(index.search(queries, K).distances, rows, queries)
    print(f"{farther} of {len(queries)} queries answered worse than float32 on the card does")
    results = {
        "card": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "shape": arguments.shape,
        "k": K,
        "rounds": arguments.rounds,
        "ceilings": ceilings,
        "making_seconds": making,
        "sizes": sizes,
        "worse": farther,
    }
    print(f"written: {report.write('search_gpu', results, Path(arguments.results)).name}")
    return int(farther > 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.search_gpu")
    parser.add_argument("--shape", default="10000000x512", help="rows x dim (%(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="(%(default)s)")
    parser.add_argument("--results", default=str(report.RESULTS), help="folder for search_gpu.json")
    return parser


def made(count: int, dim: int) -> tuple[Rows, Rows]:
    """(rows, queries), made on the card, which draws 10,000,000 rows in seconds."""
    generator = torch.Generator("cuda").manual_seed(0)
    rows = np.empty((count, dim), np.float32)
    for start in range(0, count, BLOCK):
        drawn = torch.randn(min(BLOCK, count - start), dim, generator=generator, device="cuda")
        rows[start : start + len(drawn)] = torch.nn.functional.normalize(drawn).cpu().numpy()
    rng = np.random.default_rng(0)
    most = max(QUERIES)
    strangers = rng.standard_normal((most, dim)).astype(np.float32) / np.float32(dim**0.5)
    near = rows[rng.integers(0, count, most)] + np.float32(0.5) * strangers
    queries = np.where((np.arange(most) % 2 == 0)[:, None], near, strangers)
    return rows, queries / np.linalg.norm(queries, axis=1, keepdims=True)


def bandwidth() -> float:
    """Bytes a second of a large copy within the card, those read and those written."""
    source = torch.randint(0, 100, (2**31,), dtype=torch.int8, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.nbytes / timed(lambda: target.copy_(source))


def matrix_rate() -> float:
    """Multiplications with their additions a second, of two square bfloat16 matrices of random numbers."""
    left, right = (torch.randn(SIDE, SIDE, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return float(SIDE**3) / timed(lambda: torch.mm(left, right))


def timed(work: Callable[[], Any], rounds: int = 11) -> float:
    """Median seconds, by the card's own clock, after three that are not counted."""
    spent = []
    for _ in range(rounds + 3):
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        before.record()
        work()
        after.record()
        torch.cuda.synchronize()
        spent.append(before.elapsed_time(after) / 1000)
    return statistics.median(spent[3:])


def prepared(rows: Rows) -> tuple[ExactIndex, float]:
    """The index with the whole of its copy on the card, and the seconds that took."""
    index = ExactIndex(rows.shape[1], "cosine", Plan(best_pass, patient=False))
    index.expect(len(rows))
    for start in range(0, len(rows), BLOCK):
        part = rows[start : start + BLOCK]
        index.add(np.arange(start, start + len(part)), part)
    begun = time.perf_counter()
    index.search(rows[:1], K)
    return index, round(time.perf_counter() - begun, 2)


def measured(
    index: ExactIndex, rows: Rows, queries: Rows, ceilings: dict[str, float], rounds: int
) -> dict[str, Any]:
    """Median seconds of a search, what share of each ceiling that is, and how its answers compare."""
    index.search(queries, K)
    ours, theirs = [], []
    tenth = rows[: len(rows) // 10]
    for turn in range(rounds):
        begun = time.perf_counter()
        index.search(queries, K)
        ours.append(time.perf_counter() - begun)
        if turn < FAISS_ROUNDS:
            begun = time.perf_counter()
            library.nearest(queries, tenth, K, "cosine")
            theirs.append(10 * (time.perf_counter() - begun))
    seconds, faiss = statistics.median(ours), statistics.median(theirs)
    products = len(queries) * rows.size
    return {
        "seconds": seconds,
        "faiss_cpu_seconds": faiss,
        "faster": faiss / seconds,
        "of_bandwidth": 2 * rows.size / seconds / ceilings["bytes_per_second"],
        "of_matrix_rate": products / seconds / ceilings["products_per_second"],
        "first_product_seconds": first_product(index, queries),
    }


def first_product(index: ExactIndex, queries: Rows) -> float:
    """Seconds that the bare products with all blocks take on the card: what no search could be below."""
    first = index._segments[0].first
    assert first is not None
    asked = first.ask(queries)
    held = [block.held[0] for block in first.blocks]

    def products() -> None:
        # One at a time: all of them are 40 GB with 1,024 queries. What stays in memory is sent over.
        for rows in held:
            there = rows.to(asked[0].held.device)
            for part in asked:
                half_pass._products(there, part.held)

    return timed(products, 5)


def worse(distances: npt.NDArray[Any], rows: Rows, queries: Rows) -> int:
    """How many queries have a neighbour that is farther than float32 on the card finds one."""
    best = torch.full((len(queries), K), -2.0, device="cuda")
    asked = torch.from_numpy(queries).cuda()
    torch.backends.cuda.matmul.allow_tf32 = False
    for start in range(0, len(rows), BLOCK):
        scores = asked @ torch.from_numpy(rows[start : start + BLOCK]).cuda().T
        best = torch.cat([best, scores.topk(K, dim=1).values], dim=1).topk(K, dim=1).values
    return int((distances > 1.0 - best.cpu().numpy() + 2e-6).any(axis=1).sum())


def told(size: int, found: dict[str, Any]) -> str:
    """One line about one number of queries."""
    own, bare, faiss = (
        1000 * found[key] for key in ("seconds", "first_product_seconds", "faiss_cpu_seconds")
    )
    return (
        f"{size:>5} queries: {own:.1f} ms, {found['of_bandwidth']:.0%} of the bandwidth, "
        f"{found['of_matrix_rate']:.0%} of the matrix rate (the products alone {bare:.1f} ms); "
        f"FAISS on the CPU {faiss:.0f} ms, {found['faster']:.0f} times as long"
    )


if __name__ == "__main__":
    sys.exit(main())
