"""The long part of a migration: items are embedded by the new encoder, batch by batch, beside what is in use.

Every batch is one commit, so that a process that is killed loses no more than one, and memory stays bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gallery.bulk import Progress, skips
from gallery.canary import new_canary
from gallery.encoder import Encoder, embed, encoder_name, listed
from gallery.engines.base import Engine
from gallery.errors import CorruptGalleryError, GalleryError, InvalidItemError, UnknownSubjectError
from gallery.originals import KEEP_ITEMS, unpack
from gallery.records import Refusal, Template
from gallery.stores.base import Header, canary_setting
from gallery.tables import counted
from gallery.unpacking import discard_unpacked, unpacking

Waiting = tuple[Template, Any]
"""(template, its item)"""

BATCH = 256
_BYTES = 64 * 2**20
"""Of kept items that are unpacked at a time, but for one that is larger."""


class Staging:
    """Embeds the templates that a staged generation lacks, and notes what it makes of them."""

    def __init__(
        self,
        engine: Engine,
        encoder: Encoder,
        staged: Header,
        location: Path,
        on_error: str,
        progress: Progress | None,
    ) -> None:
        """location: the gallery's folder, in which kept items are files again while they are embedded."""
        self._engine = engine
        self._encoder = encoder
        self._generation = staged.generation
        self._location = location
        self._skip = skips(on_error)
        self._progress = progress
        self._canary_is_settled = engine.setting(canary_setting(staged.generation)) is not None
        self._total = engine.counts()[1]
        with engine.generations() as generations:
            self._done = self._total - generations.count_lacking(staged.generation)
        self._waiting: list[Waiting] = []
        self.refused: list[Refusal] = []

    def take(self, items: Any) -> None:
        """Embeds what `items` has: see `Gallery.migrate`. What has no item stays lacking."""
        if items is None:
            self._take_originals()
        elif isinstance(items, Mapping):
            self._take_pairs(items.items())
        elif callable(items):
            self._take_each(items)
        else:
            self._take_pairs(items)
        if self.refused and self._done == len(self.refused):
            refusal = self.refused[0]
            raise InvalidItemError(
                f"none of the {len(self.refused)} items can be embedded by {encoder_name(self._encoder)!r}; "
                f"the first: {refusal.id!r}, template {refusal.template}: {refusal.reason}; the gallery goes "
                "on answering by the encoder it has"
            )

    # -- where items come from

    def _pages(self) -> Iterator[list[Template]]:
        """What is lacking, by number, also what is enrolled meanwhile."""
        after = 0
        while True:
            with self._engine.generations() as generations:
                page = generations.lacking(self._generation, after, BATCH)
            if not page:
                return
            yield page
            after = int(page[-1])

    def _take_each(self, item_of: Callable[[Template], Any]) -> None:
        for page in self._pages():
            given = [(template, item_of(template)) for template in page]
            self._embed([one for one in given if one[1] is not None])

    def _take_originals(self) -> None:
        discard_unpacked(self._location)
        for page in self._pages():
            waiting = iter(page)
            while True:
                with unpacking(self._location) as folder:
                    batch, more = self._unpacked(waiting, folder)
                    self._embed(batch)
                if not more:
                    break

    def _unpacked(self, templates: Iterator[Template], folder: Path) -> tuple[list[Waiting], bool]:
        """The next kept items, up to a limit of bytes, and whether that stopped it. One at a time is held
        twice; what was kept as a file is a file again, in `folder`."""
        batch: list[Waiting] = []
        held = 0
        for template in templates:
            with self._engine.generations() as generations:
                kept = generations.original(int(template))
            if kept is None:
                continue
            held += len(kept[1])
            try:
                batch.append((template, unpack(*kept, folder, str(int(template)))))
            except CorruptGalleryError as error:
                raise CorruptGalleryError(f"the item kept for template {int(template)}: {error}") from error
            except OSError as error:
                raise GalleryError(
                    f"the item kept for template {int(template)} could not be written to {folder}, where "
                    f"the encoder reads it: {error.strerror or error}"
                ) from error
            if held >= _BYTES:
                return batch, True
        return batch, False

    def _take_pairs(self, pairs: Iterable[Any]) -> None:
        for position, pair in enumerate(pairs):
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                raise InvalidItemError(
                    f"subject {position}: expected (id, items), got {type(pair).__name__}; what was embedded "
                    "so far is kept"
                )
            self._take_subject(*pair)
        self._flush()

    def _take_subject(self, id: Any, items: Any) -> None:
        try:
            given = listed(items)
        except InvalidItemError as error:
            raise InvalidItemError(f"{id!r}: {error}") from error
        templates = self._engine.templates(id)
        if len(templates) != len(given):
            raise InvalidItemError(
                f"{id!r} has {counted(len(templates), 'template')} and {counted(len(given), 'item')} "
                f"{'was' if len(given) == 1 else 'were'} given: give all of a subject's items together, one "
                "for each template, in the order of the templates' numbers"
            )
        with self._engine.generations() as generations:
            there = generations.embedded(self._generation, [int(template) for template in templates])
        for template, item in zip(templates, given, strict=True):
            if int(template) not in there:
                self._waiting.append((template, item))
                if len(self._waiting) >= BATCH:
                    self._flush()

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._embed(waiting)

    # -- what becomes of them

    def _embed(self, waiting: Sequence[Waiting]) -> None:
        if not waiting:
            return
        rows, bad = embed(self._encoder, [item for _, item in waiting])
        good = [one for position, one in enumerate(waiting) if position not in bad]
        with self._engine.changed_generations(None, self._canary(good)) as generations:
            generations.stage(self._generation, [int(template) for template, _ in good], rows)
        for position in sorted(bad):
            self._refuse(waiting[position][0], bad[position])
        self._done += len(waiting)
        if self._progress is not None:
            self._progress(self._done, max(self._done, self._total))

    def _canary(self, good: Sequence[Waiting]) -> dict[str, str]:
        """The canary to store with the first items that can be used."""
        if self._canary_is_settled or not good:
            return {}
        self._canary_is_settled = True
        canary = new_canary(self._encoder, good[0][1])
        return {} if canary is None else {canary_setting(self._generation): canary.to_json()}

    def _refuse(self, template: Template, reason: str) -> None:
        try:
            among = [int(one) for one in self._engine.templates(template.id)]
        except UnknownSubjectError:
            return
        if int(template) not in among:
            # Removed meanwhile.
            return
        refusal = Refusal(template.id, among.index(int(template)), reason, int(template))
        if not self._skip:
            raise InvalidItemError(
                f"{refusal.id!r}: item {refusal.index} of {len(among)} (template {refusal.template}) cannot "
                f"be embedded by {encoder_name(self._encoder)!r}: {reason}; the gallery goes on answering by "
                "the encoder it has, and what was embedded is kept (on_error skip goes on, and removes such "
                "templates at the switch)",
                refusal.index,
            )
        self.refused.append(refusal)


def check_items(engine: Engine, items: Any) -> None:
    """Refuses what cannot be a source of items, before anything is begun."""
    if items is None:
        if engine.counts()[1] and engine.setting(KEEP_ITEMS) is None:
            raise InvalidItemError(
                "this gallery keeps no items (it was not made with keep_items=True, --keep-items): pass "
                "items, as {id: [an item for each template, in the order of their numbers]}, (id, items) "
                "pairs, or a function from a Template to its item; on the command line a FOLDER or "
                "--from-sources"
            )
    elif isinstance(items, str | bytes) or not (callable(items) or isinstance(items, Iterable)):
        raise InvalidItemError(
            f"items is a mapping {{id: items}}, (id, items) pairs or a function from a Template to its item, "
            f"not {type(items).__name__}"
        )
