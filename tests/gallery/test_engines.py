"""The local engine: the contract with several kinds of index, and the files of `index/` under attack."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

import gallery
from gallery.engines import index_cache, index_files
from gallery.engines.index_cache import worth_saving
from gallery.engines.local import LocalEngine
from gallery.errors import CorruptGalleryError
from gallery.indexes import choice, kinds, library
from gallery.indexes.choice import choose
from gallery.indexes.exact import ExactIndex
from gallery.stores.sqlite import SqliteStore, new_header
from gallery.vectors import prepare
from tests.gallery.contracts.engine import DIM, EngineContract, flat, new
from tests.gallery.doubles import contents, vectors


@pytest.fixture(autouse=True)
def one_thread():
    """What is searched here is so small that waking threads would take most of the time."""
    library.faiss().omp_set_num_threads(1)
    yield
    library.faiss().omp_set_num_threads(os.cpu_count())


def opened(place: Path, metric: str, index: str = "auto", *, read_only: bool = False) -> LocalEngine:
    path = place / "catalog.sqlite"
    if path.exists():
        return LocalEngine(SqliteStore(path, read_only=read_only), place / "index", read_only=read_only)
    store = SqliteStore.create(path, new_header(DIM, metric, "enc", "fp"))
    with store.commit():
        store.set_setting("index", None if index == "auto" else index)
    return LocalEngine(store, place / "index")


class TestExact(EngineContract):
    def open(self, place, metric, *, read_only=False):
        return opened(place, metric, read_only=read_only)


class TestFlat(EngineContract):
    certain = False

    def open(self, place, metric, *, read_only=False):
        return opened(place, metric, "Flat", read_only=read_only)


class TestIVF(EngineContract):
    """8 cells, all of them looked into, trained on the first 512 templates."""

    certain = False

    @pytest.fixture(autouse=True)
    def small_training(self, monkeypatch):
        monkeypatch.setattr(kinds, "_PER_CELL", 2)

    def open(self, place, metric, *, read_only=False):
        return opened(place, metric, "IVF8,Flat", read_only=read_only)


class TestCodes(TestIVF):
    """Rows are known by codes of 8 bits a number only, so that finalists are read from the store."""

    sharp = False

    def open(self, place, metric, *, read_only=False):
        return opened(place, metric, "IVF8,SQ8", read_only=read_only)


PROBES = vectors(15, DIM, 1)


def ask(engine: LocalEngine) -> list:
    return [flat(found) for found in engine.nearest(PROBES, 5)]


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A gallery of 1,500 templates with an index file, of which 300 were removed after it was written."""
    folder = tmp_path_factory.mktemp("original")
    engine = opened(folder, "euclidean")
    engine.add([new(f"s{n}", vectors(3, DIM, n)) for n in range(500)])
    engine.close()
    engine = opened(folder, "euclidean")
    engine.remove_subjects([f"s{n}" for n in range(100)])
    engine.close()
    return folder


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """Another gallery with an index file of the same size."""
    folder = tmp_path_factory.mktemp("stranger")
    engine = opened(folder, "euclidean")
    engine.add([new(f"s{n}", vectors(3, DIM, n + 9000)) for n in range(500)])
    engine.close()
    return folder


@pytest.fixture
def place(original, tmp_path):
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture(scope="module")
def truth(original, tmp_path_factory):
    """The answers with no index file at all."""
    folder = tmp_path_factory.mktemp("bare")
    shutil.copy(original / "catalog.sqlite", folder)
    return reopened(folder)


def reopened(place: Path) -> list:
    engine = opened(place, "euclidean", read_only=True)
    answers = ask(engine)
    engine.close()
    return answers


def the_file(place: Path) -> Path:
    (path,) = (place / "index").glob("*.faiss")
    return path


def test_the_index_file_is_used(place, truth, monkeypatch):
    scanned = []
    scan = SqliteStore.scan
    monkeypatch.setattr(SqliteStore, "scan", lambda self, after=0: scanned.append(after) or scan(self, after))
    assert reopened(place) == truth
    assert scanned == [1500]


