"""Augmentation: seeded, shape-keeping, within range, and really changing what it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from encoders import augment, preprocess
from tests.encoders.shapes import picture


def images(n: int = 24) -> torch.Tensor:
    return torch.from_numpy(np.stack([preprocess.InkPreprocess()(picture(s)) for s in range(n)]))


@pytest.mark.parametrize("name", sorted(augment.RECIPES))
def test_recipes_keep_the_shape_and_obey_the_seed(name: str) -> None:
    batch = images()
    before = batch.clone()
    one, two, other = (augment.RECIPES[name](batch, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert one.shape == batch.shape and one.dtype == torch.float32
    assert torch.equal(one, two) and torch.equal(batch, before)
    assert torch.equal(one, other) == (name == "none")


def test_ink_stays_ink() -> None:
    varied = augment.ink(images(200), torch.Generator().manual_seed(0))
    assert varied.min() >= 0.0 and varied.max() <= 1.0
    assert (varied.amax(dim=(1, 2, 3)) > 0.3).all()  # nothing is augmented away
    assert 0.05 < varied.mean() / images(200).mean() - 0.5 < 1.5


def test_strokes_become_thinner_and_thicker() -> None:
    batch = images(1).repeat(300, 1, 1, 1)
    varied = augment._stroke(batch, torch.Generator().manual_seed(0)).sum(dim=(1, 2, 3)) / batch[0].sum()
    assert varied.min() < 0.8 and varied.max() > 1.3
    assert (abs(varied - 1) < 1e-6).float().mean() == pytest.approx(0.3, abs=0.08)


def test_low_resolution_needs_no_items() -> None:
    assert augment._low_resolution(images(1)[:0], torch.Generator().manual_seed(0)).shape == (0, 1, 48, 48)
