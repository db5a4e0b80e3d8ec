"""Many processes on one gallery: a writer and its readers, waiting, kills, forks, spawns and threads."""

from __future__ import annotations

import copy
import ctypes
import faulthandler
import gc
import multiprocessing
import os
import pickle
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gallery
from gallery import (
    EncoderMismatchError,
    GalleryError,
    GalleryLockedError,
    Precomputed,
    UnknownSubjectError,
)
from gallery.engines.base import Engine
from tests.gallery.doubles import in_another_process, seen, vectors
from tests.gallery.history import DIM, History, Moment, encoder, take

SPAWN = multiprocessing.get_context("spawn")
FORK = multiprocessing.get_context("fork")
CORNERS = np.eye(4, dtype=np.float32)
PATIENCE = 120.0


# -- one writer and four readers


class Clock:
    """How far the writer is: the newest revision that is committed, and the newest that was begun."""

    def __init__(self) -> None:
        self._committed = SPAWN.Value(ctypes.c_int64, 0, lock=False)
        self._begun = SPAWN.Value(ctypes.c_int64, 0, lock=False)
        self._over = SPAWN.Value(ctypes.c_int64, 0, lock=False)

    def begin(self, revision: int) -> None:
        self._begun.value = revision

    def commit(self, revision: int) -> None:
        self._committed.value = revision

    def stop(self) -> None:
        self._over.value = 1

    @property
    def over(self) -> bool:
        return bool(self._over.value)

    @property
    def committed(self) -> int:
        return int(self._committed.value)

    @property
    def begun(self) -> int:
        return int(self._begun.value)


def _write(location: str, clock: Clock, seconds: float, reopens: bool) -> None:
    """Commits as fast as it can; `reopens` in between, which folds the log into the catalog."""
    history, until = History(), time.monotonic() + seconds
    people, now = gallery.open(location, encoder()), history.between(0, 0)[0]
    try:
        while time.monotonic() < until:
            clock.begin(now.revision + 1)
            take(people, now)
            clock.commit(now.revision + 1)
            (now,) = history.between(now.revision + 1, now.revision + 1)
            if reopens and now.revision % 50 == 0:
                people.close()
                people = gallery.open(location, encoder())
    finally:
        clock.stop()
        people.close()


