"""What is known about a subject, as the JSON text that is stored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gallery.errors import InvalidItemError

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
