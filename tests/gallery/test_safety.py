"""Safety: nothing is run that a file brings, no path leads out, no claim decides how much memory is taken."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gallery
from tests.gallery import hostile

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
        assert memory < 64 and seconds < 5 and subjects == 0, (what, memory, seconds)


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


# -- links in a gallery's folder


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """Somebody's folder, outside the gallery."""
    folder = tmp_path / "precious"
    folder.mkdir()
    (folder / "thesis.txt").write_text("precious")
    return folder


def filled(place: Path, count: int = 1500) -> gallery.Gallery:
    people = gallery.open(place, gallery.Precomputed(4))
    people.enroll_many(
        [(f"s{at}", [row]) for at, row in enumerate(np.random.default_rng(0).normal(size=(count, 4)))]
    )
    return people


@pytest.mark.parametrize("name", ["index", "damaged-20260101T000000.000000Z"])
def test_a_link_leads_no_deletion_and_no_file_out_of_the_folder(
    tmp_path: Path, precious: Path, name: str
) -> None:
    with filled(tmp_path / "g") as people:
        (tmp_path / "g" / name).symlink_to(precious)
        # An index file is written at the end, because there are more than a thousand.
        assert people.identify(np.ones(4)).nearest is not None
    with gallery.open(tmp_path / "g") as people:
        people.remove("s1", erase=True)
        people.reindex("exact")
    assert [one.name for one in precious.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("name", ["index", "damaged-20260101T000000.000000Z"])
def test_a_folder_where_none_should_be_is_no_hindrance_to_an_erasure(tmp_path: Path, name: str) -> None:
    with filled(tmp_path / "g", 3) as people:
        (tmp_path / "g" / name / "folder").mkdir(parents=True)
        people.remove("s1", erase=True)
        assert people.ids() == ["s0", "s2"]
