"""From format 1 to format 2, in one commit: what was enrolled stays, bit for bit."""

from __future__ import annotations

import sqlite3
import struct
import zlib
from datetime import datetime

from gallery.errors import CorruptGalleryError
from gallery.stores import audit, catalog, headers
from gallery.stores.base import Header
from gallery.stores.integrity import subject_checksum, template_checksum
from gallery.stores.settings import write_setting
from gallery.stores.state import CatalogState, insert_state

_BLOCK = 2048


def upgrade(db: sqlite3.Connection) -> None:
    """Rewrites a catalog of format 1. Another process may have done it while this one waited."""
    db.execute("BEGIN IMMEDIATE")
    try:
        (format,) = db.execute("SELECT max(format) FROM header").fetchone()
        if format == 1:
            _from_1_to_2(db)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _from_1_to_2(db: sqlite3.Connection) -> None:
    dim, metric, encoder, fingerprint, created, identity = db.execute(
        "SELECT dim, metric, encoder, fingerprint, created, identity FROM header"
    ).fetchone()
    header = Header(dim, metric, encoder, fingerprint, datetime.fromisoformat(created), identity)
    revision, next_template, next_subject = db.execute(
        "SELECT revision, next_template, next_subject FROM state"
    ).fetchone()
    settings = db.execute("SELECT key, value FROM settings").fetchall()
    for table in ("templates", "subjects"):
        db.execute(f"ALTER TABLE {table} RENAME TO old_{table}")
    for table in ("header", "state", "settings"):
        db.execute(f"DROP TABLE {table}")
    kept = [part for part in catalog.SCHEMA.split(";\n") if "removed" not in part]
    catalog.execute_all(db, ";\n".join(kept) + catalog.templates_schema(1))
    db.execute("INSERT INTO header VALUES (?, ?, ?)", (catalog.FORMAT, created, identity))
    headers.insert_generation(db, header, "current")
    state = CatalogState(revision + 1, next_template, next_subject)
    _copy_subjects(db, state)
    _copy_templates(db, state)
    _check_complete(db, state)
    for key, value in settings:
        # The file of the index was stamped by the rules of format 1; it is made anew.
        if key != "index_file":
            write_setting(db, state, key, value)
    write_setting(db, state, audit.KEY_SETTING, audit.new_key())
    insert_state(db, state)
    db.execute("DROP TABLE old_templates")
    db.execute("DROP TABLE old_subjects")


def _check_complete(db: sqlite3.Connection, state: CatalogState) -> None:
    """Format 1 counts nothing, but every number was given to a template that is there or was removed."""
    (removed,) = db.execute("SELECT count(*) FROM removed").fetchone()
    missing = state.next_template - 1 - state.templates - removed
    if missing:
        raise CorruptGalleryError(f"{missing} templates are missing, so the catalog cannot be upgraded")
    for subject, id in db.execute(
        "SELECT s.subject, s.id FROM subjects s WHERE s.templates = 0 UNION ALL SELECT t.subject, NULL "
        "FROM templates_1 t WHERE NOT EXISTS (SELECT 1 FROM subjects s WHERE s.subject = t.subject)"
    ):
        what = "its record" if id is None else f"a template of {id!r}"
        raise CorruptGalleryError(f"subject {subject}: {what} is missing, so the catalog cannot be upgraded")


def _copy_subjects(db: sqlite3.Connection, state: CatalogState) -> None:
    rows = db.execute(
        "SELECT subject, id, (SELECT count(*) FROM old_templates t WHERE t.subject = s.subject), metadata, "
        "checksum FROM old_subjects s ORDER BY subject"
    )
    for subject, id, templates, metadata, old in rows.fetchall():
        encoded = id.encode()
        header = struct.pack("<qq", subject, len(encoded))
        if old != zlib.crc32(metadata.encode(), zlib.crc32(encoded, zlib.crc32(header))):
            raise CorruptGalleryError(f"the record of subject {subject} ({id!r}) does not match its checksum")
        checksum = subject_checksum(subject, id, templates, metadata)
        db.execute(
            "INSERT INTO subjects VALUES (?, ?, ?, ?, ?)", (subject, id, templates, metadata, checksum)
        )
        state.count_subjects([checksum])


def _copy_templates(db: sqlite3.Connection, state: CatalogState) -> None:
    after = 0
    while rows := db.execute(
        "SELECT template, subject, enrolled, source, embedding, checksum FROM old_templates "
        "WHERE template > ? ORDER BY template LIMIT ?",
        (after, _BLOCK),
    ).fetchall():
        for template, subject, _, _, blob, old in rows:
            # A new checksum must not vouch for what an old one denies.
            if old != zlib.crc32(blob, zlib.crc32(struct.pack("<qq", template, subject))):
                raise CorruptGalleryError(
                    f"the embedding of template {template} does not match its checksum, so the catalog "
                    "cannot be upgraded; remove that template with the version that made it"
                )
        new = [(*row[:4], template_checksum(*row[:5]), row[4]) for row in rows]
        db.executemany("INSERT INTO templates_1 VALUES (?, ?, ?, ?, ?, ?)", new)
        state.count_templates(row[4] for row in new)
        after = rows[-1][0]
