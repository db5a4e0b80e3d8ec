"""Checksums of the catalog's records, and the full reading of a catalog for damage."""

from __future__ import annotations

import sqlite3
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from gallery.records import Problem


def template_checksum(number: int, subject: int, embedding: bytes) -> int:
    """CRC-32 of a template with its numbers, so that rows that changed places are noticed too."""
    return zlib.crc32(embedding, zlib.crc32(struct.pack("<qq", number, subject)))


def subject_checksum(number: int, id: str, metadata: str) -> int:
    """CRC-32 of a subject's record."""
    encoded = id.encode()
    header = struct.pack("<qq", number, len(encoded))
    return zlib.crc32(metadata.encode(), zlib.crc32(encoded, zlib.crc32(header)))


def problems(db: sqlite3.Connection, path: Path, dim: int) -> list[Problem]:
    """Everything in the catalog that is damaged; empty when all is well."""
    found: list[Problem] = []
    for looked_at in (_pages(db, path), _references(db, path), _templates(db, dim), _subjects(db)):
        try:
            found += looked_at
        except sqlite3.DatabaseError as error:
            found.append(Problem(path.name, str(error)))
    return list(dict.fromkeys(found))


def _pages(db: sqlite3.Connection, path: Path) -> Iterator[Problem]:
    for (line,) in db.execute("PRAGMA integrity_check(100)"):
        if line != "ok":
            yield Problem(path.name, line)


def _references(db: sqlite3.Connection, path: Path) -> Iterator[Problem]:
    for table, row, missing, _ in db.execute("PRAGMA foreign_key_check"):
        yield Problem(path.name, f"table {table}, row {row} refers to a missing row of {missing}")


def _templates(db: sqlite3.Connection, dim: int) -> Iterator[Problem]:
    for number, subject, checksum, blob in db.execute(
        "SELECT template, subject, checksum, embedding FROM templates"
    ):
        if len(blob) != 4 * dim:
            yield Problem(f"template {number}", f"its embedding has {len(blob)} bytes, not {4 * dim}")
        elif checksum != template_checksum(number, subject, blob):
            yield Problem(f"template {number}", "its embedding does not match its checksum")


def _subjects(db: sqlite3.Connection) -> Iterator[Problem]:
    for number, id, metadata, checksum in db.execute("SELECT subject, id, metadata, checksum FROM subjects"):
        if checksum != subject_checksum(number, id, metadata):
            yield Problem(f"subject {id!r}", "its record does not match its checksum")
    for number, id in db.execute(
        "SELECT subject, id FROM subjects s "
        "WHERE NOT EXISTS (SELECT 1 FROM templates t WHERE t.subject = s.subject)"
    ):
        yield Problem(f"subject {id!r}", f"it has no templates (subject number {number})")
