"""The templates that a filter selects, remembered from one search to the next."""

from __future__ import annotations

from gallery.filters import Where
from gallery.indexes.base import Selection
from gallery.metadata import as_json
from gallery.stores.base import Store


class LastSelection:
    """Going through the metadata of a million subjects takes a second: the last filter's result is kept."""

    def __init__(self) -> None:
        self._key: tuple[str, int, int] | None = None
        self._selection = Selection.everything()

    def of(self, store: Store, where: Where) -> Selection:
        """What `where` selects at the store's present revision. Inside a snapshot."""
        key = as_json(where), store.revision(), store.header.generation
        if key != self._key:
            self._selection = Selection(store.numbers_of(store.matching(where)))
            self._key = key
        return self._selection
