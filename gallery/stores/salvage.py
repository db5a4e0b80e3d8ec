"""What can still be read of a damaged catalog: records that match their checksums, wherever they are."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from gallery.stores import audit, headers, marks
from gallery.stores.base import Header
from gallery.stores.changes import SubjectRow
from gallery.stores.integrity import agrees, original_checksum, subject_checksum, template_checksum
from gallery.stores.pages import TABLE_LEAF, Cell, Pages
from gallery.stores.settings import setting_checksum
from gallery.stores.state import COLUMNS, GENESIS, CatalogState

_GENERATION_FIELDS = 9
_STATE_FIELDS = len(COLUMNS.split(",")) + 1

TemplateRow = tuple[int, int, int, str | None, int, bytes]
"""(template, subject, enrolled, source, checksum, embedding)"""


@dataclass(frozen=True, slots=True)
class EncoderRecord:
    """One encoder's record, as it is stored, and what it says."""

    row: tuple[Any, ...]
    header: Header


@dataclass(slots=True)
class Salvage:
    """Everything but templates and originals, which are too many to hold."""

    identities: list[str] = field(default_factory=list)
    formats: list[int] = field(default_factory=list)
    created: list[str] = field(default_factory=list)
    states: list[CatalogState] = field(default_factory=list)
    generation_rows: list[tuple[Any, ...]] = field(default_factory=list)
    subjects: dict[int, list[SubjectRow]] = field(default_factory=dict)
    """By number; several where pages of different ages lie in the file."""
    removed: dict[int, int] = field(default_factory=dict)
    settings: dict[str, list[str]] = field(default_factory=dict)
    entries: dict[int, list[tuple[Any, ...]]] = field(default_factory=dict)
    """Of the audit log, by number, each (its fields, hash)."""
    names: list[tuple[bytes, str]] = field(default_factory=list)
    pairs: set[tuple[int, int]] = field(default_factory=set)
    """What indexes hold: (revision, removed template) among them."""
    quarantine: dict[int, tuple[str, int]] = field(default_factory=dict)
    """{template: (reason, when)}"""
    different: set[tuple[int, int]] = field(default_factory=set)
    """Pairs of subjects."""
    operations: dict[int, tuple[int, str, int, str, int, int]] = field(default_factory=dict)
    """What can be undone, as it is stored."""
    operation_numbers: set[int] = field(default_factory=set)
    """Of all that look like one, damaged ones too."""
    roots: dict[str, int] = field(default_factory=dict)
    """Tables and where they begin."""

    @property
    def state(self) -> CatalogState | None:
        """Where the catalog stood; None when that is lost."""
        return max(self.states, key=lambda state: state.revision, default=None)

    def setting(self, key: str) -> str | None:
        """One value of a setting."""
        return self.settings.get(key, [None])[-1]

    def removed_for_certain(self) -> list[int]:
        """Numbers of removed templates that the table and its index agree about: they have no checksum."""
        return [number for number, revision in self.removed.items() if (revision, number) in self.pairs]

    def generations(self) -> tuple[str, dict[int, EncoderRecord]]:
        """(identity, the records of encoders that are vouched for under it); ("", {}) when none is."""
        best: tuple[str, dict[int, EncoderRecord]] = ("", {})
        for identity in dict.fromkeys(self.identities):
            found = {}
            for row in self.generation_rows:
                header = _header_of(row, identity)
                if header is not None:
                    found[header.generation] = EncoderRecord(row, header)
            if len(found) > len(best[1]):
                best = identity, found
        return best


def newest(pages: Pages, identities: Sequence[str]) -> Salvage:
    """What there is, with what is whole behind damage in the log where that is of a later revision."""
    found = read(pages, identities)
    if pages.bad_frames:
        pages.lay(all_of_the_log=True)
        more = read(pages, identities)
        before, after = found.state, more.state
        same = more.generations()[0] == found.generations()[0]
        if same and after is not None and (before is None or after.revision > before.revision):
            return more
        pages.lay(all_of_the_log=False)
    return found


def read(pages: Pages, identities: Iterable[str]) -> Salvage:
    """Goes through the whole file once. identities: names that the gallery may have had besides."""
    found = Salvage(identities=[*identities])
    for cell in pages.cells():
        values = cell.values
        if values is None:
            continue
        if cell.rowid is None:
            _in_index(found, values)
        else:
            _in_table(found, cell.rowid, values)
    return found


def _in_index(found: Salvage, values: tuple[Any, ...]) -> None:
    match values:
        case (str(key), str(value), int(checksum)) if checksum == setting_checksum(key, value):
            found.settings.setdefault(key, []).append(value)
        case (bytes(key), str(id)):
            found.names.append((key, id))
        case (int(first), int(second)):
            found.pairs.add((first, second))


