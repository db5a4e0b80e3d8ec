"""The generations of a catalog: what a migration stages, what a switch replaces, what a rollback brings back.

Each has a table of its own with the same templates; removals go through all of them (`changes`). The numbers
of generations are never used again, so that a process which missed a switch or a rollback cannot take one
encoder's embeddings for another's.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from gallery.errors import CorruptGalleryError, GalleryError
from gallery.records import Generation, Template
from gallery.stores import catalog, headers
from gallery.stores.base import OF_ENCODER, Header, canary_setting
from gallery.stores.integrity import agrees, original_checksum, template_checksum
from gallery.stores.session import Session
from gallery.stores.settings import write_setting
from gallery.tables import counted
from gallery.vectors import FloatRows

_LAST_GENERATION = "last_generation"
_NAMED = 3
"""How many templates a refusal names."""


class SqliteGenerations:
    """See `gallery.stores.base.Generations`."""

    def __init__(self, session: Session, remove: Callable[[Sequence[int]], int]) -> None:
        self._session = session
        self._remove = remove

    # -- looking

    def listing(self) -> list[Generation]:
        with self._session.used() as db:
            return [
                Generation(
                    header.generation,
                    state,
                    header.encoder,
                    header.fingerprint,
                    header.dim,
                    header.metric,
                    _count(db, header.generation),
                    header.created,
                )
                for header, state in headers.read_generations(db)
            ]

    def header_of(self, generation: int) -> Header:
        return self._found(generation)[0]

    def _found(self, generation: int) -> tuple[Header, str]:
        with self._session.used() as db:
            for header, state in headers.read_generations(db):
                if header.generation == generation:
                    return header, state
        raise GalleryError(f"{self._place} has no generation {generation} any more; nothing was written")

    def _those(self, state: str) -> list[Header]:
        """The headers of every generation in a state, newest first."""
        with self._session.used() as db:
            return [header for header, its in reversed(headers.read_generations(db)) if its == state]

    @property
    def _place(self) -> str:
        return str(self._session.path.parent)

    @property
    def _current(self) -> int:
        return self._session.current().generation

    # -- staging

    def begin(self, header: Header) -> Header:
        staged = self._those("staged")
        if staged:
            raise GalleryError(
                f"{self._place} is in the middle of a migration to {staged[0].encoder!r} already: finish "
                "that one, or give it up with abandon_migration()"
            )
        session = self._session
        numbers = [self._current, int(session.settings().get(_LAST_GENERATION, "1"))]
        begun = replace(
            header,
            generation=max(numbers) + 1,
            identity=session.header.identity,
            created=datetime.now(UTC),
        )
        with session.used() as db:
            catalog.execute_all(db, catalog.templates_schema(begun.generation).strip().rstrip(";"))
            headers.insert_generation(db, begun, "staged")
            self._set(db, _LAST_GENERATION, str(begun.generation))
        session.acts.note = f"to {begun.encoder!r} as generation {begun.generation}"
        return begun

    def lacking(self, generation: int, after: int = 0, most: int = 256) -> list[Template]:
        rows = self._session.all(
            f"SELECT c.template, s.id, c.enrolled, c.source FROM templates_{self._current} c "
            "LEFT JOIN subjects s ON s.subject = c.subject WHERE c.template > ? AND NOT EXISTS "
            f"(SELECT 1 FROM templates_{generation} t WHERE t.template = c.template) "
            "ORDER BY c.template LIMIT ?",
            after,
            most,
        )
        numbers = [after, *(row[0] for row in rows)]
        if any(one >= following for one, following in pairwise(numbers)):
            # Pages that changed places would be gone through for ever.
            raise CorruptGalleryError("templates are listed out of order: a page is not where it belongs")
        return [
            Template(number, id, datetime.fromtimestamp(at / 1e6, UTC), source)
            for number, id, at, source in rows
        ]

    def count_lacking(self, generation: int) -> int:
        with self._session.used() as db:
            return _missing(db, self._current, generation)

    def embedded(self, generation: int, numbers: Sequence[int]) -> set[int]:
        rows = self._session.all(
            f"SELECT template FROM templates_{generation} WHERE template IN (SELECT value FROM json_each(?))",
            json.dumps([int(number) for number in numbers]),
        )
        return {row[0] for row in rows}

    def original(self, template: int) -> tuple[str, bytes] | None:
        row = self._session.one("SELECT kind, checksum, content FROM originals WHERE template = ?", template)
        if row is None:
            return None
        kind, checksum, content = row
        if not agrees(original_checksum, checksum, template, kind, content):
            raise CorruptGalleryError(f"the item kept for template {template} does not match its checksum")
        return kind, content

    def stage(self, generation: int, numbers: Sequence[int], rows: FloatRows) -> int:
        self._check_staged(generation)
        embedded = dict(zip((int(number) for number in numbers), rows.astype("<f4", copy=False), strict=True))
        there = self._session.vouched_for(f"templates_{self._current}", [*embedded])
        new = []
        for number, subject, enrolled, source, _, _ in there:
            ours = embedded[number].tobytes()
            sum_ = template_checksum(number, subject, enrolled, source, ours)
            new.append((number, subject, enrolled, source, sum_, ours))
        with self._session.used() as db:
            before = db.total_changes
            db.executemany(f"INSERT OR IGNORE INTO templates_{generation} VALUES (?, ?, ?, ?, ?, ?)", new)
            return db.total_changes - before

    def _check_staged(self, generation: int) -> Header:
        header, state = self._found(generation)
        if state != "staged":
            raise GalleryError(
                f"{self._place}: the migration to {header.encoder!r} was finished by another process"
            )
        return header

    def abandon(self) -> bool:
        staged = self._those("staged")
        with self._session.used() as db:
            for header in staged:
                self._drop(db, header)
        return bool(staged)

    # -- switching

    def switch(self, generation: int, refused: Sequence[int] = ()) -> int:
        header = self._check_staged(generation)
        before = self._found(self._current)[0]
        # Some may have been removed, or embedded after all, by another process.
        left = self.embedded(before.generation, refused) - self.embedded(generation, refused)
        if left:
            self._remove(sorted(left))
        with self._session.used() as db:
            self._check_complete(db, header, before)
            session = self._session
            for key in OF_ENCODER:
                value = session.settings().get(key)
                self._set(db, _put_away(key, before), value)
                self._set(db, key, None)
            self._set(db, _replaced_at(before), str(session.state.next_template - 1))
            self._mark(db, before, "previous")
            self._use(db, header)
            session.acts.note = f"{before.encoder!r} -> {header.encoder!r}"
            if left:
                session.acts.note += f"; {counted(len(left), 'template')} refused and removed"
            session.acts.templates = session.state.templates
            return session.state.templates

    def _check_complete(self, db: sqlite3.Connection, header: Header, before: Header) -> None:
        missing = _missing(db, before.generation, header.generation)
        if missing:
            first = self.lacking(header.generation, most=_NAMED)
            raise GalleryError(
                f"{counted(missing, 'template')} of {self._session.state.templates:,} "
                f"{'has' if missing == 1 else 'have'} no embedding by {header.encoder!r} yet: "
                f"{named(first, missing)}. The gallery goes on answering by {before.encoder!r} and what was "
                "embedded is kept: call migrate again with the items of those, or remove them"
            )
        self._check_no_more(db, header, before.generation)

    def _check_no_more(self, db: sqlite3.Connection, header: Header, current: int) -> None:
        stray = _missing(db, header.generation, current)
        if stray:
            raise CorruptGalleryError(
                f"generation {header.generation} has {counted(stray, 'template')} that are not enrolled: "
                "it cannot be used"
            )

    def rollback(self, force: bool = False) -> Header:
        previous = self._those("previous")
        if not previous:
            raise GalleryError(f"{self._place} keeps no generation to go back to; nothing was changed")
        header, session = previous[0], self._session
        dropped = self._found(self._current)[0]
        since = self._enrolled_since(header)
        if since and not force:
            first = [self._template(number) for number in since[:_NAMED]]
            raise GalleryError(
                f"{counted(len(since), 'template')} enrolled since the migration "
                f"{'has' if len(since) == 1 else 'have'} no embedding by {header.encoder!r} and would be "
                f"lost: {named(first, len(since))}. Remove them, migrate to {header.encoder!r} with the "
                "items instead, or go back without them by rollback(force=True); nothing was changed"
            )
        if since:
            self._remove(since)
        with session.used() as db:
            self._check_no_more(db, header, dropped.generation)
            put_away = {key: session.settings().get(_put_away(key, header)) for key in OF_ENCODER}
            self._use(db, header)
            self._drop(db, dropped)
            for key, value in put_away.items():
                self._set(db, key, value)
                self._set(db, _put_away(key, header), None)
            self._set(db, _replaced_at(header), None)
        session.acts.note = f"{dropped.encoder!r} -> {header.encoder!r}"
        if since:
            session.acts.note += f"; {counted(len(since), 'template')} enrolled since removed"
        session.acts.templates = session.state.templates
        return header

    def _enrolled_since(self, previous: Header) -> list[int]:
        """Templates that a previous generation does not have, because they came after it."""
        rows = self._session.all(
            f"SELECT template FROM templates_{self._current} c WHERE NOT EXISTS "
            f"(SELECT 1 FROM templates_{previous.generation} t WHERE t.template = c.template)"
        )
        since = sorted(row[0] for row in rows)
        last = int(self._session.settings().get(_replaced_at(previous), "0"))
        if since and since[0] <= last:
            lost = sum(number <= last for number in since)
            raise CorruptGalleryError(
                f"generation {previous.generation} has lost {counted(lost, 'template')}, {since[0]} the "
                "first: it cannot be gone back to"
            )
        return since

    def _template(self, number: int) -> Template:
        id, at, source = self._session.one(
            f"SELECT s.id, c.enrolled, c.source FROM templates_{self._current} c "
            "LEFT JOIN subjects s ON s.subject = c.subject WHERE c.template = ?",
            number,
        )
        return Template(number, id, datetime.fromtimestamp(at / 1e6, UTC), source)

    def drop_previous(self) -> int:
        previous = self._those("previous")
        with self._session.used() as db:
            for header in previous:
                self._drop(db, header)
        self._session.acts.note = ", ".join(repr(header.encoder) for header in previous)
        return len(previous)

    # -- inside a commit

    def _use(self, db: sqlite3.Connection, header: Header) -> None:
        """Makes a generation the one in use, with its counts. The session's header follows afterwards."""
        state = self._session.state
        self._mark(db, header, "current")
        state.generation = header.generation
        state.templates, state.template_sum = db.execute(
            f"SELECT count(*), coalesce(sum(checksum), 0) FROM templates_{header.generation}"
        ).fetchone()

    def _mark(self, db: sqlite3.Connection, header: Header, state: str) -> None:
        db.execute("UPDATE generations SET state = ? WHERE generation = ?", (state, header.generation))

    def _drop(self, db: sqlite3.Connection, header: Header) -> None:
        db.execute(f"DROP TABLE templates_{header.generation}")
        db.execute("DELETE FROM generations WHERE generation = ?", (header.generation,))
        gone = [_put_away(key, header) for key in OF_ENCODER]
        for key in (*gone, _replaced_at(header), canary_setting(header.generation)):
            self._set(db, key, None)

    def _set(self, db: sqlite3.Connection, key: str, value: str | None) -> None:
        write_setting(db, self._session.state, key, value)


def _put_away(key: str, header: Header) -> str:
    """Where a setting of an encoder waits for a rollback."""
    return f"{key}_{header.generation}"


def _replaced_at(header: Header) -> str:
    """Where the highest template number at the time of the switch is kept."""
    return f"replaced_at_{header.generation}"


def _count(db: sqlite3.Connection, generation: int) -> int:
    count: Any = db.execute(f"SELECT count(*) FROM templates_{generation}").fetchone()[0]
    return int(count)


def _missing(db: sqlite3.Connection, here: int, there: int) -> int:
    """How many templates of one generation another does not have."""
    count: Any = db.execute(
        f"SELECT count(*) FROM templates_{here} c "
        f"WHERE NOT EXISTS (SELECT 1 FROM templates_{there} t WHERE t.template = c.template)"
    ).fetchone()[0]
    return int(count)


def named(templates: Sequence[Template], of: int) -> str:
    """The first templates in words, of so many."""
    said = ", ".join(f"template {int(one)} of {one.id!r}" for one in templates)
    return said if of == len(templates) else f"{said} and {of - len(templates):,} more"
