"""encode: shape, unit rows, independence of the batch, and errors that name the item."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from encoders.batches import CHUNK
from encoders.errors import EncodeError
from tests.encoders import made
from tests.encoders.shapes import picture

PICTURES = [picture(s) for s in range(2 * CHUNK + 5)]


def test_embeddings_are_unit_rows_of_float32() -> None:
    found = made.encoder().encode(PICTURES)
    assert found.shape == (2 * CHUNK + 5, 8) and found.dtype == np.float32
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(len(found)), abs=1e-6)


def test_euclidean_rows_are_not_normalised() -> None:
    found = made.encoder(metric="euclidean").encode(PICTURES[:4])
    assert abs(np.linalg.norm(found, axis=1) - 1).max() > 0.05


def test_an_item_embeds_to_the_same_bits_in_any_company() -> None:
    encoder = made.encoder()
    together = encoder.encode(PICTURES)
    alone = np.concatenate([encoder.encode([p]) for p in PICTURES])
    backwards = encoder.encode(PICTURES[::-1])[::-1]
    assert np.array_equal(together, alone) and np.array_equal(together, backwards)


def test_nothing_gives_no_rows() -> None:
    assert made.encoder().encode([]).shape == (0, 8)


def test_any_iterable_and_any_kind_of_item(tmp_path: Path) -> None:
    image = Image.fromarray(PICTURES[0])
    image.save(tmp_path / "a.png")
    kinds = [
        PICTURES[0],
        image,
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        (tmp_path / "a.png").read_bytes(),
    ]
    found = made.encoder().encode(item for item in kinds)
    assert all(np.array_equal(row, found[0]) for row in found)


def test_a_bad_item_is_named_with_its_reason() -> None:
    items = [*PICTURES[:3], b"", *PICTURES[3:]]
    with pytest.raises(EncodeError, match="item 3: ") as raised:
        made.encoder().encode(items)
    assert raised.value.index == 3 and raised.value.reason
    with pytest.raises(EncodeError, match=r"item 0: .*blank"):
        made.encoder().encode([np.zeros((9, 9), np.uint8)])
    with pytest.raises(EncodeError, match="item 1: "):
        made.encoder().encode([PICTURES[0], object()])


@pytest.mark.parametrize("item", ["a.png", b"bytes", Path("a.png"), Image.fromarray(PICTURES[0])])
def test_one_item_without_its_list_is_refused(item: object) -> None:
    with pytest.raises(TypeError, match=r"encode takes a list of items, not one .*: encode\(\[item\]\)"):
        made.encoder().encode(item)  # type: ignore[arg-type]


def test_train_mode_and_gradients_are_off() -> None:
    encoder = made.encoder()
    assert not any(module.training for module in encoder.network.modules())
    before = [b.clone() for b in encoder.network.buffers()]
    encoder.encode(PICTURES)
    assert all(torch.equal(a, b) for a, b in zip(before, encoder.network.buffers(), strict=True))


def test_making_an_encoder_leaves_the_random_state_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    made.encoder()
    assert torch.equal(torch.rand(3), expected)


def test_prepared_arrays_embed_like_items() -> None:
    encoder = made.encoder()
    arrays = np.stack([encoder.preprocess(p) for p in PICTURES[:5]])
    assert np.array_equal(encoder.encode_prepared(arrays), encoder.encode(PICTURES[:5]))
