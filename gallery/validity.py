"""PURE: whether an adopted calibration still says anything of the gallery that it was measured in."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

SIZE = 1.25
"""By what factor the number of subjects may change."""
DAYS = 365
"""How old it may be, unless `Gallery.adopt` is told otherwise: faces, voices and cameras change."""


def checked_days(days: Any) -> int | None:
    """A bound on a calibration's age, in days; None for none. ValueError for anything else."""
    if days is None:
        return None
    if isinstance(days, bool) or not isinstance(days, int) or days < 1:
        raise ValueError(f"valid_days is a whole number of days, 1 or more, or None for ever, not {days!r}")
    return days


def void_because(adopted: Mapping[str, Any], subjects: int, now: datetime) -> list[str]:
    """Why what was adopted is void in a gallery of so many subjects; empty while it holds.

    adopted: the calibration as it is stored, empty for none. The other conditions cannot change beneath it:
    its fusion is the one that is decided by, and a migration to another encoder puts it away.
    """
    return outgrown(adopted, subjects) + aged(adopted, now)


def outgrown(adopted: Mapping[str, Any], subjects: int) -> list[str]:
    """The reason where the gallery has another size: it changes searches, not whether two items match."""
    then = adopted.get("subjects")
    if then and not then / SIZE <= subjects <= then * SIZE:
        return [
            f"calibrated with {then:,} subjects and there are {subjects:,} now, so searches find wrong ones "
            "at another rate than was measured"
        ]
    return []


def aged(adopted: Mapping[str, Any], now: datetime) -> list[str]:
    """The reason where it was measured too long ago."""
    days, measured = adopted.get("valid_days", DAYS), adopted.get("measured")
    if days and measured:
        age = (now - datetime.fromisoformat(measured)).days
        if age > days:
            return [f"calibrated on {measured[:10]}, {age:,} days ago, and is good for {days:,}"]
    return []
