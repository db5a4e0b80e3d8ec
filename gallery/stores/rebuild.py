"""A new catalog from what can still be read of a damaged one, and the list of what cannot."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from gallery.errors import CorruptGalleryError, GalleryError
from gallery.records import Problem
from gallery.stores import audit, catalog, marks, salvage
from gallery.stores.audit import Acts
from gallery.stores.changes import SubjectRow
from gallery.stores.integrity import subject_checksum
from gallery.stores.pages import Pages
from gallery.stores.settings import write_setting
from gallery.stores.state import GENESIS, CatalogState, insert_state
from gallery.stores.witness import Head, head_path, is_another_file
from gallery.tables import counted

_UNSOUND = "it cannot be read, or does not match its checksum; enrol it again"
_GIVES_NUMBERS = ("enroll", "import")
"""Verbs of the audit log whose entries count numbers of templates that were given."""


class Rebuilding:
    """One repair: `run` writes the new catalog and fills `lost`."""

    def __init__(self, pages: Pages, path: Path, head: Head | None, without: Iterable[str]) -> None:
        """path: of the damaged catalog, for messages; without: settings to leave out.

        CorruptGalleryError when it cannot be told any more what the gallery is.
        """
        self.lost: list[Problem] = []
        self.templates_lost = 0
        self._pages, self._path, self._head = pages, path, head
        self._without = {*without}
        self._found = salvage.newest(pages, [] if head is None else [head.identity])
        self.identity, self._generations = self._found.generations()
        self._old = self._found.state
        self._state = CatalogState() if self._old is None else CatalogState(generation=self._old.generation)
        self._check_what_it_is()
        self._current = self._state.generation
        self._saved: set[int] = set()
        self._doubtful: set[int] = set()
        """Numbers of records that cannot be read, of templates or of anything else."""
        self._reasons: dict[int, str] = {}
        """Why a template that can be read cannot be saved."""

    def _check_what_it_is(self) -> None:
        found = self._found
        if not self._generations and found.formats and found.formats[0] not in (catalog.FORMAT, 0):
            raise GalleryError(
                f"{self._path} has format {found.formats[0]}, and only format {catalog.FORMAT} can be "
                "repaired: open it with the version of siamese-gallery that wrote it"
            )
        if self._old is None:
            current = [one.header.generation for one in self._generations.values() if one.row[1] == "current"]
            self._state.generation = max(current, default=0)
        if self._state.generation not in self._generations:
            raise CorruptGalleryError(
                f"{self._path}: the records that say what the gallery is, its dim, metric and encoder, are "
                "lost, and without them an embedding means nothing: nothing can be saved. "
                "Restore the folder from a backup"
            )

    def run(self, target: Path, actor: str) -> CatalogState:
        """Writes the new catalog to `target`, which must not exist: where it stands. It is on the disk."""
        target.touch(mode=0o600, exist_ok=False)
        dim = self._generations[self._current].header.dim
        with catalog.translated(target):
            db = catalog.open_new(target, catalog.page_size(dim), 0.0)
            try:
                db.execute("BEGIN IMMEDIATE")
                self._fill(db, actor)
                db.execute("COMMIT")
            finally:
                db.close()
        catalog.sync_folder(target.parent)
        return self._state

    def _fill(self, db: sqlite3.Connection, actor: str) -> None:
        found, state = self._found, self._state
        catalog.execute_all(db, catalog.SCHEMA)
        created = salvage.created_of(found, self._generations)
        db.execute("INSERT INTO header VALUES (?, ?, ?)", (catalog.FORMAT, created, self.identity))
        self._encoders(db)
        key = self._settings(db)
        subjects = self._one_of_each_id()
        self._templates(db, subjects)
        self._subjects(db, subjects, key)
        self._originals(db)
        self._curation(db)
        self._numbers(db)
        for name, id in found.names:
            if audit.subject_key(key, id) == name:
                audit.remember_names(db, key, [id])
        self._log(db, actor, key)
        insert_state(db, state)

    def _encoders(self, db: sqlite3.Connection) -> None:
        rows = {row[0]: row for row in self._found.generation_rows}
        for generation in sorted(rows.keys() - self._generations.keys()):
            self.lost.append(Problem(f"generation {generation}", "its record does not match its checksum"))
        found = self._found
        for generation, record in self._generations.items():
            # The word that says which is in use is not under the checksum; the state is.
            word = record.row[1]
            if generation == self._current:
                word = "current"
            elif word not in ("staged", "previous"):
                word = "staged" if found.setting(f"replaced_at_{generation}") is None else "previous"
            db.execute(
                "INSERT INTO generations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (generation, word, *record.row[2:]),
            )
            catalog.execute_all(db, catalog.templates_schema(generation))

    def _settings(self, db: sqlite3.Connection) -> bytes:
        found, old = self._found, self._old
        for key, values in found.settings.items():
            write_setting(db, self._state, key, values[-1])
        if old is None or self._state.setting_sum != old.setting_sum:
            kept = ", ".join(sorted(found.settings)) or "none"
            self.lost.append(
                Problem("settings", f"some may be lost or older than they should be; saved: {kept}")
            )
        for key in self._without:
            write_setting(db, self._state, key, None)
        secret = found.setting(audit.KEY_SETTING)
        if secret is None:
            secret = audit.new_key()
            write_setting(db, self._state, audit.KEY_SETTING, secret)
            self.lost.append(
                Problem("audit log", "its key is lost: it cannot tell any more whom it is about")
            )
        return bytes.fromhex(secret)

    def _one_of_each_id(self) -> dict[int, SubjectRow]:
        """A record for each subject; of two with one id the younger, which was enrolled after the other."""
        numbers: dict[str, int] = {}
        for number, rows in sorted(self._found.subjects.items()):
            numbers[rows[-1][1]] = number
        return {number: self._found.subjects[number][-1] for number in numbers.values()}

    # -- templates

    def _templates(self, db: sqlite3.Connection, subjects: dict[int, SubjectRow]) -> None:
        """Every sound template of a known subject, into its generation."""
        owner, broken = salvage.owners(self._pages, self._found, self._generations)
        removed = self._removed()
        dims = {number: 4 * record.header.dim for number, record in self._generations.items()}
        for cell, row in salvage.templates(self._pages):
            generation = self._owner_of(cell.page, owner, broken, None if row is None else len(row[5]), dims)
            if row is None:
                self._doubtful.add(cell.rowid or 0)
                if generation not in (None, self._current):
                    self.lost.append(Problem(f"template {cell.rowid} of generation {generation}", _UNSOUND))
            elif row[0] in removed or generation is None or len(row[5]) != dims[generation]:
                continue
            elif row[1] not in subjects:
                self._reasons[row[0]] = f"the record of its subject, number {row[1]}, is lost"
            else:
                inserted = db.execute(
                    f"INSERT OR IGNORE INTO templates_{generation} VALUES (?, ?, ?, ?, ?, ?)", row
                ).rowcount
                if generation == self._current and inserted:
                    self._saved.add(row[0])
                    self._state.count_templates([row[4]])
        # What is not enrolled any more is in no other generation either.
        for generation in self._generations.keys() - {self._current}:
            db.execute(
                f"DELETE FROM templates_{generation} WHERE template NOT IN "
                f"(SELECT template FROM templates_{self._current})"
            )

        self._previous(db)

    def _previous(self, db: sqlite3.Connection) -> None:
        """A generation that was replaced is for a rollback, and one with gaps is good for none."""
        for generation in self._generations.keys() - {self._current}:
            last = self._found.setting(f"replaced_at_{generation}")
            if last is None or not last.isdecimal():
                continue
            (missing,) = db.execute(
                f"SELECT count(*) FROM templates_{self._current} c WHERE template <= ? AND NOT EXISTS "
                f"(SELECT 1 FROM templates_{generation} t WHERE t.template = c.template)",
                (int(last),),
            ).fetchone()
            if missing:
                what = (
                    f"{counted(missing, 'template')} of it cannot be read, so no rollback to it is possible"
                )
                self.lost.append(Problem(f"generation {generation}", f"{what}; it is dropped"))
                db.execute(f"DROP TABLE templates_{generation}")
                db.execute("DELETE FROM generations WHERE generation = ?", (generation,))
                for key in [key for key in self._found.settings if key.endswith(f"_{generation}")]:
                    write_setting(db, self._state, key, None)

    def _owner_of(
        self, page: int, owner: dict[int, int], broken: list[int], length: int | None, dims: dict[int, int]
    ) -> int | None:
        """Whose template is on a page; None when that cannot be told."""
        if len(self._generations) == 1:
            return self._current
        if page in owner:
            return owner[page]
        possible = [one for one in broken if length is None or dims[one] == length]
        return possible[0] if len(possible) == 1 else None

    def _removed(self) -> dict[int, int]:
        """{number: revision} of what was removed, which a damaged page may say of what was not."""
        removed, old = self._found.removed, self._old
        if old is None or len(self._generations) > 1:
            return removed
        live = {row[0]: row[4] for _, row in salvage.templates(self._pages) if row is not None}
        wrong = live.keys() & removed.keys()
        if wrong and (len(live), sum(live.values())) == (old.templates, old.template_sum):
            for number in wrong:
                del removed[number]
        return removed

    # -- what counts them

    def _subjects(self, db: sqlite3.Connection, subjects: dict[int, SubjectRow], key: bytes) -> None:
        old, state = self._old, self._state
        owned: Counter[int] = Counter(
            dict(db.execute(f"SELECT subject, count(*) FROM templates_{self._current} GROUP BY subject"))
        )
        for number, row in sorted(subjects.items()):
            _, id, templates, metadata, _ = row
            count = owned[number]
            if not count:
                audit.remember_names(db, key, [id])
                self.lost.append(Problem(f"subject {id!r}", f"none of its {templates} templates can be read"))
                continue
            if count < templates:
                self.lost.append(Problem(f"subject {id!r}", f"{count} of its {templates} templates are left"))
            checksum = subject_checksum(number, id, count, metadata)
            state.count_subjects([checksum])
            row = (number, id, count, metadata, checksum)
            db.execute("INSERT INTO subjects VALUES (?, ?, ?, ?, ?)", row)
        known = sum(rows[-1][4] for rows in self._found.subjects.values())
        missing = 0 if old is None else old.subjects - len(self._found.subjects)
        if missing > 0:
            self.lost.append(Problem("subjects", f"the records of {counted(missing, 'subject')} are lost"))
        elif old is not None and known != old.subject_sum:
            self.lost.append(
                Problem("subjects", "the records of some are older than the rest, with metadata as it was")
            )

    def _originals(self, db: sqlite3.Connection) -> None:
        for number, row in salvage.originals(self._pages):
            if number not in self._saved:
                continue
            if row is None:
                self.lost.append(Problem(f"original of template {number}", "it does not match its checksum"))
            else:
                db.execute("INSERT OR IGNORE INTO originals VALUES (?, ?, ?, ?)", row)

    def _curation(self, db: sqlite3.Connection) -> None:
        """What was put in order by hand, of what is saved, and what can be undone."""
        found, before = self._found, self._found.setting(marks.VOUCHED)
        for number in sorted(found.operation_numbers - found.operations.keys()):
            what = "its record does not match its checksum, so it cannot be undone any more"
            self.lost.append(Problem(f"operation {number}", what))
        said = found.setting(marks.UNDOABLE)
        if not marks.all_operations(said, [row[5] for row in found.operations.values()]):
            what = (
                f"{counted(len(found.operations), 'record')} of what can be undone, and not all as they were"
            )
            self.lost.append(Problem("operations", f"{what}, can be read"))
        if before is None and said is None and not found.operations:
            return
        catalog.execute_all(db, marks.SCHEMA.strip())
        db.executemany("INSERT INTO operations VALUES (?, ?, ?, ?, ?, ?)", found.operations.values())
        if said is not None:
            marks.vouch_for_operations(db, self._state)
        if before is None:
            return
        for number, (reason, at) in found.quarantine.items():
            if number in self._saved:
                marks.write_mark(db, number, reason, at)
        for one, other in sorted(found.different):
            if db.execute(
                "SELECT count(*) FROM subjects WHERE subject IN (?, ?)", (one, other)
            ).fetchone() == (2,):
                marks.write_pair(db, (one, other), True)
        marks.vouch(db, self._state)
        if not marks.complete(before, found.quarantine, found.different):
            what = "some of what was in quarantine, or of who is different, is lost: look through it again"
            self.lost.append(Problem("quarantine", what))

    def _numbers(self, db: sqlite3.Connection) -> None:
        """Where numbers and revisions go on, so that none is used again; what is gone is noted as removed."""
        found, old, state, head = self._found, self._old, self._state, self._head
        kept = salvage.sound_entries(found)
        given = sum(row[5] for row in kept if row[4] in _GIVES_NUMBERS)
        highest = max(found.removed_for_certain(), default=0) if old is None else old.next_template - 1
        state.next_template = 1 + max(highest, given, *self._saved, *self._reasons, 0)
        # Every subject came with a template, so there never were more of them.
        subject = old.next_subject - 1 if old else state.next_template
        state.next_subject = 1 + max(subject, *found.subjects, 0)
        reached = head.revision if head is not None and head.identity == self.identity else 0
        stood = old.revision if old else max((row[1] for row in kept), default=0)
        if old is not None and reached > stood:
            what = f"revisions {stood + 1} to {reached} are not in it: what they changed is lost"
            self.lost.append(Problem(self._path.name, what))
        elif not reached and self._pages.bad_frames:
            what = "pages in it do not match their checksums: what they changed, if it was finished, is lost"
            self.lost.append(Problem(f"{self._path.name}-wal", what))
        elif is_another_file(self._path):
            what = f"it is another file, so whether revision {stood} was the last cannot be told"
            self.lost.append(Problem(head_path(self._path).name, what))
        state.revision = max(reached, stood) + 1
        if old is None:
            what = "the row that counts all others is lost, so more may be missing than is told"
            self.lost.append(Problem("state", what))
        gone = set(range(1, state.next_template)) - self._saved
        self._say_missing(gone - found.removed.keys())
        revisions = (
            (number, at if 0 < (at := found.removed.get(number, 0)) <= stood else state.revision)
            for number in sorted(gone)
        )
        db.executemany("INSERT INTO removed VALUES (?, ?)", revisions)

    def _say_missing(self, gone: set[int]) -> None:
        """Of templates that can neither be read nor were, for all that is known, removed."""
        old = self._old
        missing = len(gone) if old is None else old.templates - len(self._saved)
        # Which were removed can be lost as well; then only what traces are left of is told by number.
        named = gone if missing >= len(gone) else gone & (self._doubtful | self._reasons.keys())
        named = named if missing > 0 else set()
        self.templates_lost = max(missing, len(named))
        for number in sorted(named & self._reasons.keys()):
            self.lost.append(Problem(f"template {number}", self._reasons[number]))
        for first, last in _runs(named - self._reasons.keys()):
            where = f"template {first}" if first == last else f"templates {first} to {last}"
            self.lost.append(Problem(where, _UNSOUND))
        if missing > len(named):
            more = counted(missing - len(named), "template")
            self.lost.append(Problem("templates", f"{more} that cannot be told by number cannot be read"))

    def _log(self, db: sqlite3.Connection, actor: str, key: bytes) -> None:
        kept, old, state = salvage.sound_entries(self._found), self._old, self._state
        db.executemany(f"INSERT INTO audit({audit.COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", kept)
        state.entries = len(kept)
        state.chain = kept[-1][-1] if kept else GENESIS
        written = max(self._found.entries, default=0) if old is None else old.entries
        if len(kept) < written:
            self.lost.append(Problem("audit log", f"entries {len(kept) + 1} to {written} are lost"))
        state.logging = 1 if old is None else old.logging
        if state.logging:
            note = "nothing lost" if not self.lost else f"{len(self.lost)} lost records or groups of them"
            audit.append(db, state, Acts("repair", actor, self.templates_lost, [], note), key)


def _runs(numbers: set[int]) -> list[tuple[int, int]]:
    """[(first, last)] of numbers that follow one another."""
    runs: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1] = runs[-1][0], number
        else:
            runs.append((number, number))
    return runs
