"""How much training fits into so many minutes: steps, validations, and what comes after the last step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

WARM_UPS, TIMED = 2, 10
LOOKING = 0.1  # of the time, at most, goes to steps that are only measured
VALIDATIONS = 20  # in a run, where half of the time is enough for them
CLOSING = 2  # the last measurement and the list of mistakes take about as long as so many validations
FILLED = 0.95  # of the time is planned: a run that is a little slower than measured need not be cut off


@dataclass(slots=True)
class Pace:
    """Seconds that one step and one validation take."""

    step: float
    validation: float

    def stepped(self, seconds: float) -> None:
        """Takes in the time of another step: about the mean of the last ten."""
        self.step += (seconds - self.step) / TIMED

    def fits(self, left: float) -> bool:
        """Whether a step, the validation of what it gives, and the end of the run fit into `left` seconds."""
        return self.step + (1 + CLOSING) * self.validation <= left


def measured(
    step: Callable[[], object],
    check: Callable[[], object],
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> Pace:
    """The pace of ten calls of `step`, after two that warm up, and one of `check`.

    Slow steps are fewer, so that they take no more than a tenth of `seconds`; one at least.
    """
    begun = clock()
    took: list[float] = []
    while not took or (len(took) < WARM_UPS + TIMED and clock() - begun + took[-1] <= LOOKING * seconds):
        at = clock()
        step()
        took.append(clock() - at)
    timed, stepped = took[WARM_UPS:] or took[-1:], clock()
    check()
    return Pace(sum(timed) / len(timed), clock() - stepped)


def planned(left: float, pace: Pace, every: int | None) -> tuple[int, int]:
    """(steps, steps between validations) that fit into `left` seconds; at least one step.

    every: the steps between validations where they were asked for; else there are 20, or as many as half of
    the time is enough for.
    """
    free = FILLED * left - CLOSING * pace.validation
    if every is not None:
        return max(1, int(free / max(pace.step + pace.validation / every, 1e-9))), every
    count = VALIDATIONS
    if VALIDATIONS * pace.validation > free / 2:
        count = max(1, int(free / 2 / max(pace.validation, 1e-9)))
    steps = max(1, int((free - count * pace.validation) / max(pace.step, 1e-9)))
    return steps, math.ceil(steps / count)
