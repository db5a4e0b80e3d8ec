"""Labelled sets: a folder with one subfolder a subject, an .npz or a CSV; splitting them."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoders import delimited
from encoders.errors import DatasetError, PassedOverWarning
from encoders.names import of_item, printable

Ints = NDArray[np.int64]
SPLIT = 2  # counted up where the same seed holds out other subjects
SHOWN = 10  # unreadable items named in one message
_NO_NAMES = {"none", "nan", "nat", "<na>"}  # of what is missing, as numpy, pandas and Python write it


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """n items with a subject each, and a group each where there is one (an alphabet, a writer, a shop).

    `items` is a list of n items or an array of n rows; `labels` and `groups` are (n,) integers into
    `subjects` and `group_names`. A set without groups has `groups` None. `names` are the items' own, for
    people to read, once they are no longer in `items`. `holds` is what the array was called (images, vectors,
    texts, sequences or recordings), "" where that is to be told from the items; `read_from`, in words, which
    columns of a file it is.
    """

    items: Any
    labels: Ints
    subjects: tuple[str, ...]
    groups: Ints | None = None
    group_names: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    holds: str = ""
    read_from: str = ""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indexes: Ints) -> LabelledSet:
        """The chosen rows; names keep their numbers."""
        items = (
            self.items[indexes] if isinstance(self.items, np.ndarray) else [self.items[i] for i in indexes]
        )
        groups = None if self.groups is None else self.groups[indexes]
        names = tuple(self.names[i] for i in indexes) if self.names else ()
        return replace(self, items=items, labels=self.labels[indexes], groups=groups, names=names)


def load(source: str | os.PathLike[str], label: str | None = None) -> LabelledSet:
    """A folder of subfolders, an .npz (see `from_npz`) or a CSV (see `delimited.read`, which has `label`)."""
    path = Path(source)
    if not path.exists():
        raise DatasetError(f"{path} does not exist")
    if path.is_dir():
        return from_folder(path)
    if path.suffix.lower() in (".csv", ".tsv", ".txt"):
        table = delimited.read(path, label)
        found = from_arrays(table.items, table.labels, table.groups, str(path), table.holds)
        return replace(found, names=table.names, read_from=table.columns)
    return from_npz(path)


def from_folder(folder: Path) -> LabelledSet:
    """One subfolder a subject, every file in it an item. Hidden files are passed over; order is by name.

    What is no item for where it lies (a folder in a subject's folder, a file beside the subjects', a link to
    nothing) is passed over with a PassedOverWarning.
    """
    names = sorted(p.name for p in _visible(folder) if p.is_dir())
    if not names:
        raise DatasetError(f"{folder} has no subfolders: put the images of each subject in one of their own")
    inside = [_visible(folder / name) for name in names]
    files = [[p for p in entries if p.is_file()] for entries in inside]
    labels = np.repeat(np.arange(len(names)), [len(f) for f in files])
    left = [p for entries in inside for p in entries if not p.is_file()]
    _tell_left(folder, [*left, *(p for p in _visible(folder) if not p.is_dir())])
    return checked(LabelledSet([p for f in files for p in f], labels, tuple(names)), str(folder))


def _visible(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if not p.name.startswith("."))


def _tell_left(folder: Path, left: Sequence[Path]) -> None:
    """PassedOverWarning: how many of each kind, and the first one."""
    if not left:
        return
    kinds = Counter(
        "folders in a subject's folder" if p.is_dir()
        else "files beside the subjects' folders" if p.is_file()
        else "links to nothing or no files"
        for p in left
    )  # fmt: skip
    counts = "; ".join(f"{kind}: {count:,}" for kind, count in kinds.items())
    words = f"{printable(folder)}: {len(left):,} passed over ({counts}), the first is {printable(left[0])}"
    warnings.warn(words, PassedOverWarning, stacklevel=4)


def from_npz(path: Path) -> LabelledSet:
    """Arrays of items, `labels` (n,) and maybe `groups` (n,).

    Items are `images` (n, h, w[, c]), `vectors` (n, d), `texts` (n,), or `sequences` (steps of
    all[, channels]) or `recordings` (samples of all,) one after the other with `lengths` (n,). The name
    decides what they are; an array that does not fit its name is refused.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
            arrays = {name: held[name] for name in held.files if name in _ARRAYS}
    except Exception as exc:  # damaged bytes can raise nearly anything, zlib.error for one
        raise DatasetError(f"{path} is not a whole .npz file of plain arrays: {exc}") from exc
    found = [name for name in _ITEMS if name in arrays]
    if len(found) != 1 or "labels" not in arrays:
        raise DatasetError(
            f"{path} needs arrays `images` (or one of {', '.join(_ITEMS[1:])}) and `labels`; "
            f"it has {sorted(arrays)}"
        )
    name, items = found[0], arrays[found[0]]
    _check_named(name, items, str(path))
    if name == "texts":
        items = [str(text) for text in items]
    elif name in ("sequences", "recordings"):
        items = _cut(items, arrays.get("lengths"), str(path), name)
    return from_arrays(items, arrays["labels"], arrays.get("groups"), str(path), name)


