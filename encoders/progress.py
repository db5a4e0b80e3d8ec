"""What a training run shows while it goes, and how it is interrupted between two steps."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm


class Progress:
    """On a terminal a bar of `steps`; anywhere else only the lines that are told. Nothing unless `wanted`."""

    def __init__(self, steps: int, done: int, wanted: bool) -> None:
        self.wanted, self.done = wanted, done
        self._steps, self._first, self._begun = steps, done, time.monotonic()
        hidden = not (wanted and sys.stderr.isatty())
        self._bar = tqdm(total=steps, initial=done, disable=hidden, unit="step", file=sys.stderr)

    def tell(self, words: str) -> None:
        """One line on standard error, above the bar where there is one."""
        if self.wanted:
            tqdm.write(words, file=sys.stderr)

    def pace(self) -> str:
        """How fast it goes, and how long the rest will take at that rate."""
        done, seconds = self.done - self._first, time.monotonic() - self._begun
        rate = done / max(seconds, 1e-9)
        return f"{rate:.3g} steps/s, {_lasting((self._steps - self.done) / max(rate, 1e-9))} left"

    def advance(self) -> None:
        """One step more."""
        self.done += 1
        self._bar.update()

    def loss(self, mean: float) -> None:
        """The loss beside the bar."""
        self._bar.set_postfix_str(f"loss {mean:.3f}")

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()


def _lasting(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


class Interruption:
    """Whether Ctrl-C was pressed."""

    asked = False


@contextmanager
def held_back() -> Iterator[Interruption]:
    """Within it the first Ctrl-C only sets `asked`, so that no step is cut in two; a second one raises.

    Another handler than Python's own, or another thread than the main one, is left as it is.
    """
    stop, usual = Interruption(), signal.getsignal(signal.SIGINT)
    main = threading.current_thread() is threading.main_thread()
    if not main or usual is not signal.default_int_handler:
        yield stop
        return

    def first(*_: Any) -> None:
        stop.asked = True
        signal.signal(signal.SIGINT, usual)

    signal.signal(signal.SIGINT, first)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, usual)
