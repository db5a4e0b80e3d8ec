"""Embedding a labelled set: what cannot be embedded is told by name, all of it at once, or left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoders.datasets import SHOWN, LabelledSet, unreadable
from encoders.errors import DatasetError, EncodeError
from encoders.evaluation import LONGEST, too_long
from encoders.names import of_item

Floats = NDArray[np.float32]


def embedded(encoder: Any, data: LabelledSet, skip: bool = False) -> tuple[Floats, LabelledSet]:
    """The embeddings (n, d) of a set and the set, which has `names`, without what `skip` leaves out.

    Items are read one by one where the encoder can (`preprocess` or `read`, and `encode_prepared`), so that
    all unreadable ones are known; any other encoder can name one in an EncodeError, and nothing can be left
    out. DatasetError for items that cannot be read, and for embeddings that cannot be compared.
    """
    _check_counts(data)
    names = data.names or tuple(map(of_item, data.items, range(len(data))))
    read = getattr(encoder, "preprocess", None) or getattr(encoder, "read", None)
    bad: dict[int, str] = {}
    if read is None or not hasattr(encoder, "encode_prepared"):
        rows = _whole(encoder, data.items, names)
    else:
        rows, bad = _one_by_one(encoder, read, data.items, skip)
    if bad and not skip:
        told = [f"{names[index]}: {reason}" for index, reason in bad.items()]
        raise DatasetError(unreadable(told, len(data)))
    good = np.setdiff1d(np.arange(len(data)), list(bad))
    if not len(good):
        raise DatasetError(f"none of {len(data)} items can be read" if bad else "the set is empty")
    kept = replace(data, names=names).take(good) if bad else replace(data, names=names)
    return _comparable(rows, kept.names, encoder.metric), kept


def _check_counts(data: LabelledSet) -> None:
    items, labels, names = len(data.items), len(data.labels), len(data.names)
    if items != labels or names not in (0, items):
        raise DatasetError(f"{items} items, {labels} labels and {names} names: one label (and name) an item")


def _whole(encoder: Any, items: Any, names: Sequence[str]) -> Any:
    try:
        return encoder.encode(items)
    except EncodeError as exc:
        index, what, why = exc.index, f"item {exc.index}", exc.reason
        if 0 <= index < len(names):  # the reason of an item may begin with its path, which the name tells
            what, why = names[index], why.removeprefix(f"{of_item(items[index], index)}: ")
        raise DatasetError(f"{what}: {why}; take it out of the set to measure the others") from exc


def _one_by_one(
    encoder: Any, read: Callable[[Any], Any], items: Any, skip: bool
) -> tuple[Floats, dict[int, str]]:
    """(the embeddings of the readable items, why the others are not)."""
    bad: dict[int, str] = {}

    def readable() -> Iterator[Any]:
        for index, item in enumerate(items):
            try:
                made = read(item)
            except (ValueError, TypeError) as exc:
                bad[index] = str(getattr(exc, "reason", exc))  # its own has no name of the item
            else:
                if skip or not bad:  # else the set is refused: the rest is read to be named, not embedded
                    yield made

    return encoder.encode_prepared(readable()), bad


def _comparable(rows: Any, names: Sequence[str], metric: str) -> Floats:
    """The embeddings as float32; DatasetError says of which items they cannot be compared."""
    try:
        with np.errstate(over="ignore"):
            given = np.asarray(rows)
            if given.dtype.kind not in "fiubO":
                raise TypeError(f"they are {given.dtype}")
            found: Floats = given.astype(np.float32, copy=False)
    except (ValueError, TypeError) as exc:
        raise DatasetError(f"the encoder gives no array of numbers: {exc}") from exc
    if found.ndim != 2 or len(found) != len(names) or not found.shape[1]:
        raise DatasetError(
            f"the encoder gives an array of shape {found.shape} for {len(names)} items: "
            f"({len(names)}, dim) is needed"
        )
    _refuse(np.flatnonzero(~np.isfinite(found).all(axis=1)), names, "NaN or infinity")
    _refuse(too_long(found, metric), names, f"lengths over {LONGEST:.0g}")
    if metric == "cosine":
        _refuse(np.flatnonzero(~found.any(axis=1)), names, "all zeros, which has no direction under cosine,")
    return found


def _refuse(bad: NDArray[np.intp], names: Sequence[str], what: str) -> None:
    if not len(bad):
        return
    shown = ", ".join(names[index] for index in bad[:SHOWN])
    rest = f" and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
    raise DatasetError(
        f"the encoder gives {what} for {len(bad)} of {len(names)} items: {shown}{rest}; "
        "take them out of the set, or mend the encoder"
    )
