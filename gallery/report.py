"""Duplicates as one self-contained HTML page: pictures, distances, sizes and paths. No script, no fetch."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path

from encoders.images import ImageError, thumbnail
from encoders.names import printable
from gallery.duplicates import DuplicateGroup, DuplicateMember, Duplicates, Picture
from gallery.folders import Unreadable
from gallery.page import HEAD, TAIL, write_page

THUMBNAIL = 168  # pixels of the longer side


def write_report(
    duplicates: Duplicates, path: str | os.PathLike[str], *, title: str = "Duplicate images"
) -> Path:
    """Writes the page, replacing `path` in one step when it is complete. Raises GalleryError if it cannot.

    The groups whose weakest member is farthest from its keeper come first: they are worth a look. Pictures
    are read again for their thumbnails; one that has vanished meanwhile is shown by its reason.
    """
    return write_page(Path(path), page(duplicates, title))


def page(duplicates: Duplicates, title: str = "Duplicate images") -> Iterator[str]:
    """The page in pieces, so that no more than one group's pictures are held at a time."""
    yield HEAD.replace("{title}", escape(title))
    yield f"<h1>{escape(title)}</h1>{_figures(duplicates)}"
    pictures = duplicates.pictures()
    # Numbered as the table on the command line numbers them.
    numbered = list(enumerate(duplicates.groups, 1))
    for number, group in sorted(numbered, key=lambda pair: (-pair[1].weakest.distance, pair[0])):
        yield _group(number, group, pictures, duplicates.threshold)
    if not numbered:
        yield '<p class="none">No duplicates were found.</p>'
    yield _unreadable(duplicates.unreadable)
    yield TAIL


def _figures(duplicates: Duplicates) -> str:
    sizes = duplicates.pictures()
    freed = sum(sizes[member.path].size for group in duplicates.groups for member in group.members)
    figures = (
        ("groups", f"{len(duplicates.groups):,}"),
        ("duplicates", f"{duplicates.duplicates:,}"),
        ("of all files", f"{duplicates.duplicate_ratio:.1%}"),
        ("in duplicates", _bytes(freed)),
        ("scanned", f"{duplicates.scanned:,}"),
        ("unreadable", f"{len(duplicates.unreadable):,}"),
        ("threshold", f"{duplicates.threshold:.4f}"),
    )
    cells = "".join(f"<div><dd>{value}</dd><dt>{name}</dt></div>" for name, value in figures)
    return (
        f'<dl class="figures">{cells}</dl><p class="note">Distances are to the keeper of the group; smaller '
        "is more alike, and nothing beyond the threshold is shown. The least certain groups come first. "
        "No file was changed or deleted.</p>"
    )


def _group(number: int, group: DuplicateGroup, pictures: Mapping[str, Picture], threshold: float) -> str:
    weakest = group.weakest
    said = "same bytes" if all(m.identical for m in group.members) else f"weakest {weakest.distance:.4f}"
    cards = "".join(_member(member, member is weakest, pictures, threshold) for member in group.members)
    keeper = _card(group.keeper, "keeper", '<b class="tag keep">keep</b>', pictures)
    count = f"{len(group.members)} duplicate{'s' if len(group.members) > 1 else ''}"
    return (
        f'<section id="g{number}"><h2><a href="#g{number}">{number}</a><span>{count}</span>'
        f'<span>{said}</span></h2><div class="row">{keeper}{cards}</div></section>\n'
    )


def _member(member: DuplicateMember, weakest: bool, pictures: Mapping[str, Picture], threshold: float) -> str:
    if member.identical:
        return _card(member.path, "", '<b class="tag same">same bytes</b>', pictures)
    share = min(1.0, member.distance / threshold) if threshold else 0.0
    tag = f'<b class="tag">{member.distance:.4f}</b>' + ('<b class="tag weak">weakest</b>' if weakest else "")
    bar = f'<i class="bar"><i style="width:{share:.0%}"></i></i>'
    return _card(member.path, "", tag + bar, pictures)


def _card(path: str, kind: str, tags: str, pictures: Mapping[str, Picture]) -> str:
    picture = pictures[path]
    shown = escape(printable(path))
    name = escape(printable(Path(path).name))
    return (
        f'<figure class="{kind}"><a href="{escape(_link(path))}">{_image(path, name)}</a>'
        f'<figcaption><div class="tags">{tags}</div><div class="name" title="{shown}">{name}</div>'
        f'<div class="facts">{picture.width} × {picture.height} · {_bytes(picture.size)}</div>'
        f'<div class="path">{shown}</div></figcaption></figure>'
    )


def _image(path: str, name: str) -> str:
    try:
        data = base64.b64encode(thumbnail(path, THUMBNAIL)).decode()
    except ImageError as error:
        return f'<span class="gone">{escape(error.reason)}</span>'
    return f'<img loading="lazy" decoding="async" alt="{name}" src="data:image/jpeg;base64,{data}">'


def _link(path: str) -> str:
    return Path(path).absolute().as_uri()


def _unreadable(items: tuple[Unreadable, ...]) -> str:
    if not items:
        return ""
    rows = "".join(
        f"<tr><td>{escape(printable(item.path))}</td><td>{escape(item.reason)}</td></tr>" for item in items
    )
    head = "<tr><th>file</th><th>why it was left out</th></tr>"
    return f'<h2 class="plain">Unreadable ({len(items):,})</h2><table>{head}{rows}</table>'


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
