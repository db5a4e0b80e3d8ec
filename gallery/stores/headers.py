"""The records that say what a gallery is: one for every encoder it is, was or is going to be bound to."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from gallery.errors import CorruptGalleryError
from gallery.stores.base import Header

GENERATION_STATES = ("current", "staged", "previous")

_GENERATION = (
    "SELECT generations.state, generations.generation, dim, metric, encoder, fingerprint, provenance, "
    "identity, generations.created, generations.checksum, header.created FROM generations, header"
)


def read_header(db: sqlite3.Connection, path: Path) -> Header:
    """The header, of the generation in use; CorruptGalleryError when it is not as it was written."""
    # The state's own checksum vouches for which one that is.
    rows = db.execute(
        f"{_GENERATION}, state WHERE generations.state = 'current' "
        "AND generations.generation = state.generation"
    ).fetchall()
    try:
        (row,) = rows
        return replace(_checked_header(row), created=datetime.fromisoformat(row[-1]))
    except (TypeError, ValueError) as error:
        raise CorruptGalleryError(
            f"{path} has a damaged header ({error}); restore the folder from a backup"
        ) from error


def read_generations(db: sqlite3.Connection) -> list[tuple[Header, str]]:
    """(header, state) of every encoder that the gallery is, was or is going to be bound to, oldest first.

    `created` is when that was begun. CorruptGalleryError when one is not as it was written.
    """
    found = []
    for row in db.execute(f"{_GENERATION} ORDER BY generations.generation").fetchall():
        try:
            if row[0] not in GENERATION_STATES:
                raise ValueError(f"its state is {row[0]!r}")
            found.append((_checked_header(row), row[0]))
        except (TypeError, ValueError) as error:
            raise CorruptGalleryError(f"the record of generation {row[1]} is damaged ({error})") from error
    return found


def _checked_header(row: Sequence[Any]) -> Header:
    _, generation, dim, metric, encoder, fingerprint, provenance, identity, since, checksum, _ = row
    header = Header(
        dim,
        metric,
        encoder,
        fingerprint,
        datetime.fromisoformat(since),
        identity,
        generation,
        json.loads(provenance),
    )
    if checksum != generation_checksum(header, provenance, since):
        raise ValueError("it does not match its checksum")
    return header


def insert_generation(db: sqlite3.Connection, header: Header, state: str) -> None:
    """Notes an encoder that the gallery is, or is going to be, bound to."""
    provenance = json.dumps(dict(header.provenance), sort_keys=True)
    since = header.created.isoformat()
    db.execute(
        "INSERT INTO generations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            header.generation,
            state,
            header.dim,
            header.metric,
            header.encoder,
            header.fingerprint,
            provenance,
            since,
            generation_checksum(header, provenance, since),
        ),
    )


def generation_checksum(header: Header, provenance: str, since: str) -> int:
    """CRC-32 of a generation's record with the gallery's identity."""
    fields = [
        header.generation,
        header.dim,
        header.metric,
        header.encoder,
        header.fingerprint,
        provenance,
        since,
        header.identity,
    ]
    return zlib.crc32(json.dumps(fields).encode())
