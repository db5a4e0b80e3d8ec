"""Putting a catalog in order: each operation is one commit, and noted so that it can be taken back."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from gallery.curation import Change, Known, Mark, PairChange, SubjectChange, merged, pair_of, renamed, split
from gallery.errors import ConflictError, CorruptGalleryError, InvalidItemError
from gallery.findings import Operation, Quarantined
from gallery.metadata import checked_json
from gallery.stores import audit, marks
from gallery.stores.base import REGROUPED
from gallery.stores.catalog import execute_all
from gallery.stores.changes import SubjectRow, replace_subject
from gallery.stores.integrity import subject_checksum, template_checksum
from gallery.stores.session import Session
from gallery.stores.settings import write_setting
from gallery.vectors import Numbers


class SqliteCuration:
    """See `gallery.stores.base.Curation`."""

    def __init__(
        self,
        session: Session,
        row_of: Callable[[str], SubjectRow],
        rows_of: Callable[[Iterable[int]], list[SubjectRow]],
        tables: Callable[[], list[str]],
    ) -> None:
        """row_of: the record of an id, UnknownSubjectError; rows_of: of numbers; tables: all generations'."""
        self._session = session
        self._row_of = row_of
        self._rows_of = rows_of
        self._tables = tables

    # -- looking

    def quarantined(self) -> list[Quarantined]:
        found = self._marks().quarantine
        owners = dict(
            self._session.all(
                f"SELECT template, subject FROM {self._table} "
                "WHERE template IN (SELECT value FROM json_each(?))",
                json.dumps([*found]),
            )
        )
        lacking = found.keys() - owners.keys()
        if lacking:
            raise CorruptGalleryError(f"template {min(lacking)}, which is in quarantine, is missing")
        ids = {row[0]: row[1] for row in self._rows_of(owners.values())}
        return [
            Quarantined(number, ids[owners[number]], reason, _time(at))
            for number, (reason, at) in sorted(found.items())
        ]

    def in_quarantine(self) -> Numbers:
        return np.array(sorted(self._marks().quarantine), np.int64)

    def different(self) -> list[tuple[str, str]]:
        pairs = sorted(self._marks().different)
        ids = {row[0]: row[1] for row in self._rows_of(number for pair in pairs for number in pair)}
        return [(ids[one], ids[other]) for one, other in pairs]

    def different_numbers(self) -> set[tuple[int, int]]:
        return self._marks().different

    def operations(self) -> list[Operation]:
        return [_operation(row, marks.change_of(row)) for row in self._noted()]

    def _noted(self) -> list[Any]:
        """The records of all operations; CorruptGalleryError where they are not those that were written."""
        said = self._session.settings().get(marks.UNDOABLE)
        with self._session.used() as db:
            rows = self._session.all(f"{_OPERATION} ORDER BY operation") if marks.there(db) else []
            if not marks.all_operations(said, [row[5] for row in rows]):
                raise CorruptGalleryError("some of what can be undone is missing, or not as it was written")
        return rows

    # -- changing

    def rename(self, old: str, new: str) -> Operation:
        if old == new:
            raise InvalidItemError(f"{old!r} is called that already; nothing was renamed")
        self._check_free(new, "renamed", f"merge {old!r} into it instead")
        return self._done("rename", renamed(self._known(old), new))

    def merge(self, into: str, others: Sequence[str]) -> Operation:
        theirs = list(dict.fromkeys(others))
        if not theirs:
            raise InvalidItemError(f"no subject was given to merge into {into!r}; nothing was merged")
        if into in theirs:
            raise InvalidItemError(f"{into!r} cannot be merged into itself; nothing was merged")
        subject, rest = self._known(into), [self._known(one) for one in theirs]
        return self._done("merge", merged(subject, rest, self._marks().different))

    def split(
        self, id: str, templates: Sequence[int], new_id: str, metadata: Mapping[str, Any] | None
    ) -> Operation:
        hint = "split into another id, and merge that one into it"
        self._check_free(new_id, "split", hint)
        text = "{}" if metadata is None else checked_json(new_id, metadata)
        state = self._session.state
        new = Known(state.next_subject, new_id, text, ())
        change = split(self._known(id), templates, new)
        state.next_subject += 1
        return self._done("split", change)

    def quarantine(self, templates: Sequence[int], reason: str) -> Operation:
        there, at = self._marks().quarantine, time.time_ns() // 1000
        wanted = sorted(set(templates))
        twice = [number for number in wanted if number in there]
        if twice:
            raise ConflictError(
                f"template {twice[0]} is in quarantine already ({there[twice[0]][0]}); nothing was changed"
            )
        return self._marked("quarantine", [Mark(number, None, reason, at) for number in wanted])

    def release(self, templates: Sequence[int]) -> Operation:
        there = self._marks().quarantine
        wanted = sorted(set(templates))
        free = [number for number in wanted if number not in there]
        if free:
            raise InvalidItemError(f"template {free[0]} is not in quarantine; nothing was released")
        return self._marked("release", [Mark(one, there[one][0], None, there[one][1]) for one in wanted])

    def _marked(self, verb: str, changes: Sequence[Mark]) -> Operation:
        if not changes:
            raise InvalidItemError(f"no templates were given to {verb}; nothing was changed")
        try:
            owners = self._owners([one.template for one in changes])
        except ConflictError as error:
            raise InvalidItemError(str(error)) from error
        about = tuple(row[1] for row in self._rows_of(owners.values()))
        return self._done(verb, Change(about, marks=tuple(changes)))

    def differ(self, one: str, other: str, different: bool) -> Operation:
        first, second = self._row_of(one), self._row_of(other)
        if first[0] == second[0]:
            raise InvalidItemError(f"{one!r} cannot be different from itself; nothing was changed")
        pair = pair_of(first[0], second[0])
        if (pair in self._marks().different) == different:
            said = "remembered as different already" if different else "not remembered as different"
            raise ConflictError(f"{one!r} and {other!r} are {said}; nothing was changed")
        change = Change((one, other), pairs=(PairChange(*pair, not different, different),))
        return self._done("differ" if different else "alike", change)

    def undo(self, operation: int) -> Operation:
        row = None
        with self._session.used() as db:
            if marks.there(db):
                row = self._session.one(f"{_OPERATION} WHERE operation = ?", operation)
        if row is None:
            raise InvalidItemError(
                f"there is no operation {operation} that could be undone: erase and compact forget what came "
                "before them, and a backup is made without; nothing was changed"
            )
        verb, change = row[1], marks.change_of(row)
        if row[4]:
            raise ConflictError(
                f"operation {operation} ({verb}) was undone by operation {row[4]}; nothing was changed"
            )
        try:
            done = self._done("undo", change.turned_round(), of=operation)
        except ConflictError as error:
            raise ConflictError(f"operation {operation} ({verb}) cannot be undone: {error}") from error
        self._session.acts.note = f"operation {operation} ({verb})"
        return done

    def carry_over(self, reasons: Mapping[int, str], different: Iterable[tuple[str, str]]) -> None:
        """Marks that come with an import; pairs of ids. Not an operation of its own."""
        reasons, pairs = dict(reasons), [(self._row_of(a)[0], self._row_of(b)[0]) for a, b in different]
        if not reasons and not pairs:
            return
        with self._session.used() as db:
            execute_all(db, marks.SCHEMA.strip())
            at = time.time_ns() // 1000
            for number, reason in reasons.items():
                marks.write_mark(db, number, reason, at)
            for one, other in pairs:
                if one != other:
                    marks.write_pair(db, pair_of(one, other), True)
            marks.vouch(db, self._session.state)

    # -- inside a commit

    def _done(self, verb: str, change: Change, of: int = 0) -> Operation:
        """Applies a change and notes it; `of`: the operation that it undoes."""
        session = self._session
        with session.used() as db:
            execute_all(db, marks.SCHEMA.strip())
            # They are going to be vouched for, together with this one.
            self._noted()
            self._subjects(change)
            self._moves(change)
            self._marks_and_pairs(change)
            self._check_nothing_said_of(change)
            if change.regroups:
                write_setting(db, session.state, REGROUPED, str(session.state.revision + 1))
            text = json.dumps({"of": of, "change": change.to_json()})
            row = (session.state.revision + 1, verb, time.time_ns() // 1000, text, 0)
            db.execute(
                "INSERT INTO operations VALUES (?, ?, ?, ?, ?, ?)", (*row, marks.operation_checksum(*row))
            )
            if of:
                self._note_undone(of, row[0])
            marks.vouch_for_operations(db, session.state)
        session.acts.subjects += change.about
        session.acts.templates += change.templates
        return _operation(row, change)

    def _note_undone(self, of: int, by: int) -> None:
        """An operation is undone; and what it had undone itself holds again."""
        row = self._session.one(f"{_OPERATION} WHERE operation = ?", of)
        self._rewrite(row, by)
        undid = int(json.loads(row[3])["of"])
        before = self._session.one(f"{_OPERATION} WHERE operation = ?", undid) if undid else None
        if before is not None:
            marks.change_of(before)
            self._rewrite(before, 0)

    def _rewrite(self, row: Sequence[Any], undone: int) -> None:
        fields = (*row[:4], undone)
        self._session.db.execute(
            "UPDATE operations SET undone = ?, checksum = ? WHERE operation = ?",
            (undone, marks.operation_checksum(*fields), row[0]),
        )

    def _subjects(self, change: Change) -> None:
        """Writes the subjects' records, those that go first, so that their ids are free."""
        now = {one.number: self._now(one.number) for one in change.subjects}
        for one in change.subjects:
            self._check(one, now[one.number])
        # Counts follow the templates.
        by = dict.fromkeys(now, 0)
        for move in change.moves:
            by[move.before] -= len(move.templates)
            by[move.after] += len(move.templates)
        for one in sorted(change.subjects, key=lambda one: one.after is not None):
            self._write(one, now[one.number], by[one.number])

    def _now(self, number: int) -> SubjectRow | None:
        row = self._session.one(f"{_SUBJECT} WHERE subject = ?", number)
        return None if row is None else self._rows_of([number])[0]

    def _check(self, one: SubjectChange, row: SubjectRow | None) -> None:
        if one.before is None:
            if row is not None:
                raise ConflictError(f"subject {row[1]!r} is there already; nothing was changed")
        elif row is None:
            raise ConflictError(f"{one.before.id!r} is not enrolled any more; nothing was changed")
        else:
            known = Known(row[0], row[1], row[3], self._templates(row[0]))
            different = one.before.differs(known)
            if different:
                raise ConflictError(f"{different} since; nothing was changed")

    def _write(self, one: SubjectChange, row: SubjectRow | None, by: int) -> None:
        session = self._session
        db, state = session.db, session.state
        if one.after is None:
            assert row is not None
            if row[2] + by:
                raise ConflictError(f"templates of {row[1]!r} came since; nothing was changed")
            db.execute("DELETE FROM subjects WHERE subject = ?", (row[0],))
            state.count_subjects([row[4]], -1)
            self._remember(row[1])
            return
        if row is None or row[1] != one.after.id:
            self._check_free(one.after.id, "changed", "rename that one first")
        metadata = one.after.metadata if one.after.metadata is not None else row[3] if row else "{}"
        count = by + (row[2] if row else 0)
        checksum = subject_checksum(one.number, one.after.id, count, metadata)
        after = (one.number, one.after.id, count, metadata, checksum)
        if row is None:
            db.execute("INSERT INTO subjects VALUES (?, ?, ?, ?, ?)", after)
            state.count_subjects([checksum])
        else:
            replace_subject(db, state, row, after)
            if row[1] != one.after.id:
                self._remember(row[1])

    def _remember(self, id: str) -> None:
        """An id that is gone is shown in the log until it is erased."""
        if self._session.state.logging:
            audit.remember_names(self._session.db, self._session.audit_key, [id])

    def _moves(self, change: Change) -> None:
        for move in change.moves:
            owners = self._owners(move.templates)
            stray = [number for number, owner in owners.items() if owner != move.before]
            if stray:
                raise ConflictError(f"template {stray[0]} changed hands since; nothing was changed")
            for at, table in enumerate(self._tables()):
                self._hand_over(table, move.templates, move.after, counts=at == 0)

    def _hand_over(self, table: str, templates: Sequence[int], to: int, counts: bool) -> None:
        session = self._session
        new = []
        for number, _, enrolled, source, checksum, blob in session.vouched_for(table, templates):
            new.append((to, template_checksum(number, to, enrolled, source, blob), number))
            if counts:
                session.state.template_sum += new[-1][1] - checksum
        session.db.executemany(f"UPDATE {table} SET subject = ?, checksum = ? WHERE template = ?", new)

    def _marks_and_pairs(self, change: Change) -> None:
        if not change.marks and not change.pairs:
            return
        session, now = self._session, self._marks()
        at = time.time_ns() // 1000
        self._owners([one.template for one in change.marks])
        for one in change.marks:
            if one.differs(now.quarantine.get(one.template)):
                raise ConflictError(
                    f"the quarantine of template {one.template} was changed since; nothing was changed"
                )
            marks.write_mark(session.db, one.template, one.after, one.since or at)
        for pair in change.pairs:
            both = self._are_enrolled(pair.one, pair.other)
            if ((pair.one, pair.other) in now.different) != pair.before:
                if not both:
                    # One was removed since, and what was said of it went with it.
                    continue
                raise ConflictError(
                    "whether two of the subjects are different was changed since; nothing was changed"
                )
            if both or not pair.after:
                marks.write_pair(session.db, (pair.one, pair.other), pair.after)
        marks.vouch(session.db, session.state)

    def _check_nothing_said_of(self, change: Change) -> None:
        """ConflictError when a subject that goes is remembered as different, by what came since."""
        going = {one.number: one.before.id for one in change.subjects if one.before and not one.after}
        for pair in sorted(self._marks().different) if going else ():
            if going.keys() & set(pair):
                ids = going | {row[0]: row[1] for row in self._rows_of({*pair} - going.keys())}
                one, other = (repr(ids[number]) for number in pair)
                raise ConflictError(f"{one} and {other} were said to be different since; nothing was changed")

    def _are_enrolled(self, one: int, other: int) -> bool:
        found = self._session.all("SELECT subject FROM subjects WHERE subject IN (?, ?)", one, other)
        return len(found) == 2

    # -- parts

    @property
    def _table(self) -> str:
        return self._tables()[0]

    def _marks(self) -> marks.Marks:
        with self._session.used() as db:
            return marks.read(db, self._session.current())

    def _known(self, id: str) -> Known:
        row = self._row_of(id)
        return Known(row[0], row[1], row[3], self._templates(row[0]))

    def _templates(self, subject: int) -> tuple[int, ...]:
        rows = self._session.all(
            f"SELECT template FROM {self._table} WHERE subject = ? ORDER BY template", subject
        )
        return tuple(row[0] for row in rows)

    def _owners(self, templates: Sequence[int]) -> dict[int, int]:
        """{template: subject}; ConflictError when one is not enrolled."""
        found = dict(
            self._session.all(
                f"SELECT template, subject FROM {self._table} "
                "WHERE template IN (SELECT value FROM json_each(?))",
                json.dumps([*templates]),
            )
        )
        missing = sorted(set(templates) - found.keys())
        if missing:
            raise ConflictError(f"template {missing[0]} is not enrolled; nothing was changed")
        return found

    def _check_free(self, id: str, what: str, hint: str) -> None:
        if self._session.one("SELECT 1 FROM subjects WHERE id = ?", id) is not None:
            raise ConflictError(f"{id!r} is enrolled already: {hint}; nothing was {what}")


_OPERATION = "SELECT operation, verb, at, change, undone, checksum FROM operations"
_SUBJECT = "SELECT subject FROM subjects"


def _operation(row: Sequence[Any], change: Change) -> Operation:
    return Operation(row[0], row[1], _time(row[2]), change.about, change.templates, row[4] or None)


def _time(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / 1e6, UTC)
