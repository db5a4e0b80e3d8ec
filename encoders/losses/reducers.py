"""From the terms of a loss (one a pair, triplet or anchor) to one number; no terms give 0."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from encoders.errors import TrainingError

Reducer = Callable[[Tensor], Tensor]


def mean(terms: Tensor) -> Tensor:
    """The mean of all terms."""
    return terms.sum() / max(1, terms.numel())


def nonzero(terms: Tensor) -> Tensor:
    """The mean of the terms above 0: those already solved do not thin out the rest.

    Hermans, Beyer, Leibe, "In defense of the triplet loss", 2017, section 2.
    """
    return terms.sum() / (terms > 0).sum().clamp_min(1)


def total(terms: Tensor) -> Tensor:
    """The sum of all terms."""
    return terms.sum()


REDUCERS: dict[str, Reducer] = {"mean": mean, "nonzero": nonzero, "sum": total}


def named(name: str) -> Reducer:
    """The reducer called "mean", "nonzero" or "sum"; TrainingError for another name."""
    if not isinstance(name, str) or name not in REDUCERS:  # a list from JSON has no hash
        raise TrainingError(f"no reducer is called {name!r}; there are {', '.join(sorted(REDUCERS))}")
    return REDUCERS[name]
