"""The SQLite store: the contract, and what only a file can suffer."""

from __future__ import annotations

import multiprocessing
import sqlite3
import stat
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

import gallery
from gallery import repairing
from gallery.errors import (
    CorruptGalleryError,
    GalleryError,
    GalleryExistsError,
    GalleryLockedError,
    GalleryNotFoundError,
)
from gallery.stores import catalog, in_use
from gallery.stores.pages import TABLE_LEAF, Pages
from gallery.stores.sqlite import SqliteStore, new_header
from tests.gallery.contracts.store import StoreContract, add, new
from tests.gallery.doubles import contents


class TestSqliteStore(StoreContract):
    def create(self, place: Path) -> SqliteStore:
        return SqliteStore.create(place / "catalog.sqlite", new_header(3, "euclidean", "enc", "fp"))

    def open(self, place: Path) -> SqliteStore:
        return SqliteStore(place / "catalog.sqlite")


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "catalog.sqlite"
    store = SqliteStore.create(path, new_header(3, "euclidean", "enc", "fp"))
    with store.commit():
        add(store, new("a", [1, 2, 3], [4, 5, 6]))
        add(store, new("b", [7, 8, 9], metadata={"k": 1}))
    store.close()
    return path


def change(path: Path, sql: str, *values: object) -> None:
    db = sqlite3.connect(path)
    with db:
        db.execute(sql, values)
    db.close()


def test_a_second_creation_is_refused_and_changes_nothing(path):
    before = path.read_bytes()
    with pytest.raises(GalleryExistsError, match="already"):
        SqliteStore.create(path, new_header(5, "cosine", "other", "other"))
    assert path.read_bytes() == before


def test_the_files_are_private(tmp_path):
    store = SqliteStore.create(tmp_path / "c", new_header(3, "cosine", "e", "f"))
    with store.commit():
        add(store, new("a", [1, 2, 3]))
    modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in tmp_path.iterdir()}
    assert modes == {"c": 0o600, "c-wal": 0o600, "c-shm": 0o600, "c.head": 0o600}
    store.close()


def test_the_pragmas_that_durability_and_erasure_rest_on(path):
    store = SqliteStore(path)
    pragmas = {
        name: store._session.one(f"PRAGMA {name}")[0]
        for name in ("journal_mode", "synchronous", "secure_delete")
    }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "secure_delete": 1}
    store.close()


@pytest.mark.parametrize(
    ("dim", "size"), [(4, 512), (64, 4096), (128, 512), (256, 512), (512, 512), (768, 512), (2048, 512)]
)
def test_page_sizes_waste_little(dim, size):
    assert catalog.page_size(dim) == size


def test_a_flipped_byte_of_an_embedding_is_named(path):
    blob = bytearray(np.array([4, 5, 6], "<f4").tobytes())
    blob[3] ^= 1
    change(path, "UPDATE templates_1 SET embedding = ? WHERE template = 2", bytes(blob))
    store = SqliteStore(path)
    for read in (lambda: store.embeddings("a"), lambda: store.fetch([1, 2]), lambda: list(store.scan())):
        with pytest.raises(
            CorruptGalleryError, match=r"template 2 does not match its checksum.*gallery check"
        ):
            read()
    assert store.embeddings("b").rows.tolist() == [[7, 8, 9]]
    assert [str(one) for one in store.check()] == ["template 2: its embedding does not match its checksum"]
    store.close()


def test_embeddings_that_changed_places_are_noticed(path):
    change(path, "UPDATE templates_1 SET subject = 2 WHERE template = 1")
    store = SqliteStore(path)
    with pytest.raises(CorruptGalleryError, match="template 1"):
        store.embeddings("b")
    assert [str(one) for one in store.check()] == [
        "template 1: its embedding does not match its checksum",
        "subject 'a': it has 1 templates of 2",
        "subject 'b': it has 2 templates of 1",
    ]
    store.close()


def test_a_short_embedding_is_noticed(path):
    change(path, "UPDATE templates_1 SET embedding = x'0000' WHERE template = 3")
    store = SqliteStore(path)
    assert [str(one) for one in store.check()] == ["template 3: its embedding has 2 bytes, not 12"]
    with pytest.raises(CorruptGalleryError, match="template 3"):
        store.fetch([3])
    store.close()


