"""A gallery that has everything, ways to damage its files, and what may come of that.

Run as a program it is the worker of `test_damage`: `python -m tests.gallery.damage FOLDER FIRST COUNT`
damages the galleries in FOLDER once for each seed and prints a line of JSON before and after each.
"""

from __future__ import annotations

import faulthandler
import json
import random
import shutil
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

import gallery
from gallery.engines import index_cache
from gallery.errors import CorruptGalleryError, GalleryError, UnknownSubjectError
from gallery.stores import witness
from gallery.stores.base import Header
from gallery.stores.sqlite import SqliteStore
from tests.gallery.doubles import seen, vectors

DIM = 8
SECONDS = 60
"""For one mutation with all that is asked after it, on a busy machine."""
ENCODER = gallery.Precomputed(DIM, "cosine", "second")
FIRST_ENCODER = gallery.Precomputed(DIM, "cosine", "first")
PROBES = vectors(3, DIM, 99)
UNKNOWN = "nobody"
SOME = {"even": True}


def small_index_files() -> None:
    """Index files for galleries as small as these, and no second looks at a head."""
    witness._BETWEEN = 0.0  # nobody else writes
    index_cache.worth_saving = lambda templates, saved, known: abs(templates - saved) > 20  # type: ignore


# -- the galleries


def build(folder: Path) -> None:
    """Makes folder/closed, folder/killed (whose writer never closed) and folder/older/N of earlier times."""
    small_index_files()
    place, rows = folder / "making", vectors(400, DIM)
    older = folder / "older"
    with gallery.create(place, FIRST_ENCODER, keep_items=True, actor="somebody") as people:
        people.enroll("alice", rows[:3], metadata={"badge": 7, "ä": [1, None]})
        people.enroll_many([(f"subject {at}", rows[at : at + 1 + at % 3]) for at in range(3, 60)])
        people.enroll("bøb 中", rows[60:62])
    _copy(place, older / "0")
    _second_encoder(place, rows)
    with gallery.open(place, ENCODER, actor="somebody") as people:
        people._engine.set_setting("threshold", json.dumps({"threshold": 0.25}))
        people.enroll_many(
            [(f"later {at}", rows[at : at + 2], {"even": at % 2 == 0}) for at in range(100, 160)]
        )
        people.remove("subject 7")
        people.remove_templates([2])
        people.remove("subject 9")
    _copy(place, older / "1")
    with gallery.open(place, ENCODER, actor="somebody") as people:
        people.enroll("alice", rows[200:202], metadata={"badge": 8})
        people.remove("later 101")
        _copy(place, older / "2")
        people.enroll_many([(f"last {at}", rows[at : at + 1]) for at in range(300, 340)])
        people.remove("subject 11")
        people.enroll("subject 11", rows[340:341], metadata={"again": True})
        near = people.identify(PROBES[0], 3, 2.0).candidates
        people.quarantine([one.template for one in near if len(people.templates(one.id)) > 1], "blurred")
        people.differ("alice", "subject 11")
        people.undo(people.rename("last 301", "another"))
    _copy(place, folder / "closed")
    people = gallery.open(place, ENCODER, actor="somebody")
    people.enroll("alice", rows[350:351], metadata={"badge": 9})
    people.remove("last 300")
    _copy(place, folder / "killed")
    people.close()
    shutil.rmtree(place)


def _second_encoder(place: Path, rows: np.ndarray) -> None:
    """Binds it to another encoder, keeps the embeddings of the first, and stages a third in part."""
    store = SqliteStore(place / "catalog.sqlite", actor="somebody")
    numbers = [at + 1 for at in range(store.counts()[1])]
    made = rows[[(7 * number) % 400 for number in numbers]]
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    for name in ("second", "third"):
        with store.commit("stage"):
            header = _begun(store, name)
            part = numbers if name == "second" else numbers[:50]
            store.generations.stage(header.generation, part, made[: len(part)])
        if name == "second":
            with store.commit("switch"):
                store.generations.switch(header.generation)
    store.close()


def _begun(store: SqliteStore, name: str) -> Header:
    encoder = gallery.Precomputed(DIM, "cosine", name)
    return store.generations.begin(replace(store.header, encoder=name, fingerprint=encoder.fingerprint))


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target)