# Name: the numbers of dimensions and the dtype kinds that an array may have, and how to say it.
_FORMS = {
    "images": ((3, 4), "buif", "(n, height, width) or (n, height, width, channels)"),
    "vectors": ((2,), "buif", "(n, numbers in each)"),
    "texts": ((1,), "U", "(n,) of texts"),
    "sequences": ((1, 2), "buif", "(steps of all, channels), or (steps of all,)"),
    "recordings": ((1,), "iuf", "(samples of all,)"),
}
_ITEMS = tuple(_FORMS)
_ARRAYS = (*_ITEMS, "lengths", "labels", "groups")


def _check_named(name: str, array: Any, path: str) -> None:
    """DatasetError for an array that is not what its name says."""
    dimensions, kinds, form = _FORMS[name]
    if array.ndim not in dimensions or array.dtype.kind not in kinds:
        raise DatasetError(
            f"{path}: `{name}` has shape {array.shape} of {array.dtype}, which is not {form}: call the array "
            f"what it is ({', '.join(_ITEMS)})"
        )


def _cut(together: Any, lengths: Any, path: str, name: str) -> list[Any]:
    """The items of different lengths that lie one after the other in an array."""
    if lengths is None or np.ndim(lengths) != 1 or np.asarray(lengths).dtype.kind not in "iu":
        raise DatasetError(f"{path}: {name} need `lengths` (n,), how much of them is each item's")
    if (lengths < 0).any() or int(lengths.sum()) != len(together):
        raise DatasetError(f"{path}: lengths add up to {int(lengths.sum()):,}, {name} to {len(together):,}")
    return np.split(together, np.cumsum(lengths)[:-1])


def from_arrays(
    items: Any, labels: Any, groups: Any = None, name: str = "the set", holds: str = ""
) -> LabelledSet:
    """A set from parallel sequences; labels and groups may be any names or numbers.

    `holds` says what the items are (images, vectors, texts, sequences, recordings); "" leaves it to be found.
    """
    if holds and holds not in _ITEMS:
        raise DatasetError(f"{name} holds {holds!r}: that is none of {', '.join(_ITEMS)}")
    for part, values in (("labels", labels), ("groups", groups)):
        if values is not None and np.ndim(values) != 1:
            raise DatasetError(
                f"{name}: {part} are one number or name an item, not of shape {np.shape(values)}"
            )
        _refuse_missing(name, part, () if values is None else values)
    if isinstance(items, np.ndarray) and items.ndim < 1:
        raise DatasetError(f"{name}: the items are one number, not an array of items")
    if len(items) != len(labels) or (groups is not None and len(groups) != len(labels)):
        raise DatasetError(f"{name}: {len(items)} items, {len(labels)} labels: one label (and group) an item")
    kept, numbers = _numbered(labels)
    if groups is None:
        return checked(LabelledSet(items, numbers, kept, holds=holds), name)
    names, members = _numbered(groups)
    return checked(LabelledSet(items, numbers, kept, members, names, holds=holds), name)


def _refuse_missing(name: str, part: str, values: Any) -> None:
    """DatasetError for None and NaN, of whatever library: all items without a subject would be of one."""
    found = ((at, str(one)) for at, one in enumerate(values) if not isinstance(one, str))
    if missing := [(at, one) for at, one in found if one.lower() in _NO_NAMES]:
        more = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
        raise DatasetError(
            f"{name}: {part} are missing: that of item {missing[0][0]}{more} is {missing[0][1]}; give each "
            "item its own, or leave it out"
        )


def _numbered(values: Any) -> tuple[tuple[str, ...], Ints]:
    """(the different names, in order; which of them each is)."""
    array = np.asarray(values)
    try:
        names, numbers = np.unique(array, return_inverse=True)
    except TypeError:  # names and numbers together have no order
        names, numbers = np.unique(array.astype(str), return_inverse=True)
    return tuple(str(one) for one in names), numbers


def checked(data: LabelledSet, name: str = "the set") -> LabelledSet:
    """The same set, or DatasetError: no items, one subject, or no subject with two items."""
    if not len(data):
        raise DatasetError(f"{name} is empty: there is nothing to learn from")
    counts = np.bincount(data.labels)
    if (present := int((counts > 0).sum())) < 2:
        raise DatasetError(f"{name} has {present} subject: a Siamese encoder needs at least 2 to tell apart")
    if counts.max() < 2:
        raise DatasetError(
            f"{name} has one item for each of {present} subjects: two or more of each are needed"
        )
    return data


def prepared(data: LabelledSet, preprocess: Callable[[Any], Any], *, skip: bool = False) -> LabelledSet:
    """The set with every item preprocessed, `items` one float32 array. Unreadable items are all listed in one
    DatasetError, or left out when `skip`."""
    found, bad = _read(data, preprocess)
    if bad and not skip:
        raise DatasetError(unreadable(bad, len(data)))
    return checked(found, "what could be read")


