"""The columns of an HDF5 file that anybody may have made, read in memory that its claims do not decide.

What is read has to lie in the file itself, once and as it is. Refused before anything is read: links, values
in other files, filters (a compressed chunk unfolds to a thousand times its size and more), rows that were
never written, and texts that are referred to more often than they are there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

BLOCK = 8192

_REFERENCE = np.dtype([("length", "<u4"), ("heap", "<u8"), ("index", "<u4")])
"""How a text of its own length is stored: https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html,
"Variable-length datatypes"."""


def attribute(file: Any, name: str, kind: type) -> Any:
    """A number or text among a file's attributes; KeyError, ValueError for anything else of that name."""
    identifier = file.attrs.get_id(name)
    if identifier.shape != () or identifier.dtype.kind not in "iuSO":
        raise ValueError(f"its attribute {name} is no single {kind.__name__}")
    value = file.attrs[name]
    value = value.decode() if isinstance(value, bytes) else value
    if not isinstance(value, kind | np.integer if kind is int else kind):
        raise ValueError(f"its attribute {name} is no {kind.__name__}")
    return kind(value)


def check(file: Any, source: Path, numbers: Sequence[str], texts: Sequence[str]) -> None:
    """ValueError unless all columns are in the file as they are claimed to be."""
    if file.userblock_size or file.id.get_create_plist().get_sizes() != (8, 8):
        raise ValueError("it has a user block, or addresses of another size than 8 bytes")
    size = source.stat().st_size
    held = sum(_held(file, name) for name in (*numbers, *texts))
    if held > size:
        raise ValueError(f"its columns would have {held:,} bytes, and it has {size:,}: values are used twice")
    for name in numbers:
        if file[name].dtype.kind not in "iuf":
            raise ValueError(f"/{name} holds no numbers")
    for name in texts:
        _check_texts(file[name], source, size)


def _held(file: Any, name: str) -> int:
    """The bytes of a column in the file, after it was found to be there, and whole."""
    import h5py

    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"/{name} is a link to somewhere else")
    column = file[name]
    if not isinstance(column, h5py.Dataset) or column.shape is None or column.ndim == 0:
        raise ValueError(f"/{name} is no column")
    if column.is_virtual or column.external:
        raise ValueError(f"/{name} keeps its values in other files")
    if column.id.get_create_plist().get_nfilters():
        raise ValueError(f"/{name} is compressed; unpack the file with h5repack -f NONE")
    text = h5py.check_string_dtype(column.dtype) is not None
    each = _REFERENCE.itemsize if text else column.dtype.itemsize
    claimed = int(np.prod(column.shape, dtype=object)) * each
    held = int(column.id.get_storage_size())
    if held < claimed:
        raise ValueError(f"/{name} claims {claimed:,} bytes of which only {held:,} were ever written")
    return held


def _check_texts(column: Any, source: Path, size: int) -> None:
    import h5py

    kind = h5py.check_string_dtype(column.dtype)
    if kind is None or kind.length is not None or column.ndim != 1:
        raise ValueError(f"{column.name} is no column of texts, each of its own length")
    total = 0
    with source.open("rb") as raw:
        for start, length in _spans(column):
            raw.seek(start)
            while length > 0 and (block := raw.read(min(length, BLOCK * _REFERENCE.itemsize))):
                whole = len(block) // _REFERENCE.itemsize * _REFERENCE.itemsize
                total += int(np.frombuffer(block[:whole], _REFERENCE)["length"].sum(dtype=np.int64))
                length -= len(block)
    if total > size:
        raise ValueError(
            f"{column.name} would have {total:,} bytes, and the file has {size:,}: a text is used twice"
        )


def _spans(column: Any) -> list[tuple[int, int]]:
    """(where it begins, bytes) of every part of a column in the file."""
    import h5py

    layout = column.id.get_create_plist().get_layout()
    if layout == h5py.h5d.CHUNKED:
        found: list[tuple[int, int]] = []
        column.id.chunk_iter(lambda chunk: found.append((chunk.byte_offset, chunk.size)))
        return found
    if layout != h5py.h5d.CONTIGUOUS:
        raise ValueError(f"{column.name} is stored in a compact layout, which is not read")
    return [(column.id.get_offset(), column.id.get_storage_size())] if len(column) else []


def texts(column: Any, rows: slice = slice(None)) -> Iterator[str]:
    """The texts of a column, read block by block."""
    start, stop, _ = rows.indices(len(column))
    for at in range(start, stop, BLOCK):
        yield from (value.decode() for value in column[at : min(at + BLOCK, stop)])


def blocks(column: Any) -> Iterator[Any]:
    """The numbers of a column, block by block."""
    for at in range(0, len(column), BLOCK):
        yield column[at : at + BLOCK]
