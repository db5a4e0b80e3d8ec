"""Which template stands where in an index that knows its rows by position, and which of them are hidden."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gallery.vectors import Numbers

Bits = npt.NDArray[np.uint8]
"""One bit a position, the lowest of a byte first, as FAISS's bitmaps have it."""


class Positions:
    """Numbers in ascending order, one a position; appending is cheap, and so is hiding."""

    def __init__(self, numbers: Numbers | None = None) -> None:
        self._numbers: Numbers = np.empty(0, np.int64)
        self._alive: Bits = np.empty(0, np.uint8)
        self._count = self.dead = 0
        """dead: how many are hidden."""
        if numbers is not None:
            self.append(numbers)

    def __len__(self) -> int:
        """How many positions there are, hidden ones too."""
        return self._count

    @property
    def numbers(self) -> Numbers:
        """The number at each position; not to be written to."""
        return self._numbers[: self._count]

    @property
    def alive(self) -> Bits:
        """Which are not hidden; not to be written to."""
        return self._alive[: -(-self._count // 8)]

    def append(self, numbers: Numbers) -> None:
        """The next positions, not hidden; the numbers ascend and are above those that are there."""
        first, self._count = self._count, self._count + len(numbers)
        # In steps that grow, so that n single additions copy each number only log n times.
        if self._count > len(self._numbers):
            room = max(1024, self._count + self._count // 2)
            self._numbers = np.concatenate([self._numbers[:first], np.empty(room - first, np.int64)])
            spare = np.zeros(-(-room // 8) - len(self._alive), np.uint8)
            self._alive = np.concatenate([self._alive, spare])
        self._numbers[first : self._count] = numbers
        _set(self._alive, np.arange(first, self._count))

    def hide(self, numbers: Numbers) -> None:
        """Hides those of `numbers` that are there."""
        at = np.unique(self.of(numbers))
        at = at[self.are_alive(at)]
        np.bitwise_and.at(self._alive, at >> 3, ~_bit(at))
        self.dead += len(at)

    def of(self, numbers: Numbers) -> Numbers:
        """The positions of those of `numbers` that are there, hidden or not."""
        if self._count == 0:
            return np.empty(0, np.int64)
        at = np.searchsorted(self.numbers, numbers)
        at[at == self._count] = 0
        found: Numbers = at[self.numbers[at] == numbers].astype(np.int64, copy=False)
        return found

    def are_alive(self, at: Numbers) -> npt.NDArray[np.bool_]:
        """For positions of any shape whether they are there and not hidden; False for negative ones."""
        return within(self._alive, at)

    def living(self) -> Numbers:
        """The positions that are not hidden, ascending."""
        return np.flatnonzero(np.unpackbits(self.alive, count=self._count, bitorder="little"))

    def only(self, numbers: Numbers) -> Bits:
        """The bits of those of `numbers` that are there and not hidden."""
        return self.alive & self._marked(numbers)

    def without(self, numbers: Numbers) -> Bits:
        """The bits of all that are not hidden but those of `numbers`."""
        return self.alive & ~self._marked(numbers)

    def _marked(self, numbers: Numbers) -> Bits:
        bits = np.zeros_like(self.alive)
        _set(bits, self.of(numbers))
        return bits


def within(bits: Bits, at: Numbers) -> npt.NDArray[np.bool_]:
    """Whether the bit is set at each position, of any shape; False for negative ones."""
    if len(bits) == 0:
        return np.zeros(at.shape, np.bool_)
    safe = np.maximum(at, 0)
    found: npt.NDArray[np.bool_] = (at >= 0) & ((bits[safe >> 3] & _bit(safe)) != 0)
    return found


def _bit(at: Numbers) -> Bits:
    return np.left_shift(np.uint8(1), (at & 7).astype(np.uint8))


def _set(bits: Bits, at: Numbers) -> None:
    np.bitwise_or.at(bits, at >> 3, _bit(at))
