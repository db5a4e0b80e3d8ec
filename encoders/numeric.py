"""What is a number, of Python or of numpy: settings come from a sweep as well as from a command line."""

from __future__ import annotations

from typing import Any

import numpy as np


def whole(value: Any) -> bool:
    """Whether it is a whole number; true and false are none."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def number(value: Any) -> bool:
    """Whether it is a number; NaN and infinity are."""
    return whole(value) or isinstance(value, float | np.floating)


def shown(value: Any, most: int = 100) -> str:
    """The beginning of a value for a message. Python refuses to write numbers of thousands of digits."""
    try:
        return str(value)[:most]
    except ValueError:
        return "numbers too long to be shown"


def plain(value: Any) -> Any:
    """The same with numpy's numbers and arrays as Python's numbers and lists: what JSON can keep."""
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(plain, value)) if type(value) in (list, tuple) else value
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value
