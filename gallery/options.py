"""PURE: numbers that a caller passes, checked before anything is measured with them."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any


def checked_count(value: Any, name: str, what: str, least: int) -> int:
    """A whole number of `what`, `least` or more; ValueError for anything else. name: what it is called."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"{name} is a whole number of {what}, {least} or more, not {value!r}")
    return int(value)


def checked_seed(seed: Any) -> int:
    """What chance begins with; ValueError for what it cannot."""
    if isinstance(seed, bool) or not isinstance(seed, Integral) or seed < 0:
        raise ValueError(f"seed is a whole number, 0 or more, not {seed!r}")
    return int(seed)


def finite(text: str) -> float:
    """A number of the command line; ValueError for one that JSON cannot say."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def is_number(value: Any) -> bool:
    """Whether it can be compared as a number; a bool or a text is none."""
    return isinstance(value, Real) and not isinstance(value, bool)
