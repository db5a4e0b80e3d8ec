"""Changing the encoder of a gallery: staged beside what is in use, switched in one commit, undoable."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from gallery.bulk import Progress, skips
from gallery.canary import canary_of, check_canary
from gallery.encoder import (
    Encoder,
    Precomputed,
    check_encoder,
    check_same,
    differences,
    encoder_name,
    provenance_of,
)
from gallery.engines.base import Engine
from gallery.errors import GalleryError
from gallery.records import Generation, Migration
from gallery.staging import Staging, check_items
from gallery.stores.base import Header, canary_setting


def bound_encoder(encoder: Encoder | None, header: Header, canary: str | None, where: str) -> Encoder | None:
    """The encoder to use with a gallery, after it was found to be the one that filled it.

    canary: what the store keeps of that one's. None stays None but for vectors that need no encoder. Raises
    EncoderMismatchError.
    """
    if encoder is None:
        bare = Precomputed(header.dim, header.metric, header.encoder)
        return bare if bare.fingerprint == header.fingerprint else None
    check_encoder(encoder)
    check_same(encoder, header, header.encoder, where)
    if canary is not None:
        check_canary(encoder, canary_of(canary), dict(header.provenance), where)
    return encoder


class Migrating:
    """The verbs by which a `Gallery` goes from one encoder to another and back."""

    location: Path
    encoder: Encoder | None
    _engine: Engine
    _canary_is_settled: bool
    _binding: threading.RLock
    """Held while `encoder` and the engine's header are read or changed together."""
    _replaced: dict[int, Encoder]
    """The encoders of generations that this object replaced."""

    def _check_writable(self) -> None:
        raise NotImplementedError

    def migrate(
        self,
        new_encoder: Encoder,
        items: Any = None,
        *,
        on_error: str = "raise",
        progress: Progress | None = None,
    ) -> Migration:
        """Embeds everything enrolled anew by another encoder, and binds the gallery to that one.

        items      None: the originals, of a gallery made with keep_items=True; {id: [items]} or an iterable
                   of (id, items), one item for each of the subject's templates, in the order of their
                   numbers; or a function from a `Template` to its item, such as `lambda t: t.source`, None
                   for one it has no item of
        on_error   "raise" stops at the first item that the new encoder cannot embed; "skip" goes on: such
                   templates are listed in the result and REMOVED for good at the switch, a rollback does not
                   bring them back
        progress   progress(done, total) after every batch, in templates, those of an earlier run included

        Until it is done the gallery answers, enrols and removes as before, in every process. Batches are
        committed one by one: called again with an encoder of the same fingerprint, after an error or a kill,
        it goes on where it stopped, and may be given only the subjects that are still lacking. The switch is
        one commit, refused while a template has no embedding. The threshold stays with the old encoder: the
        one that the new encoder recommends is used until another is adopted. Other processes get
        EncoderMismatchError at their next call. `rollback` goes back, until `drop_previous`.

        Raises InvalidItemError, UnknownSubjectError, and GalleryError for the present encoder, while a
        migration to yet another one is staged, and when templates are lacking.
        """
        self._check_writable()
        check_encoder(new_encoder)
        skips(on_error)
        staged = _staged(self._engine, new_encoder, items, str(self.location))
        staging = Staging(self._engine, new_encoder, staged, self.location, on_error, progress)
        try:
            staging.take(items)
        except BaseException:
            self._give_up_what_is_empty()
            raise
        refused = [one.template for one in staging.refused if one.template is not None]
        with self._binding:
            with self._engine.changed_generations("migrate", switches=True) as generations:
                templates = generations.switch(staged.generation, refused)
                *_, before = [one for one in generations.listing() if one.state == "previous"]
            self._remember(before.generation)
            self.encoder = new_encoder
            self._canary_is_settled = False
        there, here = (before.encoder, before.fingerprint), (staged.encoder, staged.fingerprint)
        return Migration(*there, *here, staged.generation, templates, tuple(staging.refused))

    def _remember(self, generation: int) -> None:
        if self.encoder is not None:
            self._replaced[generation] = self.encoder

    def rollback(self, encoder: Encoder | None = None, *, force: bool = False) -> Generation:
        """Goes back to the encoder before the last migration, with its threshold, and drops the present one.

        encoder  that one, to go on with; by default the one that this object was migrated from, if it was.
                 Without one the gallery can be looked at and removed from, as when it is opened without
        force    templates that were enrolled since the migration have no embedding to go back to: without
                 force they are a reason to refuse, with it they are REMOVED

        What was removed since the migration stays removed. Answers are what they were, bit for bit. Other
        processes get EncoderMismatchError at their next call. Raises GalleryError when nothing is kept to go
        back to, EncoderMismatchError when `encoder` is another one; then nothing is changed.
        """
        self._check_writable()
        with self._engine.generations() as generations:
            previous = [one.generation for one in generations.listing() if one.state == "previous"]
            if not previous:
                raise GalleryError(f"{self.location} keeps no generation to go back to; nothing was changed")
            header = generations.header_of(previous[-1])
        canary = self._engine.setting(canary_setting(header.generation))
        known = encoder or self._replaced.get(header.generation)
        encoder = bound_encoder(known, header, canary, f"{self.location} before its migration")
        with self._binding:
            with self._engine.changed_generations("rollback", switches=True) as generations:
                if generations.rollback(force).generation != header.generation:
                    raise GalleryError(f"another process rolled {self.location} back meanwhile: call again")
                (now,) = [one for one in generations.listing() if one.state == "current"]
            self._replaced.pop(header.generation, None)
            self.encoder = encoder
            self._canary_is_settled = False
        return now

    def drop_previous(self, erase: bool = False) -> int:
        """Drops the embeddings of every encoder that was replaced: how many there were. No rollback after it.

        erase: also leave no byte of them in any file, as `compact` does; without it their place in the
        catalog is zeroed and used again, and what lies in its write-ahead log goes with the next `compact`.
        """
        self._check_writable()
        with self._engine.changed_generations("drop previous") as generations:
            dropped = generations.drop_previous()
        self._replaced.clear()
        if erase:
            self._engine.erase()
        return dropped

    def _give_up_what_is_empty(self) -> None:
        """A migration that stopped at its first item leaves nothing to go on with."""
        with suppress(GalleryError), self._engine.changed_generations("abandon migration") as generations:
            if any(one.state == "staged" and not one.templates for one in generations.listing()):
                generations.abandon()

    def abandon_migration(self) -> bool:
        """Gives up a migration that is not finished: whether there was one. The gallery stays as it is."""
        self._check_writable()
        with self._engine.changed_generations("abandon migration") as generations:
            return generations.abandon()


