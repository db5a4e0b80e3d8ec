"""--tower-args, --loss-args and --margin that cannot work are refused in one line, before the training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import encoders
from encoders import cli, losses, towers, training
from encoders.arguments import check_tower
from encoders.datasets import from_arrays
from encoders.errors import TrainingError
from encoders.settings import Settings
from tests.encoders.shapes import labelled

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def data(tmp_path: Path) -> str:
    held = labelled(8, 4)
    np.savez(tmp_path / "set.npz", images=held.items, labels=held.labels)
    return str(tmp_path / "set.npz")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--tower-args", '{"widths": []}'], "widths is []: it must be a list of one or more, each a whole"),
        (["--tower-args", '{"widths": [0]}'], "widths is [0]: it must be"),
        (
            ["--tower-args", '{"widths": [-3, 4]}'],
            "a whole number from 1 to 16,777,216, [32, 64, 96] for",
        ),
        (["--tower-args", '{"widths": [1.5]}'], "widths is [1.5]"),
        (["--tower-args", '{"widths": 8}'], "widths is 8"),
        (["--tower-args", '{"widths": [true]}'], "widths is [true]"),
        (["--tower-args", '{"wings": 2}'], "tower conv does not take wings; it takes widths"),
        (["--tower-args", '{"widths": [4,4,4,4,4,4,4,4,4,4]}'], "10 halvings need images of 1024"),
        (["--tower", "gradients", "--tower-args", '{"cell": 500}'], "need images of 2279 pixels, not 48"),
        (["--tower", "residual", "--tower-args", '{"widths": [4, 8]}'], "2 widths and 4 block counts"),
        (["--loss", "triplet", "--loss-args", '{"distance": ["a"]}'], "no distance is called ['a']"),
        (["--loss", "triplet", "--loss-args", '{"reducer": {}}'], "no reducer is called {}; there are mean"),
        (["--loss-args", '{"scale": "x"}'], "scale is 'x': it must be a number from 0.0001 to 10000"),
        (["--loss-args", '{"scale": null}'], "scale is None"),
        (["--loss-args", '{"scale": NaN}'], "scale is nan"),
        (["--loss", "supcon", "--loss-args", '{"temperature": 0}'], "temperature is 0: it must be"),
        (["--margin", "nan"], "margin is nan: it must be a number from -10000 to 10000"),
        (["--margin", "inf", "--loss", "triplet"], "margin is inf"),
    ],
)
def test_arguments_that_cannot_work(
    options: list[str], words: str, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train", data, "--output", str(tmp_path / "o"), *options]) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.startswith("encoders: ") and words in told.err
    assert told.err.count("\n") == 1 and "learning rate" not in told.err
    assert [path.name for path in tmp_path.iterdir()] == ["set.npz"]


def test_what_a_tower_says_itself_is_translated(tmp_path: Path) -> None:
    steps = [np.ones((5, 3), np.float32) * k for k in range(24)]
    data = from_arrays(steps, np.repeat(np.arange(6), 4))
    with pytest.raises(
        TrainingError, match=r"tower recurrent does not work with .*dropout.*1\.5.*; choose other"
    ):
        encoders.train(data, output=tmp_path / "o", tower_args={"width": 4, "dropout": 1.5}, progress=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"margin": np.float64(0.25)}, {"margin": 0.25}),
        ({"loss": "triplet", "margin": np.float32(0.25)}, {"margin": 0.25}),
        (
            {"loss": "supcon", "loss_args": {"temperature": np.float64(0.5)}},
            {"loss_args": {"temperature": 0.5}},
        ),
        ({"tower_args": {"widths": np.array([8])}}, {"tower_args": {"widths": [8]}}),
        ({"tower_args": {"widths": [np.int64(8)]}, "dim": np.int64(6)}, {"dim": 6}),
    ],
)
def test_numbers_of_numpy_are_numbers(tmp_path: Path, given: dict[str, Any], kept: dict[str, Any]) -> None:
    """As of a sweep by np.linspace. They are kept as plain ones, and none of them is a truth."""
    rows = np.random.default_rng(0).normal(size=(24, 4))
    data = from_arrays(rows, np.repeat(np.arange(6), 4))
    found = encoders.train(data, output=tmp_path / "o", steps=2, progress=False, **given)
    assert {name: found.settings[name] for name in kept} == kept
    assert isinstance(encoders.load(tmp_path / "o").dim, int)
    with pytest.raises(TrainingError, match="scale is True"):
        losses.build("margin", dim=4, classes=3, arguments={"scale": True})
    losses.build("margin", dim=4, classes=3, margin=np.float64(0.25))  # type: ignore[arg-type]


def test_a_loss_is_refused_before_anything_is_read_and_moves_no_random_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "_loaded", lambda *_: pytest.fail("the data was read"))
    torch.manual_seed(7)
    with pytest.raises(TrainingError, match="margin is nan"):
        encoders.train("nowhere", output=tmp_path / "o", margin=float("nan"))
    drawn = torch.rand(3)
    torch.manual_seed(7)
    assert torch.equal(drawn, torch.rand(3))


@pytest.mark.parametrize("name", towers.names())
def test_the_defaults_of_every_tower_pass(name: str) -> None:
    usual = towers.complete(name, {})
    check_tower(Settings(tower=name, tower_args=usual))
    for key in usual:
        with pytest.raises(TrainingError, match=f"tower {name}: {key} is null: it must be"):
            check_tower(Settings(tower=name, tower_args={key: None}))


@pytest.mark.parametrize("loss", sorted(losses.MINING))
def test_every_loss_passes_as_it_is(loss: str) -> None:
    values: dict[str, Any] = {"dim": 4, "classes": 3}
    assert torch.isfinite(losses.build(loss, **values)(torch.eye(4), torch.tensor([0, 0, 1, 1])))
