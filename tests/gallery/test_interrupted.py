"""Ctrl-C and the like at the worst moment, and a process that goes elsewhere while a gallery is open."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gallery
from gallery import GalleryError, unpacking
from gallery.stores import backup, catalog, owners
from gallery.stores.state import CatalogState
from gallery.vectors import FloatRows

ENCODER = gallery.Precomputed(4)
ROWS = np.eye(4)


@pytest.fixture
def people(tmp_path: Path) -> Any:
    with gallery.create(tmp_path / "g", ENCODER, lock_timeout=0.2) as made:
        made.enroll("alice", ROWS[:1])
        yield made


class Interrupting:
    """A connection whose transactions begin, and then Ctrl-C, pressed while they waited, is raised."""

    def __init__(self, real: Any) -> None:
        self.real = real
        self.begun = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def execute(self, sql: str, *values: Any) -> Any:
        done = self.real.execute(sql, *values)
        if sql.startswith("BEGIN"):
            self.begun += 1
            raise KeyboardInterrupt
        return done


@pytest.mark.parametrize(
    "call",
    [
        lambda people: people.enroll("bob", ROWS[1:2]),
        lambda people: people.ids(),
        lambda people: people.info(),
        lambda people: people.check(),
    ],
    ids=["enroll", "ids", "info", "check"],
)
def test_an_interrupt_that_comes_with_the_lock_gives_the_lock_up(
    people: gallery.Gallery, tmp_path: Path, call: Callable[[gallery.Gallery], Any]
) -> None:
    session = people._engine._store._session  # type: ignore[attr-defined]
    real = session._db
    session._db = Interrupting(real)
    with pytest.raises(KeyboardInterrupt):
        call(people)
    assert session._db.begun == 1
    session._db = real
    with gallery.open(tmp_path / "g", ENCODER, lock_timeout=0.1) as other:
        other.enroll("carol", ROWS[2:3])
    people.enroll("dave", ROWS[3:4])
    assert people.ids() == ["alice", "carol", "dave"]


@pytest.mark.parametrize("error", [RuntimeError("that will do"), KeyboardInterrupt(), OSError("pipe")])
def test_a_backup_that_is_stopped_says_what_stopped_it(
    tmp_path: Path, error: BaseException, monkeypatch: Any
) -> None:
    def stop(done: int, total: int | None) -> None:
        raise error

    monkeypatch.setattr(backup, "_STEP", 500)
    many = np.random.default_rng(0).normal(size=(100, 4))
    with gallery.create(tmp_path / "g", ENCODER) as people:
        people.enroll_many((f"s{number}", [row]) for number, row in enumerate(many))
        wanted = GalleryError if isinstance(error, OSError) else type(error)
        with pytest.raises(wanted) as caught:
            people.backup(tmp_path / "copy", progress=stop)
        assert "damaged" not in str(caught.value)
        assert sorted(one.name for one in tmp_path.iterdir()) == ["g"]
        assert people.backup(tmp_path / "copy") == 100


# -- elsewhere


def test_a_process_that_changes_its_folder_keeps_its_gallery(tmp_path: Path, monkeypatch: Any) -> None:
    """Another gallery may have the same name there."""
    for name, id in (("one", "alice"), ("two", "bob")):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        with gallery.create("g", ENCODER) as people:
            people.enroll(id, ROWS[:1])
    monkeypatch.chdir(tmp_path / "one")
    with gallery.open("g", ENCODER) as people:
        monkeypatch.chdir(tmp_path / "two")
        people.enroll("carol", ROWS[1:2])
        people.backup("copy")
        with pytest.raises(GalleryError, match="inside the gallery"):
            people.backup("../one/g/copy")
        people.compact()
        assert people.check() == []
    for location, ids in (("copy", ["alice", "carol"]), ("../one/g", ["alice", "carol"]), ("g", ["bob"])):
        with gallery.open(location, ENCODER, read_only=True) as there:
            assert there.ids() == ids


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "x" * 300], ids=["NUL", "surrogate", "long"])
def test_what_is_no_name_is_said_to_be_none(people: gallery.Gallery, name: str) -> None:
    calls: list[Callable[[str], Any]] = [
        people.export,
        people.backup,
        lambda name: gallery.open(name, ENCODER),
        lambda name: gallery.create(name, ENCODER),
        gallery.check,
        gallery.repair,
    ]
    for call in calls:
        with pytest.raises(GalleryError, match="can be the name of no"):
            call(name)


@pytest.mark.parametrize("copy", ["export", "backup"])
def test_a_copy_to_a_name_that_cannot_be_made_is_refused(
    people: gallery.Gallery, tmp_path: Path, copy: str
) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    # Short enough itself, and too long with what is added to it while it is written.
    for name in ("loop/x", "x" * 250):
        with pytest.raises(GalleryError, match=r"written|made"):
            getattr(people, copy)(tmp_path / name)


# -- the canary


class Scaling:
    """An encoder that changes although its fingerprint does not."""

    dim, metric, fingerprint = 4, "cosine", "the same"

    def __init__(self, scale: Sequence[float]) -> None:
        self.scale = np.array(scale, np.float32)

    def encode(self, items: Sequence[Any]) -> FloatRows:
        return np.stack([np.asarray(item, np.float32) * self.scale for item in items])


def test_an_enrolment_that_fails_leaves_the_canary_to_the_next(tmp_path: Path) -> None:
    item = np.arange(1, 5.0)
    with (
        gallery.create(tmp_path / "g", Scaling([1, 1, 1, 1]), lock_timeout=0.05) as people,
        gallery.open(tmp_path / "g") as other,
    ):
        for many in (False, True):
            with other._engine.changed_generations(None), pytest.raises(gallery.GalleryLockedError):
                if many:
                    people.enroll_many([("alice", [item])])
                else:
                    people.enroll("alice", [item])
        people.enroll("alice", [item])
    with pytest.raises(gallery.EncoderMismatchError):
        gallery.open(tmp_path / "g", Scaling([1, -1, 1, -1]))
    gallery.open(tmp_path / "g", Scaling([1, 1, 1, 1])).close()


# -- an erasure that comes while a migration makes a folder for kept items


def test_a_folder_that_an_erasure_takes_away_is_made_again(tmp_path: Path, monkeypatch: Any) -> None:
    made: list[Path] = []
    real = unpacking.tempfile.mkdtemp

    def erased_at_once(**where: Any) -> str:
        folder = real(**where)
        if not made:
            unpacking.discard_unpacked(tmp_path)
        made.append(Path(folder))
        return folder

    monkeypatch.setattr(unpacking.tempfile, "mkdtemp", erased_at_once)
    with unpacking.unpacking(tmp_path) as folder:
        assert made[1:] == [folder]
        (folder / "item").write_bytes(b"item")
        assert unpacking.discard_unpacked(tmp_path) == [folder]
    assert list(tmp_path.iterdir()) == []


def test_an_erasure_that_holds_the_folder_is_waited_for(tmp_path: Path, monkeypatch: Any) -> None:
    real = fcntl.flock
    erasures: list[threading.Timer] = []

    def met_by_an_erasure(handle: int, how: int) -> None:
        if not erasures:
            (folder,) = tmp_path.iterdir()
            its = os.open(folder, os.O_RDONLY)
            real(its, fcntl.LOCK_EX)

            def erase() -> None:
                shutil.rmtree(folder)
                os.close(its)

            erasures.append(threading.Timer(0.1, erase))
            erasures[0].start()
        real(handle, how)

    monkeypatch.setattr(unpacking.fcntl, "flock", met_by_an_erasure)
    with unpacking.unpacking(tmp_path) as folder:
        (folder / "item").write_bytes(b"item")
    erasures[0].join()
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_deleted_is_no_erasure(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "unpacked-x").mkdir()

    def refuse(path: Path, ignore_errors: bool = False) -> None:
        if not ignore_errors:
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(unpacking.shutil, "rmtree", refuse)
    with pytest.raises(GalleryError, match="unpacked-x cannot be deleted: Permission denied"):
        unpacking.discard_unpacked(tmp_path)


# -- a disk that is read-only here and not elsewhere


@pytest.mark.parametrize("written", ["before the call", "during the call"])
def test_a_read_only_disk_that_somebody_writes_to_is_not_answered_from(
    tmp_path: Path, monkeypatch: Any, written: str
) -> None:
    """As a folder that is mounted read-only in a container: SQLite would see no commit there, for ever."""
    with gallery.create(tmp_path / "g", ENCODER) as people:
        people.enroll("alice", ROWS[:1])
    real = catalog._open

    def cannot_be_locked(path: Path, mode: str, *more: Any, **named: Any) -> Any:
        if mode == "ro":
            raise sqlite3.OperationalError("unable to open database file")
        return real(path, mode, *more, **named)

    with monkeypatch.context() as here:
        here.setattr(catalog, "_open", cannot_be_locked)
        here.setattr(catalog.os, "access", lambda *_: False)
        reader = gallery.open(tmp_path / "g", ENCODER, read_only=True)
    with reader:
        assert reader.ids() == ["alice"]
        assert reader.identify(ROWS[0], threshold=0.1).best.id == "alice"

        def write(*_: Any) -> None:
            with gallery.open(tmp_path / "g", ENCODER) as people:
                people.remove("alice")

        if written == "before the call":
            write()
        else:
            monkeypatch.setattr(reader._engine._store._session, "_follow", write)  # type: ignore[attr-defined]
        for call in (reader.ids, lambda: reader.identify(ROWS[0], threshold=0.1), lambda: len(reader)):
            with pytest.raises(GalleryError, match=r"read-only disk here, and somebody .* open it again"):
                call()
    with gallery.open(tmp_path / "g", ENCODER, read_only=True) as again:
        assert again.ids() == []


# -- whose each template is: an index of SQLite's has no checksum


@pytest.mark.parametrize(
    ("listed", "removed", "said"),
    [
        ("[1,2,4]", "[3]", ""),
        ("[1,2,249]", "[3]", "a template 249 of 4"),
        ("[1,3,4]", "[3]", "template 2 is neither"),
        ("[1,2,4]", "[1]", "template 3 is neither"),
        ("[1,2,4]", "[9]", "a template 9 of 4"),
    ],
)
def test_a_damaged_number_in_the_list_of_owners_is_noticed(listed: str, removed: str, said: str) -> None:
    def ask(sql: str, *values: Any) -> list[Any]:
        return [(removed,)] if "FROM removed" in sql else [(listed, "[1,1,2]", "[1,2]", "[2,1]")]

    state = CatalogState(next_template=5, next_subject=3, templates=3)
    if not said:
        assert [part.tolist() for part in owners.read(ask, "templates_1", state)] == [[1, 2, 4], [1, 1, 2]]
        return
    with pytest.raises(ValueError, match=said):
        owners.read(ask, "templates_1", state)