def _staged(engine: Engine, encoder: Encoder, items: Any, where: str) -> Header:
    """The header of the staged generation of `encoder`: the one that is there, else one begun now."""
    with engine.generations() as generations:
        listing = generations.listing()
        staged = next((one for one in listing if one.state == "staged"), None)
        current = next(one for one in listing if one.state == "current")
        if _is_of(current, encoder):
            raise GalleryError(
                f"{where} is bound to {encoder_name(encoder)!r} already (fingerprint "
                f"{encoder.fingerprint[:16]}): there is nothing to migrate"
            )
        if staged is not None and not _is_of(staged, encoder):
            raise GalleryError(
                f"{where} is in the middle of a migration to {staged.encoder!r} (fingerprint "
                f"{staged.fingerprint[:16]}), with {staged.templates:,} templates embedded, and "
                f"{encoder_name(encoder)!r} is another one ({encoder.fingerprint[:16]}): finish that one, or "
                "give it up with abandon_migration()"
            )
        header = None if staged is None else generations.header_of(staged.generation)
        if header is not None and not generations.count_lacking(header.generation):
            return header
    check_items(engine, items)
    if header is not None:
        return header
    new = Header(
        encoder.dim,
        encoder.metric,
        encoder_name(encoder),
        encoder.fingerprint,
        engine.header.created,
        engine.header.identity,
        provenance=provenance_of(encoder),
    )
    with engine.changed_generations("migrate begin") as generations:
        return generations.begin(new)


def _is_of(generation: Generation, encoder: Encoder) -> bool:
    return not differences(
        generation, dim=encoder.dim, metric=encoder.metric, fingerprint=encoder.fingerprint
    )
