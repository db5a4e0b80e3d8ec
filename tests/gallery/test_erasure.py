"""Removal is erasure: the raw bytes of all files are searched for what was removed."""

from __future__ import annotations

import errno
import random
import secrets
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gallery
from gallery import GalleryError, GalleryLockedError, UnknownSubjectError
from gallery.cli import main
from gallery.engines import local
from gallery.stores import catalog
from gallery.stores.sqlite import SqliteStore
from tests.gallery.doubles import contents, vectors
from tests.gallery.traces import Files, Person, files, kinds, left

ENCODER = Files()
CROWD = 1100
"""More than a thousand templates: closing writes an index file."""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the process, SQLite and its children put temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    for name in ("TMPDIR", "SQLITE_TMPDIR"):
        monkeypatch.setenv(name, str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@dataclass(frozen=True)
class Made:
    """A closed gallery that keeps items, with an index file, of a crowd, Zoë and Adam."""

    folder: Path
    zoe: Person
    adam: Person
    """Somebody who stays."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("made")
    zoe, adam = Person(folder), Person(folder)
    one = folder / "one.bin"
    one.write_bytes(b"1")
    with gallery.create(folder / "g", ENCODER, keep_items=True) as people:
        people.enroll_many((f"of the crowd {at}", [one]) for at in range(CROWD // 2))
        people.enroll(zoe.id, zoe.paths, zoe.metadata)
        people.enroll(adam.id, adam.paths, adam.metadata)
        people.enroll_many((f"of the crowd {at}", [one]) for at in range(CROWD // 2, CROWD))
    return Made(folder, zoe, adam)


@pytest.fixture
def place(made: Made, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(made.folder / "g", tmp_path / "g")


@pytest.fixture
def zoe(made: Made) -> Person:
    return made.zoe


@pytest.fixture
def adam(made: Made) -> Person:
    return made.adam


@pytest.fixture
def kept(tmp_path: Path, zoe: Person, adam: Person) -> Path:
    """A closed gallery that keeps items, of Zoë and Adam alone."""
    with gallery.create(tmp_path / "kept", ENCODER, keep_items=True) as people:
        people.enroll(zoe.id, zoe.paths, zoe.metadata)
        people.enroll(adam.id, adam.paths, adam.metadata)
    return tmp_path / "kept"


def check_rest(place: Path, adam: Person, zoe: Person | None, *, subjects: int = CROWD + 1) -> None:
    """Nobody else lost anything, and no number is given twice."""
    with gallery.open(place, ENCODER) as people:
        assert (people.check(), len(people)) == ([], subjects)
        assert dict(people.metadata(adam.id)) == adam.metadata
        assert people.identify(adam.paths[1], threshold=0.0).best.id == adam.id
        stored = people._engine.embeddings(adam.id)
        assert stored.rows.tobytes() == adam.rows(ENCODER).tobytes()
        if zoe is not None:
            assert zoe.id not in people
            with pytest.raises(UnknownSubjectError):
                people.remove(zoe.id, erase=True)


# -- the ways to erase


def _by_remove(place: Path, zoe: Person) -> None:
    with gallery.open(place, ENCODER) as people:
        assert people.remove(zoe.id, erase=True) == len(zoe.paths)


def _by_templates(place: Path, zoe: Person) -> None:
    with gallery.open(place, ENCODER) as people:
        assert people.remove_templates(people.templates(zoe.id), erase=True) == len(zoe.paths)


def _by_compact(place: Path, zoe: Person) -> None:
    with gallery.open(place, ENCODER) as people:
        people.identify(zoe.paths[0])
        people.remove(zoe.id)
        people.compact()


def _later(place: Path, zoe: Person) -> None:
    """Without an encoder, and after others came."""
    with gallery.open(place, ENCODER) as people:
        people.remove(zoe.id)
        people.enroll("later", zoe.paths[:1])
        people.remove("later")
    with gallery.open(place) as people:
        people.compact()


def _by_commands(place: Path, zoe: Person) -> None:
    assert main(["remove", str(place), zoe.id]) == 0
    assert main(["compact", str(place)]) == 0


def _by_one_command(place: Path, zoe: Person) -> None:
    assert main(["remove", str(place), zoe.id, "--erase", "--json"]) == 0


WAYS: list[Callable[[Path, Person], None]] = [
    _by_remove,
    _by_templates,
    _by_compact,
    _later,
    _by_commands,
    _by_one_command,
]


@pytest.mark.parametrize("way", WAYS)
def test_no_byte_is_left_in_any_file(
    way: Any, place: Path, zoe: Person, adam: Person, temporary: Path
) -> None:
    traces = zoe.traces(ENCODER)
    before = left(traces, place)
    assert kinds(before) == set(traces), "what is searched for can be found"
    assert any(name.endswith(".faiss") for _, name in before), "in the index file too"
    way(place, zoe)
    assert left(traces, place, temporary) == set()
    assert kinds(left(adam.traces(ENCODER), place)) == set(adam.traces(ENCODER))
    check_rest(place, adam, zoe)


def test_nothing_is_left_while_it_is_open_either(
    place: Path, zoe: Person, adam: Person, temporary: Path
) -> None:
    """The log and its shared memory are there, and other threads' temporary files."""
    with gallery.open(place, ENCODER) as people:
        people.identify(zoe.paths[0])
        people.remove(zoe.id, erase=True)
        assert {"catalog.sqlite-wal", "catalog.sqlite-shm"} <= set(contents(place))
        assert left(zoe.traces(ENCODER), place, temporary) == set()
        people.enroll("next", zoe.paths[:1])
    traces = zoe.about() | {"items": zoe.contents[1:]}
    assert kinds(left(traces, place)) == {"source"}, "only what was enrolled again"
    check_rest(place, adam, zoe, subjects=CROWD + 2)


def test_one_template_goes_and_the_others_stay(place: Path, zoe: Person) -> None:
    with gallery.open(place, ENCODER) as people:
        people.remove_templates(people.templates(zoe.id)[:1], erase=True)
        assert people.identify(zoe.paths[1], threshold=0.0).best.id == zoe.id
    gone, stays = (
        {
            "row": [zoe.rows(ENCODER)[at].tobytes()],
            "item": [zoe.contents[at]],
            "source": [zoe.paths[at].stem.encode()],
        }
        for at in (0, 1)
    )
    assert left(gone, place) == set()
    assert kinds(left(stays | zoe.about(), place)) == {*stays, *zoe.about()}


def test_metadata_that_was_replaced_goes_with_the_next_erasure(tmp_path: Path) -> None:
    first, second = Person(tmp_path), Person(tmp_path)
    with gallery.create(tmp_path / "g", ENCODER) as people:
        people.enroll("a", first.paths, {"what": first.large})
        people.enroll("a", first.paths[:1], {"what": second.large})
        people.compact()
        assert kinds(left({"new": [second.large.encode()]}, tmp_path / "g")) == {"new"}
        assert left({"old": [first.large.encode()]}, tmp_path / "g") == set()


# -- what is deep inside


def test_ids_that_led_the_way_through_the_index_of_ids_go_too(tmp_path: Path) -> None:
    """Ids of 300 bytes fill pages of 512: every second one is copied to an inner page of the b-tree."""
    ids = [f"{at:04d}" + secrets.token_hex(148) for at in range(600)]
    with gallery.create(tmp_path / "g", gallery.Precomputed(4)) as people:
        people.enroll_many((id, vectors(1, 4, at)) for at, id in enumerate(ids))
        inner = b"".join(_pages(tmp_path / "g" / "catalog.sqlite", 2))
        assert sum(id.encode()[:32] in inner for id in ids) > 50, "there are such"
        dice = random.Random(5)
        gone = dice.sample(ids, 500)
        for start in range(0, len(gone), 100):
            people.remove_many(gone[start : start + 100])
        people.compact()
        assert left({"id": [id.encode() for id in gone]}, tmp_path / "g") == set()
        assert set(people.ids()) == set(ids) - set(gone)
        assert people.check() == []


def _pages(catalog: Path, kind: int) -> Iterator[bytes]:
    """The pages of one kind, in the catalog or its log."""
    size = int.from_bytes(catalog.read_bytes()[16:18], "big")
    for path, first, step in ((catalog, 0, size), (Path(f"{catalog}-wal"), 32 + 24, 24 + size)):
        content = path.read_bytes()
        for at in range(first, len(content), step):
            if content[at] == kind:
                yield content[at : at + size]


def test_rows_that_pages_were_split_around_go_too(tmp_path: Path) -> None:
    """Removals and enrolments, one by one and at random, so that pages are split, merged and used again."""
    dice, rows = random.Random(3), vectors(240, 40)
    gone: list[bytes] = []
    with gallery.create(tmp_path / "g", gallery.Precomputed(40, "euclidean")) as people:
        there: list[tuple[str, bytes]] = []
        for at, row in enumerate(rows):
            mark = secrets.token_hex(dice.choice([8, 30, 300]))
            people.enroll(mark, row[None], metadata={"n": "x" * dice.randrange(900)})
            there.append((mark, row.tobytes()))
            if at % 3:
                id, row_ = there.pop(dice.randrange(len(there)))
                people.remove(id)
                gone += [id.encode(), row_]
        assert kinds(left({"gone": gone}, tmp_path / "g")) == {"gone"}
        people.compact()
        assert left({"gone": gone}, tmp_path / "g") == set()
        assert sorted(people.ids()) == sorted(id for id, _ in there)


def test_all_generations_during_and_after_a_migration(tmp_path: Path) -> None:
    zoe, eve, adam = (Person(tmp_path, large=2000) for _ in range(3))
    first, second, third = Files(1), Files(2, 40), Files(3, 56)
    place = tmp_path / "g"
    with gallery.create(place, first, keep_items=True) as people:
        for one in (zoe, eve, adam):
            people.enroll(one.id, one.paths, one.metadata)
        people.migrate(second)
        with pytest.raises(gallery.GalleryError, match="no embedding"):
            people.migrate(third, {zoe.id: zoe.paths, eve.id: eve.paths})
        everything = zoe.traces(first, second, third)
        assert kinds(left(everything, place)) == set(everything)
        people.remove(zoe.id, erase=True)
        assert left(everything, place) == set()
        people.migrate(third)
        assert kinds(left(eve.traces(first, second, third), place)) == set(eve.traces(first, second, third))
        people.remove(eve.id)
        people.rollback()
        people.compact()
        assert left(eve.traces(first, second, third) | everything, place) == set()
        assert people.encoder is second
        dropped = {"row": [row.tobytes() for row in adam.rows(first)]}
        assert people.drop_previous(erase=True) == 1
        assert left(dropped, place) == set()
        assert kinds(left(adam.traces(second), place)) == set(adam.traces(second))
        assert people.check() == []


def test_a_template_that_a_migration_refused_goes_too(tmp_path: Path) -> None:
    zoe, adam = Person(tmp_path, large=2000), Person(tmp_path, large=2000)
    new = Files(2)
    embedding = new.embedding

    def refuses(content: bytes) -> np.ndarray:
        return embedding(content) * (np.nan if content in zoe.contents else 1)

    new.embedding = refuses  # type: ignore[method-assign]
    with gallery.create(tmp_path / "g", ENCODER) as people:
        people.enroll(zoe.id, zoe.paths, zoe.metadata)
        people.enroll(adam.id, adam.paths)
        done = people.migrate(new, lambda one: one.source, on_error="skip")
        assert [one.id for one in done.refused] == [zoe.id, zoe.id]
        people.drop_previous()
        people.compact()
        assert left(zoe.traces(ENCODER), tmp_path / "g") == set()


# -- numbers


def test_no_number_is_used_again(place: Path, zoe: Person) -> None:
    with gallery.open(place, ENCODER) as people:
        last = CROWD + 4
        assert [int(one) for one in people.templates(zoe.id)] == [CROWD // 2 + 1, CROWD // 2 + 2]
        assert people.enroll("last", zoe.paths[:1]).templates == (last + 1,)
        people.remove("last", erase=True)
    for again in range(2):
        with gallery.open(place, ENCODER) as people:
            assert people.enroll("new", zoe.paths[:1]).templates == (last + 2 + again,)
            people.remove("new", erase=True)
    for path in (place / "catalog.sqlite", place / "catalog.head"):
        damage = bytearray(path.read_bytes())
        damage[:100] = bytes(100)
        path.write_bytes(damage)
    gallery.repair(place)
    with gallery.open(place, ENCODER) as people:
        people.remove_many(people.ids(), erase=True)
        assert (len(people), people.check()) == (0, [])
    with gallery.open(place, ENCODER) as people:
        assert people.enroll("new", zoe.paths[:1]).templates == (last + 4,)
        with people._engine._open() as store:
            subjects = store._session.all("SELECT subject FROM subjects")
        assert subjects == [(CROWD + 6,)], "nor a subject's"


# -- other processes

_OTHER = """
import sys, gallery
from tests.gallery.traces import Files
how, place, probe = sys.argv[1:]
people = gallery.open(place, Files(), read_only=how.startswith("reader"))
said = people.identify(probe, threshold=0.0).best
store = people._engine._store
if how.endswith("at work"):
    doing = store.snapshot() if how.startswith("reader") else store.commit("enroll")
    doing.__enter__()
    store.counts()
print("ready", said is not None, flush=True)
sys.stdin.readline()
if how.endswith("at work"):
    doing.__exit__(None, None, None)
print(people.identify(probe, threshold=0.0).decision, len(people), flush=True)
sys.stdin.readline()
people.close()
"""


class Other:
    """Another process that has the gallery open, and found the probe's subject in it."""

    def __init__(self, how: str, place: Path, probe: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", _OTHER, how, str(place), str(probe)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parents[2],
        )
        assert self._hears() == "ready True"

    def _hears(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def goes_on(self) -> str:
        assert self._process.stdin is not None
        print(file=self._process.stdin, flush=True)
        return self._hears()

    def ends(self) -> None:
        self._process.communicate("\n", timeout=60)
        assert self._process.returncode == 0

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.mark.parametrize("how", ["reader", "writer"])
def test_another_process_that_only_has_it_open_is_no_hindrance(
    how: str, place: Path, zoe: Person, adam: Person, temporary: Path
) -> None:
    """It has the index file mapped and pages in its memory; it writes none of them back."""
    other = Other(how, place, zoe.paths[0])
    try:
        _by_remove(place, zoe)
        assert left(zoe.traces(ENCODER), place, temporary) == set()
        assert other.goes_on() == f"unknown {CROWD + 1}"
        other.ends()
    finally:
        other.kill()
    assert left(zoe.traces(ENCODER), place, temporary) == set()
    assert any(name.startswith("index/") for name in contents(place))
    check_rest(place, adam, zoe)


def test_a_disk_that_fails_in_the_middle_says_so(
    place: Path, zoe: Person, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(paths: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with gallery.open(place, ENCODER) as people:
        with monkeypatch.context() as patched:
            patched.setattr(local.index_files, "drop", fails)
            words = r"until compact\(\).*: .* cannot be written .*: Input/output"
            with pytest.raises(GalleryError, match=words):
                people.remove(zoe.id, erase=True)
        assert zoe.id not in people
        people.compact()
    assert left(zoe.traces(ENCODER), place, temporary) == set()


@pytest.mark.parametrize("how", ["reader at work", "writer at work"])
def test_a_process_at_work_has_to_finish_first(how: str, place: Path, zoe: Person, adam: Person) -> None:
    other = Other(how, place, zoe.paths[0])
    try:
        with gallery.open(place, ENCODER, lock_timeout=0.2) as people:
            if how == "writer at work":
                with pytest.raises(GalleryLockedError, match="another writer has held"):
                    people.remove(zoe.id, erase=True)
                assert zoe.id in people
                with pytest.raises(GalleryLockedError, match=r"may still be in .* until compact\(\)"):
                    people.compact()
                assert other.goes_on() == f"match {CROWD + 2}"
                people.remove(zoe.id)
            else:
                with pytest.raises(
                    GalleryLockedError, match=r"gone from every search.* until compact\(\).* another process"
                ):
                    people.remove(zoe.id, erase=True)
                assert zoe.id not in people
                assert people.identify(zoe.paths[0], threshold=0.0).decision == "unknown"
                assert other.goes_on() == f"unknown {CROWD + 1}"
            people.compact()
            other.ends()
    finally:
        other.kill()
    assert left(zoe.traces(ENCODER), place) == set()
    check_rest(place, adam, zoe)


def test_the_command_says_what_to_do_while_another_process_is_at_work(
    kept: Path, zoe: Person, adam: Person, capsys: Any, monkeypatch: Any
) -> None:
    whole = catalog._open
    monkeypatch.setattr(
        catalog, "_open", lambda path, mode, wait, **kw: whole(path, mode, min(wait, 0.2), **kw)
    )
    other = Other("reader at work", kept, zoe.paths[0])
    try:
        assert main(["remove", str(kept), zoe.id, "--erase"]) == 3
        assert "gone from every search" in (said := capsys.readouterr().err) and "compact()" in said
        assert main(["compact", str(kept)]) == 3
        other.goes_on()
        other.ends()
    finally:
        other.kill()
    assert main(["compact", str(kept)]) == 0
    assert left(zoe.traces(ENCODER), kept) == set()
    check_rest(kept, adam, zoe, subjects=1)


def test_an_index_file_that_is_being_written_meanwhile_is_not_left(
    place: Path, zoe: Person, monkeypatch: Any
) -> None:
    """Written by one that had begun before the removal, under its name only after the others were deleted,
    and whose process is killed before it looks whether the file is still good for anything."""
    stale = place / "index" / "9-00000000.faiss"
    content = zoe.rows(ENCODER).tobytes()
    erase = SqliteStore.erase

    def meanwhile(store: SqliteStore) -> None:
        stale.write_bytes(content)
        erase(store)

    monkeypatch.setattr(SqliteStore, "erase", meanwhile)
    with gallery.open(place, ENCODER) as people:
        people.remove(zoe.id, erase=True)
        assert left(zoe.traces(ENCODER), place) == set()
        assert not stale.exists()


# -- kills

_KILLED = """
import os, sys, gallery
from tests.gallery.traces import Files
where, when, place, id = sys.argv[1:]
def die(*_):
    os.kill(os.getpid(), 9)
people = gallery.open(place, Files())
if where == "VACUUM":
    store = people._engine._store
    whole = store.erase
    def erase():
        store._session._db.set_progress_handler(die, int(when))
        whole()
    store.erase = erase
else:
    from importlib import import_module
    module, name = where.rsplit(".", 1)
    module = import_module(module)
    whole = getattr(module, name)
    def replaced(*arguments):
        when == "before" and die()
        whole(*arguments)
        die()
    setattr(module, name, replaced)
people.remove(id, erase=True)
"""

_MOMENTS = [
    ("gallery.engines.index_files.drop", "before"),
    pytest.param("gallery.engines.index_files.drop", "after", marks=pytest.mark.slow),
    pytest.param("gallery.engines.local.discard_put_aside", "after", marks=pytest.mark.slow),
    ("VACUUM", "3000"),
    pytest.param("VACUUM", "9000", marks=pytest.mark.slow),
    ("gallery.stores.catalog.sync_wal", "before"),
    ("gallery.stores.catalog.sync_wal", "after"),
]


@pytest.mark.parametrize(("where", "when"), _MOMENTS)
def test_after_a_kill_in_the_middle_compact_finishes_it(
    where: str, when: str, place: Path, zoe: Person, adam: Person, temporary: Path
) -> None:
    (place / "damaged-20260101T000000.000000Z").mkdir()
    (place / "damaged-20260101T000000.000000Z" / "catalog.sqlite").write_bytes(zoe.rows(ENCODER).tobytes())
    root = Path(__file__).resolve().parents[2]
    code = [sys.executable, "-c", _KILLED, where, when, str(place), zoe.id]
    assert subprocess.run(code, cwd=root, check=False, timeout=60).returncode == -9
    assert files(temporary) == {}
    with gallery.open(place, ENCODER) as people:
        assert zoe.id not in people
        assert people.identify(zoe.paths[0], threshold=0.0).decision == "unknown"
        people.compact()
    assert left(zoe.traces(ENCODER), place, temporary) == set()
    check_rest(place, adam, zoe)


# -- after a repair; copies


def test_what_a_repair_put_aside_goes_too(place: Path, zoe: Person, adam: Person) -> None:
    with gallery.open(place, ENCODER) as people:
        people.remove(zoe.id)
    with (place / "catalog.sqlite").open("r+b") as file:
        file.write(bytes(600))
    done = gallery.repair(place)
    assert done.lost == () and done.damaged is not None
    rest = [f"{place.name}/{name}" for name in contents(place) if not name.startswith("damaged")]
    assert {name for _, name in left(zoe.traces(ENCODER), place)}.isdisjoint(rest) is False, (
        "its name is kept"
    )
    with gallery.open(place, ENCODER) as people:
        assert (zoe.id in people, people.check()) == (False, [])
        people.compact()
    assert left(zoe.traces(ENCODER), place) == set()
    assert not Path(done.damaged).exists()
    check_rest(place, adam, zoe)


def test_what_a_repair_that_was_killed_left_goes_too(kept: Path, zoe: Person, adam: Person) -> None:
    code = (
        "import os, sys, gallery\n"
        "from gallery.stores import repair\n"
        "repair._swap = lambda *_: os.kill(os.getpid(), 9)\n"
        "gallery.repair(sys.argv[1])\n"
    )
    with (kept / "catalog.sqlite").open("r+b") as file:
        file.write(bytes(600))
    done = subprocess.run([sys.executable, "-c", code, str(kept)], check=False, timeout=60)
    assert done.returncode == -9
    gallery.repair(kept)
    assert len({name.split("/")[1] for name in files(kept) if "/damaged-" in name}) == 2
    _by_remove(kept, zoe)
    assert left(zoe.traces(ENCODER), kept) == set()
    check_rest(kept, adam, zoe, subjects=1)


def test_a_backup_and_an_export_hold_nothing_of_it(place: Path, zoe: Person, adam: Person) -> None:
    """Nothing, although nothing was erased here: not even the name that the audit log still shows."""
    target = place.parent / "copies"
    target.mkdir()
    with gallery.open(place, ENCODER) as people:
        people.remove(zoe.id)
        assert people.log()[-1].subjects == (zoe.id,)
        people.backup(target / "backup")
        people.export(target / "export.h5")
    assert kinds(left(zoe.traces(ENCODER), place)) >= {"id"}
    assert left(zoe.traces(ENCODER), target) == set()
    assert kinds(left(adam.traces(ENCODER), target / "backup")) == set(adam.traces(ENCODER))
    with gallery.open(target / "backup", ENCODER) as copy:
        (removed,) = copy.log()[-1].subjects
        assert removed.startswith("#") and removed == copy.log()[1].subjects[0]
        assert copy.log()[2].subjects == (adam.id,)
        copy.enroll(zoe.id, zoe.paths[:1])
        assert copy.log()[1].subjects == (zoe.id,), "who comes back is known again"
    check_rest(target / "backup", adam, None, subjects=CROWD + 2)


@pytest.mark.parametrize("what", ["backup", "export"])
def test_no_copy_is_made_inside_the_gallery_itself(what: str, place: Path, capsys: Any) -> None:
    """No erasure would reach it there."""
    before = contents(place)
    (place.parent / "link").symlink_to(place)
    for target in (place / "copy", place / "index" / "copy", place.parent / "link" / "copy"):
        with (
            gallery.open(place, read_only=True) as people,
            pytest.raises(gallery.GalleryError, match=r"inside the gallery .* choose another place"),
        ):
            getattr(people, what)(target)
        assert main([what, str(place), str(target)]) == 2
    assert contents(place) == before


# -- temporary files


def test_a_bulk_that_is_killed_leaves_nothing_behind(tmp_path: Path, zoe: Person, temporary: Path) -> None:
    code = (
        "import os, sys, gallery\n"
        "from gallery import bulk\n"
        "from tests.gallery.traces import Files\n"
        "bulk._BATCH, bulk._IN_MEMORY = 2, 1\n"
        "with gallery.create(sys.argv[1], Files(), keep_items=True) as people:\n"
        "    people.enroll_many([(str(at), sys.argv[2:]) for at in range(5)],\n"
        "        progress=lambda done, _: done > 6 and os.kill(os.getpid(), 9))\n"
    )
    root = Path(__file__).resolve().parents[2]
    paths = map(str, zoe.paths)
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "g", *paths], cwd=root, check=False, timeout=60
    )
    assert done.returncode == -9
    assert files(temporary) == {}
    assert left(zoe.traces(ENCODER), tmp_path / "g") == set()


_MIGRATES = """
import os, sys, gallery
from pathlib import Path
from tests.gallery.traces import Files
class Waits(Files):
    def encode(self, items):
        print(Path(items[0]).parent, flush=True)
        sys.stdin.readline() == "" and os.kill(os.getpid(), 9)
        return super().encode(items)
with gallery.open(sys.argv[1], Files()) as people:
    people.migrate(Waits(2))
"""


@pytest.fixture
def migrates(kept: Path) -> Iterator[subprocess.Popen[str]]:
    """A process in the middle of a migration, in which kept items are files again."""
    root = Path(__file__).resolve().parents[2]
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", _MIGRATES, str(kept)]
    with subprocess.Popen(command, cwd=root, stdin=pipe, stdout=pipe, text=True) as process:
        yield process
        process.kill()


def test_items_that_a_killed_migration_unpacked_are_found_and_deleted(
    kept: Path, zoe: Person, adam: Person, temporary: Path, migrates: subprocess.Popen[str]
) -> None:
    unpacked = Path(migrates.stdout.readline().strip())
    assert migrates.communicate("")[0] == "" and migrates.returncode == -9
    assert kinds(left({"items": zoe.contents}, unpacked)) == {"items"}, "what was unpacked is left"
    assert unpacked.parent == kept and files(temporary) == {}
    assert stat.S_IMODE(unpacked.stat().st_mode) == 0o700
    assert {stat.S_IMODE(one.stat().st_mode) for one in unpacked.iterdir()} == {0o600}
    with gallery.open(kept, ENCODER) as people:
        people.remove(zoe.id, erase=True)
        assert not unpacked.exists()
        assert left(zoe.traces(ENCODER), kept, temporary) == set()
        people.migrate(Files(2))
    assert kinds(left(adam.traces(ENCODER, Files(2)), kept)) == set(adam.traces(ENCODER, Files(2)))


def test_the_next_migration_deletes_them_too(
    kept: Path, temporary: Path, migrates: subprocess.Popen[str]
) -> None:
    unpacked = Path(migrates.stdout.readline().strip())
    migrates.communicate("")
    assert unpacked.exists()
    with gallery.open(kept, ENCODER) as people:
        people.migrate(Files(2))
    assert {one.name for one in kept.iterdir()} == {"catalog.sqlite", "catalog.head"}


def test_an_erasure_waits_for_items_that_a_migration_has_unpacked(
    kept: Path, zoe: Person, temporary: Path, migrates: subprocess.Popen[str], monkeypatch: Any
) -> None:
    unpacked = Path(migrates.stdout.readline().strip())
    monkeypatch.setattr(local, "PATIENCE", 0.2)
    with gallery.open(kept, ENCODER) as people:
        with pytest.raises(GalleryLockedError, match=rf"{unpacked.name}.* migration .*compact\(\)"):
            people.remove(zoe.id, erase=True)
        assert zoe.id not in people and unpacked.exists()
        monkeypatch.setattr(local, "PATIENCE", 60.0)
        threading.Timer(0.3, lambda: print(file=migrates.stdin, flush=True)).start()
        people.compact()
        assert left(zoe.traces(ENCODER, Files(2)), kept, temporary) == set()
    migrates.communicate("\n", timeout=60)
    assert migrates.returncode == 0
    with gallery.open(kept, Files(2)) as people:
        assert (zoe.id in people, people.check()) == (False, [])
    assert left(zoe.traces(ENCODER, Files(2)), kept, temporary) == set()