def test_the_index_files_are_private(place):
    assert (place / "index").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (place / "index").iterdir()} == {0o600}
    assert [path.suffix for path in (place / "index").iterdir()] == [".faiss"]


@pytest.mark.parametrize("folder_too", [False, True])
def test_deleting_index_files_changes_nothing(place, truth, folder_too):
    the_file(place).unlink()
    if folder_too:
        (place / "index").rmdir()
    assert reopened(place) == truth


@pytest.mark.parametrize("content", [b"", b"\0" * 4000])
def test_overwriting_index_files_changes_nothing(place, truth, content):
    the_file(place).write_bytes(content)
    assert reopened(place) == truth


def stored_stamp(place: Path, text: str | None = None) -> str:
    """The stamp in the catalog, replaced by `text` when that is given."""
    store = SqliteStore(place / "catalog.sqlite")
    found = store.setting("index_file")
    if text is not None:
        with store.commit():
            store.set_setting("index_file", text)
    store.close()
    return found


@pytest.mark.parametrize("text", ["", "{}", "null", '{"file": "../x"}', "[" * 100_000])
def test_a_stamp_that_cannot_be_understood_changes_nothing(place, truth, text):
    stored_stamp(place, text)
    assert reopened(place) == truth


def test_changing_any_number_of_the_stamp_changes_nothing(place, truth):
    whole = json.loads(stored_stamp(place))
    for key, value in whole.items():
        for other in (0, 7, 10**6) if isinstance(value, int) else ("", "exact2"):
            stored_stamp(place, json.dumps(whole | {key: other}))
            assert reopened(place) == truth, (key, other)


def restore_the_catalog_alone(place: Path, backup: bytes) -> None:
    """Which is noticed, as long as the head beside it is left."""
    (place / "catalog.sqlite").write_bytes(backup)
    with pytest.raises(CorruptGalleryError, match=r"is of revision 3, and revision 5 was committed here"):
        opened(place, "euclidean")
    (place / "catalog.head").unlink()


def test_a_catalog_from_a_backup_does_not_take_up_a_younger_file(place, truth):
    """The revision goes past that of the file again, with other templates under the same numbers."""
    backup = (place / "catalog.sqlite").read_bytes()
    engine = opened(place, "euclidean")
    engine.add([new(f"later{n}", vectors(20, DIM, n) + 50) for n in range(100)])
    engine.close()
    restore_the_catalog_alone(place, backup)
    engine = opened(place, "euclidean")
    for n in range(100):
        engine.add([new(f"other{n}", vectors(20, DIM, 1000 + n) - 50)])
    probe = vectors(20, DIM, 1007)[3:4] - 50
    assert [(one.id, one.distance) for one in engine.nearest(probe, 1)[0]] == [("other7", 0.0)]
    engine._store.close()
    engine = opened(place, "euclidean")
    assert [(one.id, one.distance) for one in engine.nearest(probe, 1)[0]] == [("other7", 0.0)]
    assert ask(engine) == truth
    engine.close()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9, 1.0])
@pytest.mark.parametrize("bit", [1, 64])
def test_flipping_a_byte_of_the_vectors_changes_nothing(place, truth, share, bit):
    path = the_file(place)
    content = bytearray(path.read_bytes())
    content[int(share * (len(content) - 1))] ^= bit
    path.write_bytes(content)
    assert reopened(place) == truth


