"""What a child does to a gallery, step by step, and the model of what is there after each step.

The child says what it begins and what is done in the file `ack` beside the gallery, a line of JSON each:
["begin", step], ["done", step], ["failed", step, kind, message], ["wrong", step, message].
"""

from __future__ import annotations

import json
import os
import sqlite3
import traceback
import zlib
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import gallery
from gallery.stores import in_use
from tests.crash import shim

DIM = 16
ENCODER = gallery.Precomputed(DIM, "euclidean", "crash")

Step = tuple[Any, ...]
Said = list[list[Any]]

_MANY = {f"many-{number}": 3 for number in range(360)}

SCRIPT: list[Step] = [
    ("create",),
    ("enroll", "alice", 2, {"badge": 7}),
    ("enroll_many", {"bob": 1, "carol": 3, "dave": 2, "erin": 1}),
    ("enroll", "alice", 1, {"floor": 3}),
    ("remove", "bob"),
    ("ask", "carol"),
    ("remove_templates", "carol", 1),
    ("remove_erased", "dave"),
    ("enroll", "bob", 2, None),
    ("enroll_many", _MANY),
    ("remove", "many-3"),
    ("close",),
    ("open",),
    ("ask", "many-4"),
    ("enroll", "frank", 2, {"badge": 8}),
    ("remove", "many-5"),
    ("remove_templates", "many-6", 3),
    ("remove_erased", "erin"),
    ("enroll", "grace", 1, None),
    ("merge", "many-10", "many-11"),
    ("undo",),
    ("split", "many-12", "half-12", 1),
    ("undo",),
    ("rename", "many-13", "called-13"),
    ("compact",),
    ("ask", "grace"),
    ("close",),
    ("open",),
    ("enroll", "heidi", 1, None),
    ("remove_erased", "alice"),
    ("ask", "heidi"),
    ("close",),
]
"""Every verb that writes; more than a thousand templates, so that index files are written and dropped."""


@dataclass
class Model:
    """What is in a gallery."""

    subjects: dict[str, tuple[int, dict[str, Any]]] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    erased: set[str] = field(default_factory=set)
    numbers: int = 0
    """How many template numbers were given."""
    made: bool = False
    before: dict[str, tuple[int, dict[str, Any]]] = field(default_factory=dict)
    """The subjects before the last step, which an undo brings back."""

    def after(self, step: Step) -> Model:
        """The model once a step is done."""
        subjects, gone, erased = dict(self.subjects), set(self.gone), set(self.erased)
        verb, *rest = step
        added: dict[str, tuple[int, Any]] = {}
        if verb == "enroll":
            added = {rest[0]: (rest[1], rest[2])}
        elif verb == "enroll_many":
            added = {id: (count, None) for id, count in rest[0].items()}
        for id, (count, metadata) in added.items():
            before, known = subjects.get(id, (0, {}))
            subjects[id] = (before + count, known | (metadata or {}))
        if verb == "remove_templates":
            before, known = subjects.pop(rest[0])
            if before > rest[1]:
                subjects[rest[0]] = (before - rest[1], known)
        elif verb in ("remove", "remove_erased"):
            del subjects[rest[0]]
        elif verb in _ORDERING:
            # What changed hands under another id is not gone.
            return Model(
                _ordered(step, subjects, self.before), gone, erased, self.numbers, True, self.subjects
            )
        gone = (gone | set(self.subjects)) - set(subjects)
        # What was enrolled again is there again, and what is gone at an erasure is really gone.
        erased = (erased | gone if verb in ("remove_erased", "compact") else erased) & gone
        numbers = self.numbers + sum(count for count, _ in added.values())
        return Model(subjects, gone, erased, numbers, self.made or verb == "create", self.subjects)


_ORDERING = ("merge", "split", "rename", "undo")


def _ordered(
    step: Step,
    subjects: dict[str, tuple[int, dict[str, Any]]],
    before: dict[str, tuple[int, dict[str, Any]]],
) -> dict[str, tuple[int, dict[str, Any]]]:
    """The subjects after a verb that puts them in order."""
    verb, *rest = step
    if verb == "merge":
        into, other = rest
        count, known = subjects.pop(other)
        subjects[into] = (subjects[into][0] + count, known | subjects[into][1])
    elif verb == "split":
        id, new, count = rest
        parts = {id: (subjects[id][0] - count, subjects[id][1]), new: (count, {})}
        at = list(subjects).index(id)
        pairs = list(subjects.items())
        # Beside each other, and not at the end, where the vectors of every id are asked for.
        subjects = dict([*pairs[:at], *parts.items(), *pairs[at + 1 :]])
    elif verb == "rename":
        old, new = rest
        subjects = {new if id == old else id: what for id, what in subjects.items()}
    else:
        subjects = before
    return subjects


def model(script: list[Step], done: int) -> Model:
    """The model after the first `done` steps."""
    state = Model()
    for step in script[:done]:
        state = state.after(step)
    return state


def embedding(id: str) -> np.ndarray:
    """The vector that every template of `id` has."""
    return np.random.default_rng(zlib.crc32(id.encode())).standard_normal(DIM).astype(np.float32)


