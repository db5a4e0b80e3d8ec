"""The contract of every tower: a new line in `towers.TOWERS` is taken up by itself."""

from __future__ import annotations

import pytest
import torch

from encoders import towers
from encoders.errors import EncoderError

SHAPE = (1, 32, 32)


@pytest.fixture(params=sorted(towers.TOWERS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def built(name: str, seed: int = 0) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tower = towers.build(name, SHAPE)
    assert isinstance(tower, torch.nn.Module)
    return tower


def images(n: int) -> torch.Tensor:
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(1))


def test_maps_a_batch_to_its_features(name: str) -> None:
    tower = built(name).eval()
    assert tower(images(5)).shape == (5, tower.features)
    assert tower(images(5)).dtype == torch.float32


def test_eval_mode_treats_items_alone(name: str) -> None:
    tower = built(name).eval()
    batch = images(6)
    alone = torch.cat([tower(row[None]) for row in batch])
    assert torch.allclose(tower(batch), alone, atol=1e-5)


def test_weights_come_from_the_seed(name: str) -> None:
    one, two, other = built(name), built(name), built(name, seed=1)
    batch = images(2)
    assert torch.equal(one.eval()(batch), two.eval()(batch))
    assert not torch.allclose(one(batch), other.eval()(batch))


def test_every_weight_gets_a_gradient(name: str) -> None:
    tower = built(name).train()
    tower(images(8)).square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in tower.parameters())


def test_state_round_trip(name: str) -> None:
    one, two = built(name), built(name, seed=1)
    two.load_state_dict(one.state_dict())
    assert torch.equal(one.eval()(images(3)), two.eval()(images(3)))


def test_complete_arguments_build_the_same_tower(name: str) -> None:
    arguments = towers.complete(name, {})
    assert arguments["widths"] and towers.complete(name, {"widths": [8]})["widths"] == [8]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        spelt = towers.build(name, SHAPE, **arguments)
    assert torch.equal(spelt.eval()(images(2)), built(name).eval()(images(2)))


def test_an_unknown_argument_is_refused(name: str) -> None:
    with pytest.raises(EncoderError, match="does not take"):
        towers.build(name, SHAPE, wings=2)


def test_an_unknown_tower_names_those_there_are() -> None:
    with pytest.raises(EncoderError, match="conv, dense, residual"):
        towers.build("babel", SHAPE)


@pytest.mark.parametrize("conv", ["conv", "residual"])
def test_convolutional_towers_refuse_vectors_and_tiny_images(conv: str) -> None:
    with pytest.raises(EncoderError, match="channels, height, width"):
        towers.build(conv, (12,))
    with pytest.raises(EncoderError, match="pixels, not 4"):
        towers.build(conv, (1, 4, 4))


def test_glyph_tower_is_small() -> None:
    count = sum(p.numel() for p in towers.build("residual", (1, 48, 48)).parameters())
    assert count == 1_046_432
