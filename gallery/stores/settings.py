"""The catalog's settings: texts under names, each with its checksum, which the state adds up."""

from __future__ import annotations

import sqlite3
import zlib

from gallery.errors import CorruptGalleryError
from gallery.stores.state import CatalogState


def write_setting(db: sqlite3.Connection, state: CatalogState, key: str, value: str | None) -> None:
    """Stores a setting; None deletes it."""
    for (checksum,) in db.execute("SELECT checksum FROM settings WHERE key = ?", (key,)).fetchall():
        state.setting_sum -= checksum
    db.execute("DELETE FROM settings WHERE key = ?", (key,))
    if value is not None:
        checksum = setting_checksum(key, value)
        state.setting_sum += checksum
        db.execute("INSERT INTO settings VALUES (?, ?, ?)", (key, value, checksum))


def read_settings(db: sqlite3.Connection, total: int) -> dict[str, str]:
    """Every setting; CorruptGalleryError when their checksums are wrong or do not add up to `total`."""
    rows = db.execute("SELECT key, value, checksum FROM settings").fetchall()
    bad = [key for key, value, checksum in rows if checksum != setting_checksum(key, value)]
    if bad:
        raise CorruptGalleryError(f"the setting {bad[0]!r} does not match its checksum")
    if sum(row[2] for row in rows) != total:
        raise CorruptGalleryError("settings are missing")
    return {key: value for key, value, _ in rows}


def setting_checksum(key: object, value: object) -> int:
    """CRC-32 of a setting."""
    return zlib.crc32(repr((key, value)).encode("utf-8", "backslashreplace"))