class Reader:
    """Asks without pause, and compares every answer with brute force on each revision that it may be of."""

    def __init__(self, location: str, clock: Clock, seed: int) -> None:
        self.location, self.clock, self.dice = location, clock, random.Random(seed)
        self.probes = vectors(40, DIM, seed)
        self.history = History()
        self.wrong: list[str] = []
        self.asked = dict.fromkeys(self.questions(), 0)
        self.waited = 0
        """Answers that were given while a commit went on."""

    def questions(self) -> dict[str, Callable[[gallery.Gallery], tuple[Any, Callable[[Moment], Any]]]]:
        return {
            "identify": self.identify,
            "verify": self.verify,
            "ids": lambda people: (people.ids(), lambda now: [*now.subjects]),
            "len": lambda people: (len(people), lambda now: len(now.subjects)),
            "templates": self.templates,
            "count": lambda people: (
                people.template_count,
                lambda now: sum(len(one.templates) for one in now.subjects.values()),
            ),
            "subjects": lambda people: (
                [(one.id, one.templates, one.metadata) for one in people.subjects()],
                lambda now: [(id, len(one.templates), one.metadata) for id, one in now.subjects.items()],
            ),
            "info": self.info,
            "log": lambda people: (len(people.log()), lambda now: now.revision),
            "check": lambda people: ([str(one) for one in people.check()], lambda now: []),
        }

    def identify(self, people: gallery.Gallery) -> tuple[Any, Callable[[Moment], Any]]:
        probes, k = self.probes[self.dice.sample(range(40), 6)], self.dice.randint(1, 8)
        answers = people.identify_batch(list(probes), k=k, threshold=100)
        told = [
            [(one.id, one.template, one.distance, one.metadata) for one in answer.candidates]
            for answer in answers
        ]
        return told, lambda now: [
            [
                (id, number, pytest.approx(away, abs=1e-5), now.subjects[id].metadata)
                for id, number, away in now.ranked(row, k)
            ]
            for row in probes
        ]

    def _somebody(self) -> str:
        # Read once: the writer goes on.
        committed = self.clock.committed
        (now,) = self.history.between(committed, committed)
        return self.dice.choice([*now.subjects, "nobody"])

    def verify(self, people: gallery.Gallery) -> tuple[Any, Callable[[Moment], Any]]:
        id, row = self._somebody(), self.probes[self.dice.randrange(40)]
        told: Any = "unknown"
        try:
            answer = people.verify(id, row)
            told = answer.template, answer.distance, answer.accepted
        except UnknownSubjectError:
            pass

        def right(now: Moment) -> Any:
            if id not in now.subjects:
                return "unknown"
            number, away = now.nearest_of(id, row)
            return number, pytest.approx(away, abs=1e-5), away <= 4.0

        return told, right

    def templates(self, people: gallery.Gallery) -> tuple[Any, Callable[[Moment], Any]]:
        id = self._somebody()
        told: Any = None
        with suppress(UnknownSubjectError):
            told = tuple(one.template for one in people.templates(id))
        return told, lambda now: now.subjects[id].templates if id in now.subjects else None

    def info(self, people: gallery.Gallery) -> tuple[Any, Callable[[Moment], Any]]:
        found = people.info()
        return (found.revision, found.subjects, found.templates), lambda now: (
            now.revision,
            len(now.subjects),
            sum(len(one.templates) for one in now.subjects.values()),
        )

    def ask(self, people: gallery.Gallery, name: str) -> None:
        # Whoever asks for a subject looks at the clock before that.
        first = self.clock.committed
        told, right = self.questions()[name](people)
        last = self.clock.begun
        moments = self.history.between(first, last)
        self.asked[name] += 1
        self.waited += len(moments) > 1
        if not any(right(now) == told for now in moments):
            self.wrong.append(f"{name} between {first} and {last}: {told}")

    def run(self, reopens: bool) -> None:
        people = gallery.open(self.location, encoder(), read_only=True)
        rarely = ("check", "log", "subjects", "info")
        try:
            while not self.clock.over and len(self.wrong) < 3:
                name = self.dice.choice([*self.asked])
                if name not in rarely or self.dice.random() < 0.3:
                    self.ask(people, name)
                if reopens and self.dice.random() < 0.1:
                    people.close()
                    people = gallery.open(self.location, encoder(), read_only=self.dice.random() < 0.5)
        finally:
            people.close()


def _read(location: str, clock: Clock, seed: int, reopens: bool, told: Any) -> None:
    reader = Reader(location, clock, seed)
    try:
        reader.run(reopens)
    except BaseException as error:
        import traceback

        reader.wrong.append("".join(traceback.format_exception(error)))
    told.put((reader.wrong, reader.asked, reader.waited))


def _live(location: Path, seconds: float, writer_reopens: bool) -> None:
    gallery.open(location, encoder()).close()
    clock, told = Clock(), SPAWN.SimpleQueue()
    readers = [
        SPAWN.Process(target=_read, args=(str(location), clock, seed, seed >= 2, told)) for seed in range(4)
    ]
    for one in readers:
        one.start()
    writer = SPAWN.Process(target=_write, args=(str(location), clock, seconds, writer_reopens))
    writer.start()
    answers = [told.get() for _ in readers]
    for one in (writer, *readers):
        one.join(PATIENCE)
    assert [wrong for wrong, _, _ in answers] == [[], [], [], []]
    assert [one.exitcode for one in (writer, *readers)] == [0] * 5
    assert clock.committed == clock.begun > 20
    for name in answers[0][1]:
        assert sum(asked[name] for _, asked, _ in answers) > 0, f"nobody asked for {name}"
    assert sum(waited for _, _, waited in answers) > 0, "no answer was given while a commit went on"
    with gallery.open(location, encoder(), read_only=True) as people:
        (now,) = History().between(0, clock.committed)[-1:]
        assert people.ids() == [*now.subjects]
        assert people.check() == []
        assert [one.revision for one in people.log()] == [*range(1, clock.committed + 1)]


def test_readers_see_whole_revisions_while_one_writes(tmp_path: Path) -> None:
    _live(tmp_path / "g", 5, writer_reopens=False)


@pytest.mark.slow
@pytest.mark.parametrize("writer_reopens", [False, True])
def test_readers_see_whole_revisions_for_half_a_minute(tmp_path: Path, writer_reopens: bool) -> None:
    _live(tmp_path / "g", 30, writer_reopens)


