"""Checksums of the catalog's records."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any

_TEMPLATE = struct.Struct("<qqqq").pack
_SUBJECT = struct.Struct("<qqq").pack


def template_checksum(number: int, subject: int, enrolled: int, source: str | None, embedding: bytes) -> int:
    """CRC-32 of a template with its numbers, so that rows that changed places are noticed too."""
    text = b"" if source is None else b"\x01" + source.encode()
    header = _TEMPLATE(number, subject, enrolled, len(text)) + text
    return zlib.crc32(embedding, zlib.crc32(header))


def subject_checksum(number: int, id: str, templates: int, metadata: str) -> int:
    """CRC-32 of a subject's record."""
    encoded = id.encode()
    return zlib.crc32(_SUBJECT(number, templates, len(encoded)) + encoded + metadata.encode())


def original_checksum(number: int, kind: str, content: bytes) -> int:
    """CRC-32 of an item that was kept."""
    return zlib.crc32(content, zlib.crc32(f"{number} {kind}".encode()))


def agrees(compute: Callable[..., int], checksum: object, *fields: Any) -> bool:
    """Whether a record matches its checksum; False too for fields of a kind that no record has."""
    try:
        return compute(*fields) == checksum
    except (AttributeError, TypeError, ValueError, struct.error):
        return False