def test_changed_metadata_and_ids_are_noticed(path):
    change(path, "UPDATE subjects SET id = 'mallory' WHERE id = 'b'")
    store = SqliteStore(path)
    with pytest.raises(CorruptGalleryError, match=r"subject 2 \('mallory'\) does not match"):
        store.describe([2])
    assert [one.where for one in store.check()] == ["subject 'mallory'"]
    store.close()


def test_a_missing_subject_is_damage(path):
    change(path, "DELETE FROM subjects WHERE id = 'b'")
    store = SqliteStore(path)
    with pytest.raises(CorruptGalleryError, match="subject 2 is missing"):
        store.describe([1, 2])
    assert [str(one) for one in store.check()] == [
        "template 3: it belongs to subject 2, which is missing",
        "subjects: 1 are left of 2, or not the right ones",
    ]
    store.close()


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("UPDATE header SET format = 3", "format 3 and this version reads formats up to 2: upgrade"),
        ("UPDATE header SET created = 'yesterday'", "damaged header"),
        ("UPDATE generations SET fingerprint = 'mine'", "damaged header"),
        ("DELETE FROM header", "lost its header"),
        ("DROP TABLE header", "without a gallery in it"),
    ],
)
def test_headers_that_cannot_be_read(path, sql, message):
    change(path, sql)
    with pytest.raises(GalleryError, match=message):
        SqliteStore(path)


def test_every_page_overwritten_with_garbage_is_said_to_be_damaged(path):
    whole = path.read_bytes()
    for start in range(0, len(whole), 512):
        path.write_bytes(whole[:start] + b"\xa5" * 512 + whole[start + 512 :])
        try:
            store = SqliteStore(path)
        except CorruptGalleryError as error:
            assert "gallery check" in str(error) or "restore" in str(error)
            continue
        assert any(one.where == "catalog.sqlite" for one in store.check()), f"page {start // 512}"
        store.close()


def test_a_truncated_catalog(path):
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(CorruptGalleryError, match=r"gallery check|restore"):
        store = SqliteStore(path)
        try:
            store.embeddings("a")
        finally:
            store.close()


def test_nothing_there(tmp_path):
    with pytest.raises(GalleryNotFoundError, match="no gallery"):
        SqliteStore(tmp_path / "catalog.sqlite")
    assert list(tmp_path.iterdir()) == []


def test_another_writer_is_waited_for_only_so_long(path):
    first, second = SqliteStore(path), SqliteStore(path, lock_timeout=0.05)
    with first.commit():
        add(first, new("c", [1, 1, 1]))
        assert second.counts() == (2, 3)
        with pytest.raises(GalleryLockedError, match="another writer"), second.commit():
            pass
    with second.commit():
        assert add(second, new("d", [1, 1, 1])) == ([5], True)
    first.close()
    second.close()


def test_a_writer_waits_for_the_other(path):
    first, second = SqliteStore(path), SqliteStore(path, lock_timeout=20)
    holding, numbers = threading.Event(), []

    def hold():
        with first.commit():
            add(first, new("c", [1, 1, 1]))
            holding.set()

    thread = threading.Thread(target=hold)
    thread.start()
    holding.wait()
    with second.commit():
        numbers += add(second, new("d", [1, 1, 1]))[0]
    thread.join()
    assert numbers == [5]
    first.close()
    second.close()


def test_reading_only_refuses_to_write_and_leaves_the_folder_as_it_was(path):
    before = contents(path.parent)
    store = SqliteStore(path, read_only=True)
    with pytest.raises(GalleryError, match="read-only; nothing was written"), store.commit():
        pass
    assert store.embeddings("b").rows.tolist() == [[7, 8, 9]]
    store.close()
    assert contents(path.parent) == before


def test_reading_only_leaves_the_log_of_a_killed_writer_alone(path):
    writer = SqliteStore(path)
    with writer.commit():
        add(writer, new("late", [1, 1, 1]))
    left = contents(path.parent)
    writer.close()
    # As kill -9 leaves it: the commit is in the WAL only.
    for name, content in left.items():
        (path.parent / name).write_bytes(content)
    store = SqliteStore(path, read_only=True)
    assert store.ids() == ["a", "b", "late"]
    store.close()
    now = contents(path.parent)
    assert now["catalog.sqlite"] == left["catalog.sqlite"]
    assert now["catalog.sqlite-wal"] == left["catalog.sqlite-wal"]


