"""The commands that change a gallery's encoder: migrate, rollback and drop-previous."""

from __future__ import annotations

from typing import Any

from encoders.errors import EncoderError
from gallery import opening
from gallery.errors import GalleryError, InvalidItemError
from gallery.records import Refusal
from gallery.tables import counted, table
from gallery.terminal import Arguments, load_encoder, note, print_json, progress_bar, subjects_in


def migrate(arguments: Arguments) -> int:
    """gallery migrate LOCATION [FOLDER] --encoder NAME, or --abandon"""
    if arguments.abandon:
        return _abandon(arguments)
    if arguments.encoder is None:
        raise InvalidItemError("name the encoder to migrate to with --encoder, or --abandon the migration")
    if arguments.folder is not None and arguments.from_sources:
        raise InvalidItemError("give a FOLDER or --from-sources, not both")
    encoder = load_encoder(arguments.encoder)
    items: Any = None
    if arguments.folder is not None:
        items = subjects_in(arguments.folder, encoder)
    elif arguments.from_sources:
        items = _source
    with opening.open(arguments.location) as people, progress_bar("migrating") as progress:
        try:
            done = people.migrate(encoder, items, on_error=arguments.on_error, progress=progress)
        except (GalleryError, KeyboardInterrupt):
            if staged := people.info().staged:
                note(
                    f"{staged.templates:,} templates are embedded by {staged.encoder} and kept: migrate "
                    f"again to go on, or `gallery migrate {arguments.location} --abandon` to give it up"
                )
            raise
    if arguments.json:
        print_json(done.to_dict())
        return 0
    print(done)
    if done.refused:
        print(table(["refused", "id", "reason"], [_row(one) for one in done.refused]))
    return 0


def _source(template: Any) -> str | None:
    source: str | None = template.source
    return source


def _row(refusal: Refusal) -> list[Any]:
    return [refusal.template, refusal.id, refusal.reason]


def _abandon(arguments: Arguments) -> int:
    if arguments.encoder or arguments.folder or arguments.from_sources:
        raise InvalidItemError(
            "--abandon gives a migration up: it takes no FOLDER, --encoder or --from-sources"
        )
    with opening.open(arguments.location) as people:
        there_was = people.abandon_migration()
    if arguments.json:
        print_json({"abandoned": there_was})
    else:
        print("the migration was given up" if there_was else "there is no migration to give up")
    return 0


def rollback(arguments: Arguments) -> int:
    """gallery rollback LOCATION"""
    with opening.open(arguments.location) as people:
        encoder = None
        previous = people.info().previous
        if previous:
            try:
                encoder = load_encoder(previous[0].encoder)
            except (EncoderError, ImportError):
                # Going back needs no encoder; only its canary is not looked at then.
                note(f"the encoder {previous[0].encoder} is not there to be compared")
        now = people.rollback(encoder, force=arguments.force)
    if arguments.json:
        print_json(now.to_dict())
    else:
        print(f"back to {now}")
    return 0


def drop_previous(arguments: Arguments) -> int:
    """gallery drop-previous LOCATION"""
    with opening.open(arguments.location) as people:
        dropped = people.drop_previous(erase=arguments.erase)
    if arguments.json:
        print_json({"dropped": dropped})
    else:
        print(f"{counted(dropped, 'generation')} dropped")
    return 0