def prepared_parts(
    train: LabelledSet, held: LabelledSet, preprocess: Callable[[Any], Any], skip: bool
) -> tuple[LabelledSet, LabelledSet]:
    """`prepared` for both parts of a set, with the unreadable items of both in one DatasetError."""
    (one, bad), (other, more) = _read(train, preprocess), _read(held, preprocess)
    if (bad or more) and not skip:
        raise DatasetError(unreadable([*bad, *more], len(train) + len(held)))
    return checked(one, "what could be read to train on"), checked(other, "what could be read to validate on")


def _read(data: LabelledSet, preprocess: Callable[[Any], Any]) -> tuple[LabelledSet, list[str]]:
    """(the items that could be read, why the others could not)."""
    good: list[int] = []
    arrays, bad = [], []
    names = data.names or [of_item(item, index) for index, item in enumerate(data.items)]
    for index, item in enumerate(data.items):
        try:
            arrays.append(preprocess(item))
            good.append(index)
        except (ValueError, TypeError) as exc:
            bad.append(f"{names[index]}: {getattr(exc, 'reason', exc)}")  # its own has no name of the item
    kept = data.take(np.asarray(good, dtype=np.int64))
    items = np.stack(arrays) if arrays else np.empty((0,), np.float32)
    return replace(kept, items=items, names=tuple(names[g] for g in good)), bad


def split(data: LabelledSet, share: float, rng: np.random.Generator) -> tuple[LabelledSet, LabelledSet]:
    """(training, validation): whole groups are held out where there are two or more, else whole subjects.

    `share` in (0, 1) is the part held out of the groups or subjects that give mated comparisons, at least 2
    subjects; a group that has more than half of these (or than the share) is not. No subject is in both.
    """
    by_group = data.groups is not None and len(np.unique(data.groups)) > 1
    keys = data.groups if by_group and data.groups is not None else data.labels
    units = rng.permutation(np.unique(keys))
    held = np.isin(keys, _held_out(data, keys, units, share))
    held = np.isin(data.labels, np.unique(data.labels[held]))
    named = data if data.names else replace(data, names=tuple(map(of_item, data.items, range(len(data)))))
    parts = named.take(np.flatnonzero(~held)), named.take(np.flatnonzero(held))
    if any(len(repeated(p.labels)) < 2 for p in parts):
        raise DatasetError(_unsplittable(data, parts))
    return parts


def repeated(labels: Ints) -> Ints:
    """The subjects with two items or more: only they give mated comparisons, and are drawn for batches."""
    subjects, counts = np.unique(labels, return_counts=True)
    return subjects[counts >= 2]


def _held_out(data: LabelledSet, keys: Ints, units: Ints, share: float) -> Ints:
    """The groups (or subjects) that are held out, of `units` in the order in which they are asked.

    The share is of those that have subjects with two items or more: subjects with one would be no use on
    either side, and counted in they would take all the others away from training.
    """
    usable = repeated(data.labels)
    pairs = np.unique(np.stack([keys, data.labels])[:, np.isin(data.labels, usable)], axis=1)
    counts = dict(zip(*(a.tolist() for a in np.unique(pairs[0], return_counts=True)), strict=True))
    asked = [u for u in units.tolist() if u in counts]
    if keys is not data.labels and len(usable) < len(np.unique(data.labels)):
        asked.sort(key=lambda unit: counts[unit] < 2)  # one that can be measured on by itself comes first
    count = max(1, round(share * len(asked)))
    most = min(len(usable) - 2, max(share, 0.5) * len(usable))  # one group may have nearly all subjects
    held: list[int] = []
    taken = 0
    for unit in asked:
        if len(held) >= count and taken >= 2:
            break
        if taken + counts[unit] <= most:
            held.append(unit)
            taken += counts[unit]
    return np.asarray(held, dtype=units.dtype)


def _unsplittable(data: LabelledSet, parts: tuple[LabelledSet, LabelledSet]) -> str:
    count, usable = len(np.unique(data.labels)), len(repeated(data.labels))
    train, held = (len(repeated(p.labels)) for p in parts)
    return (
        f"{count} subjects cannot be split into training and validation: those with 2 items or more are "
        f"{usable}, {train} of them to train on and {held} held out; at least 4 are needed, 2 of them on "
        "each side, or a set of its own to validate on (--validation), or none (--holdout 0)"
    )


def unreadable(bad: Sequence[str], total: int) -> str:
    """The message for a set of `total` items of which some cannot be read: "name: why" of each of these."""
    rest = f"\n  and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
    lines = "\n  ".join(bad[:SHOWN])
    how = "skip_unreadable=True, --skip-unreadable"
    return f"{len(bad)} of {total} items cannot be read (leave them out with {how}):\n  {lines}{rest}"