def _set_settings(location: str, clock: Clock) -> None:
    with gallery.open(location) as people:
        for n in range(100_000):
            if clock.over:
                return
            people._engine.set_setting("threshold", f'{{"threshold": {n % 7}}}')
            people._engine.set_setting("note", str(n) if n % 2 else None)
            clock.commit(n)


def test_settings_that_change_are_not_taken_for_damage(tmp_path: Path) -> None:
    gallery.create(tmp_path / "g", Precomputed(4, threshold=0.5)).close()
    clock = Clock()
    writer = SPAWN.Process(target=_set_settings, args=(str(tmp_path / "g"), clock))
    writer.start()
    try:
        while clock.committed < 10:
            time.sleep(0.01)
        until = time.monotonic() + 2
        with gallery.open(tmp_path / "g", read_only=True) as people:
            while time.monotonic() < until:
                assert people.threshold in (0.5, *range(7))
                assert people.check() == []
                gallery.open(tmp_path / "g", read_only=True).close()
                assert gallery.check(tmp_path / "g") == []
    finally:
        clock.stop()
        writer.join(PATIENCE)
    assert writer.exitcode == 0


class Interrupting:
    """Vectors as they are; another process enrols whenever a batch of them is encoded."""

    dim, metric, fingerprint, canary = 4, "euclidean", "interrupting", None

    def __init__(self) -> None:
        self.between: Callable[[], None] = lambda: None

    def encode(self, items: Any) -> np.ndarray:
        self.between()
        return np.array([*items], np.float32)


def test_a_long_batch_is_answered_from_one_revision(tmp_path: Path) -> None:
    mine, others = Interrupting(), Interrupting()
    with gallery.open(tmp_path / "g", mine) as people, gallery.open(tmp_path / "g", others) as writer:
        writer.enroll("s0", [[0, 0, 0, 0]])

        def enroll() -> None:
            writer.enroll(f"s{len(writer)}", [[0, 0, 0, 0]])

        mine.between = enroll
        answers = people.identify_batch(np.zeros((3000, 4), np.float32), k=50, threshold=1)
        assert len(writer) > 3
        assert len({len(answer.candidates) for answer in answers}) == 1


# -- waiting for the lock, and dying with it


_HOLD = """
import os, signal, sys, time
import numpy as np
import gallery
people = gallery.open(sys.argv[1], gallery.Precomputed(4))
store = people._engine._store
with store.commit("enroll"):
    from gallery.stores.base import NewTemplates
    store.add([NewTemplates(f"lost{n}", np.eye(4, dtype=np.float32), [None] * 4) for n in range(500)])
    print("holding", flush=True)
    if sys.argv[2] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.readline()
print("done", flush=True)
people.close()
"""


class Holder:
    """A process inside a commit."""

    def __init__(self, location: Path, how: str) -> None:
        import subprocess

        self.process = subprocess.Popen(
            [sys.executable, "-c", _HOLD, str(location), how],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parents[2],
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "holding\n"

    def finish(self) -> None:
        self.process.communicate("\n", timeout=PATIENCE)
        assert self.process.returncode == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=PATIENCE)


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Holder]:
    gallery.create(tmp_path / "g", Precomputed(4)).close()
    holder = Holder(tmp_path / "g", "wait")
    yield holder
    if holder.process.poll() is None:
        holder.kill()


def test_a_second_writer_waits_so_long_and_says_why_it_gave_up(held: Holder, tmp_path: Path) -> None:
    with gallery.open(tmp_path / "g", Precomputed(4), lock_timeout=0.7) as people:
        start = time.monotonic()
        with pytest.raises(GalleryLockedError) as caught:
            people.enroll("a", CORNERS)
        assert 0.6 < time.monotonic() - start < 25  # the default is 30 s
        assert f"another writer has held {tmp_path / 'g'} for longer than the lock timeout" in str(
            caught.value
        )
        assert isinstance(caught.value, TimeoutError)
        # Whoever only reads does not wait, and sees nothing of what is not committed.
        assert (people.ids(), people.identify(CORNERS[0]).nearest) == ([], None)
        held.finish()
        # The one that held it may have written its index file when it closed.
        assert people.enroll("a", CORNERS).revision in (2, 3)
        assert len(people) == 501


