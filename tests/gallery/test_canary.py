"""The canary: an encoder that computes something else is refused, whatever its fingerprint says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import gallery
from gallery import EncoderMismatchError
from tests.gallery.doubles import contents


class Looks:
    """Pictures, paths, arrays, sentences -> 3 numbers, altered by `change` behind the back of all."""

    dim = 3
    fingerprint = "looks/1"

    def __init__(self, change: Any = None, metric: str = "cosine", **more: Any) -> None:
        self.metric, self.change = metric, change
        for name, value in more.items():
            setattr(self, name, value)

    def encode(self, items: Any) -> np.ndarray:
        rows = np.array([self._one(item) for item in items], np.float32)
        return rows if self.change is None else self.change(rows)

    def _one(self, item: Any) -> np.ndarray:
        if isinstance(item, (str, Path)) and Path(item).is_file():
            item = Image.open(item)
        if isinstance(item, str):
            letters = np.frombuffer(item.encode(), np.uint8).astype(float)
            return np.array([letters.mean(), letters.std() + 1, len(letters)])
        if isinstance(item, bytes):
            return np.array([1.0, len(item), 2.0])
        values = np.asarray(item, float)
        if values.ndim == 3:
            return values.mean(axis=(0, 1)) * [1, 2, 3]
        return values.ravel()[:3] + 2


def exchanged(rows: np.ndarray) -> np.ndarray:
    return rows[:, ::-1].copy()


PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8))


@pytest.fixture(params=["array", "list", "picture", "str", "path", "sentence"])
def item(request, tmp_path: Path) -> Any:
    PICTURE.save(tmp_path / "item.png")
    return {
        "array": np.array([0.2, 0.5, 0.9, 4.0], np.float32),
        "list": [0.2, 0.5, 0.9],
        "picture": PICTURE,
        "str": str(tmp_path / "item.png"),
        "path": tmp_path / "item.png",
        "sentence": "somebody said this",
    }[request.param]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_what_computes_something_else_is_refused(tmp_path, item, metric):
    with gallery.open(tmp_path / "g", Looks(metric=metric)) as people:
        people.enroll("a", [item])
    gallery.open(tmp_path / "g", Looks(metric=metric)).close()
    with pytest.raises(EncoderMismatchError, match=r"canary item .* at a distance of .* eval mode"):
        gallery.open(tmp_path / "g", Looks(exchanged, metric))
    with pytest.raises(EncoderMismatchError, match="canary"):
        gallery.open(tmp_path / "g", Looks(exchanged, metric), read_only=True)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_rounding_is_no_difference(tmp_path, metric):
    with gallery.open(tmp_path / "g", Looks(metric=metric)) as people:
        people.enroll("a", [np.array([0.2, 0.5, 0.9])])
    gallery.open(tmp_path / "g", Looks(lambda rows: rows.astype(np.float16), metric)).close()


def test_another_scale_is_seen_under_the_euclidean_metric(tmp_path):
    with gallery.open(tmp_path / "g", Looks(metric="euclidean")) as people:
        people.enroll("a", [np.array([0.2, 0.5, 0.9])])
    with pytest.raises(EncoderMismatchError, match="distance"):
        gallery.open(tmp_path / "g", Looks(lambda rows: 1.1 * rows, "euclidean"))


def test_what_differs_is_named(tmp_path):
    with gallery.open(tmp_path / "g", Looks(provenance={"weights": "aa", "pillow": "13"})) as people:
        people.enroll("a", [np.array([0.2, 0.5, 0.9])])
    other = Looks(exchanged, provenance={"weights": "aa", "pillow": "12"})
    with pytest.raises(EncoderMismatchError, match="What differs: pillow 13 there, 12 here"):
        gallery.open(tmp_path / "g", other)
    other.fingerprint = "looks/2"
    with pytest.raises(EncoderMismatchError, match=r"looks/1 there, looks/2 here; pillow 13 there, 12 here"):
        gallery.open(tmp_path / "g", other)


def test_an_encoder_may_bring_its_own_or_need_none(tmp_path):
    own = {"canary": np.array([1.0, 5.0, 2.0])}
    with gallery.open(tmp_path / "own", Looks(**own)) as people:
        people.enroll("a", [b"nobody could make one of these up"])
    with pytest.raises(EncoderMismatchError, match=r"canary item \(own\)"):
        gallery.open(tmp_path / "own", Looks(exchanged, **own))
    for name, encoder in (("none", Looks(canary=None)), ("bytes", Looks())):
        with gallery.open(tmp_path / name, encoder) as people:
            people.enroll("a", [b"bytes"])
        gallery.open(tmp_path / name, Looks(exchanged, canary=None)).close()


def test_nothing_of_the_item_is_kept(tmp_path):
    secret = np.random.default_rng(3).standard_normal(64).astype(np.float32)
    with gallery.open(tmp_path / "g", Looks()) as people:
        people.enroll("a", [secret])
    assert all(secret[:4].tobytes() not in content for content in contents(tmp_path / "g").values())
