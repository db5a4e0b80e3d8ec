"""What is trained on beside what is validated on: counted, and kept apart by subject."""

from __future__ import annotations

import numpy as np

from encoders.datasets import LabelledSet, repeated
from encoders.errors import DatasetError
from encoders.names import written

SHOWN = 5  # subjects named in one message


def refuse_shared(train: LabelledSet, held: LabelledSet) -> None:
    """DatasetError where a validation set of its own has subjects that are trained on.

    Rates on these would say nothing of subjects that the encoder has not seen. Subjects that are only counted
    in both sets, from 0 or 1, may be others: `refuse_equal` looks at those.
    """
    shared = sorted(_present(train) & _present(held))
    if shared and not only_counted(train, held):
        raise DatasetError(
            f"{_told(shared)} trained on and validated on: the rates would not be those of subjects that it "
            "has not seen; take them out of one of the sets, or name them otherwise where they are others"
        )


def only_counted(train: LabelledSet, held: LabelledSet) -> bool:
    """Whether the names of both sets are numbers from 0 or 1 on, so that equal names need not say much."""
    return all(_counted(_present(data)) for data in (train, held))


def refuse_equal(train: LabelledSet, held: LabelledSet) -> None:
    """DatasetError where items of the same name are the same numbers in both preprocessed sets."""
    both = {(train.subjects[s], _bytes(i)) for s, i in zip(train.labels, train.items, strict=True)}
    names = [held.subjects[s] for s in held.labels]
    found = [name for name, item in zip(names, held.items, strict=True) if (name, _bytes(item)) in both]
    if found:
        raise DatasetError(
            f"{len(found):,} of the {len(held):,} items to validate on are trained on too: "
            f"{_told(sorted(set(found)))} in both sets; take them out of one of them"
        )


def counted(train: LabelledSet, held: LabelledSet | None, outside: bool) -> str:
    """How many subjects and items there are, how many of them are held out, and what batches are made of.

    outside: `held` is a set of its own.
    """
    parts = [train] if held is None or outside else [train, held]
    subjects, items = _size(parts)
    told = f"{subjects:,} subjects, {items:,} items"
    if held is not None and outside:
        same = ", taken for others: both sets only count theirs" if _present(train) & _present(held) else ""
        told += " (validated on {:,} other subjects, {:,} items{})".format(*_size([held]), same)
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


def _counted(names: set[str]) -> bool:
    if not all(name.isdecimal() for name in names):
        return False
    numbers = sorted(map(int, names))
    return numbers[0] in (0, 1) and numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def _bytes(item: object) -> bytes:
    return np.ascontiguousarray(item).tobytes()


def _told(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return f"{len(names):,} subjects ({', '.join(map(written, names[:SHOWN]))}{more}) are"
