"""Where a catalog stands: the one row that every commit rewrites, and that vouches for all others.

It counts the subjects and templates and adds up their checksums, so that rows that went missing, or came
back with an older page, are noticed although every row that is left is sound.
"""

from __future__ import annotations

import sqlite3
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, fields
from operator import attrgetter

from gallery.errors import CorruptGalleryError

GENESIS = bytes(32)
"""What the first entry of the audit log follows."""


@dataclass(slots=True)
class CatalogState:
    """The row of the table `state`."""

    revision: int = 0
    next_template: int = 1
    next_subject: int = 1
    generation: int = 1
    """Whose embeddings are in use."""
    subjects: int = 0
    templates: int = 0
    subject_sum: int = 0
    """The checksums of all subjects, added up."""
    template_sum: int = 0
    """The checksums of all templates of the generation in use, added up."""
    setting_sum: int = 0
    """The checksums of all settings, added up."""
    logging: int = 1
    """0 while the audit log is switched off."""
    entries: int = 0
    """Of the audit log."""
    chain: bytes = GENESIS
    """The hash of the audit log's last entry."""

    def checksum(self) -> int:
        """CRC-32 of the row."""
        *numbers, chain = _values(self)
        return zlib.crc32(chain, zlib.crc32(_NUMBERS.pack(*numbers)))

    def count_subjects(self, checksums: Iterable[int], sign: int = 1) -> None:
        """Takes note of subjects that came (sign 1) or went (-1)."""
        each = list(checksums)
        self.subjects += sign * len(each)
        self.subject_sum += sign * sum(each)

    def count_templates(self, checksums: Iterable[int], sign: int = 1) -> None:
        """Takes note of templates that came (sign 1) or went (-1)."""
        each = list(checksums)
        self.templates += sign * len(each)
        self.template_sum += sign * sum(each)


_NAMES = [field.name for field in fields(CatalogState)]
COLUMNS = ", ".join(_NAMES)
_NUMBERS = struct.Struct(f"<{len(_NAMES) - 1}q")
_values = attrgetter(*_NAMES)
_READ = f"SELECT {COLUMNS}, checksum FROM state"
_WRITE = f"UPDATE state SET {', '.join(f'{name} = ?' for name in _NAMES)}, checksum = ?"


def read_state(db: sqlite3.Connection) -> CatalogState:
    """The state now; CorruptGalleryError when its row is not as it was written."""
    rows = db.execute(_READ).fetchall()
    if len(rows) == 1:
        *values, checksum = rows[0]
        state = CatalogState(*values)
        try:
            if state.checksum() == checksum:
                return state
        except (struct.error, TypeError):
            pass
    raise CorruptGalleryError("the row that says where the catalog stands does not match its checksum")


def insert_state(db: sqlite3.Connection, state: CatalogState) -> None:
    """Writes the row of a new catalog."""
    marks = ", ".join("?" * (len(_NAMES) + 1))
    db.execute(
        f"INSERT INTO state({COLUMNS}, checksum) VALUES ({marks})", (*_values(state), state.checksum())
    )


def write_state(db: sqlite3.Connection, state: CatalogState) -> None:
    """Replaces the row."""
    db.execute(_WRITE, (*_values(state), state.checksum()))
