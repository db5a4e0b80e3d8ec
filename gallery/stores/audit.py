"""The audit log: who did what when, each entry chained to the one before by its hash.

An entry holds no embedding and no id, only keyed hashes of ids (BLAKE2b under a key of this gallery), so
that the chain still holds after an erasure. The ids of subjects that were removed are kept beside it until
they are erased; those that are enrolled are read from the subjects themselves.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from gallery.errors import CorruptGalleryError
from gallery.records import LogEntry
from gallery.stores.state import GENESIS, CatalogState

KEY_SETTING = "audit_key"

_KEY_BYTES = 16
COLUMNS = "entry, revision, at, actor, verb, templates, note, subjects, hash"


@dataclass(slots=True)
class Acts:
    """What is being done in one commit."""

    verb: str | None
    actor: str
    templates: int = 0
    subjects: list[str] = field(default_factory=list)
    note: str = ""
    switched: bool = False
    """The log itself is switched on or off, which it tells of."""


def new_key() -> str:
    """A key for the hashes of ids."""
    return secrets.token_hex(32)


def default_actor() -> str:
    """user@host of this process."""
    import getpass

    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def subject_key(key: bytes, id: str) -> bytes:
    """What stands for an id in the log."""
    return _hashes(key)(id)


def _hashes(key: bytes) -> Callable[[str], bytes]:
    """`subject_key` under one key, which is set up once."""
    keyed = hashlib.blake2b(key=key, digest_size=_KEY_BYTES)

    def hashed(id: str) -> bytes:
        mine = keyed.copy()
        mine.update(id.encode())
        return mine.digest()

    return hashed


def append(db: sqlite3.Connection, state: CatalogState, acts: Acts, key: bytes) -> None:
    """Writes one entry, of the revision that `state` comes to."""
    at = time.time_ns() // 1000
    hashes = _hashes(key)
    keys = b"".join([hashes(id) for id in dict.fromkeys(acts.subjects)])
    row = (
        state.entries + 1,
        state.revision,
        at,
        acts.actor,
        acts.verb or "",
        acts.templates,
        acts.note,
        keys,
    )
    state.entries += 1
    state.chain = entry_hash(state.chain, row)
    db.execute(f"INSERT INTO audit({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, state.chain))


def remember_names(db: sqlite3.Connection, key: bytes, ids: Iterable[str]) -> None:
    """Keeps the ids of removed subjects, for the log, until they are erased."""
    rows = [(subject_key(key, id), id) for id in ids]
    db.executemany("INSERT OR IGNORE INTO audit_names(key, id) VALUES (?, ?)", rows)


def forget_names(db: sqlite3.Connection) -> None:
    """Leaves only the hashes of what was removed."""
    db.execute("DELETE FROM audit_names")


def entry_hash(before: bytes, row: Sequence[object]) -> bytes:
    """SHA-256 over the hash of the entry before, the fields as text with NUL between them, and the keys."""
    *fields, keys = row
    text = "\0".join(map(str, fields)).encode("utf-8", "backslashreplace")
    return hashlib.sha256(b"%b%b\0%b" % (before, text, keys if isinstance(keys, bytes) else b"?")).digest()


def entries(
    db: sqlite3.Connection, state: CatalogState, key: bytes, enrolled: Iterable[str]
) -> Iterator[LogEntry]:
    """The log, oldest first, with the ids that are still known; CorruptGalleryError.

    enrolled: the ids of all subjects.
    """
    for where, what in broken_links(db, state, key):
        raise CorruptGalleryError(f"{where}: {what}")
    names = dict(db.execute("SELECT key, id FROM audit_names").fetchall())
    hashes = _hashes(key)
    names |= {hashes(id): id for id in enrolled}
    for row in db.execute(f"SELECT {COLUMNS} FROM audit ORDER BY entry"):
        entry, revision, at, actor, verb, templates, note, keys, hash = row
        known = [keys[start : start + _KEY_BYTES] for start in range(0, len(keys), _KEY_BYTES)]
        yield LogEntry(
            entry=entry,
            revision=revision,
            at=datetime.fromtimestamp(at / 1e6, UTC),
            actor=actor,
            verb=verb,
            templates=templates,
            subjects=tuple(names.get(one, f"#{one.hex()}") for one in known),
            note=note,
            hash=hash.hex(),
        )


def broken_links(db: sqlite3.Connection, state: CatalogState, key: bytes) -> Iterator[tuple[str, str]]:
    """(where, what) for every entry that does not follow from the one before it, and every wrong name."""
    for known, id in db.execute("SELECT key, id FROM audit_names"):
        if not isinstance(id, str) or known != subject_key(key, id):
            yield "audit log", f"the id of a removed subject, {id!r}, does not match its hash"
    before, last = GENESIS, 0
    for row in db.execute(f"SELECT {COLUMNS} FROM audit ORDER BY entry"):
        *fields, hash = row
        if fields[0] != last + 1:
            yield f"audit entry {last + 1}", f"it is missing: entry {fields[0]} follows entry {last}"
        elif hash != entry_hash(before, fields):
            yield f"audit entry {fields[0]}", "it does not match the chain of hashes: it was changed"
        before, last = hash, fields[0]
    if (last, before) != (state.entries, state.chain):
        yield "audit log", f"it ends with entry {last}, and {state.entries} were written"
