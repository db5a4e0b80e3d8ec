"""How many comparisons a false match rate needs, and how that is said. PURE and free of torch.

With no error in n trials a rate is at most 3/n with 95 % confidence (the rule of three, Hanley and
Lippman-Hand 1983); so a threshold for a false match rate needs 3/FMR non-mated comparisons.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def percent(rate: float) -> str:
    """A rate in [0, 1] with three significant digits: 0.00005 is "0.005%"."""
    return f"{100 * rate:.3g}%"


def rates_told(rates: Mapping[str, Any]) -> str:
    """The rates of a validation, `eer` and `one_shot_error`, in words; one that is None is left out."""
    words = f"EER {rates['eer']:.2%}"
    one = rates.get("one_shot_error")
    return words if one is None else f"{words}, one-shot error {one:.2%}"


def needed(fmr: float) -> int:
    """The least number of non-mated comparisons that can support a threshold for `fmr`: 3/FMR."""
    return math.ceil(3.0 / fmr - 1e-6)


def no_threshold(fmr: float, non_mated: int) -> str:
    """Why no threshold is recommended and what to do about it; "" when the comparisons are enough."""
    if non_mated >= needed(fmr):
        return ""
    rate = reachable(non_mated)
    advice = "hold out more subjects" + (f" or pass --fmr {rate:g}" if rate is not None else "")
    return (
        f"no threshold recommended: FMR {percent(fmr)} needs at least {needed(fmr):,} non-mated comparisons "
        f"of held-out subjects, there are {non_mated:,}; {advice}"
    )


def reachable(non_mated: int) -> float | None:
    """The least false match rate of two digits that so many comparisons support; None above 0.1."""
    if non_mated < 30:
        return None
    rate = 3.0 / non_mated
    unit = 10.0 ** (math.floor(math.log10(rate)) - 1)
    return float(f"{math.ceil(rate / unit - 1e-6) * unit:.2g}")


def too_few(fmr: float, non_mated: int) -> str:
    """That `fmr` cannot be shown by so many non-mated comparisons; "" when they are enough.

    What they do show is the interval of the FMR, which reckons with the subjects behind them; a bound by the
    comparisons alone would promise more.
    """
    if non_mated >= needed(fmr):
        return ""
    return (
        f"too few non-mated comparisons for FMR {percent(fmr)}, which needs at least {needed(fmr):,}: there "
        f"{'is' if non_mated == 1 else 'are'} {non_mated:,}"
    )
