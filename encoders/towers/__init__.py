"""Towers by name. A tower is a module that maps a batch to a feature matrix, and knows `features`, its width.

A new tower is one file of this folder, named as the tower is, with its class as `TOWER`:

    takes: ClassVar[tuple[str, ...]]     the kinds of preprocessing whose arrays it takes, the usual one first
    __init__(self, shape, **arguments)   for items of `shape`, without the batch axis
    forward(self, batch) -> (n, self.features)
    fit(preprocess) -> arguments         a class method, where the preprocessing decides some of them
    bare: bool                           its features are the embedding, without a head on top
    look_at(items)                       where the weights start from the training items (n, *shape)

In eval mode every item must come out the same in any company. The contract tests take a new file up by
themselves.
"""

from __future__ import annotations

from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

from encoders.errors import EncoderError

_FOLDER = Path(__file__).parent
ASSEMBLED = frozenset({"joined"})  # of encoders that are trained already: nothing that a training chooses


def names() -> list[str]:
    """The names of the towers that are trained, sorted."""
    found = {path.stem for path in _FOLDER.glob("*.py") if not path.stem.startswith("_")}
    return sorted(found - ASSEMBLED)


def build(name: str, shape: tuple[int, ...], **arguments: Any) -> Any:
    """The tower called `name`, with random weights, for items of `shape` (without the batch axis)."""
    made = _class(name)
    try:
        return made(shape, **arguments)
    except TypeError as exc:
        raise EncoderError(f"tower {name!r} does not take {arguments}: {exc}") from exc


def takes(name: str) -> tuple[str, ...]:
    """The kinds of preprocessing that the tower takes, the usual one first."""
    kinds: tuple[str, ...] = _class(name).takes
    return kinds


def complete(name: str, arguments: dict[str, Any], preprocess: Any = None) -> dict[str, Any]:
    """The arguments with the tower's defaults filled in, so that a checkpoint outlives a change of them.

    `preprocess` decides those that are its own affair, such as the rate of a recording.
    """
    made = _class(name)
    decided = made.fit(preprocess) if preprocess is not None and hasattr(made, "fit") else {}
    defaults = {p.name: p.default for p in signature(made).parameters.values() if p.default is not p.empty}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in (defaults | decided | arguments).items()}


def check(name: str, kind: str) -> None:
    """EncoderError when the tower does not take arrays of that kind of preprocessing."""
    if kind not in takes(name):
        raise EncoderError(
            f"tower {name} takes the preprocessing {', '.join(takes(name))}, not {kind}: "
            f"--tower {' or '.join(n for n in names() if kind in takes(n))} takes it"
        )


def _class(name: str) -> Any:
    if name not in ASSEMBLED and name not in names():
        raise EncoderError(f"no tower is called {name!r}; there are {', '.join(names())}")
    return import_module(f"encoders.towers.{name}").TOWER
