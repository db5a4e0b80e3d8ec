"""Creating and opening galleries: what is at the location, and whether the encoder is the right one."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from gallery.encoder import Encoder, check_encoder, encoder_name, provenance_of
from gallery.engines.index_cache import INDEX_WISH
from gallery.engines.local import LocalEngine
from gallery.errors import CorruptGalleryError, GalleryError, GalleryExistsError, GalleryNotFoundError
from gallery.folders import absolute_path
from gallery.gallery import Gallery
from gallery.indexes.choice import check_kind
from gallery.migration import bound_encoder
from gallery.originals import KEEP_ITEMS
from gallery.quality import Gate, gatekeeper
from gallery.stores import catalog
from gallery.stores.base import canary_setting
from gallery.stores.sqlite import SqliteStore, new_header
from gallery.stores.witness import head_path

CATALOG = "catalog.sqlite"
INDEX = "index"
_LONGEST_WAIT = 1_000_000


def create(
    location: str | os.PathLike[str],
    encoder: Encoder,
    *,
    index: str = "auto",
    lock_timeout: float = 30.0,
    keep_items: bool = False,
    audit: bool = True,
    actor: str | None = None,
    quality: Gate | None = None,
    on_quality: str = "refuse",
) -> Gallery:
    """Makes a new gallery folder for an encoder.

    index         "auto", "exact", or a factory string of FAISS such as "HNSW32" or "IVF1024,SQ8"
    lock_timeout  seconds that a writer waits for another one
    keep_items    keep the enrolled items themselves as well, so that another encoder can embed them one day
    audit         keep a log of who changed what when (see `Gallery.log`)
    actor         who the log says did it; None is user@host
    quality       called with each item before it is enrolled: what is wrong with it, or None, as
                  `gallery.ImageQuality` says of pictures. It is not stored: give it whenever you open
    on_quality    "refuse": such an item cannot be used; "flag": it is enrolled and listed in the result

    Raises GalleryExistsError when a gallery, or anything else, is already there.
    """
    folder = absolute_path(location)
    check_encoder(encoder)
    gatekeeper(quality, on_quality)
    check_kind(index, encoder.dim, encoder.metric)
    _check_manner(lock_timeout, actor)
    _make_folder(folder)
    header = new_header(
        encoder.dim, encoder.metric, encoder_name(encoder), encoder.fingerprint, provenance_of(encoder)
    )
    settings = {} if index == "auto" else {INDEX_WISH: index}
    if keep_items:
        settings[KEEP_ITEMS] = "yes"
    store = SqliteStore.create(
        folder / CATALOG, header, lock_timeout=lock_timeout, settings=settings, audit_log=audit, actor=actor
    )
    engine = LocalEngine(store, folder / INDEX)
    return Gallery(folder, engine, encoder, read_only=False, quality=quality, on_quality=on_quality)


def open(
    location: str | os.PathLike[str],
    encoder: Encoder | None = None,
    *,
    read_only: bool = False,
    index: str = "auto",
    lock_timeout: float = 30.0,
    keep_items: bool = False,
    audit: bool = True,
    actor: str | None = None,
    quality: Gate | None = None,
    on_quality: str = "refuse",
) -> Gallery:
    """Opens a gallery; creates it when nothing is there, an encoder is given and read_only is not.

    encoder   the one the gallery was filled by, else EncoderMismatchError. Without one the gallery can be
              looked at and removed from; galleries of precomputed vectors need none.
    index, keep_items, audit: only for a gallery that is created now; actor, quality, on_quality: see `create`

    Raises GalleryNotFoundError, EncoderMismatchError, CorruptGalleryError.
    """
    folder = absolute_path(location)
    path = folder / CATALOG
    _check_manner(lock_timeout, actor)
    if not catalog.has_gallery(path, lock_timeout):
        _check_not_lost(path)
        if encoder is None or read_only:
            raise _not_there(folder, read_only)
        try:
            return create(
                folder,
                encoder,
                index=index,
                lock_timeout=lock_timeout,
                keep_items=keep_items,
                audit=audit,
                actor=actor,
                quality=quality,
                on_quality=on_quality,
            )
        except GalleryExistsError:
            # Another process made it since we looked.
            if not catalog.has_gallery(path, lock_timeout):
                raise
    gatekeeper(quality, on_quality)
    store = SqliteStore(path, read_only=read_only, lock_timeout=lock_timeout, actor=actor)
    encoder = _bound(store, encoder, folder)
    engine = LocalEngine(store, folder / INDEX, read_only=read_only)
    return Gallery(folder, engine, encoder, read_only=read_only, quality=quality, on_quality=on_quality)


def _bound(store: SqliteStore, encoder: Encoder | None, folder: Path) -> Encoder | None:
    """The encoder, when it is the one that filled the store; else the store is closed."""
    try:
        canary = store.setting(canary_setting(store.header.generation))
        return bound_encoder(encoder, store.header, canary, str(folder))
    except BaseException:
        store.close()
        raise


def recorded_encoder(location: str | os.PathLike[str]) -> str | None:
    """The name of the encoder that filled the gallery; None when no gallery is there."""
    path = absolute_path(location) / CATALOG
    if not catalog.has_gallery(path):
        return None
    store = SqliteStore(path, read_only=True)
    store.close()
    return store.header.encoder


def discard_unused(location: str | os.PathLike[str]) -> None:
    """Takes away a gallery that nothing was ever enrolled in and nobody has open; any other stays."""
    path = absolute_path(location) / CATALOG
    catalog.discard_unused(path)
    # Only when it is empty.
    with suppress(OSError):
        path.parent.rmdir()


def _check_manner(lock_timeout: float, actor: str | None) -> None:
    if not isinstance(lock_timeout, (int, float)) or not 0 <= lock_timeout <= _LONGEST_WAIT:
        raise ValueError(f"lock_timeout must be 0 to {_LONGEST_WAIT:,} seconds, not {lock_timeout!r}")
    if actor is not None and not (isinstance(actor, str) and actor.isprintable()):
        raise ValueError(f"actor must be printable text, for the log, not {actor!r}")


def _check_not_lost(path: Path) -> None:
    """Refuses to make a new gallery where the catalog of another one is missing."""
    # The head is written after the catalog: when it is there and still no catalog, nobody is making one now.
    if head_path(path).exists() and not catalog.has_gallery(path):
        raise CorruptGalleryError(
            f"{path} is missing or empty, and {head_path(path).name} says that there was one: put it back "
            "from a backup; nothing can be read without it. To start anew, remove the folder"
        )


def _not_there(folder: Path, read_only: bool) -> GalleryNotFoundError:
    if _holds_other_files(folder):
        return GalleryNotFoundError(f"there is no gallery at {folder}: it holds other files")
    how = "opened for writing and with an encoder" if read_only else "opened with an encoder"
    return GalleryNotFoundError(f"there is no gallery at {folder}; {how}, one is made there")


def _holds_other_files(folder: Path) -> bool:
    return folder.is_dir() and not (folder / CATALOG).exists() and any(folder.iterdir())


def _make_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise GalleryExistsError(f"{folder} is a file; a gallery is a folder")
    if _holds_other_files(folder):
        raise GalleryExistsError(
            f"{folder} holds other files; choose a folder that is empty or not there yet"
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise GalleryError(f"{folder} cannot be made: {error.strerror or error}") from error