def test_truncating_or_growing_the_vectors_changes_nothing(place, truth):
    path = the_file(place)
    content = path.read_bytes()
    for changed in (content[:-1], content + b"\0", content[: len(content) // 2], content[8:]):
        path.write_bytes(changed)
        assert reopened(place) == truth


def test_a_file_that_is_written_to_while_it_is_in_use_is_not_answered_from(place, truth):
    engine = opened(place, "euclidean", read_only=True)
    assert ask(engine) == truth
    path = the_file(place)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 10)
        file.write(bytes(size // 2))
    assert ask(engine) == truth
    assert [one.where for one in engine.check()] == [f"index/{path.name}"]
    assert ask(engine) == truth
    engine.close()


def test_the_checksum_notices_exchanged_and_zeroed_pages(tmp_path):
    content = np.random.default_rng(0).bytes(3 * 2**20 + 5)
    mebi = 2**20
    path = tmp_path / "f"
    sums = set()
    for changed in (
        content,
        content[mebi : 2 * mebi] + content[:mebi] + content[2 * mebi :],
        content[:4096] + b"\0" * 4096 + content[8192:],
        content[:-1] + b"\0",
        content[:-5],
    ):
        path.write_bytes(changed)
        sums.add(index_files.checksum(path))
    assert len(sums) == 5


def test_the_files_of_another_gallery_are_not_taken_up(place, truth, stranger):
    shutil.rmtree(place / "index")
    shutil.copytree(stranger / "index", place / "index")
    assert reopened(place) == truth


def test_the_vectors_of_another_gallery_under_our_stamp_are_not_taken_up(place, truth, stranger):
    assert the_file(stranger).stat().st_size == the_file(place).stat().st_size
    shutil.copy(the_file(stranger), the_file(place))
    assert reopened(place) == truth


def test_a_file_from_a_future_that_was_undone_is_not_taken_up(place, truth):
    """The catalog was restored from a backup and the index folder was not."""
    backup = (place / "catalog.sqlite").read_bytes()
    engine = opened(place, "euclidean")
    engine.add([new(f"later{n}", PROBES) for n in range(100)])
    engine.close()
    assert len(the_file(place).read_bytes()) > 1500 * 4 * DIM
    restore_the_catalog_alone(place, backup)
    assert reopened(place) == truth


def test_a_file_that_misses_templates_is_built_anew(place, truth):
    stamp = json.loads(stored_stamp(place))
    index = ExactIndex(DIM, "euclidean")
    index.add(np.arange(1, 1400), vectors(1399, DIM))
    lacking = index_files.save(place / "index", index, 1, stamp["revision"], stamp["last_template"])
    stored_stamp(place, lacking.to_json())
    assert reopened(place) == truth


@pytest.mark.parametrize("wish", ["Flat", "HNSW16"])
def test_approximate_files_are_used_too(tmp_path, wish, monkeypatch):
    engine = opened(tmp_path, "cosine", wish)
    engine.add([new(f"s{n}", prepare(vectors(3, DIM, n), "cosine")) for n in range(500)])
    before = ask(engine)
    engine.close()
    scanned = []
    scan = SqliteStore.scan
    monkeypatch.setattr(SqliteStore, "scan", lambda self, after=0: scanned.append(after) or scan(self, after))
    engine = opened(tmp_path, "cosine")
    assert ask(engine) == before
    assert (scanned, engine.state().index) == ([1500], wish)
    engine.close()


def test_a_worn_index_is_built_anew(place, truth, monkeypatch):
    engine = opened(place, "euclidean")
    assert ask(engine) == truth
    first = engine._cache._index
    engine.remove_subjects([f"s{n}" for n in range(100, 480)])
    found = ask(engine)
    assert engine._cache._index is not first
    assert {id for answer in found for id, _, _ in answer} <= {f"s{n}" for n in range(480, 500)}
    engine.close()
    assert reopened(place) == found


@pytest.mark.parametrize("more", [8000, 20_000])
def test_a_session_that_is_outgrown_takes_room_once(tmp_path, more):
    """Doubled again and again it took twice the memory of an opening."""
    rows = vectors(100 + more, 4)
    with gallery.open(tmp_path / "g", gallery.Precomputed(4)) as people:
        people.enroll_many((f"s{at}", rows[at : at + 1]) for at in range(100))
        assert people.identify(rows[0]).best.id == "s0"
        index = people._engine._cache._index
        with gallery.open(tmp_path / "g", gallery.Precomputed(4)) as other:
            other.enroll_many((f"s{at}", rows[at : at + 1]) for at in range(100, 100 + more))
            found = people.identify_batch(list(rows[-50:]), threshold=0.0)
        assert [one.best.id for one in found] == [f"s{at}" for at in range(50 + more, 100 + more)]
        assert (people._engine._cache._index is not index) == (more > 8192)


def test_a_rebuild_that_fails_half_way_is_not_taken_for_complete(place, monkeypatch):
    engine = opened(place, "euclidean")
    ask(engine)
    engine.remove_subjects([f"s{n}" for n in range(100, 480)])
    scan = SqliteStore.scan

    def failing(self, after=0):
        if after == 0:
            yield next(scan(self, after, 10))
            raise CorruptGalleryError("damage")

    monkeypatch.setattr(SqliteStore, "scan", failing)
    for _ in range(2):
        with pytest.raises(CorruptGalleryError):
            ask(engine)
    monkeypatch.setattr(SqliteStore, "scan", scan)
    found = ask(engine)
    assert len(engine._cache._index) == engine.counts()[1] == 60
    engine.close()
    shutil.rmtree(place / "index")
    assert reopened(place) == found


def test_catching_up_that_fails_half_way_starts_anew(place, truth, monkeypatch):
    engine = opened(place, "euclidean")
    ask(engine)
    engine.add([new("many", vectors(100, DIM, 77) + 1000)])
    scan = SqliteStore.scan

    def failing(self, after=0):
        yield next(scan(self, after, 10))
        raise KeyboardInterrupt

    monkeypatch.setattr(SqliteStore, "scan", failing)
    with pytest.raises(KeyboardInterrupt):
        ask(engine)
    monkeypatch.setattr(SqliteStore, "scan", scan)
    assert ask(engine) == truth
    assert len(engine._cache._index) == engine.counts()[1] == 1300
    engine.close()


def test_closing_does_not_fail_where_the_cache_cannot_be_written(tmp_path):
    engine = opened(tmp_path, "euclidean")
    engine.add([new(f"s{n}", vectors(3, DIM, n)) for n in range(500)])
    before = ask(engine)
    (tmp_path / "index").write_text("in the way")
    engine.close()
    assert (tmp_path / "index").read_text() == "in the way"
    assert reopened(tmp_path) == before


def test_a_failed_save_leaves_the_old_file_in_use(place, truth, monkeypatch):
    before = contents(place / "index")
    engine = opened(place, "euclidean")
    engine.add([new("many", vectors(1200, DIM, 77) + 1000)])
    ask(engine)
    monkeypatch.setattr(index_files, "sync_folder", _no_space)
    engine.close()
    assert contents(place / "index") == before
    monkeypatch.undo()
    assert reopened(place) == truth


def _no_space(folder):
    raise OSError(28, "No space left on device")


def test_reading_only_writes_no_index(tmp_path):
    engine = opened(tmp_path, "euclidean")
    engine.add([new(f"s{n}", vectors(3, DIM, n)) for n in range(500)])
    engine._store.close()
    reopened(tmp_path)
    assert not (tmp_path / "index").exists()


def test_what_one_process_erased_another_does_not_write_back(tmp_path):
    """An approximate index hides the removed, so its file would still hold them."""
    secret = np.full((1, DIM), 1.2345678, np.float32)
    first = opened(tmp_path, "euclidean", "Flat")
    first.add([new("secret", secret), *[new(f"s{n}", vectors(3, DIM, n)) for n in range(500)]])
    second = opened(tmp_path, "euclidean")
    ask(second)
    first.remove_subjects(["secret"])
    ask(second)
    first.erase()
    second.close()
    first.close()
    files = contents(tmp_path)
    assert any(name.endswith(".faiss") for name in files)
    assert all(secret.tobytes() not in content for content in files.values())


def test_an_index_file_from_before_an_erasure_is_not_taken_up(place):
    saved = {path: path.read_bytes() for path in (place / "index").iterdir()}
    engine = opened(place, "euclidean")
    engine.erase()
    assert list((place / "index").iterdir()) == []
    engine.close()
    the_file(place).unlink()
    for path, content in saved.items():
        path.write_bytes(content)
    engine = opened(place, "euclidean", read_only=True)
    ask(engine)
    assert engine.state().in_memory == 1200
    engine.close()


def test_two_that_close_at_once_leave_one_whole_file(place, truth):
    engines = [opened(place, "euclidean") for _ in range(3)]
    engines[0].add([new("many", vectors(1600, DIM, 77) + 1000)])
    for engine in engines:
        assert ask(engine) == truth
    for engine in engines:
        engine.close()
    stamp = json.loads(stored_stamp(place))
    assert (stamp["templates"], stamp["file"]) == (2800, the_file(place).name)
    assert reopened(place) == truth


def test_damage_is_named_by_every_search_and_mended_by_removal(place):
    db = sqlite3.connect(place / "catalog.sqlite")
    with db:
        db.execute("UPDATE templates_1 SET embedding = zeroblob(?) WHERE template = 700", (4 * DIM,))
    db.close()
    shutil.rmtree(place / "index")
    engine = opened(place, "euclidean")
    for _ in range(2):
        with pytest.raises(CorruptGalleryError, match="template 700"):
            ask(engine)
    assert [one.where for one in engine.check()] == ["template 700"]
    engine.remove_templates([700])
    assert len(ask(engine)[0]) == 5
    engine.close()
    engine = opened(place, "euclidean", read_only=True)
    assert engine.check() == []
    engine.close()


def test_what_is_worth_a_file():
    assert [worth_saving(n, 0, False) for n in (0, 1000, 1001)] == [False, False, True]
    assert [worth_saving(n, 100_000, True) for n in (100_000, 105_000, 105_001, 94_999)] == [
        False,
        False,
        True,
        True,
    ]


@pytest.mark.parametrize(
    ("wish", "templates", "dim", "there", "kind"),
    [
        ("auto", 0, 512, None, "exact"),
        ("auto", 1_953_125, 512, None, "exact"),
        ("auto", 1_953_126, 512, None, "IVF4096,PQ128x4fs,RFlat"),
        ("auto", 10_000_000, 128, None, "IVF8192,PQ64x4fs,RFlat"),
        ("auto", 10_000_000, 258, None, "IVF8192,PQ129x4fs,RFlat"),
        ("auto", 10_000_000, 129, None, "IVF8192,Flat"),
        # What is there stays until the size is twice as much, or half.
        ("auto", 3_906_250, 512, "exact", "exact"),
        ("auto", 3_906_251, 512, "exact", "IVF4096,PQ128x4fs,RFlat"),
        ("auto", 976_563, 512, "IVF4096,Flat", "IVF4096,Flat"),
        ("auto", 976_562, 512, "IVF4096,Flat", "exact"),
        ("auto", 5_000_000, 512, "IVF4096,Flat", "IVF4096,Flat"),
        ("auto", 5_000_000, 512, "IVF4096,PQ128x4fs,RFlat", "IVF4096,PQ128x4fs,RFlat"),
        ("auto", 5_000_000, 512, "IVF2048,Flat", "IVF8192,PQ128x4fs,RFlat"),
        ("auto", 5_000_000, 512, "HNSW32", "IVF8192,PQ128x4fs,RFlat"),
        ("exact", 10**9, 512, "HNSW32", "exact"),
        ("HNSW32", 10, 512, "exact", "HNSW32"),
    ],
)
def test_the_kind_for_a_wish_and_a_size(wish, templates, dim, there, kind):
    found = choose(wish, templates, dim, there)
    assert found.kind == kind
    assert ("asked for" if wish != "auto" else "B of embeddings") in found.why


@pytest.mark.parametrize(
    ("wish", "templates", "there", "kind"),
    [
        ("HNSW32", 20_000, None, "HNSW32"),
        ("HNSW32", 20_001, None, "exact"),
        ("HNSW32", 20_001, "HNSW32", "HNSW32"),
        ("HNSW32", 20_001, "exact", "exact"),
        ("auto", 10**8, None, "exact"),
        ("auto", 10**8, "exact", "exact"),
        ("auto", 10**8, "IVF2048,Flat", "IVF2048,Flat"),
        ("auto", 10**5, "IVF2048,Flat", "exact"),
    ],
)
def test_a_session_that_only_reads_makes_nothing_that_takes_long(wish, templates, there, kind):
    assert choose(wish, templates, 512, there, makes=False).kind == kind


def test_reading_only_answers_exactly_where_no_file_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(choice, "SOON", 10)
    engine = opened(tmp_path, "euclidean")
    engine.add([new(f"s{n}", vectors(3, DIM, n)) for n in range(500)])
    engine.set_setting("index", "HNSW16")
    reader = opened(tmp_path, "euclidean", read_only=True)
    expected = ask(engine)
    assert ask(reader) == expected
    state = reader.state()
    assert (state.index, state.index_wish) == ("exact", "HNSW16")
    assert "no file of HNSW16 yet" in state.index_why
    engine.close()
    # The file that was made meanwhile is taken up at once.
    assert (reader.state().index, ask(reader)) == ("HNSW16", expected)
    reader.close()


def test_a_kind_is_trained_on_all_and_again_when_it_is_outgrown(tmp_path, monkeypatch):
    """Those that were enrolled first lie elsewhere; cells made of them alone would hold all others in one."""
    monkeypatch.setattr(kinds, "_PER_CELL", 2)
    engine = opened(tmp_path, "euclidean", "IVF8,Flat")
    engine.add([new("first", vectors(600, DIM))])
    engine.add([new(f"s{n}", vectors(30, DIM, n) + 50) for n in range(80)])
    ask(engine)
    index = engine._cache._index
    sizes = [index._index.invlists.list_size(cell) for cell in range(8)]
    assert (index.trained_on, sum(sizes)) == (3000, 3000)
    assert max(sizes) < 1500
    engine.close()
    assert json.loads(stored_stamp(tmp_path))["trained_on"] == 3000
    engine = opened(tmp_path, "euclidean")
    ask(engine)
    assert engine._cache._index.trained_on == 3000
    engine.add([new("many", vectors(9000, DIM, 99) + 100)])
    ask(engine)
    assert engine._cache._index.trained_on == 3000, "not while somebody waits"
    engine.close()
    engine = opened(tmp_path, "euclidean")
    ask(engine)
    assert engine._cache._index.trained_on == 3000, "four times as many are not too many"
    engine.add([new("one", vectors(1, DIM, 98) + 100)])
    engine.close()
    for read_only, expected in ((True, 3000), (False, 12_001)):
        engine = opened(tmp_path, "euclidean", read_only=read_only)
        ask(engine)
        assert engine._cache._index.trained_on == expected
        engine.close()


def test_a_worn_index_that_takes_long_to_build_is_built_anew_at_the_next_opening(tmp_path, monkeypatch):
    monkeypatch.setattr(index_cache, "SOON", 10)
    engine = opened(tmp_path, "euclidean", "HNSW16")
    engine.add([new(f"s{n}", vectors(30, DIM, n)) for n in range(100)])
    ask(engine)
    engine.remove_subjects([f"s{n}" for n in range(60)])
    first = engine._cache._index
    before = ask(engine)
    assert engine._cache._index is first
    assert first.worn()
    engine.close()
    engine = opened(tmp_path, "euclidean")
    assert ask(engine) == before
    assert not engine._cache._index.worn()
    engine.close()


def test_an_exact_search_stands_in_and_says_so(tmp_path):
    engine = opened(tmp_path, "euclidean", "IVF8,Flat")
    engine.add([new(f"s{n}", vectors(3, DIM, n)) for n in range(100)])
    state = engine.state()
    assert state.index == "IVF8,Flat"
    assert "until there are 9,684 more templates to train on" in state.index_why
    engine.close()
