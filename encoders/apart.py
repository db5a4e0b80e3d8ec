"""What is trained on beside what is validated on: counted, and kept apart by subject."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection

import numpy as np

from encoders.datasets import LabelledSet, repeated
from encoders.errors import DatasetError
from encoders.names import written

SHOWN = 5  # subjects named in one message
WHOLE = re.compile(r"[0-9]{1,18}(\.0+)?")  # 1.0 is how a float label is written


def refuse_shared(train: LabelledSet, held: LabelledSet) -> None:
    """DatasetError where a validation set of its own has subjects that are trained on.

    Rates on these would say nothing of subjects that the encoder has not seen. Equal numbers of subjects that
    are only counted may be of others: `doubt` tells of those, and `refuse_copies` looks at the items.
    """
    shared = _shared(train, held)
    if shared and not _only_counted(train, held):
        raise DatasetError(
            f"{_told(shared)} trained on and validated on: the rates would not be those of subjects that it "
            "has not seen; take them out of one of the sets, or name them otherwise where they are others"
        )


def doubt(train: LabelledSet, held: LabelledSet) -> str:
    """Why it is not known whether a validation set of its own is of other subjects; "" where it is."""
    if not (shared := _shared(train, held)):
        return ""
    return (
        f"both sets number their subjects, {len(shared):,} alike: these rates are those of subjects that it "
        "has not seen only if they are others; names that differ would say so"
    )


def refuse_copies(train: LabelledSet, held: LabelledSet) -> None:
    """DatasetError where most items of a subject to validate on are trained on, under whatever names.

    Both sets preprocessed. Where trained subjects have items of each other about as often, as short texts and
    vectors of few values do, equal items say nothing and are let pass.
    """
    mine, theirs = _prints(train), _prints(held)
    owners: dict[bytes, set[int]] = {}
    for label, item in zip(train.labels.tolist(), mine, strict=True):
        owners.setdefault(item, set()).add(label)
    copied = [s for s, items in _by_subject(held, theirs).items() if _most(items, owners.keys())]
    if not copied:
        return
    by_subject = _by_subject(train, mine)
    usual = sum(_most(items, {i for i in items if len(owners[i]) > 1}) for items in by_subject.values())
    if len(copied) / _size([held])[0] <= 2 * usual / len(by_subject):
        return
    count = sum(item in owners for item in theirs)
    raise DatasetError(
        f"{count:,} of the {len(held):,} items to validate on are trained on too, whatever their names: "
        f"{_told(sorted(held.subjects[s] for s in copied))} mostly made of them; take them out of one set"
    )


def _most(items: set[bytes], known: Collection[bytes]) -> bool:
    """Whether more than half of the different items of a subject are known; one alone says nothing."""
    return len(items) > 1 and 2 * sum(item in known for item in items) > len(items)


def _by_subject(data: LabelledSet, prints: list[bytes]) -> dict[int, set[bytes]]:
    found: dict[int, set[bytes]] = {}
    for label, item in zip(data.labels.tolist(), prints, strict=True):
        found.setdefault(label, set()).add(item)
    return found


def _prints(data: LabelledSet) -> list[bytes]:
    """A hash of the bytes of each item."""
    return [hashlib.blake2b(np.ascontiguousarray(i).tobytes(), digest_size=16).digest() for i in data.items]


def counted(train: LabelledSet, held: LabelledSet | None, outside: bool) -> str:
    """How many subjects and items there are, how many of them are held out, and what batches are made of.

    outside: `held` is a set of its own.
    """
    parts = [train] if held is None or outside else [train, held]
    subjects, items = _size(parts)
    told = f"{subjects:,} subjects, {items:,} items"
    if held is not None and outside:
        (many, their), unsure = _size([held]), bool(_shared(train, held))
        which, same = ("", ", perhaps the same ones: both sets number theirs") if unsure else (" other", "")
        told += f" (validated on {many:,}{which} subjects, {their:,} items{same})"
    elif held is not None:
        told += f" ({_size([held])[0]:,} subjects held out)"
    usable = len(repeated(train.labels))
    if usable < _size([train])[0]:
        told += f", batches of the {usable:,} with two items or more that are trained on"
    return f"{told}; {train.read_from}" if train.read_from else told


def _size(parts: list[LabelledSet]) -> tuple[int, int]:
    """(subjects, items) of sets that share no subject."""
    return sum(len(np.unique(part.labels)) for part in parts), sum(map(len, parts))


def _present(data: LabelledSet) -> set[str]:
    return {data.subjects[number] for number in np.unique(data.labels)}


def _shared(train: LabelledSet, held: LabelledSet) -> list[str]:
    """The subjects of `held` that are called as some of `train`; as numbers 1, 01 and 1.0 are the same."""
    trained, asked = _present(train), _present(held)
    theirs, mine = set(_numbers(trained).values()), _numbers(asked)
    if theirs and mine:
        return sorted((name for name in mine if mine[name] in theirs), key=mine.__getitem__)
    return sorted(trained & asked)


def _only_counted(train: LabelledSet, held: LabelledSet) -> bool:
    """Whether both sets number their subjects, one at least from 0 or 1 on without a gap.

    Then equal names need not say much. Numbers with gaps in both are taken for those of a register.
    """
    found = [_numbers(_present(data)) for data in (train, held)]
    return all(found) and any(_in_a_row(list(numbers.values())) for numbers in found)


def _in_a_row(numbers: list[int]) -> bool:
    return min(numbers) in (0, 1) and sorted(numbers) == list(
        range(min(numbers), min(numbers) + len(numbers))
    )


def _numbers(names: set[str]) -> dict[str, int]:
    """The names as whole numbers; empty where one is none."""
    if not all(WHOLE.fullmatch(name) for name in names):
        return {}
    return {name: int(name.partition(".")[0]) for name in names}


def _told(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    count = "1 subject" if len(names) == 1 else f"{len(names):,} subjects"
    return f"{count} ({', '.join(map(written, names[:SHOWN]))}{more}) {'is' if len(names) == 1 else 'are'}"
