"""The commands that put a gallery in order: rename, merge, split, quarantine, release, differ, undo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from encoders.errors import EncoderError
from gallery import opening
from gallery.errors import InvalidItemError
from gallery.findings import Operation
from gallery.gallery import Gallery
from gallery.tables import table
from gallery.terminal import Arguments, load_encoder, print_json


def rename(arguments: Arguments) -> int:
    """gallery rename LOCATION OLD NEW"""
    return _done(arguments, lambda people: people.rename(arguments.old, arguments.new))


def merge(arguments: Arguments) -> int:
    """gallery merge LOCATION INTO OTHER..."""
    return _done(arguments, lambda people: people.merge(arguments.into, arguments.others))


def split(arguments: Arguments) -> int:
    """gallery split LOCATION ID NEW_ID TEMPLATE..."""
    return _done(arguments, lambda people: people.split(arguments.id, arguments.templates, arguments.new_id))


def quarantine(arguments: Arguments) -> int:
    """gallery quarantine LOCATION [ID | --template N] --reason TEXT"""
    what = _meant(arguments)
    if what is None:
        return _listed(arguments)
    if not arguments.reason:
        raise InvalidItemError("say why with --reason, for whoever finds it there")
    return _done(arguments, lambda people: people.quarantine(what, arguments.reason))


def release(arguments: Arguments) -> int:
    """gallery release LOCATION ID | --template N"""
    what = _meant(arguments)
    if what is None:
        raise InvalidItemError("give an ID, or --template N")
    return _done(arguments, lambda people: people.release(what))


def _meant(arguments: Arguments) -> str | list[int] | None:
    if arguments.id is not None and arguments.template:
        raise InvalidItemError("give an ID, or --template N, not both")
    meant: str | list[int] | None = arguments.id if arguments.id is not None else arguments.template
    return meant or None


def _listed(arguments: Arguments) -> int:
    with opening.open(arguments.location, read_only=True) as people:
        found = people.quarantined()
    rows = [[one.template, one.id, f"{one.at:%Y-%m-%d %H:%M:%S}", one.reason] for one in found]
    head = ["template", "id", "since (UTC)", "reason"]
    return _print_list(arguments, [one.to_dict() for one in found], head, rows, "nothing is in quarantine")


def differ(arguments: Arguments) -> int:
    """gallery differ LOCATION [ID ID]"""
    if len(arguments.ids) == 2:
        one, other = arguments.ids
        return _done(arguments, lambda people: people.differ(one, other, different=not arguments.forget))
    if arguments.ids or arguments.forget:
        raise InvalidItemError("give two ids, or none to list the pairs that are remembered")
    with opening.open(arguments.location, read_only=True) as people:
        pairs = people.different()
    nothing = "no two subjects are remembered as different"
    return _print_list(arguments, pairs, ["id", "is not"], pairs, nothing)


def undo(arguments: Arguments) -> int:
    """gallery undo LOCATION [OPERATION]"""
    if arguments.operation is not None:
        return _done(arguments, lambda people: people.undo(arguments.operation))
    with opening.open(arguments.location, read_only=True) as people:
        operations = people.operations()
    rows = [
        [
            one.operation,
            f"{one.at:%Y-%m-%d %H:%M:%S}",
            one.verb,
            ", ".join(one.subjects),
            one.templates,
            one.undone,
        ]
        for one in operations
    ]
    head = ["operation", "when (UTC)", "what", "subjects", "templates", "undone by"]
    plain = [one.to_dict() for one in operations]
    return _print_list(arguments, plain, head, rows, "there is nothing to undo")


def audit(arguments: Arguments) -> int:
    """gallery audit LOCATION"""
    name = arguments.encoder or opening.recorded_encoder(arguments.location)
    try:
        # Only the encoder knows the threshold it recommends.
        encoder = load_encoder(name) if name else None
    except (EncoderError, ImportError):
        if arguments.encoder:
            raise
        encoder = None
    with opening.open(arguments.location, encoder, read_only=True) as people:
        found = people.audit(arguments.threshold, most=arguments.most, seed=arguments.seed)
    if arguments.json:
        print_json(found.to_dict())
        return 0
    print(found)
    _print_part(
        "may be the same",
        ["id", "id", "distance", "templates", "pairs"],
        [
            [one.id, one.other_id, one.distance, f"{one.template}, {one.other_template}", one.pairs]
            for one in found.same
        ],
    )
    _print_part(
        "may be mislabelled",
        ["template", "id", "to its own", "nearer to", "distance"],
        [
            [one.template, one.id, one.own_distance, one.other_id, one.other_distance]
            for one in found.mislabelled
        ],
    )
    for what, animals in (
        ("goats: do not match themselves", found.goats),
        ("lambs: others are taken for them", found.lambs),
        ("wolves: are taken for others", found.wolves),
    ):
        rows = [[one.id, one.hits, one.trials, one.expected, f"{one.p_value:.2g}"] for one in animals]
        _print_part(what, ["id", "hits", "of", "expected", "p"], rows)
    return 0


def _print_part(title: str, head: list[str], rows: list[list[Any]]) -> None:
    if rows:
        print(f"\n{title}\n{table(head, rows)}")


def _print_list(
    arguments: Arguments, plain: Sequence[Any], head: list[str], rows: Sequence[Sequence[Any]], nothing: str
) -> int:
    if arguments.json:
        print_json(plain)
    else:
        print(table(head, rows) if rows else nothing)
    return 0


def _done(arguments: Arguments, act: Callable[[Gallery], Operation]) -> int:
    with opening.open(arguments.location) as people:
        operation = act(people)
    if arguments.json:
        print_json(operation.to_dict())
    else:
        print(operation)
    return 0
