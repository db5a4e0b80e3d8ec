"""A whole gallery as one self-describing HDF5 file: written once, never changed in place.

    /embeddings  (n, dim) float32         /template  (n,) int64     /subject  (n,) int64, a row of /ids
    /ids         (s,) UTF-8 strings       /metadata  (s,) JSON      /enrolled (n,) int64, microseconds, UTC
    /source      (n,) UTF-8 strings, empty where the item was not a path

and where there is something to say

    /quarantine  (n,) UTF-8 strings, why each is kept and not matched, empty where it is
    /different   (p, 2) int64, rows of /ids that were found to be different subjects

    attributes: format, dim, metric, encoder, fingerprint, created, ids_encoding

ids_encoding is "utf-8", or "json" when an id holds a NUL, which an HDF5 string cannot.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from gallery import columns
from gallery.bulk import checked_id
from gallery.encoder import differences
from gallery.engines.base import Engine
from gallery.errors import (
    CorruptGalleryError,
    EncoderMismatchError,
    GalleryError,
    GalleryExistsError,
    GalleryNotFoundError,
    InvalidItemError,
)
from gallery.records import Template
from gallery.stores.base import Header, NewTemplates, Stored
from gallery.stores.catalog import sync_folder
from gallery.vectors import FloatRows, as_rows, faults, prepare

FORMAT = 1
QUARANTINE, DIFFERENT = "quarantine", "different"
"""Columns that are there where there is something to say."""
_YEAR_9999 = 253_370_764_800_000_000
"""In microseconds since 1970: the last year that Python's dates know."""
_BESIDE, _OF_A_SUBJECT, _SPARE = 64, 256, 2**20
"""Bytes of a template beside its embedding, of a subject, and of the file: about what they take at most."""
_PER_TEMPLATE = ("embeddings", "template", "subject", "enrolled", "source")
_TEXTS = ("source", "ids", "metadata")
_SAID_OF_ENCODER = {"encoder": str, "dim": int, "metric": str, "fingerprint": str}


class DamagedFileError(CorruptGalleryError):
    """It is the file to be imported that is damaged, and not the gallery."""


def write(engine: Engine, path: str | os.PathLike[str]) -> int:
    """Writes everything enrolled, of one revision, to a new file: how many templates.

    GalleryExistsError when the file is there already.
    """
    target = Path(os.fsdecode(path))
    if not target.name:
        raise GalleryError(f"{target} is no name of a file to export to")
    temporary = target.with_name(f".{target.name}.{os.urandom(4).hex()}.tmp")
    try:
        with temporary.open("xb") as raw:
            os.fchmod(raw.fileno(), 0o600)
            _check_room(raw.fileno(), engine)
        count = _fill(engine, temporary)
        with temporary.open("rb") as raw:
            os.fsync(raw.fileno())
        # A link, unlike a rename, refuses to replace a file that is there.
        target.hardlink_to(temporary)
        with suppress(PermissionError):
            # Somebody else's folder.
            sync_folder(target.parent)
    except GalleryError:
        raise
    except FileExistsError as error:
        raise GalleryExistsError(f"{target} is there already; an export never overwrites") from error
    except (OSError, RuntimeError) as error:
        raise GalleryError(f"{target} could not be written: {_reason(error)}") from error
    finally:
        # A name that is too long for it is an error here too.
        with suppress(OSError):
            temporary.unlink()
    return count


def _check_room(file: int, engine: Engine) -> None:
    """OSError where what is enrolled will not fit on the disk.

    HDF5 must not find out by itself: after a write that failed it keeps pages that it can never write, and
    crashes the process when it works on the next file.
    """
    subjects, templates = engine.counts()
    wanted = templates * (4 * engine.header.dim + _BESIDE) + subjects * _OF_A_SUBJECT + _SPARE
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, wanted)
        os.ftruncate(file, 0)


