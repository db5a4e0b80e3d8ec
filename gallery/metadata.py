"""What is known about a subject, as the JSON text that is stored."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from gallery.errors import InvalidItemError

Where = tuple[tuple[str, tuple[str, ...]], ...]
"""A filter: ((key, the values that it may have, each as `value_text`), ...), all of which must hold."""

# Made once: `json.dumps` makes one for every call that asks for more than its defaults.
_JSON = json.JSONEncoder(ensure_ascii=False, sort_keys=True, allow_nan=False)


def as_json(metadata: Mapping[str, Any]) -> str:
    """Metadata as it is stored."""
    return _JSON.encode(dict(metadata)) if metadata else "{}"


def check_metadata(id: Any, metadata: Any) -> None:
    """InvalidItemError for metadata that JSON cannot hold: better known before a long bulk than after it."""
    check_keys(id, metadata)
    try:
        as_json(metadata).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise unfit(id, error) from error


def check_keys(id: Any, metadata: Any) -> None:
    """InvalidItemError for what is no mapping with string keys. The rest is found out when it is stored."""
    if not isinstance(metadata, Mapping) or not all(isinstance(key, str) for key in metadata):
        raise InvalidItemError(f"{id!r}: metadata must be a mapping with string keys; nothing was written")


def unfit(id: Any, error: Exception) -> InvalidItemError:
    """What is said of metadata that JSON cannot hold."""
    return InvalidItemError(f"{id!r}: metadata must be what JSON can hold: {error}; nothing was written")


def checked_where(where: Any) -> Where:
    """A filter on metadata, as it can be compared: equal filters come out equal. Empty holds for everybody.

    where: {key: value}; a list stands for any of its values. InvalidItemError for what JSON cannot hold.
    """
    if where is None:
        return ()
    if not isinstance(where, Mapping) or not all(isinstance(key, str) for key in where):
        raise InvalidItemError(f"where is a mapping like {{'site': 'north'}} with string keys, not {where!r}")
    try:
        return tuple((key, _values(where[key])) for key in sorted(where))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidItemError(f"where must hold what JSON can hold: {error}") from error


def _values(wanted: Any) -> tuple[str, ...]:
    either = wanted if isinstance(wanted, (list, tuple, set, frozenset)) else [wanted]
    return tuple(sorted({value_text(value) for value in either}))


def value_text(value: Any) -> str:
    """A value as text that is equal exactly where the values are: 1 and 1.0 are, 1 and true are not."""
    return _JSON.encode(_plain(value))


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [_plain(one) for one in value]
    return value


def holds(where: Where, metadata: Mapping[str, Any]) -> bool:
    """Whether a subject of that metadata is meant: every key is there, with one of its values."""
    return all(key in metadata and value_text(metadata[key]) in values for key, values in where)
