"""The commands that search: identify, within, reindex, recall."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from gallery import opening
from gallery.errors import InvalidItemError
from gallery.records import Candidate, Identification
from gallery.tables import table
from gallery.terminal import Arguments, note, opened, print_json, progress_bar


def identify(arguments: Arguments) -> int:
    """gallery identify LOCATION IMAGE..."""
    with opened(arguments) as people:
        where = _filter(arguments.where)
        answers = _in_batches(
            arguments.images,
            lambda some: people.identify_batch(
                some, arguments.k, arguments.threshold, where, arguments.prior
            ),
        )
    if arguments.json:
        print_json(
            [
                {
                    "path": path,
                    "decision": answer.decision,
                    "candidates": [candidate.to_dict() for candidate in answer.candidates],
                }
                | _doubts(answer)
                for path, answer in zip(arguments.images, answers, strict=True)
            ]
        )
        return 0
    rows = [
        row
        for path, answer in zip(arguments.images, answers, strict=True)
        for row in _identified(path, answer)
    ]
    head = ["image", "decision", "id", "distance", "template"]
    if any(answer.probability is not None for answer in answers):
        head.append("probability")
    print(table(head, [row[: len(head)] for row in rows]))
    for path, answer in zip(arguments.images, answers, strict=True):
        if answer.rival is not None or answer.quality is not None:
            print(f"{path}: {answer}")
    if where and all(answer.nearest is None for answer in answers):
        note("no subject that is enrolled has what --where asks for")
    threshold = answers[0].threshold
    print("\nno threshold: ranked, not decided" if threshold is None else f"\nthreshold {threshold:.4f}")
    return 0


def _in_batches(images: list[str], ask: Callable[[list[str]], list[Any]]) -> list[Any]:
    """The answers, asked in batches with progress; an unusable image is named by its path."""
    answers: list[Any] = []
    with progress_bar("searching") as progress:
        for start in range(0, len(images), 256):
            try:
                answers += ask(images[start : start + 256])
            except InvalidItemError as error:
                if error.index is None:
                    raise
                path = images[start + error.index]
                raise InvalidItemError(str(error) if path in str(error) else f"{path}: {error}") from error
            progress(len(answers), len(images))
    return answers


def _filter(pairs: list[str]) -> dict[str, Any] | None:
    """The filter that KEY=VALUE ... stand for; a key that comes twice is any of its values.

    badge=7 is the number that Python enrolled and the text that `gallery enroll --metadata badge=7` did.
    """
    where: dict[str, list[Any]] = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign:
            raise InvalidItemError(f"--where {pair}: expected KEY=VALUE, such as site=north")
        either = where.setdefault(key, [])
        either.append(value)
        with suppress(ValueError):
            either.append(json.loads(value, parse_constant=_no_value))
    return where or None


def _no_value(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _doubts(answer: Identification) -> dict[str, Any]:
    """What an object of the JSON says besides, where there is something to say."""
    said: dict[str, Any] = {}
    if answer.rival is not None:
        said |= {"rival": answer.rival.to_dict(), "margin": answer.margin}
    if answer.prior is not None:
        said |= {"probability": answer.probability, "prior": answer.prior}
    if answer.quality is not None:
        said["quality"] = answer.quality
    return said


def _identified(path: str, answer: Identification) -> list[list[Any]]:
    if not answer.candidates:
        nearest = answer.nearest
        beside = None if nearest is None else f"(nearest: {nearest.id})"
        found = (None, None) if nearest is None else (nearest.distance, nearest.template)
        return [[path, answer.decision, beside, *found, answer.probability]]
    return [
        [path, answer.decision, one.id, one.distance, one.template, answer.probability if rank == 0 else None]
        for rank, one in enumerate(answer.candidates)
    ]


def within(arguments: Arguments) -> int:
    """gallery within LOCATION IMAGE... --radius R"""
    where = _filter(arguments.where)
    with opened(arguments) as people:
        found = _in_batches(arguments.images, lambda some: people.within_batch(some, arguments.radius, where))
    if arguments.json:
        print_json(
            [
                {"path": path, "candidates": [candidate.to_dict() for candidate in near]}
                for path, near in zip(arguments.images, found, strict=True)
            ]
        )
        return 0
    rows = [row for path, near in zip(arguments.images, found, strict=True) for row in _near(path, near)]
    print(table(["image", "id", "distance", "template"], rows))
    return 0


def _near(path: str, near: Sequence[Candidate]) -> list[list[Any]]:
    if not near:
        return [[path, "(nobody)", "", ""]]
    return [[path, one.id, f"{one.distance:.4f}", one.template] for one in near]


def reindex(arguments: Arguments) -> int:
    """gallery reindex LOCATION KIND"""
    with opening.open(arguments.location) as people:
        people.reindex(arguments.kind)
        found = people.info()
    if arguments.json:
        print_json({"index": found.index, "why": found.index_why, "templates": found.templates})
    else:
        print(f"{found.index}, {found.index_why}")
    return 0


def recall(arguments: Arguments) -> int:
    """gallery recall LOCATION"""
    with opening.open(arguments.location) as people:
        found = people.recall(arguments.sample, arguments.k, arguments.seed, goal=arguments.goal)
    if arguments.json:
        print_json(found.to_dict())
    else:
        print(found)
    return 0
