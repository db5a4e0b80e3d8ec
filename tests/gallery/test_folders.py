"""Walking folders as they are found in the wild, and equal files by their bytes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gallery import folders
from gallery.errors import InvalidItemError
from gallery.folders import FoundFile, file_hash, identical_files, subject_folders, subject_walks, walk


def fill(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def names(root: Path, found: folders.Walk) -> list[str]:
    return [str(Path(file.path).relative_to(root)) for file in found.files]


def test_images_of_any_depth_sorted_with_their_sizes(tmp_path: Path) -> None:
    fill(tmp_path, {"b/2.JPG": b"22", "b/1.png": b"1", "a.jpeg": b"", "b-c/x.webp": b"333"})
    fill(tmp_path, {"b/deep/er/y.gif": b"4"})
    found = walk(tmp_path)
    assert names(tmp_path, found) == ["a.jpeg", "b/1.png", "b/2.JPG", "b/deep/er/y.gif", "b-c/x.webp"]
    assert [file.size for file in found.files] == [0, 1, 2, 1, 3]
    assert (found.problems, dict(found.passed_over)) == ((), {})


def test_what_is_passed_over_is_counted_by_reason(tmp_path: Path) -> None:
    fill(tmp_path, {"a.png": b"1", ".hidden.png": b"1", ".git/b.png": b"1", "notes.txt": b"1"})
    fill(tmp_path, {"Makefile": b""})
    (tmp_path / "link.png").symlink_to("a.png")
    os.link(tmp_path / "a.png", tmp_path / "z-hard.png")
    found = walk(tmp_path)
    assert names(tmp_path, found) == ["a.png"]
    assert dict(found.passed_over) == {
        "hidden": 2,
        "other kind of file": 2,
        "symbolic link": 1,
        "another name of a file already taken": 1,
    }
    every = walk(tmp_path, suffixes=None)
    assert names(tmp_path, every) == ["Makefile", "a.png", "notes.txt"]


def test_links_are_followed_on_demand_and_loops_end(tmp_path: Path) -> None:
    inside, outside = fill(tmp_path / "in", {"a.png": b"1", "sub/b.png": b"2"}), tmp_path / "out"
    fill(outside, {"c.png": b"3"})
    (inside / "sub" / "up").symlink_to(inside)
    (inside / "0-to-sub").symlink_to("sub")
    (inside / "out").symlink_to(outside)
    (inside / "self.png").symlink_to("self.png")
    (inside / "gone.png").symlink_to("nothing.png")
    found = walk(inside, links=True)
    assert names(inside, found) == ["a.png", "out/c.png", "sub/b.png"]
    assert [(Path(p.path).name, p.reason) for p in found.problems] == [
        ("gone.png", "is a link to nothing, or to itself"),
        ("self.png", "is a link to nothing, or to itself"),
    ]
    assert found.passed_over["folder reached by another path"] == 2
    assert names(inside, walk(inside)) == ["a.png", "sub/b.png"]


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/caf\xe9.png"
    try:
        Path(os.fsdecode(raw)).write_bytes(b"1")
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    (file,) = walk(tmp_path).files
    assert os.fsencode(file.path) == raw
    assert file_hash(file.path) == "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"
    assert str(folders.Unreadable(file.path, "no")) == f"{tmp_path}/caf\\xe9.png: no"


def test_a_folder_as_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, {"in/a.png": b"1"})
    monkeypatch.chdir(tmp_path)
    assert walk("in").files == (FoundFile("in/a.png", 1),)


def test_folders_that_cannot_be_walked(tmp_path: Path) -> None:
    fill(tmp_path, {"a.png": b"1"})
    with pytest.raises(InvalidItemError, match="no such folder"):
        walk(tmp_path / "none")
    with pytest.raises(InvalidItemError, match="is a file; a folder of items is needed"):
        walk(tmp_path / "a.png")


def test_a_subfolder_without_permission_and_one_that_vanishes_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, {"a.png": b"1", "locked/b.png": b"2", "gone/c.png": b"3"})
    listed = os.scandir

    def scandir(path: Any) -> Any:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        if str(path).endswith("gone"):
            raise FileNotFoundError(2, "No such file or directory", path)
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = walk(tmp_path)
    assert names(tmp_path, found) == ["a.png"]
    assert sorted((Path(p.path).name, p.reason) for p in found.problems) == [
        ("gone", "vanished while the folder was read"),
        ("locked", "permission denied"),
    ]


def test_a_file_that_vanishes_while_walking_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, {"a.png": b"1", "b.png": b"2"})
    listed = os.scandir

    @contextmanager
    def scandir(path: Any) -> Iterator[Any]:
        with listed(path) as found:
            entries = list(found)
        (tmp_path / "b.png").unlink()
        yield entries

    monkeypatch.setattr(os, "scandir", scandir)
    found = walk(tmp_path)
    assert names(tmp_path, found) == ["a.png"]
    (problem,) = found.problems
    assert (problem.path, problem.reason) == (str(tmp_path / "b.png"), "vanished while the folder was read")


def test_the_root_that_cannot_be_listed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scandir(path: Any) -> Any:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(InvalidItemError, match="cannot be listed: permission denied"):
        walk(tmp_path)


def test_identical_files_are_found_by_size_and_then_by_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = {"c.png": b"same", "a.png": b"same", "b.png": b"othr", "x/d.png": b"same", "only.png": b"alone!"}
    fill(tmp_path, {**data, "e1.png": b"", "e2.png": b"", "p.png": b"12345", "q.png": b"12345"})
    hashed: list[str] = []

    def noted(path: str) -> str:
        hashed.append(Path(path).name)
        return file_hash(path)

    monkeypatch.setattr(folders, "file_hash", noted)
    found = identical_files(walk(tmp_path).files)
    assert [[Path(file.path).name for file in same] for same in found] == [
        ["a.png", "c.png", "d.png"],
        ["p.png", "q.png"],
    ]
    assert sorted(hashed) == ["a.png", "b.png", "c.png", "d.png", "p.png", "q.png"]


def test_a_file_that_vanishes_before_it_is_hashed_is_in_no_set(tmp_path: Path) -> None:
    files = walk(fill(tmp_path, {"a.png": b"1", "b.png": b"1", "c.png": b"1"})).files
    (tmp_path / "b.png").unlink()
    (same,) = identical_files(files)
    assert [Path(file.path).name for file in same] == ["a.png", "c.png"]


def test_subject_folders_gives_ids_and_paths(tmp_path: Path) -> None:
    fill(tmp_path, {"bob/1.png": b"1", "bob/more/2.png": b"2", "alice/1.jpg": b"3"})
    fill(tmp_path, {"alice/t.txt": b"", "x.png": b"", ".cache/1.png": b"4"})
    (tmp_path / "empty").mkdir()
    (tmp_path / "carol").symlink_to(tmp_path / "bob")
    assert subject_folders(tmp_path) == [
        ("alice", [f"{tmp_path}/alice/1.jpg"]),
        ("bob", [f"{tmp_path}/bob/1.png", f"{tmp_path}/bob/more/2.png"]),
        ("carol", [f"{tmp_path}/carol/1.png", f"{tmp_path}/carol/more/2.png"]),
    ]
    walks = subject_walks(tmp_path)
    assert list(walks) == ["alice", "bob", "carol", "empty"]
    assert walks["alice"].passed_over == {"other kind of file": 1}


def test_subject_folders_that_cannot_be_used(tmp_path: Path) -> None:
    fill(tmp_path, {"a.png": b"1"})
    with pytest.raises(InvalidItemError, match="no subfolders: make one for each id"):
        subject_folders(tmp_path)
    fill(tmp_path, {"bob/notes.txt": b"1"})
    with pytest.raises(InvalidItemError, match="no image is in the one subfolder of"):
        subject_folders(tmp_path)
    shutil.rmtree(tmp_path / "bob")
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")).mkdir()
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    with pytest.raises(InvalidItemError, match=r"caf\\xe9 in .* is not UTF-8: rename it"):
        subject_folders(tmp_path)
