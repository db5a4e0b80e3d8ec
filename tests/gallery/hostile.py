"""Files that claim more than they are: HDF5 files for the import, each small on the disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import gallery

ENCODER = gallery.Precomputed(4, "euclidean", "hostile")
TEXT = h5py.string_dtype("utf-8")
HUGE = 10**12
LARGE = 10**9

Make = Callable[[h5py.File], Any]


def dataset(name: str, *shape: int, dtype: Any = "<i8", **how: Any) -> Make:
    """A dataset of which nothing is written."""
    return lambda file: file.create_dataset(name, shape, dtype, **how)


def texts(name: str, *values: str, **how: Any) -> Make:
    return lambda file: file.create_dataset(name, data=values, dtype=TEXT, **how)


def numbers(name: str, values: Any, dtype: str = "<i8", **how: Any) -> Make:
    return lambda file: file.create_dataset(name, data=np.array(values, dtype), **how)


def sound(count: int = 2) -> dict[str, Make]:
    """What an export of one subject with two templates has."""
    return {
        "embeddings": numbers("embeddings", np.eye(4)[:count], "<f4"),
        **{name: numbers(name, [0] * count) for name in ("template", "subject", "enrolled")},
        "source": texts("source", *[""] * count),
        "ids": texts("ids", "alice"),
        "metadata": texts("metadata", "{}"),
    }


def write(path: Path, parts: dict[str, Make], **attributes: Any) -> Path:
    said = {
        "format": 1,
        "dim": 4,
        "metric": "euclidean",
        "encoder": "hostile",
        "fingerprint": ENCODER.fingerprint,
        "created": "2026-01-01T00:00:00+00:00",
        "ids_encoding": "utf-8",
    }
    with h5py.File(path, "w") as file:
        for name, value in (said | attributes).items():
            if value is not None:
                file.attrs[name] = value
        for make in parts.values():
            make(file)
    return path


def claiming(rows: int, **how: Any) -> dict[str, Make]:
    """All columns of so many rows, of which none was ever written."""
    chunks = how or {"chunks": (1024,)}
    wide = {key: (*value, 4) if key == "chunks" else value for key, value in chunks.items()}
    return {
        "embeddings": dataset("embeddings", rows, 4, dtype="<f4", **wide),
        **{name: dataset(name, rows, **chunks) for name in ("template", "subject", "enrolled")},
        "source": dataset("source", rows, dtype=TEXT, **chunks),
        "ids": texts("ids", "alice"),
        "metadata": texts("metadata", "{}"),
    }


def bomb(rows: int = 50_000_000) -> dict[str, Make]:
    """Zeros, a thousandth of their size when they are packed."""

    def packed(name: str, *wide: int, dtype: str = "<i8") -> Make:
        def make(file: h5py.File) -> None:
            made = file.create_dataset(
                name, (rows, *wide), dtype, chunks=(rows // 50, *wide), compression="gzip", compression_opts=1
            )
            first = np.zeros((rows // 50, *wide), dtype)
            made[: len(first)] = first
            _, content = made.id.read_direct_chunk((0,) * made.ndim)
            for at in range(1, 50):
                made.id.write_direct_chunk((at * len(first), *[0] * len(wide)), content)

        return make

    return claiming(2) | {
        "embeddings": packed("embeddings", 4, dtype="<f4"),
        **{name: packed(name) for name in ("template", "subject", "enrolled")},
        "source": dataset("source", rows, dtype=TEXT, chunks=(1024,)),
    }


def repeated_text(path: Path, name: str, count: int, **how: Any) -> Path:
    """Every one of `count` texts is the same one of a million letters, which is in the file once."""
    parts = sound(count) | {name: texts(name, "x" * 10**6, *["a"] * (count - 1), **how)}
    if name != "source":
        parts["ids" if name == "metadata" else "metadata"] = texts(
            "ids" if name == "metadata" else "metadata", *["{}"] * count
        )
        parts["subject"] = numbers("subject", range(count))
    write(path, parts | {"embeddings": numbers("embeddings", np.zeros((count, 4)), "<f4")})
    with h5py.File(path) as file:
        made = file[name]
        start = made.id.get_offset() if made.chunks is None else made.id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[start : start + 16 * count] = content[start : start + 16] * count
    path.write_bytes(content)
    return path


def hostile_files(folder: Path) -> dict[str, Path]:
    """{what it is: a file that no import may take}"""
    group: Make = lambda file: file.create_group("ids")  # noqa: E731
    reference: Make = lambda file: file.create_dataset("ids", data=np.array([file.ref], h5py.ref_dtype))  # noqa: E731
    record: Make = lambda file: file.create_dataset("subject", data=np.zeros(2, [("a", "<i8")]))  # noqa: E731
    deep = json.dumps({"a": "b"})[:-4] + "[" * 200_000 + "]" * 200_000 + "}"
    parts: dict[str, dict[str, Make]] = {
        "rows that were never written": claiming(HUGE),
        "fewer of them": claiming(LARGE),
        "contiguous rows that were never written": claiming(LARGE, track_times=False),
        "ids that were never written": sound()
        | {name: dataset(name, LARGE, dtype=TEXT, chunks=(1024,)) for name in ("ids", "metadata")},
        "packed zeros": bomb(),
        "wide embeddings": sound()
        | {"embeddings": dataset("embeddings", 2, HUGE, dtype="<f4", chunks=(1, 9))},
        "ids that are numbers": sound() | {"ids": numbers("ids", [1])},
        "ids that are a group": sound() | {"ids": group},
        "ids that are references": sound() | {"ids": reference},
        "ids of fixed length": sound()
        | {"ids": lambda file: file.create_dataset("ids", data=np.array([b"a"], "S1"))},
        "one id alone": sound() | {"ids": lambda file: file.create_dataset("ids", data="a", dtype=TEXT)},
        "no id": sound() | {"ids": texts("ids", "")},
        "embeddings that are texts": sound() | {"embeddings": texts("embeddings", "a", "b")},
        "subjects that are records": sound() | {"subject": record},
        "a table of subjects": sound() | {"subject": numbers("subject", [[0], [0]])},
        "embeddings in one row": sound() | {"embeddings": numbers("embeddings", [0.0, 1.0], "<f4")},
        "metadata without end": sound() | {"metadata": texts("metadata", deep)},
        "metadata that are a list": sound() | {"metadata": texts("metadata", "[1, 2]")},
        "an id that is no text": sound()
        | {"ids": lambda file: file.create_dataset("ids", data=[b"\xff"], dtype=TEXT)},
    }
    made = {what: write(folder / f"{at}.h5", some) for at, (what, some) in enumerate(parts.items())}
    said = {
        "a dim that is a text": {"dim": "4"},
        "many dims": {"dim": [4] * 5000},
        "a format that is a list": {"format": [1, 2]},
        "no fingerprint": {"fingerprint": None},
        "an encoder that is a number": {"encoder": 5},
    }
    made |= {what: write(folder / f"{what}.h5", sound(), **some) for what, some in said.items()}
    for name in ("ids", "metadata", "source"):
        made[f"one text a thousand times, {name}"] = repeated_text(folder / f"{name}.h5", name, 3000)
    made["one text, in chunks"] = repeated_text(folder / "chunks.h5", "ids", 3000, chunks=(3000,))
    return made
