"""What is known about a subject, as the JSON text that is stored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gallery.errors import InvalidItemError

# Made once: `json.dumps` makes one for every call that asks for more than its defaults.
_JSON = json.JSONEncoder(ensure_ascii=False, sort_keys=True, allow_nan=False)


_DEEPEST = 64
"""Lists and mappings in one another: what is read back has to be copied, which costs a stack."""


def as_json(metadata: Mapping[str, Any]) -> str:
    """Metadata as it is stored."""
    if not metadata:
        return "{}"
    text = _JSON.encode(metadata if type(metadata) is dict else dict(metadata))
    # After it was encoded, which finds out what holds itself.
    inside = [*metadata.values()]
    for _ in range(_DEEPEST + 1):
        nested = [one for one in inside if isinstance(one, dict | list | tuple)]
        if not nested:
            return text
        inside = [one for each in nested for one in (each.values() if isinstance(each, dict) else each)]
    raise ValueError(f"it is nested more than {_DEEPEST} deep")


def checked_json(id: Any, metadata: Any) -> str:
    """Metadata as it is stored; InvalidItemError for what JSON cannot hold.

    Better known before a long bulk than after it, and the text need not be made a second time there.
    """
    check_keys(id, metadata)
    try:
        text = as_json(metadata)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise unfit(id, error) from error
    return text


def check_keys(id: Any, metadata: Any) -> None:
    """InvalidItemError for what is no mapping with string keys. The rest is found out when it is stored."""
    if not isinstance(metadata, Mapping) or not all(map(_is_text, metadata)):
        raise InvalidItemError(f"{id!r}: metadata must be a mapping with string keys; nothing was written")


def _is_text(key: Any) -> bool:
    return isinstance(key, str)


def unfit(id: Any, error: Exception) -> InvalidItemError:
    """What is said of metadata that JSON cannot hold."""
    return InvalidItemError(f"{id!r}: metadata must be what JSON can hold: {error}; nothing was written")
