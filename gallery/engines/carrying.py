"""What is imported comes with what was put in order where it was."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from gallery.stores.base import Added, NewTemplates, Store


def carried_over(
    store: Store, batch: Iterable[NewTemplates], different: Iterable[tuple[str, str]]
) -> list[Added]:
    """Adds what comes with its quarantine, and with who is different."""
    reasons: list[Sequence[str | None]] = []

    def noted() -> Iterator[NewTemplates]:
        for new in batch:
            reasons.append(new.quarantined or ())
            yield new

    added = store.add(noted())
    marks = {
        number: reason
        for one, theirs in zip(added, reasons, strict=True)
        for number, reason in zip(one.templates, theirs, strict=False)
        if reason
    }
    store.curation.carry_over(marks, different)
    return added