def _in_table(found: Salvage, rowid: int, values: tuple[Any, ...]) -> None:
    match values:
        case (None, str(id), int(templates), str(metadata), int(checksum)):
            if agrees(subject_checksum, checksum, rowid, id, templates, metadata) and _is_json(metadata):
                row = (rowid, id, templates, metadata, checksum)
                found.subjects.setdefault(rowid, []).append(row)
        case (None, int(revision)) if rowid > 0:
            found.removed[rowid] = revision
        case (None, str(reason), int(at), int(checksum)):
            if agrees(marks.mark_checksum, checksum, rowid, reason, at):
                found.quarantine[rowid] = reason, at
        case (None, str(verb), int(at), str(change), int(undone), int(checksum)):
            operation = (rowid, verb, at, change, undone, checksum)
            found.operation_numbers.add(rowid)
            # Of two ages the younger one is undone; or it is tried again, and refused for what it finds.
            if agrees(marks.operation_checksum, checksum, *operation[:5]) and (
                undone or rowid not in found.operations
            ):
                found.operations[rowid] = operation
        case (None, int(one), int(other), int(checksum)):
            if agrees(marks.pair_checksum, checksum, one, other):
                found.different.add((one, other))
        case (int(format), str(created), str(identity)):
            found.formats.append(format)
            found.created.append(created)
            found.identities.insert(0, identity)
        case ("table", str(name), _, int(root), _):
            found.roots[name] = root
        case (None, int(), int(), str(), str(), int(), str(), bytes(), bytes()):
            fields, hash, keys = values[1:7], values[7], values[8]
            found.entries.setdefault(rowid, []).append((rowid, *fields, keys, hash))
        case _ if len(values) == _GENERATION_FIELDS:
            found.generation_rows.append((rowid, *values[1:]))
        case _ if len(values) == _STATE_FIELDS:
            state = CatalogState(*values[:-1])
            if agrees(state.checksum, values[-1]):
                found.states.append(state)


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _header_of(row: tuple[Any, ...], identity: str) -> Header | None:
    try:
        generation, _, dim, metric, encoder, fingerprint, provenance, since, checksum = row
        created = datetime.fromisoformat(since)
        header = Header(
            dim, metric, encoder, fingerprint, created, identity, generation, json.loads(provenance)
        )
        return header if headers.generation_checksum(header, provenance, since) == checksum else None
    except (TypeError, ValueError):
        return None


def created_of(found: Salvage, generations: dict[int, EncoderRecord]) -> str:
    """When the gallery was made: the first encoder's record vouches for it, the header only says it."""
    if 1 in generations:
        return str(generations[1].row[7])
    for text in found.created:
        try:
            return datetime.fromisoformat(text).isoformat()
        except ValueError:
            continue
    return datetime.now(UTC).isoformat()


def sound_entries(found: Salvage) -> list[tuple[Any, ...]]:
    """The audit log as far as its chain holds."""
    before = GENESIS
    kept: list[tuple[Any, ...]] = []
    while True:
        for *fields, hash in found.entries.get(len(kept) + 1, []):
            if hash == audit.entry_hash(before, fields):
                kept.append((*fields, hash))
                before = hash
                break
        else:
            return kept


def owners(pages: Pages, found: Salvage, generations: Iterable[int]) -> tuple[dict[int, int], list[int]]:
    """({page: whose templates are in it}, generations with pages that no way leads to any more)."""
    owner: dict[int, int] = {}
    broken = []
    for generation in generations:
        todo, seen = [found.roots.get(f"templates_{generation}", 0)], set[int]()
        whole = True
        while todo:
            number = todo.pop()
            below = pages.children(number) if 0 < number <= pages.count else None
            if below is None or number in seen or owner.get(number, generation) != generation:
                whole = False
                continue
            seen.add(number)
            owner[number] = generation
            todo += below
        if not whole:
            broken.append(generation)
    return owner, broken


def templates(pages: Pages) -> Iterator[tuple[Cell, TemplateRow | None]]:
    """Every record that looks like a template's; None where it does not match its checksum."""
    for cell in pages.cells(TABLE_LEAF):
        match cell.values:
            case (None, int(subject), int(enrolled), str() | None as source, int(checksum), bytes(blob)):
                number = cell.rowid or 0
                sound = agrees(template_checksum, checksum, number, subject, enrolled, source, blob)
                yield cell, (number, subject, enrolled, source, checksum, blob) if sound else None
            case None:
                yield cell, None


def originals(pages: Pages) -> Iterator[tuple[int, tuple[int, str, int, bytes] | None]]:
    """(template, record) for every kept item; None where it does not match its checksum."""
    for cell in pages.cells(TABLE_LEAF):
        match cell.values:
            case (None, str(kind), int(checksum), bytes(content)):
                number = cell.rowid or 0
                sound = agrees(original_checksum, checksum, number, kind, content)
                yield number, (number, kind, checksum, content) if sound else None
