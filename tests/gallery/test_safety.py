"""Safety: nothing is run that a file brings, no path leads out, no claim decides how much memory is taken."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gallery
from gallery import CorruptGalleryError, GalleryError, GalleryExistsError, opening
from gallery.duplicates import Duplicates, Evidence
from gallery.report import write_report
from gallery.stores.sqlite import SqliteStore, new_header
from tests.gallery import hostile
from tests.gallery.doubles import contents
from tests.gallery.test_duplicates import pairs_of

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [
    path for part in ("gallery", "encoders", "benchmarks", "examples") for path in (ROOT / part).rglob("*.py")
]

# -- nothing is run


RUNS_WHAT_IT_READS = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}


def _called(node: ast.Call) -> str:
    """torch.load of torch.load(...), load of load(...)."""
    return ast.unparse(node.func)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_that_is_read_can_run(path: Path) -> None:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert RUNS_WHAT_IT_READS.isdisjoint(alias.name.split(".")[0] for alias in node.names), (
                node.lineno
            )
        elif isinstance(node, ast.ImportFrom):
            assert str(node.module).split(".")[0] not in RUNS_WHAT_IT_READS, node.lineno
        elif isinstance(node, ast.Call):
            _check_call(node)
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert ast.unparse(node.value) == "False", node.value.lineno


def _check_call(node: ast.Call) -> None:
    name = _called(node)
    given = {one.arg: ast.unparse(one.value) for one in node.keywords}
    if name in ("torch.load", "torch.jit.load", "torch.hub.load"):
        assert given.get("weights_only") == "True", f"line {node.lineno}: {name} without weights_only"
    if name in ("np.save", "numpy.save"):
        # Loading refuses them by default, saving does not.
        assert given.get("allow_pickle") == "False", f"line {node.lineno}: {name} with its default"
    assert name not in ("eval", "exec", "compile", "os.system", "os.popen"), f"line {node.lineno}: {name}"
    assert given.get("shell") in (None, "False"), f"line {node.lineno}: a shell"


def test_the_search_finds_what_it_looks_for() -> None:
    assert len(SOURCES) > 100
    for code in ("torch.load('x')", "torch.load('x', weights_only=False)", "np.save(x, y)", "eval(x)"):
        with pytest.raises(AssertionError, match="line 1"):
            _check_call(ast.parse(code).body[0].value)  # type: ignore[attr-defined]


# -- what an import is given

_IMPORTS = """
import json, resource, sys, time, gallery
from gallery import Precomputed
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
place, *files = sys.argv[1:]
with gallery.open(place, Precomputed(4, "euclidean", "hostile")) as people:
    people.import_file(files[0])
    people.remove_many(people.ids())
    used = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for file in files[1:]:
        before, start = used(), time.process_time()
        try:
            said = str(people.import_file(file))
        except BaseException as error:
            said = [type(error).__mro__[1].__name__, str(error)]
        print(json.dumps([file, said, (used() - before) // 1024, time.process_time() - start, len(people)]))
"""


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """{what: (what the import said, MiB it took, seconds, subjects after it)}, all in one process."""
    folder = tmp_path_factory.mktemp("hostile")
    files = hostile.hostile_files(folder)
    sound = hostile.write(folder / "sound.h5", hostile.sound())
    done = subprocess.run(
        [sys.executable, "-c", _IMPORTS, folder / "g", sound, *files.values()],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = {Path(one[0]): one[1:] for one in map(json.loads, done.stdout.splitlines())}
    return {what: (path, *told[path]) for what, path in files.items()}


def test_no_hostile_file_is_imported_or_takes_memory_for_what_it_claims(imported: dict[str, Any]) -> None:
    assert len(imported) > 20
    for what, (path, said, memory, seconds, subjects) in imported.items():
        assert path.stat().st_size < 10_000_000, what
        assert isinstance(said, list) and said[0] == "CorruptGalleryError", (what, said)
        assert str(path) in said[1] and "gallery check" not in said[1], "the file is named, not the gallery"
        assert memory < 64 and seconds < 30 and subjects == 0, (what, memory, seconds)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("rows that were never written", "claims 16,000,000,000,000 bytes of which only 0 were ever written"),
        ("packed zeros", "is compressed; unpack the file with h5repack"),
        ("one text a thousand times, ids", "a text is used twice"),
        ("a dim that is a text", "its attribute dim is no int"),
    ],
)
def test_a_hostile_file_is_refused_with_the_reason(what: str, said: str, imported: dict[str, Any]) -> None:
    assert said in imported[what][1][1]


def test_a_sound_file_of_other_chunks_is_imported(tmp_path: Path) -> None:
    """What is refused is what claims too much, and not what is merely not from here."""
    count = 20_000
    parts = hostile.sound(count) | {
        "embeddings": hostile.numbers(
            "embeddings", np.arange(4.0 * count).reshape(-1, 4), "<f8", chunks=(7, 2)
        ),
        "subject": hostile.numbers("subject", np.arange(count) // 10_000, "<u2", chunks=(100,)),
        "source": hostile.texts("source", *[f"/pictures/{at}" for at in range(count)], chunks=(333,)),
        "ids": hostile.texts("ids", "alice", "zoë", chunks=(1,)),
        "metadata": hostile.texts("metadata", '{"a": 1}', "{}"),
    }
    with gallery.create(tmp_path / "g", hostile.ENCODER) as people:
        done = people.import_file(hostile.write(tmp_path / "sound.h5", parts))
        assert (done.subjects, done.templates, done.created) == (2, count, 2)
        assert people.metadata("alice") == {"a": 1}
        stored = people._engine.embeddings("zoë").rows
        assert stored.tolist() == np.arange(4.0 * count).reshape(-1, 4)[10_000:].tolist()
        assert people.templates("zoë")[-1].source == f"/pictures/{count - 1}"
        assert people.check() == []


# -- no path leads out


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery with an index file, and one as a kill left it, with a log."""
    folder = tmp_path_factory.mktemp("made")
    with gallery.create(folder / "closed", hostile.ENCODER, keep_items=True) as people:
        people.enroll_many((f"s{at}", [[at, 0, 0, 0]]) for at in range(1100))
    with gallery.open(folder / "closed", hostile.ENCODER) as people:
        people.enroll("late", np.eye(4))
        shutil.copytree(folder / "closed", folder / "killed")
    return folder


VERBS: dict[str, Any] = {
    "open": lambda place: gallery.open(place, hostile.ENCODER).close(),
    "read": lambda place: gallery.open(place, read_only=True).close(),
    "check": gallery.check,
    "repair": gallery.repair,
    "recorded": opening.recorded_encoder,
    "create": lambda place: gallery.create(place, hostile.ENCODER),
    "discard": opening.discard_unused,
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", ["catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite-shm"])
def test_a_link_in_the_place_of_the_catalog_is_not_followed(
    name: str, verb: str, made: Path, tmp_path: Path
) -> None:
    """What it leads to would do: it is the file itself, moved away."""
    place, outside = shutil.copytree(made / "killed", tmp_path / "g"), tmp_path / "outside"
    (place / name).rename(outside)
    (place / name).symlink_to(outside)
    before = outside.read_bytes(), contents(place)
    try:
        said = VERBS[verb](place)
    except GalleryExistsError:
        assert verb == "create"
    except CorruptGalleryError as error:
        assert f"{name} is a link" in str(error)
    else:
        assert verb == "check" and f"{name} is a link" in str(said[0])
    assert (outside.read_bytes(), contents(place)) == before
    assert (place / name).is_symlink() and sorted(tmp_path.iterdir()) == [place, outside]


@pytest.mark.parametrize("name", ["catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite-journal"])
def test_no_file_is_made_where_a_link_leads(name: str, made: Path, tmp_path: Path) -> None:
    place = shutil.copytree(made / "closed", tmp_path / "g")
    if name == "catalog.sqlite":
        (place / name).unlink()
        (place / "catalog.head").unlink()
    (place / name).symlink_to(tmp_path / "outside")
    for verb in VERBS.values():
        with suppress(GalleryError):
            verb(place)
    assert not (tmp_path / "outside").exists()
    with pytest.raises(CorruptGalleryError, match="is a link"):
        SqliteStore.create(place / "catalog.sqlite", new_header(4, "cosine", "e", "f"))
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("kind", ["link", "link to nothing", "link to a pipe", "pipe", "folder", "device"])
def test_the_head_is_read_only_where_it_is(kind: str, made: Path, tmp_path: Path) -> None:
    place, outside = shutil.copytree(made / "closed", tmp_path / "g"), tmp_path / "outside"
    head = place / "catalog.head"
    if kind == "link":
        head.rename(outside)
    head.unlink(missing_ok=True)
    if "pipe" in kind:
        os.mkfifo(outside if "link" in kind else head)
    elif kind == "folder":
        head.mkdir()
    if "link" in kind or kind == "device":
        head.symlink_to("/dev/zero" if kind == "device" else outside)
    before = outside.read_bytes() if kind == "link" else outside.exists()
    with pytest.raises(CorruptGalleryError, match=r"catalog.head is another file .*`gallery check --repair"):
        gallery.open(place, hostile.ENCODER)
    assert "another file" in str(gallery.check(place)[0])
    if kind == "folder":
        head.rmdir()
    else:
        done = gallery.repair(place)
        assert (done.subjects, len(done.lost)) == (1101, 1)
        assert gallery.check(place) == [] and head.is_file() and not head.is_symlink()
    with gallery.open(place, hostile.ENCODER) as people:
        people.compact()
    assert (outside.read_bytes() if kind == "link" else outside.exists()) == before


@pytest.mark.parametrize("verb", ["close", "compact", "remove", "repair", "check", "reindex", "migrate"])
def test_a_link_in_the_place_of_the_index_is_neither_read_nor_written_nor_emptied(
    verb: str, made: Path, tmp_path: Path
) -> None:
    place, outside = shutil.copytree(made / "closed", tmp_path / "g"), tmp_path / "outside"
    (place / "index").rename(outside)
    (outside / "a letter.txt").write_text("mine")
    (place / "index").symlink_to(outside)
    before = contents(outside)
    assert [str(one) for one in gallery.check(place)] == [
        "index/: it is a link, through which nothing is read or written; the next index file replaces it"
    ]
    if verb == "repair":
        assert gallery.repair(place).damaged is None
    with gallery.open(place, hostile.ENCODER, read_only=verb == "check") as people:
        assert people.identify([7, 0, 0, 0], threshold=0.0).best.id == "s7"
        assert people._engine.state().in_memory == people.template_count, "nothing was read there"
        if verb == "compact":
            people.compact()
        elif verb == "remove":
            people.remove("s7", erase=True)
        elif verb == "reindex":
            people.reindex("exact")
        elif verb == "migrate":
            people.migrate(gallery.Precomputed(4, "euclidean", "other"))
    assert contents(outside) == before
    assert (place / "index").is_symlink() == (verb == "check")


def test_an_index_file_that_is_a_link_is_not_read(made: Path, tmp_path: Path) -> None:
    place = shutil.copytree(made / "closed", tmp_path / "g")
    (file,) = (place / "index").iterdir()
    file.rename(tmp_path / "outside")
    file.symlink_to(tmp_path / "outside")
    before = (tmp_path / "outside").read_bytes()
    assert "not as it was written" in str(gallery.check(place)[0])
    with gallery.open(place, hostile.ENCODER) as people:
        assert people._engine.state().in_memory == people.template_count
        people.compact()
    assert (tmp_path / "outside").read_bytes() == before
    assert not file.is_symlink()


@pytest.mark.parametrize(
    "name", ["../catalog.sqlite", "..", ".", "", "a\0b", "/etc/passwd", "x/../../outside.faiss", 7, None, "é"]
)
def test_the_name_of_an_index_file_cannot_lead_anywhere(name: Any, made: Path, tmp_path: Path) -> None:
    place = shutil.copytree(made / "closed", tmp_path / "g")
    with gallery.open(place, hostile.ENCODER) as people:
        stamp = json.loads(people._engine.setting("index_file")) | {"file": name}
        content = (place / "index" / "outside.faiss").with_name(next((place / "index").iterdir()).name)
        shutil.copy(content, place / "outside.faiss")
        people._engine.set_setting("index_file", json.dumps(stamp))
        # As a kill would leave it: closing writes a new file.
        place = shutil.copytree(place, tmp_path / "killed")
    with gallery.open(place, hostile.ENCODER) as people:
        assert people.check() == []
        assert people.identify([7, 0, 0, 0], threshold=0.0).best.id == "s7"
        assert people._engine.state().in_memory == people.template_count
    assert (place / "outside.faiss").exists()


@pytest.mark.parametrize(
    "part", ["kind", "generation", "revision", "last_template", "templates", "size", "content"]
)
@pytest.mark.parametrize("value", ["x", None, -1, 2**70, [1], 1.5])
def test_a_stamp_that_says_anything_is_passed_over(part: str, value: Any, made: Path, tmp_path: Path) -> None:
    place = shutil.copytree(made / "closed", tmp_path / "g")
    store = SqliteStore(place / "catalog.sqlite")
    with store.commit():
        stamp = json.loads(store.setting("index_file")) | {part: value}
        store.set_setting("index_file", json.dumps(stamp))
    store.close()
    with gallery.open(place, hostile.ENCODER) as people:
        assert people.identify([7, 0, 0, 0], threshold=0.0).best.id == "s7"
        people.enroll("more", [[0, 5, 0, 0]])
        assert people.identify([0, 5, 0, 0], threshold=0.0).best.id == "more"


def test_links_beside_the_catalog_are_left_alone_by_an_erasure(made: Path, tmp_path: Path) -> None:
    place, outside = shutil.copytree(made / "closed", tmp_path / "g"), tmp_path / "outside"
    outside.mkdir()
    (outside / "mine").write_text("mine")
    for name in ("damaged-20260101T000000.000000Z", "unpacked-abcdefgh"):
        (place / name).symlink_to(outside)
    inner = place / "damaged-20260102T000000.000000Z"
    (inner / "deep").mkdir(parents=True)
    (inner / "deep" / "link").symlink_to(outside)
    (place / "index" / "folder").mkdir()
    (place / "index" / "folder" / "link").symlink_to(outside / "mine")
    with gallery.open(place, hostile.ENCODER) as people:
        people.compact()
        assert not inner.exists() and list((place / "index").iterdir()) == []
    assert contents(outside) == {"mine": b"mine"}


@pytest.mark.parametrize("verb", ["backup", "export"])
def test_a_copy_replaces_no_link(verb: str, made: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "file").write_text("mine")
    with gallery.open(made / "closed", read_only=True) as people:
        for name in ("there", "file", "nothing"):
            link = tmp_path / f"link to {name}"
            link.symlink_to(tmp_path / name)
            with pytest.raises(GalleryExistsError, match="is there already"):
                getattr(people, verb)(link)
            assert link.is_symlink()
    assert contents(tmp_path / "there") == {} and (tmp_path / "file").read_text() == "mine"
    assert not (tmp_path / "nothing").exists()


def test_a_report_replaces_a_link_and_not_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "outside.html").write_text("mine")
    (tmp_path / "report.html").symlink_to(tmp_path / "outside.html")
    write_report(Duplicates((), (), 0.1, 0, Evidence((), pairs_of(), {})), tmp_path / "report.html")
    assert (tmp_path / "outside.html").read_text() == "mine"
    assert not (tmp_path / "report.html").is_symlink()


# -- links in a gallery's folder


def filled(place: Path, count: int = 1500) -> gallery.Gallery:
    people = gallery.open(place, gallery.Precomputed(4))
    people.enroll_many(
        [(f"s{at}", [row]) for at, row in enumerate(np.random.default_rng(0).normal(size=(count, 4)))]
    )
    return people


@pytest.mark.parametrize("name", ["index", "damaged-20260101T000000.000000Z"])
def test_a_folder_where_none_should_be_is_no_hindrance_to_an_erasure(tmp_path: Path, name: str) -> None:
    with filled(tmp_path / "g", 3) as people:
        (tmp_path / "g" / name / "folder").mkdir(parents=True)
        people.remove("s1", erase=True)
        assert people.ids() == ["s0", "s2"]