def test_erasing_while_somebody_reads_says_that_the_removal_is_done(path):
    reader, writer = SqliteStore(path), SqliteStore(path, lock_timeout=0.05)
    with reader.snapshot():
        assert reader.counts() == (2, 3)
        with writer.commit():
            writer.remove_subject("b")
        with pytest.raises(GalleryLockedError, match=r"old pages.*call compact\(\)"):
            writer.erase()
    writer.erase()
    assert np.array([7, 8, 9], "<f4").tobytes() not in b"".join(contents(path.parent).values())
    reader.close()
    writer.close()


def _in_a_fork(store: SqliteStore, answers) -> None:
    try:
        store.counts()
    except GalleryError as error:
        answers.put(str(error))
    store.close()


def test_a_forked_process_is_told_to_open_again(path):
    store = SqliteStore(path)
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    process = context.Process(target=_in_a_fork, args=(store, answers))
    process.start()
    process.join()
    assert "before this process was forked: open it again in the worker" in answers.get()
    assert store.counts() == (2, 3)
    store.close()


def test_a_closed_store_says_so(path):
    store = SqliteStore(path)
    store.close()
    with pytest.raises(GalleryError, match="was closed"):
        store.ids()


def test_a_folder_whose_name_is_not_utf8(tmp_path):
    folder = Path(str(tmp_path) + "/\udcff#?%")
    folder.mkdir()
    store = SqliteStore.create(folder / "c.sqlite", new_header(3, "cosine", "e", "f"))
    with store.commit():
        add(store, new("a", [1, 0, 0]))
    store.close()
    assert SqliteStore(folder / "c.sqlite", read_only=True).ids() == ["a"]


def test_a_younger_log_over_an_older_catalog_is_refused_at_every_opening(path):
    """Also by a process that has had the catalog open before."""
    old = path.read_bytes()
    for id in ("c", "d"):
        store = SqliteStore(path)
        with store.commit():
            add(store, new(id, [1, 1, 1]))
        log = path.with_name(path.name + "-wal").read_bytes()
        store.close()
    path.write_bytes(old)
    path.with_name(path.name + "-wal").write_bytes(log)
    for _ in range(2):
        with pytest.raises(CorruptGalleryError, match=r"is of revision 1, and the log .* from revision 2"):
            SqliteStore(path)


def test_closing_twice_lets_go_once(path):
    first, second = SqliteStore(path), SqliteStore(path)
    first.close()
    first.close()
    assert in_use.connections(path) == 1
    second.close()
    assert in_use.connections(path) == 0


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("UPDATE templates_1 SET subject = 2 WHERE template = 1", "1 templates of subject 1 are left of 2"),
        ("UPDATE templates_1 SET subject = 9 WHERE template = 3", "the templates of subject 2 or its record"),
        ("UPDATE templates_1 SET subject = 0 WHERE template = 3", "the templates of subject 2 or its record"),
        ("DELETE FROM templates_1 WHERE template = 2", "1 templates of subject 1 are left of 2"),
        ("DELETE FROM subjects WHERE subject = 1", "the templates of subject 1 or its record are missing"),
        ("UPDATE subjects SET templates = 3 WHERE subject = 2", "1 templates of subject 2 are left of 3"),
    ],
)
def test_whose_a_template_is_agrees_with_what_the_subjects_count(path, sql, said):
    """The index that it is read from has no checksum of its own."""
    change(path, sql)
    store = SqliteStore(path)
    with pytest.raises(CorruptGalleryError, match=said), store.snapshot():
        store.owners()
    store.close()


# -- damage


@pytest.mark.parametrize("verb", ["template", "subject"])
def test_a_damaged_template_is_mended_by_removing_it_and_enrolling_it_again(path, verb):
    change(path, "UPDATE templates_1 SET checksum = checksum + 1 WHERE template = 1")
    with closing(SqliteStore(path)) as store:
        assert any("template 1: its embedding does not match" in str(one) for one in store.check())
        with store.commit():
            store.remove_templates([1]) if verb == "template" else store.remove_subject("a")
        with store.commit():
            add(store, new("a", [1, 2, 3]))
        assert store.check() == []
        assert sum(len(part.numbers) for part in store.scan()) == 3 if verb == "template" else 2


