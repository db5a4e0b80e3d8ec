"""Any torch module with its transform."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import encoders
from encoders.errors import EncoderError
from tests.encoders.adapters.contract import AdapterContract
from tests.encoders.adapters.pictures import PicturesContract, pictures

SHAPE = (3, 20, 20)


def network(seed: int = 0) -> nn.Module:
    """Convolution, batch norm, pooling: 3 x 20 x 20 -> 12; left in train mode, as people leave them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = nn.Sequential(
            nn.Conv2d(3, 12, 5), nn.BatchNorm2d(12), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        layers[1].running_mean.uniform_(-1, 1)
        layers[1].running_var.uniform_(0.5, 2)
    return layers.train()


def small(image: Any) -> Tensor:
    """A PIL picture as (3, 20, 20), the way torchvision's transforms give it."""
    pixels = np.array(image.resize((20, 20)), np.float32) / 255
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


class TestModule(PicturesContract):
    dim, metric = 12, "cosine"

    @classmethod
    def make(cls) -> Any:
        return encoders.from_module(network(), small, name="mine", shape=SHAPE, revision="1", device="cpu")

    @pytest.fixture
    def bad(self) -> list[tuple[Any, str]]:
        return [(b"no picture", "image"), (np.zeros((2, 2, 9)), "shape"), (7, "int")]

    def test_the_same_as_the_module_itself(self, encoder: Any, items: list[Any], embedded: Any) -> None:
        from PIL import Image

        with torch.inference_mode():
            batch = torch.stack([small(Image.fromarray(item)) for item in items])
            theirs = nn.functional.normalize(network().eval()(batch)).numpy()
        assert np.abs(theirs - embedded).max() < 1e-6

    def test_one_picture_without_its_list_is_refused(self, encoder: Any, items: list[Any]) -> None:
        with pytest.raises(TypeError, match="this is one image array"):
            encoder.encode(items[0])

    def test_put_into_train_mode_it_embeds_the_same(self, items: list[Any], embedded: Any) -> None:
        mine = self.make()
        mine.module.train()
        assert np.array_equal(mine.encode(items[:3]), embedded[:3])


class TestVectorsThroughAModule(AdapterContract):
    """Items that are no pictures, under the euclidean metric, with settings of this package."""

    dim, metric = 8, "euclidean"

    @classmethod
    def make(cls) -> Any:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            layer = nn.Linear(16, 8)
        settings = {"kind": "vector", "length": 16}
        return encoders.from_module(layer, settings, name="rows", metric="euclidean", device="cpu")

    @pytest.fixture(scope="class")
    @classmethod
    def items(cls) -> list[Any]:
        return list(np.random.default_rng(0).standard_normal((20, 16)).astype(np.float32))

    @pytest.fixture
    def bad(self) -> list[tuple[Any, str]]:
        return [(np.zeros(5), "a vector of 16 numbers"), (np.full(16, np.nan), "NaN")]

    def test_plain_numbers(self, encoder: Any, items: list[Any], embedded: Any) -> None:
        weight, bias = (one.detach().numpy() for one in encoder.module.parameters())
        assert embedded == pytest.approx(np.stack([weight @ row + bias for row in items]), abs=1e-5)


def from_it(transform: Any = small, **changes: Any) -> Any:
    given = {"name": "mine", "shape": SHAPE, "device": "cpu"} | changes
    return encoders.from_module(given.pop("module", None) or network(), transform, **given)


def test_what_changes_the_fingerprint() -> None:
    first = from_it(revision="1")
    other = {
        "weights": from_it(revision="1", module=network(1)),
        "preprocessing": from_it(revision="2"),
        "architecture": from_it(revision="1", module=nn.Sequential(*network(), nn.ReLU())),
    }
    assert len({one.fingerprint for one in (first, *other.values())}) == 4
    for part, changed in other.items():
        different = {key for key, value in first.provenance.items() if changed.provenance[key] != value}
        assert part in different and (part == "architecture" or different == {part})
    assert from_it(revision="1", threshold=0.3).fingerprint == first.fingerprint
    assert from_it(revision="1", metric="euclidean").fingerprint != first.fingerprint


class Named:
    """A transform whose repr tells it, as torchvision's do."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, image: Any) -> Tensor:
        return small(image)

    def __repr__(self) -> str:
        return f"Named(size={self.size})"


def test_a_repr_tells_one_transform_from_another_and_an_address_does_not() -> None:
    assert from_it(Named(1)).fingerprint == from_it(Named(1)).fingerprint != from_it(Named(2)).fingerprint
    with pytest.raises(EncoderError, match="pass revision="):
        from_it(small)


class Tokens(nn.Module):
    def forward(self, batch: Tensor) -> Tensor:
        return batch.flatten(2)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"module": Tokens()}, r"gave \(16, 3, 400\) .* pooled embeddings \(16, dim\)"),
        ({"shape": None}, "shape is needed beside a callable"),
        ({"transform": 7}, "a callable or a dict of settings, not int"),
        (
            {"transform": {"kind": "rgb", "size": 30}},
            r"gives arrays of shape \(3, 30, 30\), not \(3, 20, 20\)",
        ),
        ({"transform": {"kind": "none"}}, "no preprocessing is called 'none'"),
        ({"metric": "dot"}, "metric 'dot'"),
        ({"device": "gpu"}, "device 'gpu' cannot be used"),
    ],
)
def test_what_cannot_be_an_encoder(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(EncoderError, match=said):
        from_it(**({"revision": "1"} | changes))


def test_a_transform_that_gives_another_shape_or_nan_names_the_item() -> None:
    wrong = from_it(lambda image: np.zeros((3, 9, 9)), revision="1")
    with pytest.raises(EncoderError, match=r"item 0: the transform gave an array of shape \(3, 9, 9\)"):
        wrong.encode(pictures(1))
    with pytest.raises(EncoderError, match="item 0: the transform gave NaN"):
        from_it(lambda image: np.full(SHAPE, np.nan), revision="1").encode(pictures(1))
