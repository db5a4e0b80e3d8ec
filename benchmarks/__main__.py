"""All benchmarks, one after the other: `make bench`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

BENCHMARKS = (
    "omniglot",
    "dedupe",
    "near_pairs",
    "storage",
    "search_exact",
    "search_library",
    "search_approximate",
    "search_overhead",
    "search_removal",
    "search_growth",
    "calibration",
    "normalisation",
    "naming",
    "quality",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs those named, or all, with their defaults; not 0 when one of them failed."""
    names = list(argv if argv is not None else sys.argv[1:]) or BENCHMARKS
    failed = 0
    for name in names:
        print(f"== benchmarks.{name}", flush=True)
        failed |= importlib.import_module(f"benchmarks.{name}").main([])
    return failed


if __name__ == "__main__":
    sys.exit(main())