def test_a_second_writer_goes_on_when_the_first_is_done(held: Holder, tmp_path: Path) -> None:
    with gallery.open(tmp_path / "g", Precomputed(4), lock_timeout=PATIENCE) as people:
        timer = threading.Timer(0.5, held.finish)
        start = time.monotonic()
        timer.start()
        assert people.enroll("a", CORNERS).revision in (2, 3)
        assert time.monotonic() - start > 0.3
        timer.join()


def test_the_command_line_says_so_too(held: Holder, tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    from gallery.cli import main
    from gallery.stores import catalog

    whole = catalog._open
    monkeypatch.setattr(
        catalog, "_open", lambda path, mode, wait, **kw: whole(path, mode, min(wait, 0.2), **kw)
    )
    assert main(["compact", str(tmp_path / "g")]) == 3
    assert "another writer has held" in capsys.readouterr().err


def test_a_writer_killed_inside_a_commit_blocks_nobody(tmp_path: Path) -> None:
    with gallery.create(tmp_path / "g", Precomputed(4), lock_timeout=PATIENCE) as people:
        people.enroll("a", CORNERS)
        for n in range(3):
            holder = Holder(tmp_path / "g", "die")
            assert holder.process.wait(PATIENCE) == -signal.SIGKILL
            holder.process.communicate()
            people.enroll(f"b{n}", CORNERS)
        assert (people.ids(), people.info().revision) == (["a", "b0", "b1", "b2"], 4)
        assert [one.template for one in people.templates("b2")] == [13, 14, 15, 16]
        assert people.check() == []


def test_a_killed_writer_nobody_else_was_there_for(tmp_path: Path) -> None:
    gallery.create(tmp_path / "g", Precomputed(4)).close()
    Holder(tmp_path / "g", "die").process.communicate()
    with gallery.open(tmp_path / "g", Precomputed(4), lock_timeout=PATIENCE) as people:
        assert people.enroll("a", CORNERS).revision == 1
        assert people.check() == []


# -- workers that are forked or spawned


class Probes:
    """A dataset as PyTorch takes it, that holds an open gallery."""

    def __init__(self, people: Any) -> None:
        self.people = people

    def __len__(self) -> int:
        return 4

    def __getitem__(self, at: int) -> str:
        return str(self.people.identify(CORNERS[at], k=1).best.id)


class Opened:
    """A dataset that opens the gallery in the worker, when it is first asked."""

    def __init__(self, location: str) -> None:
        self.location, self.people = location, None

    __len__ = Probes.__len__

    def __getitem__(self, at: int) -> str:
        if self.people is None:
            self.people = gallery.open(self.location, read_only=True)
        return str(self.people.identify(CORNERS[at], k=1).best.id)


@pytest.fixture
def people(tmp_path: Path) -> Iterator[gallery.Gallery]:
    with gallery.open(tmp_path / "g", Precomputed(4, "euclidean")) as people:
        people.enroll_many((f"c{n}", [row]) for n, row in enumerate(CORNERS))
        yield people


def _loaded(dataset: Any, context: str) -> list[str]:
    from torch.utils.data import DataLoader

    loader = DataLoader(dataset, batch_size=1, num_workers=2, multiprocessing_context=context, timeout=60)
    return [one[0] for one in loader]


def test_a_dataloader_that_forks_is_told_to_open_in_the_worker(people: gallery.Gallery) -> None:
    with pytest.raises(GalleryError, match="before this process was forked: open it again in the worker"):
        _loaded(Probes(people), "fork")
    assert people.identify(CORNERS[2], k=1).best.id == "c2"
    assert people.enroll("more", CORNERS[:1]).revision == 2


def test_a_dataloader_that_spawns_is_told_to_open_in_the_worker(people: gallery.Gallery) -> None:
    with pytest.raises(GalleryError, match=r"cannot be sent to another process.*open it in the worker"):
        _loaded(Probes(people), "spawn")


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_a_dataloader_whose_workers_open_it_themselves(people: gallery.Gallery, context: str) -> None:
    assert _loaded(Opened(str(people.location)), context) == ["c0", "c1", "c2", "c3"]


def _ask_anew(location: str, answers: Any) -> None:
    with gallery.open(location, read_only=True) as people:
        answers.put([one.best.id for one in people.identify_batch(CORNERS, k=1)])


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("searching", [False, True], ids=["after searches", "during a search"])
def test_a_forked_worker_that_opens_it_again_can_search(people: gallery.Gallery, searching: bool) -> None:
    """FAISS's threads are not there in the fork, nor is whoever held its lock."""
    from gallery.indexes import library

    rows = np.random.default_rng(0).normal(size=(2000, 4)).astype(np.float32) + 9
    people.enroll_many((f"far{at}", [row]) for at, row in enumerate(rows))
    people.identify_batch(CORNERS)
    answers = FORK.SimpleQueue()
    process = FORK.Process(target=_ask_anew, args=(str(people.location), answers))
    with library.tuned(4) if searching else nullcontext():
        process.start()
    process.join(20)
    if process.exitcode is None:
        process.kill()
        pytest.fail("the forked process hangs")
    assert answers.get() == ["c0", "c1", "c2", "c3"]


@pytest.mark.parametrize("duplicate", [pickle.dumps, copy.copy, copy.deepcopy])
def test_an_open_gallery_is_not_copied(people: gallery.Gallery, duplicate: Callable[[Any], Any]) -> None:
    with pytest.raises(GalleryError, match=rf"{people.location} is open here.*open it in the worker"):
        duplicate(people)


def _ask_forked(people: gallery.Gallery, answers: Any) -> None:
    for use in (
        lambda: people.identify(CORNERS[0]),
        lambda: people.verify("c0", CORNERS[0], threshold=1),
        lambda: people.enroll("b", CORNERS),
        lambda: people.remove("c0"),
        lambda: people.compact(),
        lambda: people.log(),
        lambda: people.check(),
        lambda: people.info(),
        lambda: len(people),
        lambda: people.threshold,
        lambda: people.export("nowhere.h5"),
        lambda: people.backup("nowhere"),
    ):
        try:
            use()
            answers.put("answered")
        except GalleryError as error:
            answers.put(str(error))
    answers.put(repr(people))
    people.close()
    answers.put("closed")


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_while_another_thread_holds_the_lock_does_not_hang(people: gallery.Gallery) -> None:
    engine = people._engine
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with engine._at_one_revision(), people._binding:  # type: ignore[attr-defined]
            inside.set()
            leave.wait(PATIENCE)

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait(PATIENCE)
    answers = FORK.SimpleQueue()
    process = FORK.Process(target=_ask_forked, args=(people, answers))
    process.start()
    process.join(20)
    hung = process.exitcode is None
    if hung:
        process.kill()
    leave.set()
    thread.join()
    assert not hung, "the forked process hangs"
    told = [answers.get() for _ in range(14)]
    assert all("before this process was forked: open it again in the worker" in one for one in told[:12]), (
        told
    )
    assert told[12].startswith("<Gallery ") and told[13] == "closed"
    assert people.ids() == ["c0", "c1", "c2", "c3"]


def _search_again(location: str, answers: Any) -> None:
    faulthandler.dump_traceback_later(40, file=2)  # should it hang, where
    with gallery.open(location, Precomputed(16), read_only=True) as people:
        found = people.identify_batch(np.eye(16))
    answers.put([one.nearest.id for one in found])


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_worker_forked_while_another_thread_searches_can_search(tmp_path: Path) -> None:
    """OpenMP's threads of the parent are not there, nor is whoever held a lock of a module at the fork."""
    stop = threading.Event()
    with gallery.open(tmp_path / "g", Precomputed(16)) as people:
        rows = np.random.default_rng(0).normal(size=(3000, 16))
        people.enroll_many((str(at), [row]) for at, row in enumerate(rows))
        people.enroll_many((f"e{at}", [row]) for at, row in enumerate(np.eye(16)))
        people.identify_batch(np.eye(16))

        def search() -> None:
            while not stop.is_set():
                people.identify_batch(np.eye(16))

        thread = threading.Thread(target=search)
        thread.start()
        try:
            for _ in range(3):
                answers = FORK.SimpleQueue()
                process = FORK.Process(target=_search_again, args=(str(people.location), answers))
                process.start()
                process.join(60)
                if process.exitcode is None:
                    process.kill()
                assert process.exitcode == 0
                assert answers.get() == [f"e{at}" for at in range(16)]
        finally:
            stop.set()
            thread.join()


def _drop(people: list[gallery.Gallery], ready: Any, go: Any) -> None:
    ready.set()
    go.wait(PATIENCE)
    people.clear()
    gc.collect()


@pytest.mark.parametrize("parent_closes", [False, True])
def test_a_forked_copy_that_is_thrown_away_takes_nothing_with_it(tmp_path: Path, parent_closes: bool) -> None:
    """Not even what another process committed meanwhile and could not fold into the catalog any more."""
    held = [gallery.open(tmp_path / "g", Precomputed(4))]
    held[0].enroll("a", CORNERS)
    ready, go = FORK.Event(), FORK.Event()
    process = FORK.Process(target=_drop, args=(held, ready, go))
    process.start()
    ready.wait(PATIENCE)
    if parent_closes:
        held[0].close()
        in_another_process(_COMMIT_AND_DIE, tmp_path / "g")
    else:
        held[0].enroll("b", CORNERS)
    go.set()
    process.join(PATIENCE)
    assert process.exitcode == 0
    held[0].close()
    with gallery.open(tmp_path / "g", Precomputed(4)) as people:
        assert people.ids() == ["a", "b"]
        assert people.check() == []


_COMMIT_AND_DIE = """
import os, subprocess, sys
import gallery
if len(sys.argv) == 3:
    people = gallery.open(sys.argv[1], gallery.Precomputed(4))
    people.enroll("b", [[1, 2, 3, 4]])
    os.kill(os.getpid(), 9)
assert subprocess.run([sys.executable, "-c", open("/proc/self/cmdline").read().split("\\0")[4],
                       sys.argv[1], "child"]).returncode == -9
"""


# -- threads that share one object


@pytest.mark.parametrize("verb", ["identify", "enroll", "ids", "verify", "log", "export", "backup"])
def test_a_thread_that_closes_while_another_is_busy(
    people: gallery.Gallery, tmp_path: Path, verb: str
) -> None:
    uses: dict[str, Callable[[int], Any]] = {
        "identify": lambda n: people.identify_batch(CORNERS, k=2),
        "enroll": lambda n: people.enroll(f"n{n}", CORNERS),
        "ids": lambda n: people.ids(),
        "verify": lambda n: people.verify("c0", CORNERS[0], threshold=1),
        "log": lambda n: people.log(),
        "export": lambda n: people.export(tmp_path / f"{n}.h5"),
        "backup": lambda n: people.backup(tmp_path / f"b{n}"),
    }
    ended: list[BaseException] = []
    busy = threading.Event()

    def work() -> None:
        try:
            for n in range(1_000_000):
                uses[verb](n)
                busy.set()
        except BaseException as error:
            ended.append(error)

    threads = [threading.Thread(target=work)] + [threading.Thread(target=work)] * (verb == "identify")
    for thread in threads:
        thread.start()
    busy.wait(PATIENCE)
    time.sleep(0.05)
    people.close()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert [type(one) for one in ended] == [GalleryError] * len(threads), ended
    assert all(str(one) == f"{people.location} was closed" for one in ended)
    with gallery.open(people.location) as again:
        assert again.check() == []


def test_threads_that_migrate_and_ask(tmp_path: Path) -> None:
    """An answer is by the encoder that was asked, or EncoderMismatchError; never a mixture."""
    before, after = Precomputed(4, "euclidean", "before"), Precomputed(4, "euclidean", "after")
    with gallery.open(tmp_path / "g", before) as people:
        people.enroll_many((f"c{n}", [row]) for n, row in enumerate(CORNERS))
        wrong: list[Any] = []
        over = threading.Event()

        def ask() -> None:
            while not over.is_set():
                try:
                    answer = people.identify(CORNERS[1], k=1, threshold=9)
                    if seen(answer) not in ([("c1", 0.0, 2)], [("c1", 3.0, 2)]):
                        wrong.append(answer)
                except EncoderMismatchError:
                    pass
                except BaseException as error:
                    wrong.append(error)

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(5):
            people.migrate(after, {f"c{n}": [4 * row] for n, row in enumerate(CORNERS)})
            people.rollback(before)
        over.set()
        for thread in threads:
            thread.join()
        assert wrong == []


def test_engines_say_what_they_are() -> None:
    """What these tests look into is still there."""
    assert hasattr(Engine, "set_setting")
    assert os.name == "posix"