def _reason(error: OSError | RuntimeError) -> str:
    """What went wrong with the disk, for which HDF5 has several lines and errors of both kinds."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    number = re.search(r"errno = (\d+)", text)
    return os.strerror(int(number[1])) if number else text.partition("\n")[0]


@dataclass(slots=True)
class Exported:
    """Stands for the encoder that an exported file names: enough to bind a gallery to, not to embed with."""

    name: str
    dim: int
    metric: str
    fingerprint: str

    def encode(self, items: Sequence[Any]) -> FloatRows:
        raise EncoderMismatchError(f"open the gallery with its encoder {self.name!r} to embed something")


def encoder_of(path: str | os.PathLike[str]) -> Exported:
    """The encoder that an exported file names; GalleryNotFoundError, CorruptGalleryError."""
    with _opened(path) as (file, _):
        return _encoder_of(file)


def _encoder_of(file: Any) -> Exported:
    said = {name: columns.attribute(file, name, kind) for name, kind in _SAID_OF_ENCODER.items()}
    return Exported(said["encoder"], said["dim"], said["metric"], said["fingerprint"])


def read(path: str | os.PathLike[str], header: Header) -> Iterator[NewTemplates]:
    """Every subject of an exported file, ready to be added to the gallery of `header`.

    GalleryNotFoundError, EncoderMismatchError when another encoder made the embeddings, CorruptGalleryError.
    """
    with _opened(path) as (file, source):
        _check_origin(file, header, source)
        columns.check(file, source, ("embeddings", "template", "subject", "enrolled"), _TEXTS)
        _check_in_step(file, header.dim)
        in_json = columns.attribute(file, "ids_encoding", str) == "json"
        ids = [checked_id(json.loads(id) if in_json else id) for id in columns.texts(file["ids"])]
        metadata = list(columns.texts(file["metadata"]))
        reasons = _reasons(file, source)
        for subject, rows in _runs(file["subject"]):
            yield NewTemplates(
                ids[subject],
                _checked(file["embeddings"][rows], header, source),
                [text or None for text in columns.texts(file["source"], rows)],
                dict(json.loads(metadata[subject], parse_constant=_no_number)),
                [int(at) for at in file["enrolled"][rows]],
                None,
                None if reasons is None else reasons[rows],
            )


def _reasons(file: Any, source: Path) -> list[str | None] | None:
    """Why each template is in quarantine, "" for those that are not; None where nothing is."""
    if QUARANTINE not in file:
        return None
    columns.check(file, source, (), (QUARANTINE,))
    found: list[str | None] = list(columns.texts(file[QUARANTINE]))
    if len(found) != len(file["template"]):
        raise ValueError(
            f"/{QUARANTINE} has {len(found)} rows and there are {len(file['template'])} templates"
        )
    return found


def read_different(path: str | os.PathLike[str]) -> list[tuple[str, str]]:
    """Pairs of ids that an exported file says are different; CorruptGalleryError."""
    with _opened(path) as (file, source):
        if DIFFERENT not in file:
            return []
        columns.check(file, source, (DIFFERENT, "subject"), ("ids",))
        pairs = file[DIFFERENT]
        if pairs.dtype.kind not in "iu" or pairs.ndim != 2 or pairs.shape[1] != 2:
            raise ValueError(f"/{DIFFERENT} holds no pairs of whole numbers")
        in_json = columns.attribute(file, "ids_encoding", str) == "json"
        ids = [json.loads(id) if in_json else id for id in columns.texts(file["ids"])]
        found = pairs[:].tolist()
        enrolled = {int(number) for values in columns.blocks(file["subject"]) for number in np.unique(values)}
        if any(number not in enrolled or not 0 <= number < len(ids) for pair in found for number in pair):
            raise ValueError(f"/{DIFFERENT} names a subject that is not in it")
        return [(ids[one], ids[other]) for one, other in found]


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[tuple[Any, Path]]:
    source = Path(os.fsdecode(path))
    if not source.is_file():
        raise GalleryNotFoundError(f"there is no file {source}")
    import h5py

    with _translated(source), h5py.File(source, "r") as file:
        if "format" not in file.attrs:
            raise DamagedFileError(f"{source} is an HDF5 file, but no exported gallery")
        yield file, source


def _check_in_step(file: Any, dim: int) -> None:
    """Refuses columns of different lengths, and numbers out of range."""
    subjects = len(file["ids"])
    lengths = {name: len(file[name]) for name in _PER_TEMPLATE}
    if len(set(lengths.values())) > 1 or len(file["metadata"]) != subjects:
        raise ValueError(f"its columns have different lengths: {lengths}")
    if file["embeddings"].shape[1:] != (dim,):
        raise ValueError(f"/embeddings has rows of shape {file['embeddings'].shape[1:]}, not ({dim},)")
    for name, limit in (("subject", subjects), ("enrolled", _YEAR_9999)):
        column = file[name]
        if column.dtype.kind not in "iu" or column.ndim != 1 or not all(_within(column, limit)):
            raise ValueError(f"/{name} holds what is no whole number from 0 to {limit - 1}")


def _within(column: Any, limit: int) -> Iterator[bool]:
    for values in columns.blocks(column):
        yield bool(0 <= values.min() <= values.max() < limit)


def _no_number(name: str) -> None:
    raise ValueError(f"its metadata holds {name}, which is no number of JSON")


def _fill(engine: Engine, path: Path) -> int:
    import h5py

    header = engine.header
    text = h5py.string_dtype("utf-8")
    with h5py.File(path, "w") as file:
        _dataset(file, "embeddings", "<f4", (header.dim,))
        for name in ("template", "subject", "enrolled"):
            _dataset(file, name, "<i8")
        _dataset(file, "source", text)
        ids, metadata = [], []
        block = _Block()
        with engine.exported() as (curation, subjects):
            reasons = {one.template: one.reason for one in curation.quarantined()}
            different = curation.different()
            for number, (id, about, templates, stored) in enumerate(subjects):
                ids.append(id)
                metadata.append(json.dumps(about, ensure_ascii=True))
                block.take(number, templates, stored)
                if block.count >= columns.BLOCK:
                    block = block.written(file)
        block.written(file)
        _put_in_order(file, ids, reasons, different)
        encoding = "json" if any("\0" in id for id in ids) else "utf-8"
        file.create_dataset(
            "ids", data=[json.dumps(id) for id in ids] if encoding == "json" else ids, dtype=text
        )
        file.create_dataset("metadata", data=metadata, dtype=text)
        file.attrs.update(
            format=FORMAT,
            dim=header.dim,
            metric=header.metric,
            encoder=header.encoder,
            fingerprint=header.fingerprint,
            created=header.created.isoformat(),
            ids_encoding=encoding,
        )
        return len(file["template"])


def _put_in_order(
    file: Any, ids: list[str], reasons: dict[int, str], different: list[tuple[str, str]]
) -> None:
    """Writes what is in quarantine and who is different, where there is any of it."""
    import h5py

    if reasons:
        each = [reasons.get(number, "") for number in file["template"][:].tolist()]
        file.create_dataset(QUARANTINE, data=each, dtype=h5py.string_dtype("utf-8"))
    if different:
        at = {id: number for number, id in enumerate(ids)}
        pairs = [(at[one], at[other]) for one, other in different]
        file.create_dataset(DIFFERENT, data=np.array(pairs, "<i8"))


@dataclass(slots=True)
class _Block:
    """Subjects on their way to the file: HDF5 is slow at small pieces."""

    count: int = 0
    columns: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in _PER_TEMPLATE})

    def take(self, subject: int, templates: list[Template], stored: Stored) -> None:
        self.count += len(templates)
        self.columns["embeddings"].append(stored.rows)
        self.columns["template"].append(stored.numbers)
        self.columns["subject"].append(np.full(len(templates), subject))
        self.columns["enrolled"].append([round(one.enrolled.timestamp() * 1e6) for one in templates])
        sources = [(one.source or "").replace("\0", "") for one in templates]
        self.columns["source"].append(np.array(sources, object))

    def written(self, file: Any) -> _Block:
        if self.count:
            for name, pieces in self.columns.items():
                file[name].resize(len(file[name]) + self.count, axis=0)
                file[name][-self.count :] = np.concatenate(pieces)
        return _Block()


def _dataset(file: Any, name: str, dtype: Any, shape: tuple[int, ...] = ()) -> None:
    file.create_dataset(name, (0, *shape), dtype, maxshape=(None, *shape), chunks=(1024, *shape))


def _runs(subjects: Any) -> Iterator[tuple[int, slice]]:
    """(subject, its rows), block by block: an export keeps the templates of a subject together."""
    for at, values in enumerate(columns.blocks(subjects)):
        starts = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
        for start, stop in pairwise(starts):
            first = at * columns.BLOCK
            yield int(values[start]), slice(first + start, first + stop)


def _checked(rows: Any, header: Header, source: Path) -> FloatRows:
    checked = as_rows(rows, header.dim)
    bad = faults(checked, header.metric)
    if bad:
        raise DamagedFileError(f"{source}: {next(iter(bad.values()))}")
    if header.metric == "cosine" and np.abs(np.square(checked).sum(axis=1) - 1).max() > 1e-5:
        return prepare(checked, header.metric)
    # Rows that are of unit length already stay as they are, bit for bit.
    return checked


def _check_origin(file: Any, header: Header, source: Path) -> None:
    format = columns.attribute(file, "format", int)
    if format != FORMAT:
        raise GalleryError(
            f"{source} has export format {format} and this version reads format {FORMAT}: "
            "upgrade siamese-gallery to import it"
        )
    there = _encoder_of(file)
    different = differences(header, dim=there.dim, metric=there.metric, fingerprint=there.fingerprint)
    if different:
        raise EncoderMismatchError(
            f"{source} holds embeddings of the encoder {there.name!r}, the gallery is of "
            f"{header.encoder!r} ({different}); nothing was written"
        )


@contextmanager
def _translated(source: Path) -> Iterator[None]:
    try:
        yield
    except InvalidItemError as error:
        raise DamagedFileError(f"{source} is damaged, or is no exported gallery: {error}") from error
    except GalleryError:
        raise
    except (
        OSError,
        ArithmeticError,
        AttributeError,
        LookupError,
        MemoryError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        raise DamagedFileError(f"{source} is damaged, or is no exported gallery: {error}") from error
