"""Galleries that are open while a process is forked: no lock is missing afterwards, and nobody hangs."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gallery
from gallery import GalleryError, Precomputed
from gallery import unpacking as unpacked
from gallery.stores import in_use
from gallery.unpacking import discard_unpacked, unpacking

FORK = multiprocessing.get_context("fork")
CORNERS = np.eye(4, dtype=np.float32)
PATIENCE = 60.0

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@pytest.fixture
def people(tmp_path: Path) -> Iterator[gallery.Gallery]:
    with gallery.open(tmp_path / "g", Precomputed(4)) as opened:
        opened.enroll("p", [CORNERS[2]])
        yield opened


def in_a_fork(work: Callable[..., Any], *arguments: Any) -> Any:
    """What `work(*arguments)` returns in a forked process, or the text of its GalleryError."""
    answers = FORK.SimpleQueue()
    process = FORK.Process(target=_answer, args=(answers, work, arguments))
    process.start()
    process.join(PATIENCE)
    hung = process.exitcode is None
    if hung:
        process.kill()
    assert not hung, "the forked process hangs"
    assert process.exitcode == 0
    return answers.get()


def _answer(answers: Any, work: Callable[..., Any], arguments: Any) -> None:
    try:
        answers.put(work(*arguments))
    except GalleryError as error:
        answers.put(str(error))


def _enrol_in_two_steps(location: Path, ready: Any, go: Any) -> None:
    with gallery.open(location, Precomputed(4)) as mine:
        mine.enroll("c1", [CORNERS[0]])
        ready.set()
        go.wait(PATIENCE)
        mine.enroll("c2", [CORNERS[1]])


@pytest.mark.parametrize("parent", ["keeps it", "closes it", "closes it, and another one comes and goes"])
def test_what_a_forked_worker_commits_stays(people: gallery.Gallery, parent: str) -> None:
    """Whoever closes a catalog last deletes its log: that must not be one that somebody still writes to."""
    ready, go = FORK.Event(), FORK.Event()
    process = FORK.Process(target=_enrol_in_two_steps, args=(people.location, ready, go))
    process.start()
    assert ready.wait(PATIENCE)
    assert people.ids() == ["p", "c1"] if parent == "keeps it" else people.close() is None
    expected = ["p", "c1", "c2"]
    if parent.endswith("goes"):
        with gallery.open(people.location, Precomputed(4)) as another:
            another.enroll("x", [CORNERS[3]])
        expected = ["p", "c1", "x", "c2"]
    go.set()
    process.join(PATIENCE)
    assert process.exitcode == 0
    with gallery.open(people.location, Precomputed(4)) as again:
        assert again.ids() == expected
        assert again.check() == []


def _read(location: Path) -> list[str]:
    with gallery.open(location, read_only=True) as mine:
        return mine.ids()


@pytest.mark.parametrize("read_only", [False, True])
def test_the_parent_goes_on_as_before(people: gallery.Gallery, read_only: bool) -> None:
    with gallery.open(people.location, Precomputed(4), read_only=read_only) as mine:
        assert mine.identify(CORNERS[2], k=1).nearest.id == "p"
        assert in_a_fork(_read, people.location) == ["p"]
        people.enroll("q", [CORNERS[3]])
        assert mine.identify(CORNERS[3], k=1).nearest.id == "q"
        assert in_a_fork(_read, people.location) == ["p", "q"]
        if read_only:
            with pytest.raises(GalleryError, match="opened read-only"):
                mine.remove("q")
        else:
            mine.remove("q")
            assert people.ids() == ["p"]
        assert mine.check() == []
    assert people.ids() == ["p", "q"][: 1 + read_only]
    assert in_use.connections(people.location / "catalog.sqlite") == 1


def test_a_catalog_that_is_replaced_during_the_fork_is_not_taken_for_the_old_one(
    people: gallery.Gallery, tmp_path: Path
) -> None:
    with gallery.open(tmp_path / "other", Precomputed(4)) as other:
        other.enroll("stranger", [CORNERS[0]])
    in_a_fork(os.getpid)
    (tmp_path / "other" / "catalog.sqlite").replace(people.location / "catalog.sqlite")
    with pytest.raises(GalleryError, match="was deleted or replaced since it was opened"):
        people.ids()
    (people.location / "catalog.sqlite").unlink()
    with pytest.raises(GalleryError, match="there is no gallery"):
        people.ids()


def test_a_fork_in_the_middle_of_a_read_leaves_the_worker_without_that_gallery(
    people: gallery.Gallery, tmp_path: Path
) -> None:
    with gallery.open(tmp_path / "other", Precomputed(4)) as other:
        other.enroll("o", [CORNERS[0]])
        with people._engine.generations():
            said = in_a_fork(_read, people.location)
            assert in_a_fork(_read, other.location) == ["o"]
        assert "was in the middle of a read or a write when this process was forked" in said
        assert "spawn" in said
        assert in_a_fork(_read, people.location) == ["p"]
        people.enroll("q", [CORNERS[1]])
        assert people.ids() == ["p", "q"]


def check_locks_are_back(*galleries: gallery.Gallery) -> None:
    for one in galleries:
        asked = threading.Thread(target=one.ids)
        asked.start()
        asked.join(PATIENCE)
        assert not asked.is_alive(), "a lock was not given back"


@contextmanager
def read_by_another_thread(people: gallery.Gallery) -> Iterator[None]:
    busy, leave = threading.Event(), threading.Event()

    def read() -> None:
        with people._engine.generations():
            busy.set()
            leave.wait(PATIENCE)

    thread = threading.Thread(target=read)
    thread.start()
    busy.wait(PATIENCE)
    try:
        yield
    finally:
        leave.set()
        thread.join()


def test_a_fork_does_not_wait_for_ever_for_other_threads(
    people: gallery.Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_use, "PATIENCE", 3.0)
    with ExitStack() as stack:
        others = [stack.enter_context(gallery.open(tmp_path / f"o{k}", Precomputed(4))) for k in range(4)]
        idle = others[-1]
        with ExitStack() as busy:
            for one in (people, *others[:3]):
                busy.enter_context(read_by_another_thread(one))
            answered, stop = [], threading.Event()
            asking = threading.Thread(target=_asked_again_and_again, args=(idle, answered, stop))
            asking.start()
            began = time.monotonic()
            assert "in the middle of a read" in in_a_fork(_read, people.location)
            took = time.monotonic() - began
            # That thread may have held a lock that every gallery needs.
            assert "another thread was in the middle of a read" in in_a_fork(_read, idle.location)
            stop.set()
            asking.join()
        assert 3.0 <= took < 11.0, "one wait, not one for each of four"
        assert any(began + 1.0 < at < began + 2.5 for at in answered), "nobody waits for one that is idle"
        for one in (people, *others):
            assert in_a_fork(_read, one.location) == one.ids()


def _asked_again_and_again(people: gallery.Gallery, answered: list[float], stop: threading.Event) -> None:
    while not stop.wait(0.002):
        people.ids()
        answered.append(time.monotonic())


def test_forks_beside_threads_that_open_and_close(people: gallery.Gallery, tmp_path: Path) -> None:
    with gallery.open(tmp_path / "other", Precomputed(4)) as other:
        other.enroll("o", [CORNERS[0]])
    stop = threading.Event()

    def open_and_close() -> None:
        while not stop.is_set():
            gallery.open(people.location, Precomputed(4), read_only=True).close()

    threads = [threading.Thread(target=open_and_close) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(40):  # one in twelve hung before
            assert in_a_fork(_read, tmp_path / "other") == ["o"]
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_ctrl_c_during_the_wait_of_a_fork_comes_after_it_and_keeps_no_lock(
    people: gallery.Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_use, "PATIENCE", 1.5)
    with gallery.open(tmp_path / "other", Precomputed(4)) as other:
        with read_by_another_thread(people), pytest.raises(KeyboardInterrupt):
            threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
            worker = os.fork()
            if worker == 0:
                os._exit(0)
            os.waitpid(worker, 0)
            time.sleep(PATIENCE)
        check_locks_are_back(people, other)


def test_forks_and_threads_that_write_get_along(people: gallery.Gallery) -> None:
    stop = threading.Event()
    failed: list[BaseException] = []

    def write(name: str) -> None:
        number = 0
        try:
            while not stop.is_set():
                people.enroll(f"{name}{number}", [CORNERS[number % 4]])
                people.remove(f"{name}{number}")
                number += 1
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            assert "p" in in_a_fork(_read, people.location)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failed == []
    assert people.ids() == ["p"]
    assert people.check() == []


def test_threads_that_fork_at_the_same_time_give_every_lock_back(
    people: gallery.Gallery, tmp_path: Path
) -> None:
    with gallery.open(tmp_path / "other", Precomputed(4)) as other:
        failed: list[BaseException] = []

        def fork() -> None:
            try:
                for _ in range(15):
                    process = FORK.Process(target=os.getpid)
                    process.start()
                    process.join(PATIENCE)
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=fork) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        check_locks_are_back(people, other)


@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_ctrl_c_anywhere_in_an_opening_or_a_closing_leaves_no_lock_and_no_count(
    people: gallery.Gallery, step: int
) -> None:
    place, points = people.location, 1
    while _interrupted(points, place):
        gc.collect()
        assert in_use.connections(place / "catalog.sqlite") == 1, f"a count is left after point {points}"
        asked: list[Any] = []
        thread = threading.Thread(target=lambda to=asked: to.append(_read(place)), daemon=True)
        thread.start()
        thread.join(PATIENCE)
        assert asked == [["p"]], f"another thread hangs after point {points}"
        points += step
    assert points > 100


def _interrupted(point: int, place: Path) -> bool:
    """Opens and closes a gallery, with Ctrl-C where its `point`th function begins; False past its end."""
    entered = 0

    def interrupts(frame: Any, event: str, argument: Any) -> None:
        nonlocal entered
        name = frame.f_code.co_filename
        if event == "call" and "/gallery/" in name and "/tests/" not in name:
            entered += 1
            if entered == point:
                sys.settrace(None)
                raise KeyboardInterrupt

    traced, told = sys.gettrace(), sys.unraisablehook
    sys.unraisablehook = lambda *arguments: None
    try:
        sys.settrace(interrupts)
        gallery.open(place, Precomputed(4), read_only=True).close()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(traced)
        sys.unraisablehook = told
    return False


def test_one_that_was_dropped_without_being_closed_is_not_counted(people: gallery.Gallery) -> None:
    path = people.location / "catalog.sqlite"
    dropped = [gallery.open(people.location, Precomputed(4))]
    assert in_use.connections(path) == 2
    dropped.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    assert in_use.connections(path) == 1


def test_a_worker_does_not_share_the_lock_on_unpacked_items(tmp_path: Path) -> None:
    with unpacking(tmp_path) as folder:
        assert discard_unpacked(tmp_path) == [folder], "somebody is at work"
        go, ready = FORK.Event(), FORK.Event()
        worker = FORK.Process(target=_says_so_and_waits, args=(ready, go))
        worker.start()
        assert ready.wait(PATIENCE)
        # As if this process were killed now.
        (handle,) = unpacked._HANDLES
        os.close(handle)
        unpacked._HANDLES.clear()
        assert discard_unpacked(tmp_path) == [] and not folder.exists()
        go.set()
        worker.join(PATIENCE)


def _says_so_and_waits(ready: Any, go: Any) -> None:
    ready.set()
    go.wait(PATIENCE)