def test_a_page_in_the_place_of_another_is_not_gone_through_for_ever(tmp_path):
    """Neither by a scan nor by a migration, which asks for what is lacking page by page."""
    path = tmp_path / "catalog.sqlite"
    store = SqliteStore.create(path, new_header(3, "euclidean", "enc", "fp"))
    with store.commit():
        list(store.add([new(f"s{at}", [at, 1, 1]) for at in range(600)]))
    with store.commit():
        other = store.generations.begin(new_header(3, "euclidean", "other", "other/1"))
    store.close()
    pages = Pages(path)
    leaves = {}
    for number in range(1, pages.count + 1):
        cells = [one for one in pages.cells_of(number, (TABLE_LEAF,)) if one.values and len(one.values) == 6]
        if cells and isinstance(cells[0].values[-1], bytes):
            leaves[number] = cells[0].rowid
    pages.close()
    first, *_, last = sorted(leaves, key=leaves.__getitem__)
    raw, size = bytearray(path.read_bytes()), pages.size
    raw[(last - 1) * size : last * size] = raw[(first - 1) * size : first * size]
    path.write_bytes(raw)
    with closing(SqliteStore(path)) as store:
        with pytest.raises(CorruptGalleryError):
            list(store.scan(block=64))
        after = 0
        with pytest.raises(CorruptGalleryError, match="out of order"):
            for _ in range(100):
                after = int(store.generations.lacking(other.generation, after, 64)[-1])


# -- whoever opens a catalog first looks at its log


@pytest.fixture
def looked(monkeypatch):
    """The catalogs whose log was looked at, which closes a file and so drops all locks on it."""
    seen = []
    monkeypatch.setattr(in_use, "check_log", seen.append)
    return seen


def test_nobody_looks_at_the_log_while_any_connection_is_open(path, looked):
    looking = catalog.connect(path, read_only=True, lock_timeout=0.0)
    assert looked == [path]
    with closing(SqliteStore(path)):
        assert looked == [path]
        looking.close()
        with closing(SqliteStore(path)):
            assert looked == [path]
    assert in_use.connections(path) == 0
    SqliteStore(path).close()
    assert looked == [path, path]


def test_one_that_has_not_looked_is_waited_for(path, looked):
    repairing = catalog.connect(path, read_only=True, lock_timeout=0.0, check=False)
    with pytest.raises(GalleryLockedError, match="looked at by another thread; try again"):
        SqliteStore(path, lock_timeout=0.05)
    assert (looked, in_use.connections(path)) == ([], 1)
    closer = threading.Timer(0.2, repairing.close)
    closer.start()
    SqliteStore(path, lock_timeout=60.0).close()
    closer.join()
    assert looked == [path]


def test_a_connection_that_cannot_be_made_is_not_counted(path, monkeypatch):
    monkeypatch.setattr(catalog.sqlite3, "connect", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        SqliteStore(path)
    assert in_use.connections(path) == 0


def test_a_writer_that_waited_while_the_folder_was_moved_writes_nothing(path, tmp_path):
    before = path.read_bytes()
    path = tmp_path / "g" / path.name
    path.parent.mkdir()
    path.write_bytes(before)
    store = SqliteStore(path)
    other = catalog.connect(path, read_only=False, lock_timeout=0.0)
    other.execute("BEGIN IMMEDIATE")
    moved = threading.Event()

    def move():
        # The store waits for its turn by now, or finds the folder moved before that: neither writes.
        time.sleep(0.3)
        path.parent.rename(tmp_path / "moved")
        path.parent.mkdir()
        path.write_bytes(before)
        other.execute("ROLLBACK")
        moved.set()

    thread = threading.Thread(target=move)
    thread.start()
    try:
        with pytest.raises(GalleryError, match="was deleted or replaced since it was opened"), store.commit():
            add(store, new("late", [1, 1, 1]))
    finally:
        thread.join()
        other.close()
        store.close()
    assert moved.is_set()
    for place in (path, tmp_path / "moved" / path.name):
        with closing(SqliteStore(place, read_only=True)) as left:
            assert "late" not in left.ids()


@pytest.mark.parametrize("verb", [gallery.open, repairing.repair, repairing.check])
def test_lock_timeout_counts_at_every_step_of_an_opening(tmp_path, verb):
    with gallery.open(tmp_path / "g", gallery.Precomputed(3)) as people:
        people.enroll("a", [[1, 0, 0]])
    alone = sqlite3.connect(tmp_path / "g" / "catalog.sqlite", isolation_level=None)
    try:
        alone.execute("PRAGMA locking_mode = EXCLUSIVE")
        alone.execute("BEGIN EXCLUSIVE")
        alone.execute("ROLLBACK")
        begun = time.monotonic()
        with pytest.raises(GalleryLockedError):
            verb(tmp_path / "g", lock_timeout=0.05)
        assert time.monotonic() - begun < 25  # the default is 30 s
    finally:
        alone.close()
