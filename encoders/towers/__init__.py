"""Towers by name. A tower is a module that maps a batch to a feature matrix, and knows `features`, its width.

A new tower is a file of this folder and a line here; the contract tests take it up by themselves.
"""

from __future__ import annotations

from importlib import import_module
from inspect import signature
from typing import Any

from encoders.errors import EncoderError

TOWERS = {
    "conv": ("encoders.towers.conv", "ConvTower"),
    "dense": ("encoders.towers.dense", "DenseTower"),
    "residual": ("encoders.towers.residual", "ResidualTower"),
}


def build(name: str, shape: tuple[int, ...], **arguments: Any) -> Any:
    """The tower called `name`, with random weights, for items of `shape` (without the batch axis)."""
    made = _class(name)
    try:
        return made(shape, **arguments)
    except TypeError as exc:
        raise EncoderError(f"tower {name!r} does not take {arguments}: {exc}") from exc


def complete(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments with the tower's defaults filled in, so that a checkpoint outlives a change of them."""
    parameters = signature(_class(name)).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in (defaults | arguments).items()}


def _class(name: str) -> Any:
    if name not in TOWERS:
        raise EncoderError(f"no tower is called {name!r}; there are {', '.join(sorted(TOWERS))}")
    module, attribute = TOWERS[name]
    return getattr(import_module(module), attribute)
