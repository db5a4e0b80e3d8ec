"""Training on a GPU, where there is one, and a run that goes on elsewhere than it was begun."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import encoders
from encoders.datasets import LabelledSet, prepared
from encoders.preprocess import build
from encoders.settings import Settings
from encoders.spec import Spec
from encoders.trainer import Trainer
from tests.encoders.shapes import labelled

INK: dict[str, Any] = {"kind": "ink", "size": 24}
SETTINGS = Settings(
    tower_args={"widths": [8, 16]}, preprocess=INK, dim=16, subjects=8, items=3, steps=9, quarter_turns=True
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def cuda() -> str:
    if not torch.cuda.is_available():
        pytest.skip("torch finds no GPU here")
    return "cuda"


def begun(device: str, seed: int = 0) -> Trainer:
    spec = Spec("small", "conv", SETTINGS.tower_args, INK, SETTINGS.dim)
    return Trainer(ready(), spec, replace(SETTINGS, seed=seed), device)


def ready() -> LabelledSet:
    return prepared(labelled(), build(INK))


def test_a_gpu_augments_what_it_trains_on(cuda: str) -> None:
    one, two = begun(cuda), begun(cuda)
    assert one.generator.device.type == cuda
    for _ in range(2):
        (left, labels), (right, others) = one.batch(), two.batch()
        assert left.device.type == labels.device.type == cuda
        assert torch.equal(left, right) and torch.equal(labels, others)


def test_what_a_gpu_trained_is_the_same_on_the_cpu(cuda: str, tmp_path: Path) -> None:
    encoders.train(labelled(), output=tmp_path / "a", device=cuda, steps=6, tower_args={"widths": [8, 16]})
    there, here = (encoders.load(tmp_path / "a", device=one) for one in (cuda, "cpu"))
    items = labelled().items[:20]
    assert there.fingerprint == here.fingerprint
    assert abs(there.encode(items) - here.encode(items)).max() < 1e-4


@pytest.mark.parametrize("seed", [0, 2**63 - 1])
def test_a_run_goes_on_on_another_kind_of_device(seed: int) -> None:
    """Of another device's generator the step is taken, and the rest is the run's own."""
    first = begun("cpu", seed)
    for _ in range(3):
        first.step()
    kept = {name: value.clone() for name, value in first.tensors().items()}
    of_a_gpu = kept | {"generator/state": torch.zeros(16, dtype=torch.uint8)}
    again, elsewhere, twice = (begun("cpu", seed) for _ in range(3))
    again.restore(kept, first.record())
    elsewhere.restore(of_a_gpu, first.record())
    twice.restore(of_a_gpu, first.record())
    same, other, third = (one.batch() for one in (again, elsewhere, twice))
    wanted = first.batch()
    assert torch.equal(same[0], wanted[0])
    assert torch.equal(other[1], wanted[1]) and not torch.equal(other[0], wanted[0])
    assert torch.equal(other[0], third[0])