def whole(people: gallery.Gallery) -> list[Any]:
    """Everything enrolled, subject by subject."""
    with people._engine.exported() as (_, subjects):
        return list(subjects)


# -- the truth


@dataclass
class Truth:
    """What an undamaged gallery answers."""

    answers: dict[str, Any] = field(default_factory=dict)
    ever: dict[int, tuple[str, bytes]] = field(default_factory=dict)
    """{template: (id, embedding)} of every time."""
    metadata: dict[str, list[Any]] = field(default_factory=dict)


def questions(rng: random.Random, ids: list[str]) -> Iterator[tuple[str, Callable[[Any], Any]]]:
    """Names of questions, and how they are asked."""
    yield "len", len
    yield "count", lambda people: people.template_count
    yield "ids", lambda people: people.ids()
    yield "listing", lambda people: [(one.id, one.templates, dict(one.metadata)) for one in people.subjects()]
    yield "threshold", lambda people: people.threshold
    yield "log", lambda people: [one.to_dict() for one in people.log()]
    yield "quarantine", lambda people: [one.to_dict() for one in people.quarantined()]
    yield "different", lambda people: people.different()
    yield "operations", lambda people: [one.to_dict() for one in people.operations()]
    yield "unknown", lambda people: UNKNOWN in people
    for at in range(len(PROBES)):
        yield f"identify {at}", lambda people, at=at: seen(people.identify(PROBES[at], 5, 2.0))
        yield f"some {at}", lambda people, at=at: seen(people.identify(PROBES[at], 5, 2.0, SOME))
    yield "within", lambda people: [(one.id, one.distance) for one in people.within(PROBES[0], 0.7)]
    yield "few", lambda people: [one.id for one in people.within(PROBES[0], 2.0, where={"badge": [8, 9]})]
    for id in ids if rng.random() < 0.1 else rng.sample(ids, 6):
        yield f"in {id}", lambda people, id=id: id in people
        yield (
            f"templates {id}",
            lambda people, id=id: [(int(one), one.source, one.enrolled) for one in people.templates(id)],
        )
        yield f"metadata {id}", lambda people, id=id: people.metadata(id)
        yield f"verify {id}", lambda people, id=id: people.verify(id, PROBES[0], 1.0).to_dict()


def tell(folder: Path, work: Path) -> Truth:
    """The truth about the gallery in `folder`, which is not touched, and of those of earlier times."""
    truth = Truth()
    for one in [*sorted((folder.parent / "older").iterdir()), folder.parent / "closed", folder]:
        shutil.rmtree(work, ignore_errors=True)
        _copy(one, work)
        with gallery.open(work) as people:
            for id, metadata, templates, stored in whole(people):
                truth.metadata.setdefault(id, []).append(metadata)
                for number, row in zip(templates, stored.rows, strict=True):
                    truth.ever[int(number), people._engine.header.generation] = (id, row.tobytes())  # type: ignore
            if one == folder:
                for name, ask in questions(random.Random(), people.ids() * 10):
                    truth.answers[name] = ask(people)
                for id in people.ids():
                    for name, ask in questions(random.Random(), [id] * 6):
                        truth.answers[name] = ask(people)
                assert people.check() == []
    return truth