class Child:
    """Carries a script out in the folder `root`: the gallery is `root`/g, the acknowledgements `root`/ack."""

    def __init__(self, root: Path) -> None:
        self.location = root / "g"
        self.people: gallery.Gallery | None = None
        self._ack = os.open(root / "ack", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def say(self, *words: Any) -> None:
        os.write(self._ack, (json.dumps(words) + "\n").encode())

    def act(self, step: Step) -> None:
        """One step, through the public API."""
        verb, *rest = step
        if verb == "create":
            self.people = gallery.create(self.location, ENCODER)
            return
        if verb == "open":
            self.people = gallery.open(self.location, ENCODER)
            return
        assert self.people is not None
        if verb == "enroll":
            self.people.enroll(rest[0], [embedding(rest[0])] * rest[1], metadata=rest[2])
        elif verb == "enroll_many":
            self.people.enroll_many((id, [embedding(id)] * count) for id, count in rest[0].items())
        elif verb == "ask":
            answer = self.people.identify(embedding(rest[0]), threshold=0.0)
            assert [one.id for one in answer.candidates] == [rest[0]], answer
        elif verb == "remove_templates":
            self.people.remove_templates(self.people.templates(rest[0])[: rest[1]])
        elif verb in ("remove", "remove_erased"):
            self.people.remove(rest[0], erase=verb == "remove_erased")
        elif verb == "merge":
            self.people.merge(rest[0], [rest[1]])
        elif verb == "split":
            self.people.split(rest[0], self.people.templates(rest[0])[: rest[2]], rest[1])
        elif verb == "rename":
            self.people.rename(rest[0], rest[1])
        elif verb == "undo":
            self.people.undo(self.people.operations()[-1])
        elif verb == "compact":
            self.people.compact()
        else:
            people, self.people = self.people, None
            people.close()


@contextmanager
def connections(factory: type[in_use.Connection]) -> Any:
    """Every connection that SQLite makes is one of these."""
    real = sqlite3.connect
    sqlite3.connect = lambda *args, **more: real(*args, **{**more, "factory": factory})  # type: ignore
    try:
        yield
    finally:
        sqlite3.connect = real


class Checkpointing(in_use.Connection):
    """Copies the log into the catalog after every few commits, as a large gallery does."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.execute("PRAGMA wal_autocheckpoint = 12")


class Careless(Checkpointing):
    """A broken one: says that commits are durable and syncs nothing."""

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        if "synchronous" in sql:
            sql = "PRAGMA synchronous = OFF"
        return super().execute(sql, *values)


CONNECTIONS = {"plain": in_use.Connection, "careless": Careless}


def run(
    root: str,
    environment: dict[str, str],
    script: list[Step] | None = None,
    start: int = 0,
    how: str = "",
) -> None:
    """The script from step `start`, until the end or until it is killed.

    how: "" checkpoints often; "plain" when SQLite does by itself; "careless" and "split" are broken.
    """
    steps = (SCRIPT if script is None else script)[start:]
    shim.restart(environment)
    child = Child(Path(root))
    act = _in_two_commits(child) if how == "split" else child.act
    with connections(CONNECTIONS.get(how, Checkpointing)):
        for number, step in enumerate(steps, start):
            child.say("begin", number)
            act(step)
            child.say("done", number)


def _in_two_commits(child: Child) -> Callable[[Step], None]:
    """A broken one: what should be one commit is two."""

    def act(step: Step) -> None:
        if step[0] != "enroll_many":
            child.act(step)
            return
        ids = list(step[1])
        for part in (ids[:2], ids[2:]):
            child.act(("enroll_many", {id: step[1][id] for id in part}))

    return act


def run_failing(root: str, environment: dict[str, str]) -> None:
    """The script while the disk fails: each verb works, or raises a GalleryError and works afterwards."""
    shim.restart(environment)
    child = Child(Path(root))
    with connections(Checkpointing):
        for number, step in enumerate(SCRIPT):
            child.say("begin", number)
            try:
                child.act(step)
            except gallery.GalleryError as error:
                child.say("failed", number, type(error).__name__, str(error))
                _recover(child, number, step)
            except BaseException:
                child.say("wrong", number, traceback.format_exc(limit=-3))
                raise
            child.say("done", number)


def _recover(child: Child, number: int, step: Step) -> None:
    """After a failure: what was there is there, and the verb works once the disk does."""
    before, after = model(SCRIPT, number), model(SCRIPT, number + 1)
    try:
        if child.people is not None and "carol" in before.subjects:
            child.act(("ask", "carol"))
        shim.heal()
        if child.people is None:
            child.act(("open",))
        assert child.people is not None
        found = listing(child.people)
        assert found in (before.subjects, after.subjects), "half of it was done"
        if found == before.subjects != after.subjects:
            child.act(step)
        elif step[0] in ("remove_erased", "compact"):
            child.act(("compact",))
        elif step[0] == "close":
            child.act(("close",))
    except BaseException:
        child.say("wrong", number, f"after it failed: {traceback.format_exc(limit=-3)}")
        raise


def listing(people: gallery.Gallery) -> dict[str, tuple[int, dict[str, Any]]]:
    """What the gallery says is in it."""
    return {one.id: (one.templates, dict(one.metadata)) for one in people.subjects()}


def said(ack: bytes) -> Said:
    """The lines of an ack file; one that was cut off was not said."""
    return [json.loads(line) for line in ack.splitlines(keepends=True) if line.endswith(b"\n")]
