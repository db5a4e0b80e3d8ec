"""Is an item worth enrolling, or asking about? Gates for images: too small, without content, too blurred.

A gate is called with an item and says what is wrong with it, or None. Any callable will do; `ImageQuality` is
the one for pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from encoders.images import ImageError, read_image
from gallery.errors import InvalidItemError

Gate = Callable[[Any], str | None]
"""What is wrong with an item; None when nothing is."""
Grey = npt.NDArray[np.float64]

LONGEST = 256
"""Pixels of the longer side at which content and sharpness are measured, so that both mean the same in large
and in small pictures."""


_ROUNDING = 20 / 12 / 255**2
"""The variance that rounding to 256 greys alone gives a Laplacian: all that is left of strong blur."""


def contrast(grey: Grey) -> float:
    """The standard deviation of the grey values, (h, w) in 0 to 1: 0 for a blank, at most 0.5."""
    return float(grey.std())


def sharpness(grey: Grey) -> float:
    """The variance of the Laplacian (Pech-Pacheco et al. 2000) over that of 8-bit grey values, (h, w).

    The quotient hardly changes with contrast or brightness. 0 for a blank; less for a blurred picture than
    for the same one in focus. Noise is sharp too.
    """
    if min(grey.shape) < 3 or not grey.std():
        return 0.0
    middle = grey[1:-1, 1:-1]
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float(max(0.0, (around - 4 * middle).var() - _ROUNDING) / grey.var())


@dataclass(frozen=True, slots=True)
class ImageQuality:
    """A gate for pictures. Each limit of 0 is off.

    min_side       pixels of the shorter side
    min_contrast   see `contrast`
    min_sharpness  see `sharpness`, at no more than 256 pixels

    The defaults refuse next to nothing of ordinary pictures; see docs/thresholds.md for what was measured.
    What cannot be read as a picture is not this gate's business: the encoder says why it cannot use it.
    """

    min_side: int = 24
    min_contrast: float = 0.02
    min_sharpness: float = 0.012

    def __post_init__(self) -> None:
        if not all(0 <= limit < np.inf for limit in (self.min_side, self.min_contrast, self.min_sharpness)):
            raise ValueError("limits of quality are numbers of 0 or more")

    def __call__(self, item: Any) -> str | None:
        """What is wrong with the picture, with the number and the limit; None when nothing is."""
        try:
            image = read_image(item, mode="L")
        except (ImageError, TypeError):
            return None
        if min(image.size) < self.min_side:
            return f"too small: {image.width} x {image.height} pixels, the least is {self.min_side}"
        if max(image.size) > LONGEST:
            image.thumbnail((LONGEST, LONGEST))
        grey = np.asarray(image, np.float64) / 255
        has = contrast(grey)
        if has < self.min_contrast:
            return f"without content: contrast {has:.3f}, the least is {self.min_contrast:g}"
        sharp = sharpness(grey)
        if sharp < self.min_sharpness:
            return f"too blurred: sharpness {sharp:.4f}, the least is {self.min_sharpness:g}"
        return None


@dataclass(frozen=True, slots=True)
class Gatekeeper:
    """A gate, and what comes of its objections."""

    gate: Gate
    flags: bool
    """The items are enrolled, or searched for, all the same, and reported."""

    def objections(self, items: Sequence[Any], passed_over: Container[int]) -> dict[int, str]:
        """{position: what is wrong}, of all items but those at positions `passed_over`."""
        found = {}
        for position, item in enumerate(items):
            if position not in passed_over:
                objection = self._asked(item)
                if objection is not None:
                    found[position] = objection
        return found

    def of_probes(self, items: Sequence[Any]) -> dict[int, str]:
        """The same of items that are asked about; InvalidItemError for the first where it does not flag."""
        found = self.objections(items, ())
        if found and not self.flags:
            first = min(found)
            raise InvalidItemError.unusable(first, len(items), found[first])
        return found

    def _asked(self, item: Any) -> str | None:
        try:
            objection = self.gate(item)
        except (ImportError, MemoryError):
            raise
        except Exception as error:
            return f"the quality gate failed: {type(error).__name__}: {error}"
        return None if objection is None else str(objection)


def gatekeeper(gate: Gate | None, on_quality: str) -> Gatekeeper | None:
    """None without a gate. on_quality: "refuse" or "flag"."""
    if on_quality not in ("refuse", "flag"):
        raise ValueError(f"on_quality must be 'refuse' or 'flag', not {on_quality!r}")
    if gate is None:
        return None
    if not callable(gate):
        raise TypeError(f"a quality gate is called with an item, which {type(gate).__name__} cannot be")
    return Gatekeeper(gate, on_quality == "flag")
