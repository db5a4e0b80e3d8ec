"""Galleries where not everything works any more: at the end of a process, in a folder of others."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gallery
from gallery import GalleryError, Precomputed
from gallery.engines import index_files

AT_EXIT = """
import atexit, sys
import numpy as np, gallery
people = gallery.open(sys.argv[1], gallery.Precomputed(64))
def last():
    print(people.identify(np.eye(64)[3], threshold=0.0).best.id, people.check())
    people.enroll_many((f"late{k}", [np.eye(64)[k % 64] + k]) for k in range(1, 3000))
    people.close()
atexit.register(last)
"""


def test_an_atexit_handler_may_search_check_enrol_and_close(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(3000, 64))
    with gallery.open(tmp_path / "g", Precomputed(64)) as people:
        people.enroll_many((f"s{k}", [row]) for k, row in enumerate(rows))
        people.enroll("corner", [np.eye(64)[3]])
    assert list((tmp_path / "g" / "index").iterdir()), "an index file, whose checksum is read by threads"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", AT_EXIT, tmp_path / "g"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "corner []\n", "")
    with gallery.open(tmp_path / "g", Precomputed(64), read_only=True) as people:
        assert len(people) == 3001 + 2999


def test_an_index_file_that_cannot_be_deleted_stops_no_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(paths: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(index_files, "drop", forbidden)
    new = Precomputed(4, name="new")
    with gallery.open(tmp_path / "g", Precomputed(4)) as people:
        people.enroll("p", [[1, 0, 0, 0]])
        people.reindex("Flat")
        people.migrate(new, lambda template: [0, 1, 0, 0])
        assert people.identify([0, 1, 0, 0], threshold=0.0).best.id == "p", "it is that of the new encoder"
        people.rollback(Precomputed(4))
        assert people.identify([1, 0, 0, 0], threshold=0.0).best.id == "p"


def test_a_folder_that_may_not_be_entered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery.open(tmp_path / "g", Precomputed(4)).close()

    def forbidden(path: Path) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "is_file", forbidden)
    for read_only in (False, True):
        with pytest.raises(GalleryError, match="cannot be written or read here: Permission denied"):
            gallery.open(tmp_path / "g", Precomputed(4), read_only=read_only)


def test_closing_writes_nothing_into_a_folder_that_took_the_place(tmp_path: Path) -> None:
    people = gallery.open(tmp_path / "g", Precomputed(64))
    rows = np.random.default_rng(0).normal(size=(3000, 64))
    people.enroll_many((f"s{k}", [row]) for k, row in enumerate(rows))
    (tmp_path / "g").rename(tmp_path / "moved")
    with gallery.open(tmp_path / "g", Precomputed(64)) as others:
        others.enroll("other", [rows[0]])
        before = sorted((tmp_path / "g").iterdir())
        people.close()
        assert sorted((tmp_path / "g").iterdir()) == before
    assert not (tmp_path / "g" / "index").exists()
