"""What the commands do: open the gallery with its encoder, call the verb, print the answer."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from encoders.errors import EncoderError
from gallery import opening, repairing
from gallery.encoder import Encoder
from gallery.errors import InvalidItemError
from gallery.folders import IMAGE_SUFFIXES, loose_items
from gallery.gallery import Gallery
from gallery.info import Info
from gallery.records import BulkEnrollment
from gallery.tables import counted, table
from gallery.terminal import (
    Arguments,
    check_report,
    load_encoder,
    note,
    opened,
    opened_to_fill,
    print_json,
    progress_bar,
    subjects_in,
)

_NEW_GALLERY_ENCODER = "glyph"


def enroll(arguments: Arguments) -> int:
    """gallery enroll LOCATION FOLDER, or --id ID IMAGE..."""
    known = opening.recorded_encoder(arguments.location)
    if arguments.encoder is None and known is None:
        note(
            f"a new gallery with the encoder {_NEW_GALLERY_ENCODER}, which is made for handwritten characters"
        )
    name = arguments.encoder or known or _NEW_GALLERY_ENCODER
    encoder = load_encoder(name)
    subjects = _subjects(arguments, encoder)
    total = sum(len(items) for _, items, _ in subjects)
    if arguments.keep_items and known is not None:
        raise InvalidItemError(
            f"{arguments.location} is there already: whether a gallery keeps its images is settled when it "
            "is made; leave out --keep-items"
        )
    filled = opened_to_fill(
        arguments.location, encoder, keep_items=arguments.keep_items, on_quality=arguments.quality
    )
    with filled as people, progress_bar("enrolling") as progress:
        before = set() if known is None else _enrolled_before(people, subjects)
        done = people.enroll_many(
            subjects,
            on_error=arguments.on_error,
            progress=progress,
            total=total,
            on_conflict=arguments.on_conflict,
        )
    if again := before.difference((one.id, one.index) for one in done.refused):
        note(
            f"{len(again):,} of {counted(total, 'image')} had been enrolled from the same path under the "
            "same id and are in the gallery once more now; --on-conflict refuse writes nothing where there "
            "are copies"
        )
    paths = {id: items for id, items, _ in subjects}
    refused, flagged = (
        [{"id": one.id, "path": str(paths[one.id][one.index]), "reason": one.reason} for one in some]
        for some in (done.refused, done.flagged)
    )
    _print_enrolled(arguments, done, refused, flagged)
    return 0


def _enrolled_before(
    people: Gallery, subjects: list[tuple[str, list[Any], dict[str, str] | None]]
) -> set[tuple[str, int]]:
    """(id, which of its images) of those that are in the gallery already, by their paths."""
    found = set()
    for id, items, _ in subjects:
        if id in people:
            sources = {Path(one.source).absolute() for one in people.templates(id) if one.source}
            found |= {(id, at) for at, item in enumerate(items) if Path(item).absolute() in sources}
    return found


def _subjects(arguments: Arguments, encoder: Encoder) -> list[tuple[str, list[Any], dict[str, str] | None]]:
    if arguments.id is not None:
        metadata = dict(_pair(text) for text in arguments.metadata) or None
        return [(arguments.id, list(arguments.paths), metadata)]
    if arguments.metadata:
        raise InvalidItemError("--metadata belongs to one subject: give its --id too")
    if len(arguments.paths) != 1:
        raise InvalidItemError("give one FOLDER with one subfolder per id, or --id ID and its images")
    (folder,) = arguments.paths
    try:
        found = subjects_in(folder, encoder)
    except InvalidItemError as error:
        raise InvalidItemError(f"{error}; or give images with --id ID") from error
    suffixes = getattr(encoder, "suffixes", None)
    loose = loose_items(folder, suffixes=suffixes or IMAGE_SUFFIXES)
    if loose:
        what = counted(len(loose), "item" if suffixes else "image")
        note(f"{what} beside the subfolders passed over, {loose[0]} the first")
    return [(id, paths, None) for id, paths in found]


def _pair(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise InvalidItemError(f"metadata is given as KEY=VALUE, not {text!r}")
    return key, value


def _print_enrolled(
    arguments: Arguments,
    done: BulkEnrollment,
    refused: list[dict[str, str]],
    flagged: Sequence[dict[str, str]] = (),
) -> None:
    if arguments.json:
        plain = {
            "subjects": done.subjects,
            "templates": done.templates,
            "created": done.created,
            "refused": refused,
        }
        if flagged:
            plain["flagged"] = list(flagged)
        if getattr(arguments, "on_conflict", "ignore") != "ignore":
            plain["conflicts"] = [one.to_dict() for one in done.conflicts]
        print_json(plain)
        return
    print(done)
    for conflict in done.conflicts:
        print(conflict)
    for what, rows in (("refused", refused), ("doubtful", flagged)):
        if rows:
            print(table([what, "id", "reason"], [[row["path"], row["id"], row["reason"]] for row in rows]))


def verify(arguments: Arguments) -> int:
    """gallery verify LOCATION ID IMAGE"""
    with opened(arguments) as people:
        answer = people.verify(arguments.id, arguments.image, arguments.threshold)
    if arguments.json:
        print_json({"path": arguments.image} | answer.to_dict())
    else:
        print(answer)
    return 0 if answer.accepted else 1


def remove(arguments: Arguments) -> int:
    """gallery remove LOCATION ID..."""
    with opening.open(arguments.location) as people:
        removed = people.remove_many(arguments.ids, erase=arguments.erase)
    if arguments.json:
        print_json({"removed": removed})
    else:
        print(table(["removed", "templates"], list(removed.items())))
    return 0


def listing(arguments: Arguments) -> int:
    """gallery list LOCATION"""
    with opening.open(arguments.location, read_only=True) as people:
        subjects = people.subjects()
        barred = Counter(one.id for one in people.quarantined())
    if arguments.json:
        print_json([subject.to_dict() | {"quarantined": barred[subject.id]} for subject in subjects])
        return 0
    rows = [
        [
            one.id,
            one.templates,
            json.dumps(dict(one.metadata), ensure_ascii=False) if one.metadata else "",
            *([barred[one.id] or ""] if barred else []),
        ]
        for one in subjects
    ]
    print(table(["id", "templates", "metadata", *(["in quarantine"] if barred else [])], rows))
    return 0


def info(arguments: Arguments) -> int:
    """gallery info LOCATION"""
    name = opening.recorded_encoder(arguments.location)
    try:
        # Only the encoder knows the threshold it recommends.
        encoder = load_encoder(name) if name else None
    except (EncoderError, ImportError):
        encoder = None
    with opening.open(arguments.location, encoder, read_only=True) as people:
        found = people.info()
    if arguments.json:
        print_json(found.to_dict())
    else:
        print(table(["what", "value"], _for_people(found)))
    return 0


def _for_people(found: Info) -> list[tuple[str, Any]]:
    row = found.to_dict()
    source = row.pop("threshold_source")
    del row["index_wish"]
    row["index"] = f"{found.index}, {row.pop('index_why')}"
    if found.threshold is None:
        row["threshold"] = "none: ranked, not decided"
    else:
        row["threshold"] = (
            f"{found.threshold:.4f}, recommended by the encoder" if source == "encoder" else found.threshold
        )
    row["calibration"] = found.calibration
    row["recall"] = None if found.recall is None else f"{found.recall}, {found.recall.measured:%Y-%m-%d}"
    row["bytes"] = f"{found.bytes:,}"
    row["quarantined"], row["different"] = found.quarantined or None, found.different or None
    row["staged"], row["previous"] = found.staged, "; ".join(map(str, found.previous))
    return [(what, value) for what, value in row.items() if value not in (None, "")]


def check(arguments: Arguments) -> int:
    """gallery check LOCATION [--repair]"""
    if arguments.repair:
        return _repair(arguments)
    problems = repairing.check(arguments.location)
    if arguments.json:
        print_json({"problems": [{"where": one.where, "what": one.what} for one in problems]})
    elif problems:
        print(table(["where", "what"], [[one.where, one.what] for one in problems]))
    else:
        print("all is well")
    return 3 if problems else 0


def _repair(arguments: Arguments) -> int:
    done = repairing.repair(arguments.location)
    if arguments.json:
        print_json(
            {
                "subjects": done.subjects,
                "templates": done.templates,
                "lost": [{"where": one.where, "what": one.what} for one in done.lost],
                "damaged": done.damaged,
            }
        )
    else:
        if done.lost:
            print(table(["lost", "what"], [[one.where, one.what] for one in done.lost]), end="\n\n")
        print(done)
    return 3 if done.lost else 0


def log(arguments: Arguments) -> int:
    """gallery log LOCATION"""
    if arguments.limit is not None and arguments.limit < 1:
        raise InvalidItemError(f"--limit is a number of entries, 1 or more, not {arguments.limit}")
    with opening.open(arguments.location, read_only=not (arguments.on or arguments.off)) as people:
        if arguments.on or arguments.off:
            people.keep_log(arguments.on)
        entries = people.log()
    entries = entries[-arguments.limit :] if arguments.limit else entries
    if arguments.json:
        print_json([one.to_dict() for one in entries])
    else:
        rows = [
            [
                one.entry,
                f"{one.at:%Y-%m-%d %H:%M:%S}",
                one.actor,
                one.verb,
                _first(one.subjects),
                one.templates,
            ]
            for one in entries
        ]
        print(table(["entry", "when (UTC)", "who", "what", "subjects", "templates"], rows))
    return 0


def _first(subjects: tuple[str, ...], most: int = 3) -> str:
    more = f", +{len(subjects) - most:,}" if len(subjects) > most else ""
    return ", ".join(subjects[:most]) + more


def backup(arguments: Arguments) -> int:
    """gallery backup LOCATION TARGET"""
    with (
        opening.open(arguments.location, read_only=True) as people,
        progress_bar("copying", " bytes") as show,
    ):
        templates = people.backup(arguments.target, progress=show)
    if arguments.json:
        print_json({"target": arguments.target, "templates": templates})
    else:
        print(f"{counted(templates, 'template')} copied to {arguments.target}")
    return 0


def compact(arguments: Arguments) -> int:
    """gallery compact LOCATION"""
    with opening.open(arguments.location) as people:
        before = people.info().bytes
        people.compact()
        after = people.info().bytes
    if arguments.json:
        print_json({"bytes_before": before, "bytes_after": after})
    else:
        print(f"{before:,} bytes before, {after:,} after; nothing that was removed is left in them")
    return 0


def export(arguments: Arguments) -> int:
    """gallery export LOCATION FILE"""
    with opening.open(arguments.location, read_only=True) as people:
        templates = people.export(arguments.file)
    if arguments.json:
        print_json({"file": arguments.file, "templates": templates})
    else:
        print(f"{counted(templates, 'template')} written to {arguments.file}")
    return 0


def load(arguments: Arguments) -> int:
    """gallery import LOCATION FILE"""
    encoder: Encoder | None = None
    if arguments.encoder:
        encoder = load_encoder(arguments.encoder)
    elif opening.recorded_encoder(arguments.location) is None:
        # A new gallery is bound to the encoder that the file names, whether that is at hand or not.
        from gallery.hdf5 import encoder_of

        encoder = encoder_of(arguments.file)
    with opened_to_fill(arguments.location, encoder) as people:
        done = people.import_file(arguments.file)
    if known := done.subjects - done.created:
        note(
            f"{counted(known, 'subject')} had been enrolled before and now have the file's templates besides "
            "their own: a file that is imported twice is there twice"
        )
    _print_enrolled(arguments, done, [])
    return 0


def dedupe(arguments: Arguments) -> int:
    """gallery dedupe FOLDER"""
    from gallery.dedupe import find_duplicates

    if arguments.report:
        check_report(Path(arguments.report))
    encoder = load_encoder(arguments.encoder) if arguments.encoder else None
    with progress_bar("reading") as progress:
        found = find_duplicates(arguments.folder, encoder, arguments.threshold, progress=progress)
    if arguments.report:
        from gallery.report import write_report

        write_report(found, arguments.report)
    if arguments.json:
        print_json(found.to_dict())
    else:
        print(found)
        if arguments.report:
            print(f"\nreport: {arguments.report}")
    return 0
