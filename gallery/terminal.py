"""What the commands share: opening the gallery with its encoder, progress, and where output goes."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from encoders.errors import UnknownEncoderError
from gallery import opening
from gallery.bulk import Progress
from gallery.encoder import Encoder
from gallery.errors import EncoderMismatchError, GalleryNotFoundError, InvalidItemError
from gallery.folders import subject_folders
from gallery.gallery import Gallery
from gallery.quality import ImageQuality

Arguments = argparse.Namespace


@contextmanager
def opened_to_fill(
    location: str, encoder: Encoder | None, *, keep_items: bool = False, on_quality: str | None = None
) -> Iterator[Gallery]:
    """The gallery to add to; one that is made now and not filled goes again, bound to nothing."""
    made_now = opening.recorded_encoder(location) is None
    with opening.open(location, encoder, keep_items=keep_items, **_gate(on_quality)) as people:
        try:
            yield people
        except BaseException:
            people.close()
            if made_now:
                opening.discard_unused(location)
            raise


def _gate(on_quality: str | None) -> dict[str, Any]:
    """What --quality comes to: nothing is looked at without it."""
    return {} if on_quality is None else {"quality": ImageQuality(), "on_quality": on_quality}


def load_encoder(name: str) -> Encoder:
    """The shipped encoder of that name, or the one in that folder, which the gallery then remembers."""
    import encoders

    encoder: Any = encoders.load(name)
    if name not in encoders.list() and encoder.name != name and Path(name).exists():
        encoder.name = str(Path(name).resolve())
    return encoder  # type: ignore[no-any-return]


def subjects_in(folder: str | Path, encoder: Encoder | None) -> list[tuple[str, list[Any]]]:
    """(id, its items) with one subfolder per id: the files that this encoder takes, pictures by default."""
    suffixes = getattr(encoder, "suffixes", None)
    if suffixes is None:
        return subject_folders(folder)
    # As paths: a str may be an item by itself, such as a text.
    return [(id, [*map(Path, paths)]) for id, paths in subject_folders(folder, suffixes=suffixes)]


@contextmanager
def opened(arguments: Arguments) -> Iterator[Gallery]:
    """The gallery, read-only, with the encoder that was asked for or that it was filled by."""
    name = arguments.encoder or opening.recorded_encoder(arguments.location)
    if name is None:
        raise GalleryNotFoundError(
            f"there is no gallery at {arguments.location}; "
            f"`gallery enroll {arguments.location} FOLDER` makes one"
        )
    try:
        encoder = load_encoder(name)
    except UnknownEncoderError as error:
        if arguments.encoder:
            raise
        raise EncoderMismatchError(
            f"{arguments.location} was filled by the encoder {name!r}, which the command line does not know: "
            "name its folder with --encoder, or ask from Python"
        ) from error
    gate = _gate(getattr(arguments, "quality", None))
    with opening.open(arguments.location, encoder, read_only=True, **gate) as people:
        yield people


@contextmanager
def progress_bar(what: str, unit: str = " items") -> Iterator[Progress]:
    """A bar on standard error, where that is a terminal and the work takes more than a second."""
    from tqdm import tqdm

    with tqdm(desc=what, unit=unit, delay=1, disable=None, leave=False) as bar:

        def show(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


def note(text: str) -> None:
    """Something for people, beside the output."""
    print(f"gallery: {text}", file=sys.stderr)


def print_json(value: Any) -> None:
    """The output for programs."""
    # ASCII, so that a file name that is not UTF-8 still makes valid JSON; in one piece.
    print(json.dumps(value, indent=2))


def check_report(path: Path) -> None:
    """Better known before a long scan than after it."""
    if not path.resolve().parent.is_dir():
        raise InvalidItemError(f"{path} cannot be written: its folder is not there")
    if path.exists() and path.suffix.lower() not in (".html", ".htm"):
        raise InvalidItemError(f"{path} is there and is no HTML page: a report never replaces another file")