# -- damage


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def mutate(folder: Path, older: Path, rng: random.Random) -> str:
    """Damages one file, or exchanges two: what was done."""
    files = files_of(folder)
    # The catalog and its log hold what matters, so they are hit most.
    path = rng.choice(files + [one for one in files if one.suffix in (".sqlite", ".sqlite-wal")] * 3)
    content = bytearray(path.read_bytes())
    name = str(path.relative_to(folder))
    name = "index file" if name.startswith("index") else name
    kind = rng.choice(["bit"] * 5 + ["byte"] * 3 + ["zero", "garbage"] * 2)
    kind = rng.choice([kind, kind, kind, "truncate", "extend", "delete", "swap", "older", "pages"])
    at = rng.randrange(max(1, len(content)))
    run = slice(at, at + rng.choice([1, 8, 100, 512, 4096]))
    if kind == "bit":
        content[at] ^= 1 << rng.randrange(8)
    elif kind == "byte":
        content[at] = rng.randrange(256)
    elif kind == "zero":
        content[run] = bytes(len(content[run]))
    elif kind == "garbage":
        content[run] = rng.randbytes(len(content[run]))
    elif kind == "truncate":
        del content[rng.choice([at, 0, at // 512 * 512]) :]
    elif kind == "extend":
        content += rng.choice([rng.randbytes(run.stop - at), bytes(512), bytes(content[:512])])
    elif kind == "pages":
        _exchange_pages(content, rng)
    elif kind == "delete":
        path.unlink()
        return f"delete {name}"
    elif kind == "swap":
        other = rng.choice([one for one in files if one != path])
        theirs = other.read_bytes()
        other.write_bytes(content)
        content = bytearray(theirs)
        name += f" and {other.name}"
    elif kind == "older":
        return _older(folder, older, path, rng)
    path.write_bytes(content)
    return f"{kind} at {at} of {name}"


def _exchange_pages(content: bytearray, rng: random.Random) -> None:
    size = int.from_bytes(content[16:18], "big") if content[:6] == b"SQLite" else 512
    if len(content) < 2 * size:
        return
    one, two = (slice(size * at, size * (at + 1)) for at in rng.sample(range(len(content) // size), 2))
    content[one], content[two] = content[two], content[one]


def _older(folder: Path, older: Path, path: Path, rng: random.Random) -> str:
    """An older version of that file, of the same name or, for an index file, in the place of it."""
    time = rng.choice(sorted(older.iterdir()))
    relative = path.relative_to(folder)
    found = sorted((time / "index").iterdir()) if relative.parts[0] == "index" else [time / relative]
    if not found or not found[0].exists():
        path.unlink()
        return f"delete {relative.name}, as at time {time.name}"
    shutil.copyfile(found[0], path)
    return f"{relative.parts[0]} as at time {time.name}"


# -- what may come of it


class WrongAnswer(AssertionError):
    """The one thing that must not happen."""


def interrogate(folder: Path, truth: Truth, rng: random.Random) -> Counter[str]:
    """Asks everything: every answer is the truth, or an error of the gallery."""
    count: Counter[str] = Counter()
    ids = list(truth.answers["ids"])
    try:
        people = gallery.open(folder, ENCODER, read_only=rng.random() < 0.5)
    except GalleryError as error:
        _check_message(error, folder)
        return Counter(refused=1)
    try:
        asked = list(questions(rng, ids))
        rng.shuffle(asked)
        for name, ask in asked:
            try:
                answer = ask(people)
            except UnknownSubjectError as error:
                raise WrongAnswer(f"{name}: {error}") from error
            except GalleryError as error:
                _check_message(error, folder)
                count["errors"] += 1
                continue
            if answer != truth.answers[name]:
                raise WrongAnswer(f"{name}: {answer!r:.500} is not {truth.answers[name]!r:.500}")
            count["right"] += 1
        for ask in (lambda: people.verify(UNKNOWN, PROBES[0], 1.0), lambda: people.templates(UNKNOWN)):
            try:
                ask()
            except GalleryError as error:
                count["errors"] += not isinstance(error, UnknownSubjectError)
        _copies(people, folder, truth, rng, count)
    finally:
        people.close()
    return count


def _copies(people: Any, folder: Path, truth: Truth, rng: random.Random, count: Counter[str]) -> None:
    target = folder.with_name("copy")
    shutil.rmtree(target, ignore_errors=True)
    what = rng.choice(["backup", "export", "nothing", "nothing"])
    try:
        if what == "backup":
            people.backup(target)
            with gallery.open(target, read_only=True) as copy:
                if copy.ids() != truth.answers["ids"] or copy.check():
                    raise WrongAnswer(f"the backup differs: {copy.check()}")
        elif what == "export":
            target.mkdir()
            if people.export(target / "export.h5") != truth.answers["count"]:
                raise WrongAnswer("the export differs")
    except GalleryError as error:
        _check_message(error, folder)
        count["errors"] += 1


def _check_message(error: GalleryError, folder: Path) -> None:
    """It says where, and it is damage unless it is another format that the file seems to have."""
    text = str(error)
    assert str(folder) in text or "template" in text, text
    assert isinstance(error, CorruptGalleryError) or "has format" in text, repr(error)


def checked(folder: Path) -> list[str]:
    """What `check` reports."""
    try:
        return [str(one) for one in gallery.check(folder)]
    except GalleryError as error:
        _check_message(error, folder)
        return [str(error)]


def mend(folder: Path, truth: Truth, reported: list[str]) -> str:
    """Repairs it: what is there afterwards is true, and what is not is listed."""
    try:
        done = gallery.repair(folder, actor="somebody")
    except GalleryError as error:
        _check_message(error, folder)
        return "not repaired"
    found = gallery.check(folder)
    assert found == [], found
    with gallery.open(folder) as people:
        assert (len(people), people.template_count) == (done.subjects, done.templates)
        generation, numbers = people._engine.header.generation, set()
        mixed = any("older" in str(one) or "revision" in str(one) for one in done.lost)
        for id, metadata, templates, stored in whole(people):
            for number, row in zip(templates, stored.rows, strict=True):
                numbers.add(int(number))
                if truth.ever[int(number), generation] != (id, row.tobytes()):  # type: ignore
                    raise WrongAnswer(f"template {int(number)} of {id!r} came back as another one")
            known = truth.metadata[id] if mixed else truth.metadata[id][-1:]
            if metadata not in known:
                raise WrongAnswer(f"{id!r} came back with {metadata}")
        _check_listed(people, truth, numbers, done, mixed)
        before = people._engine._store.last_template()
        (number,) = people.enroll("new", PROBES[:1]).templates if people.encoder else (before + 1,)
        assert number == before + 1
    shutil.rmtree(Path(done.damaged or "/nonexistent"), ignore_errors=True)
    if not reported and done.damaged:
        raise AssertionError("a gallery with nothing to report was rebuilt")
    return "repaired with losses" if done.lost else "repaired"


def _check_listed(people: Any, truth: Truth, numbers: set[int], done: Any, mixed: bool) -> None:
    was = {number for id in truth.answers["ids"] for number, *_ in truth.answers[f"templates {id}"]}
    if numbers != was and not done.lost:
        raise WrongAnswer(f"{len(was - numbers)} templates went and {numbers - was} came, unsaid")
    if numbers - was and not mixed:
        raise WrongAnswer(f"removed templates came back: {sorted(numbers - was)}, {done.lost}")
    if not done.lost:
        for name, ask in questions(random.Random(1), list(truth.answers["ids"])):
            if name != "log" and ask(people) != truth.answers[name]:
                raise WrongAnswer(f"after the repair {name} is {ask(people)!r:.500}")


def one(folder: Path, work: Path, truths: dict[str, Truth], seed: int) -> dict[str, Any]:
    """One mutation with all that follows."""
    rng = random.Random(seed)
    variant = rng.choice(["closed", "killed"])
    shutil.rmtree(work, ignore_errors=True)
    _copy(folder / variant, work)
    done = mutate(work, folder / "older", rng)
    place = {"seed": seed, "variant": variant, "done": done}
    print(json.dumps(place), flush=True)
    damaged = work.with_name("damaged")
    shutil.rmtree(damaged, ignore_errors=True)
    _copy(work, damaged)
    count = interrogate(work, truths[variant], rng)
    reported = checked(damaged)
    if (count["errors"] or count["refused"]) and not reported:
        raise WrongAnswer(f"a question was refused, and check reports nothing: {dict(count)}")
    mended = mend(damaged, truths[variant], reported)
    noticed = "noticed" if reported else "harmless"
    return place | {"outcome": noticed, "mended": mended, "asked": dict(count), "reported": reported[:3]}


def main() -> None:
    folder, first, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    small_index_files()
    work = folder / f"work-{first}" / "gallery"
    work.parent.mkdir()
    truths = {variant: tell(folder / variant, work) for variant in ("closed", "killed")}
    for seed in range(first, first + count):
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        try:
            print(json.dumps(one(folder, work, truths, seed)), flush=True)
        except Exception:
            print(json.dumps({"seed": seed, "outcome": "failed", "why": traceback.format_exc()}), flush=True)
    faulthandler.cancel_dump_traceback_later()
    shutil.rmtree(work.parent)


if __name__ == "__main__":
    main()
