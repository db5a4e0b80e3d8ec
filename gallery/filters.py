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


def texts_of(where: Where) -> dict[str, tuple[str, ...]]:
    """For each key of a checked filter the values that a subject may have, as `text_of` has them."""
    return {
        key: tuple(text_of(one) for one in (wanted if isinstance(wanted, list) else [wanted]))
        for key, wanted in where.items()
    }


def text_of(value: Any) -> str:
    """A value as text that is the same exactly where the values are: of 1 and 1.0, not of 1 and true."""
    return as_json({"": _plain(value)})


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value
