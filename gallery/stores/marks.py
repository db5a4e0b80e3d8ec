"""What was put in order by hand, beside what is enrolled: quarantine, who is different, what can be undone.

The tables are made when the first of it is written. A setting counts the rows of the first two and adds up
their checksums, as the state does for templates, so that rows that went missing are noticed.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gallery.curation import Change, Pair
from gallery.errors import CorruptGalleryError
from gallery.stores.integrity import agrees
from gallery.stores.settings import read_settings, write_setting
from gallery.stores.state import CatalogState

VOUCHED = "curation"
"""The setting that vouches for the rows of the first two tables."""
UNDOABLE = "operations"
"""The setting that vouches for those of the third; galleries of before have none."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS quarantine (
  template INTEGER PRIMARY KEY, reason TEXT NOT NULL, at INTEGER NOT NULL, checksum INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS different (
  pair INTEGER PRIMARY KEY, one INTEGER NOT NULL, other INTEGER NOT NULL, checksum INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS operations (
  operation INTEGER PRIMARY KEY, verb TEXT NOT NULL, at INTEGER NOT NULL, change TEXT NOT NULL,
  undone INTEGER NOT NULL, checksum INTEGER NOT NULL
)
"""


@dataclass(slots=True)
class Marks:
    """Everything that is marked. quarantine: {template: (reason, microseconds)}; different: pairs."""

    quarantine: dict[int, tuple[str, int]]
    different: set[Pair]


def mark_checksum(template: int, reason: str, at: int) -> int:
    """CRC-32 of a quarantine's row."""
    return zlib.crc32(f"{template} {at} {reason}".encode())


def pair_checksum(one: int, other: int) -> int:
    """CRC-32 of a row of two subjects that are different."""
    return zlib.crc32(f"{one} {other}".encode())


def operation_checksum(operation: int, verb: str, at: int, change: str, undone: int) -> int:
    """CRC-32 of an operation's row."""
    return zlib.crc32(f"{operation} {verb} {at} {undone} {change}".encode())


def change_of(row: Sequence[Any]) -> Change:
    """What an operation changed, by its record and checksum; CorruptGalleryError."""
    if agrees(operation_checksum, row[5], *row[:5]):
        try:
            return Change.from_json(json.loads(row[3])["change"])
        except (ValueError, KeyError, TypeError):
            pass
    raise CorruptGalleryError(f"the record of operation {row[0]} does not match its checksum")


def there(db: sqlite3.Connection) -> bool:
    """Whether anything was ever put in order."""
    found = db.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'quarantine'").fetchone()
    return found is not None


def read(db: sqlite3.Connection, state: CatalogState) -> Marks:
    """All marks; CorruptGalleryError when a row is damaged or missing."""
    said = read_settings(db, state.setting_sum).get(VOUCHED)
    if said is None:
        return Marks({}, set())
    if not there(db):
        raise CorruptGalleryError("the tables of what is in quarantine and who is different are missing")
    quarantine = db.execute("SELECT template, reason, at, checksum FROM quarantine").fetchall()
    different = db.execute("SELECT one, other, checksum FROM different").fetchall()
    for row in quarantine:
        if not agrees(mark_checksum, row[3], *row[:3]):
            raise CorruptGalleryError(f"the quarantine of template {row[0]} does not match its checksum")
    for row in different:
        if not agrees(pair_checksum, row[2], *row[:2]):
            raise CorruptGalleryError("a pair of different subjects does not match its checksum")
    if not _says(said, [row[3] for row in quarantine], [row[2] for row in different]):
        raise CorruptGalleryError("what is in quarantine, or who is different, is not all there any more")
    return Marks({row[0]: (row[1], row[2]) for row in quarantine}, {(row[0], row[1]) for row in different})


def complete(said: str, quarantine: Mapping[int, tuple[str, int]], different: Iterable[Pair]) -> bool:
    """Whether marks that were read elsewhere are those that the setting vouches for."""
    return _says(
        said,
        [mark_checksum(number, *mark) for number, mark in quarantine.items()],
        [pair_checksum(*pair) for pair in different],
    )


def _says(said: str, *tables: Collection[int]) -> bool:
    """Whether a setting vouches for just these checksums."""
    try:
        return bool(json.loads(said) == _sums(*tables))
    except (ValueError, TypeError):
        # A damaged checksum may be none, or a text.
        return False


def _sums(*tables: Collection[int]) -> list[int]:
    """How many checksums each table has, and what they add up to."""
    return [number for checksums in tables for number in (len(checksums), sum(checksums))]


def vouch(db: sqlite3.Connection, state: CatalogState) -> None:
    """Writes the setting anew after rows came or went."""
    quarantine = [row[0] for row in db.execute("SELECT checksum FROM quarantine")]
    different = [row[0] for row in db.execute("SELECT checksum FROM different")]
    write_setting(db, state, VOUCHED, json.dumps(_sums(quarantine, different)))


def vouch_for_operations(db: sqlite3.Connection, state: CatalogState) -> None:
    """The same after operations came, changed or went."""
    checksums = [row[0] for row in db.execute("SELECT checksum FROM operations")]
    write_setting(db, state, UNDOABLE, json.dumps(_sums(checksums)))


def all_operations(said: str | None, checksums: Collection[int]) -> bool:
    """Whether operations of these checksums are all that the setting vouches for."""
    return said is None or _says(said, checksums)


def write_mark(db: sqlite3.Connection, template: int, reason: str | None, at: int) -> None:
    """Puts a template in quarantine; None takes it out."""
    db.execute("DELETE FROM quarantine WHERE template = ?", (template,))
    if reason is not None:
        row = (template, reason, at, mark_checksum(template, reason, at))
        db.execute("INSERT INTO quarantine VALUES (?, ?, ?, ?)", row)


def write_pair(db: sqlite3.Connection, pair: Pair, different: bool) -> None:
    """Remembers two subjects as different, or forgets that."""
    db.execute("DELETE FROM different WHERE one = ? AND other = ?", pair)
    if different:
        row = (*pair, pair_checksum(*pair))
        db.execute("INSERT INTO different(one, other, checksum) VALUES (?, ?, ?)", row)


def forget(
    db: sqlite3.Connection, state: CatalogState, templates: Iterable[int], subjects: Iterable[int]
) -> None:
    """Drops what is said of templates and subjects that were removed; CorruptGalleryError as `read`."""
    if not there(db):
        return
    those, whose = (json.dumps([int(number) for number in numbers]) for numbers in (templates, subjects))
    is_one = "IN (SELECT value FROM json_each(?))"
    of_templates = f"FROM quarantine WHERE template {is_one}"
    of_subjects = f"FROM different WHERE one {is_one} OR other {is_one}"
    some = f"SELECT EXISTS (SELECT 1 {of_templates}) OR EXISTS (SELECT 1 {of_subjects})"
    if db.execute(some, (those, whose, whose)).fetchone()[0]:
        # What is left is going to be vouched for: it must be all there.
        read(db, state)
        db.execute(f"DELETE {of_templates}", (those,))
        db.execute(f"DELETE {of_subjects}", (whose, whose))
        vouch(db, state)


def forget_operations(db: sqlite3.Connection, state: CatalogState) -> None:
    """Drops what could be undone, which holds ids and metadata as they were."""
    if there(db) and db.execute("DELETE FROM operations").rowcount:
        vouch_for_operations(db, state)
