"""Removal is erasure: the raw bytes of all files are searched for what was removed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import gallery
from gallery import UnknownSubjectError
from gallery.cli import main
from tests.gallery.doubles import contents
from tests.gallery.traces import Files, Person, kinds, left

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
