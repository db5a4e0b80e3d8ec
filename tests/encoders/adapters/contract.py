"""What every adapter must do. A test class inherits this and brings an encoder, items and bad items."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gallery
from encoders.errors import EncodeError
from gallery.encoder import check_encoder
from gallery.gallery import Gallery


class AdapterContract:
    """`make()` gives the encoder anew; `items` are 18 or more good ones, `bad` are (item, reason) pairs."""

    dim: int
    metric: str

    @classmethod
    def make(cls) -> Any:
        """The encoder, loaded anew."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def encoder(cls) -> Any:
        return cls.make()

    @pytest.fixture(scope="class")
    @classmethod
    def items(cls) -> list[Any]:
        raise NotImplementedError

    @pytest.fixture
    def bad(self) -> list[tuple[Any, str]]:
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def embedded(cls, encoder: Any, items: list[Any]) -> np.ndarray:
        assert len(items) > 17, "more than one chunk"
        return encoder.encode(items)

    def test_it_is_an_encoder(self, encoder: Any) -> None:
        check_encoder(encoder)
        assert (encoder.dim, encoder.metric) == (self.dim, self.metric)
        assert re.fullmatch("[0-9a-f]{64}", encoder.fingerprint)
        assert {"weights", "preprocessing"} <= set(encoder.provenance)
        assert all(isinstance(value, str) and value for value in encoder.provenance.values())
        assert encoder.name in repr(encoder)

    def test_rows(self, encoder: Any, items: list[Any], embedded: np.ndarray) -> None:
        assert embedded.shape == (len(items), self.dim) and embedded.dtype == np.float32
        assert np.isfinite(embedded).all()
        if self.metric == "cosine":
            assert np.linalg.norm(embedded, axis=1) == pytest.approx(np.ones(len(items)), abs=1e-6)
        apart = np.linalg.norm(embedded[:, None] - embedded[None], axis=2)
        assert (apart[~np.eye(len(items), dtype=bool)] > 0).all(), "different items embed differently"

    def test_nothing_gives_no_rows(self, encoder: Any) -> None:
        assert encoder.encode([]).shape == (0, self.dim)

    def test_an_item_embeds_to_the_same_bits_in_any_company(
        self, encoder: Any, items: list[Any], embedded: np.ndarray
    ) -> None:
        alone = np.concatenate([encoder.encode([item]) for item in items[:5]])
        backwards = encoder.encode(item for item in items[::-1])[::-1]
        assert np.array_equal(alone, embedded[:5]) and np.array_equal(backwards, embedded)

    def test_loaded_again_it_is_the_same(self, encoder: Any, items: list[Any], embedded: np.ndarray) -> None:
        again = self.make()
        assert (again.fingerprint, again.provenance) == (encoder.fingerprint, encoder.provenance)
        assert np.array_equal(again.encode(items[:2]), embedded[:2])

    def test_a_bad_item_is_named_with_its_reason(
        self, encoder: Any, items: list[Any], bad: list[tuple[Any, str]]
    ) -> None:
        assert bad
        for at, (item, reason) in enumerate(bad):
            with pytest.raises(EncodeError, match=f"(?s)item {at}: .*{reason}") as raised:
                encoder.encode([*items[:at], item, *items[:1]])
            assert raised.value.index == at and re.search(reason, raised.value.reason)

    def test_one_item_without_its_list_is_refused(self, encoder: Any) -> None:
        with pytest.raises(TypeError, match="takes a list of items, not one str"):
            encoder.encode("one")

    def test_in_a_gallery(
        self, encoder: Any, items: list[Any], bad: list[tuple[Any, str]], tmp_path: Path
    ) -> None:
        with gallery.open(tmp_path / "g", encoder) as people:
            people.enroll_many([(str(at), [item]) for at, item in enumerate(items[:3])])
            with pytest.raises(gallery.InvalidItemError, match=bad[0][1]):
                people.enroll("bad", [items[3], bad[0][0]])
            assert people.ids() == ["0", "1", "2"]
        with gallery.open(tmp_path / "g", self.make()) as people:
            self.check_found(people, items)

    @staticmethod
    def check_found(people: Gallery, items: list[Any]) -> None:
        assert [people.identify(item, threshold=1e-3).best.id for item in items[:3]] == ["0", "1", "2"]

    def test_the_canary_has_an_item(self, encoder: Any, items: list[Any], tmp_path: Path) -> None:
        """A model that computes something else is noticed when the gallery is opened."""
        with gallery.open(tmp_path / "g", encoder) as people:
            people.enroll("0", items[:1])
        changed = self.make()
        right = changed.encode
        changed.encode = lambda items: right(items)[:, ::-1] + 0.05
        with pytest.raises(gallery.EncoderMismatchError, match="canary item"):
            gallery.open(tmp_path / "g", changed)
