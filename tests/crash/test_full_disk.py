"""A full disk, a failing one and a read-only folder: clear errors, and the gallery unharmed."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

import gallery
from tests.crash import shim
from tests.crash.forge import Forges
from tests.crash.script import ENCODER, SCRIPT, embedding, said
from tests.crash.test_fault_points import counted

WORDS = {
    "ENOSPC": ("full", "no room", "no space", "cannot be written", "could not be written", "the disk that"),
    "EIO": ("cannot be made", "cannot be written", "could not be written", "cannot be read", "the disk that"),
    "EROFS": ("cannot be made", "cannot be written", "read-only", "permission", "the disk that"),
}
"""What a message has to say, one of them."""

Failure = tuple[str, int, str, bool]
"""(error, number of the first operation that fails, "fail" or "short", whether all later ones do)."""


def failed(forges: Forges, memory: Path, failure: Failure) -> tuple[list[str], int]:
    """(what was wrong when the disk failed there, how many verbs said that they failed)."""
    error, number, action, sticky = failure
    root = memory / "-".join(map(str, failure))
    root.mkdir()
    environment = shim.settings(
        root,
        at=number,
        action=action,
        error=getattr(errno, error),
        kinds=shim.KINDS[error] if action == "fail" else "write",
        sticky=sticky,
    )
    ended = forges.call("tests.crash.script:run_failing", root=str(root), environment=environment)
    lines = said((root / "ack").read_bytes())
    wrong = [f"{failure}: {SCRIPT[line[1]][0]}: {line[2]}" for line in lines if line[0] == "wrong"]
    if ended["exit"] and not wrong:
        wrong.append(f"{failure}: {ended}")
    failures = [line for line in lines if line[0] == "failed"]
    for _, step, kind, message in failures:
        if kind != "GalleryError" or not any(word in message.lower() for word in WORDS[error]):
            wrong.append(f"{failure}: {SCRIPT[step][0]} says {kind}: {message}")
    answer = forges.call("tests.crash.verify:crashed", root=str(root))
    if answer["exit"]:
        wrong.append(f"{failure}: afterwards {answer['error']}")
    shutil.rmtree(root)
    return wrong, len(failures)


def all_failed(forges: Forges, memory: Path, error: str, many: int) -> None:
    """Fails about so many of the operations that can give this error, once and for long."""
    kinds = shim.KINDS[error].split()
    able = [
        one.number
        for _, one in counted(forges, memory)
        if (one.kind if one.kind != "resize" else "grow") in kinds
    ]
    every = max(1, len(able) // many)
    failures: list[Failure] = [
        (error, number, "fail", bool(position % 2)) for position, number in enumerate(able[::every])
    ]
    if error == "ENOSPC":
        failures += [(error, number, "short", True) for number in able[every // 2 :: 2 * every]]
    results = forges.each(lambda failure: failed(forges, memory, failure), failures)
    wrong = [line for lines, _ in results for line in lines]
    assert not wrong, f"{len(wrong)} of {len(failures)} failures:\n" + "\n".join(wrong[:8])
    assert sum(count for _, count in results) > len(failures) // 3, "hardly anything failed"


@pytest.mark.parametrize("error", ["ENOSPC", "EIO", "EROFS"])
def test_a_failing_disk(forges: Forges, memory: Path, error: str) -> None:
    all_failed(forges, memory, error, many=32)


@pytest.mark.slow
@pytest.mark.parametrize("error", ["ENOSPC", "EIO", "EROFS"])
def test_a_failing_disk_long(forges: Forges, memory: Path, error: str) -> None:
    all_failed(forges, memory, error, many=10_000 if error == "ENOSPC" else 500)


# -- real ones


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[Path]:
    """A small file system of its own in a new folder; skips where that is not permitted."""
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("mounting a small disk takes root")
    made = subprocess.run(
        [mount, "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"mounting a small disk is not permitted here: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def remount(folder: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", folder], check=True)


def fill(folder: Path) -> Path:
    """A file that takes all the space there is."""
    path = folder / "ballast"
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    return path


def small(location: Path) -> gallery.Gallery:
    """A gallery with a few subjects in it."""
    people = gallery.create(location, ENCODER)
    people.enroll_many((id, [embedding(id)] * 2) for id in ("alice", "bob", "carol"))
    return people


def still_there(people: gallery.Gallery) -> None:
    assert people.ids() == ["alice", "bob", "carol"]
    assert people.identify(embedding("bob"), threshold=0.0).best.id == "bob"
    assert people.check() == []


def test_a_full_disk(tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "2m") as disk, small(disk / "g") as people:
        ballast = fill(disk)
        many = [(f"many-{number}", [embedding(f"many-{number}")] * 100) for number in range(10)]
        with pytest.raises(gallery.GalleryError, match="full"):
            people.enroll_many(many)
        still_there(people)
        with pytest.raises(gallery.GalleryError, match="full"):
            gallery.create(disk / "another", ENCODER)
        with pytest.raises(gallery.GalleryError, match=r"full|No space|no room|written"):
            people.export(disk / "export.h5")
        assert not (disk / "export.h5").exists()
        with gallery.open(disk / "g", read_only=True) as reader:
            still_there(reader)
        ballast.unlink()
        still_there(people)
        people.enroll_many(many)
        assert len(people) == 13
        assert people.check() == []


def test_copies_to_a_disk_that_becomes_full(tmp_path: Path) -> None:
    """Whatever is left of it: an export asks for its room before HDF5 begins, which would not survive."""
    encoder = gallery.Precomputed(64)
    rows = np.random.default_rng(0).normal(size=(3000, 1, 64))
    with mounted(tmp_path / "small", "3m") as disk, gallery.create(tmp_path / "g", encoder) as people:
        people.enroll_many((f"s{number}", row) for number, row in enumerate(rows))
        for kept in (0, 200_000, 500_000, 700_000, 850_000):
            ballast = disk / "ballast"
            room = os.statvfs(disk)
            ballast.write_bytes(bytes(max(0, room.f_bavail * room.f_bsize - kept)))
            with pytest.raises(gallery.GalleryError, match="could not be written: No space") as caught:
                people.export(disk / "export.h5")
            assert str(disk) in str(caught.value)
            with pytest.raises(gallery.GalleryError) as caught:
                people.backup(disk / "copy")
            assert str(disk) in str(caught.value) and str(people.location) not in str(caught.value)
            assert list(disk.iterdir()) == [ballast]
            ballast.unlink()
        assert people.export(disk / "export.h5") == 3000
        assert people.check() == []


def test_a_full_disk_at_the_opening(tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "2m") as disk:
        small(disk / "g").close()
        ballast = fill(disk)
        with suppress_clear("full"), gallery.open(disk / "g") as people:
            still_there(people)
            people.remove("alice")
        ballast.unlink()
        with gallery.open(disk / "g") as people:
            assert set(people.ids()) >= {"bob", "carol"}
            assert people.check() == []


@contextmanager
def suppress_clear(words: str) -> Iterator[None]:
    """Lets pass a GalleryError that says so, and that is not about damage; nothing else."""
    try:
        yield
    except gallery.GalleryError as error:
        assert type(error) is gallery.GalleryError, error
        assert words in str(error), error


@pytest.mark.parametrize("closed", [True, False])
def test_a_read_only_disk(tmp_path: Path, closed: bool) -> None:
    """Also one whose gallery was in use when its disk became read-only, as after an error of the disk."""
    with mounted(tmp_path / "small", "4m") as disk:
        people = small(disk / "g")
        if closed:
            people.close()
        else:
            # What a process that was killed leaves: the log and no one who knows it.
            shutil.copytree(disk / "g", disk / "killed")
            people.close()
            shutil.rmtree(disk / "g")
            (disk / "killed").rename(disk / "g")
        remount(disk, "ro")
        try:
            if closed:
                with gallery.open(disk / "g", read_only=True) as reader:
                    still_there(reader)
            else:
                with suppress_clear("cannot be"), gallery.open(disk / "g", read_only=True) as reader:
                    still_there(reader)
            with (
                pytest.raises(gallery.GalleryError, match=r"cannot be|read-only") as caught,
                gallery.open(disk / "g") as writer,
            ):
                writer.enroll("dave", [embedding("dave")])
            assert caught.type is gallery.GalleryError, caught.value
            with pytest.raises(gallery.GalleryError, match=r"cannot be|read-only"):
                gallery.create(disk / "another", ENCODER)
        finally:
            remount(disk, "rw")
        with gallery.open(disk / "g") as people:
            still_there(people)
