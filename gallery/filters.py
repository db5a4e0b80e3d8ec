"""Pure: which subjects a search is for, by their metadata.

`{"site": "north", "shift": [1, 2]}` is for subjects whose "site" is "north" and whose "shift" is 1 or 2.
Every key has to match. A list is any of its values; whoever looks for a list puts it into one. Values are
equal as in JSON: 1 is 1.0, and neither is true. A subject without the key does not match.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gallery.metadata import as_json

Where = Mapping[str, Any]


def checked_where(where: Any) -> dict[str, Any]:
    """A filter as it is used; ValueError for what is none."""
    if not isinstance(where, Mapping) or not all(isinstance(key, str) for key in where):
        raise ValueError(
            f'where is a mapping of metadata keys to values, as {{"site": "north"}}, not {where!r}'
        )
    try:
        plain: dict[str, Any] = json.loads(as_json(where))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"where must hold what JSON can hold: {error}") from error
    empty = [key for key, wanted in plain.items() if wanted == []]
    if empty:
        raise ValueError(f"where: the list for {empty[0]!r} is empty, so that nothing could match")
    return plain


def matches(metadata: Where, where: Where) -> bool:
    """Whether a subject's metadata match a checked filter."""
    return all(key in metadata and _is_any_of(metadata[key], wanted) for key, wanted in where.items())


def _is_any_of(value: Any, wanted: Any) -> bool:
    return any(_same(value, one) for one in (wanted if isinstance(wanted, list) else [wanted]))


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return bool(one == other)


def hints_of(where: Where) -> list[str]:
    """Pieces of text that the stored metadata of every subject that matches contain."""
    hints = []
    for key, wanted in where.items():
        exact = isinstance(wanted, str | bool) or wanted is None
        text = as_json({key: wanted if exact else 0})[1:-1]
        # A number may be written in several ways, and of a list it may be any.
        hints.append(text if exact else text.removesuffix("0"))
    return hints
