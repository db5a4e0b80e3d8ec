"""Augmentation: seeded, shape-keeping, within range, and really changing what it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from encoders import augment, defaults, preprocess
from encoders.errors import TrainingError
from tests.encoders.samples import GOOD, MADE
from tests.encoders.shapes import picture


def images(n: int = 24) -> torch.Tensor:
    return torch.from_numpy(np.stack([preprocess.InkPreprocess()(picture(s)) for s in range(n)]))


def arrays(kind: str) -> torch.Tensor:
    return torch.from_numpy(np.stack([MADE[kind](item) for item in GOOD[kind]]))


@pytest.mark.parametrize("name", sorted(augment.RECIPES))
def test_recipes_keep_the_shape_and_obey_the_seed(name: str) -> None:
    for kind in augment.SUITS.get(name, tuple(MADE)):
        batch = arrays(kind)
        before, recipe = batch.clone(), augment.recipe(name, kind)
        one, two, other = (recipe(batch, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
        assert one.shape == batch.shape and one.dtype == torch.float32
        assert torch.equal(one, two) and torch.equal(batch, before)
        assert torch.equal(one, other) == (name == "none")
        assert torch.isfinite(one).all() and torch.equal(one, before) == (name == "none")


@pytest.mark.parametrize("kind", sorted(MADE))
def test_every_kind_has_a_recipe_and_refuses_another(kind: str) -> None:
    assert kind in augment.SUITS[defaults.AUGMENT[kind]]
    wrong = "text" if kind != "text" else "ink"
    with pytest.raises(TrainingError, match=f"augmentation {wrong} is not for {kind}; for that there are"):
        augment.recipe(wrong, kind)
    with pytest.raises(TrainingError, match="no augmentation is called 'magic'"):
        augment.recipe("magic", kind)


def test_sequences_stay_padded_and_change_their_speed() -> None:
    batch = arrays("sequence").repeat(20, 1, 1)
    varied = augment.RECIPES["sequence"](batch, torch.Generator().manual_seed(0))
    before, after = batch[:, :, -1].sum(1), varied[:, :, -1].sum(1)
    assert (varied[:, :, :-1][varied[:, :, -1] == 0] == 0).all()
    ratio = after[before == 20] / 20
    assert ratio.min() < 0.91 and ratio.max() > 1.09 and after.min() == 1
    assert torch.allclose(varied[:, :, -1].cumprod(1).sum(1), after)  # real steps come first


def test_recordings_keep_their_end_and_are_still_themselves() -> None:
    batch = arrays("audio")[10:11].repeat(100, 1)
    for name, reach in (("audio", 0.05), ("speech", 0.18)):
        varied = augment.RECIPES[name](batch, torch.Generator().manual_seed(0))
        ends = torch.where(varied != 0, torch.arange(varied.shape[1]) + 1, 0).amax(1)
        length = int(torch.where(batch[0] != 0, torch.arange(batch.shape[1]) + 1, 0).amax())
        assert ends.min() >= length * (1 - reach) - 2 and ends.max() <= length * (1.01 + reach) * 1.02
        # The tone of the recording, 500 Hz, or its overtone, is found again within the change of speed.
        peaks = torch.fft.rfft(varied).abs().argmax(1) * 8000 / batch.shape[1]
        pitch = torch.where(peaks > 750, peaks / 2, peaks)
        assert ((pitch > 500 * (1 - reach) - 12) & (pitch < 500 * (1.02 + reach) + 12)).all()


def test_texts_lose_double_and_mistake_few_letters() -> None:
    read = MADE["text"]
    batch = torch.from_numpy(read("anna maria van den berg")).repeat(2000, 1)
    varied = augment.RECIPES["text"](batch, torch.Generator().manual_seed(0))
    texts = [read.text(row) for row in varied.numpy()]
    same = np.mean([text == "anna maria van den berg" for text in texts])
    assert 0.94**23 - 0.04 < same < 0.94**23 + 0.06
    lengths = np.array([len(text) for text in texts])
    assert lengths.min() >= 18 and lengths.max() <= 28 and abs(lengths.mean() - 23) < 0.15
    assert ((varied != 0).cumprod(1).sum(1) == torch.tensor(lengths)).all()


def test_photos_are_mirrored_and_covered_half_of_the_time() -> None:
    batch = torch.linspace(-1, 1, 32).repeat(400, 3, 32, 1).contiguous()
    varied = augment.RECIPES["photo"](batch, torch.Generator().manual_seed(0))
    rising = (varied[:, 0, :, -6:].mean((1, 2)) > varied[:, 0, :, :6].mean((1, 2))).float().mean()
    assert abs(rising - 0.5) < 0.1
    covered = ((varied == 0).float().mean((1, 2, 3)) > 0.005).float().mean()
    assert abs(covered - 0.5) < 0.1


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
