"""Made copies and training on them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from encoders.copies import CopyMaker, nt_xent, pictures
from encoders.copy_training import CopySettings, CopyTrainer, spec_of, train_on_copies
from encoders.errors import TrainingError
from encoders.images import ImageError

TINY = CopySettings(
    size=16, tower="conv", tower_args={"widths": [8, 16]}, dim=8, batch=12, steps=25, mine_every=10, group=3
)


pytestmark = pytest.mark.usefixtures("one_thread")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scenes(count: int, side: int = 20) -> torch.Tensor:
    """Smooth random pictures, uint8."""
    coarse = torch.rand(count, 3, 4, 4, generator=generator(5))
    return (F.interpolate(coarse, size=(side, side), mode="bilinear") * 255).to(torch.uint8)


def test_pictures_are_squares_of_bytes() -> None:
    half = np.zeros((10, 20, 3), np.uint8)
    half[:, 10:] = 255
    made = pictures([half, half], 8)
    assert (made.shape, made.dtype) == ((2, 3, 8, 8), torch.uint8)
    assert made[0, 0, 0].tolist()[:3] + made[0, 0, 0].tolist()[-3:] == [0, 0, 0, 255, 255, 255]
    with pytest.raises(ImageError):
        pictures([b"nothing"])


def test_copies_are_pictures_of_the_size_and_range_and_differ() -> None:
    batch = scenes(40)
    copies = CopyMaker(16, generator())(batch)
    assert copies.shape == (40, 3, 16, 16)
    assert 0 <= float(copies.min()) <= float(copies.max()) <= 1
    plain = CopyMaker(16, generator())(batch, untouched=1.0)
    assert (copies - plain).abs().mean(dim=(1, 2, 3)).min() > 0.001


def test_untouched_ones_are_only_resized() -> None:
    flat = torch.full((3, 3, 20, 20), 51, dtype=torch.uint8)
    assert torch.allclose(CopyMaker(16, generator())(flat, untouched=1.0), torch.tensor(0.2))
    assert torch.equal(flat, torch.full((3, 3, 20, 20), 51, dtype=torch.uint8))


def test_copies_come_from_the_generator_alone() -> None:
    batch = scenes(12)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one, two, other = (CopyMaker(16, generator(seed))(batch) for seed in (3, 3, 4))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_nt_xent_is_the_double_loop_of_the_paper() -> None:
    rows = F.normalize(torch.randn(10, 6, generator=generator()), dim=1)
    left, right = rows[:5], rows[5:]
    total = 0.0
    for i in range(10):
        partner = (i + 5) % 10
        likenesses = [math.exp(float(rows[i] @ rows[k]) / 0.2) for k in range(10) if k != i]
        total -= math.log(math.exp(float(rows[i] @ rows[partner]) / 0.2) / sum(likenesses))
    assert float(nt_xent(left, right, 0.2)) == pytest.approx(total / 10, rel=1e-5)


def test_training_learns_and_is_the_same_again_from_one_seed() -> None:
    images, spec = scenes(48), spec_of(TINY, "tiny")
    losses: list[float] = []
    torch.manual_seed(7)
    before = torch.get_rng_state()
    one = train_on_copies(images, spec, TINY, lambda _, loss: losses.append(loss))
    assert torch.equal(torch.get_rng_state(), before)
    assert len(losses) == 25
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    two = train_on_copies(images, spec, TINY)
    for name, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[name]), name
    assert not one.training


def test_batches_are_groups_of_neighbours_once_they_are_known() -> None:
    trainer = CopyTrainer(scenes(48), spec_of(TINY, "tiny"), TINY)
    assert len(np.unique(trainer._drawn())) == 12
    trainer._neighbours = np.arange(48)[:, None] // 4 * 4 + np.array([[0, 1, 2, 3]])
    drawn = trainer._drawn()
    assert len(np.unique(drawn)) == len(drawn) <= 12
    assert len(np.unique(drawn // 4)) <= 4


def test_too_few_pictures_are_refused_with_the_numbers() -> None:
    with pytest.raises(TrainingError, match="11 pictures are fewer than one batch of 12"):
        train_on_copies(scenes(11), spec_of(TINY, "tiny"), TINY)
