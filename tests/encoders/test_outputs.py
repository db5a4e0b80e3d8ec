"""An output that cannot be written or loaded is refused before the training, and nothing is lost."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

import encoders
from encoders import run, training
from encoders.errors import CheckpointError, TrainingError
from encoders.losses import softmax
from tests.encoders.shapes import labelled
from tests.encoders.test_training import SMALL, killed_run

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("afile/my.encoder", r"cannot be written: .*afile is a file, not a folder"),
        ("afile/deep/my.encoder", r"cannot be written: .*afile is a file, not a folder"),
        ("x" * 250, "cannot be written: File name too long; choose another place"),
        ("x" * 248, "cannot be written: File name too long"),
        ("my.safetensors", r"because of \.safetensors: choose another name, my\.encoder for example"),
        ("my.onnx", r"because of \.onnx: choose another name, my\.encoder for example"),
        ("glyph", "glyph is the name of an encoder that ships.*: choose another one, glyph-of-mine"),
        ("faces", "because of faces: choose another name"),
        (os.fsdecode(b"M\xfcller"), r"M\\xfcller is not UTF-8"),
        ("taken", r"taken\.state is a file"),
        ("adrift", "adrift is a link to nothing: remove it, or choose another name"),
        ("adrift/my.encoder", r"cannot be written: .*adrift is a link to nothing, not a folder"),
        ("led", r"led\.state is a link to nothing"),
        ("hf:my.encoder", r"because of hf:: choose another name, hf-my\.encoder for example$"),
    ],
    ids=lambda value: value[:12] if value.isascii() else "latin-1",
)
def test_an_output_that_is_no_use_is_refused_before_anything_is_read(
    name: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("afile", "taken.state"):
        Path(file).touch()
    for link in ("adrift", "led.state"):
        Path(link).symlink_to("nowhere/x")
    monkeypatch.setattr(training, "_loaded", lambda *_: pytest.fail("the data was read"))
    with pytest.raises(CheckpointError, match=words):
        encoders.train(labelled(), output=name, steps=100_000, overwrite=True, **SMALL)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("adrift", "afile", "led.state", "taken.state"),
    ]


def test_an_output_in_folders_that_are_not_there_yet(tmp_path: Path) -> None:
    place = tmp_path / "runs" / "today" / "glyph"  # by its path it is told from the one that ships
    encoders.train(labelled(), output=place, steps=1, **SMALL)
    assert encoders.load(place).dim == 16 and [p.name for p in place.parent.iterdir()] == ["glyph"]


def test_a_run_that_is_refused_at_its_first_step_replaces_no_saved_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "a.encoder"
    killed_run(place, monkeypatch, steps=4)
    with monkeypatch.context() as patch:
        patch.setattr(softmax.MarginSoftmax, "forward", lambda self, rows, labels: torch.tensor(torch.nan))
        with pytest.raises(TrainingError, match="became nan at step 1"):
            encoders.train(labelled(), output=place, steps=9, overwrite=True, **SMALL)
    found = encoders.train(labelled(), output=place, steps=4, resume=True, **SMALL)
    assert found.settings["steps"] == 4


def test_a_run_of_an_older_version_may_have_held_out_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its data is the same: it was told to be other data. One of a set of its own says nothing of it."""
    place = tmp_path / "a.encoder"
    killed_run(place, monkeypatch, steps=4)
    record = json.loads((file := tmp_path / "a.encoder.state" / "state.json").read_text())
    for changed, words in (
        ({}, "other data$"),
        ({"split": None}, "other data, or by an older version, which"),
    ):
        file.write_text(json.dumps(record | {"data": "x"} | changed))
        with pytest.raises(TrainingError, match=words):
            encoders.train(labelled(), output=place, steps=4, resume=True, **SMALL)


def test_the_first_step_of_an_overwriting_run_ends_the_saved_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "a.encoder"
    killed_run(place, monkeypatch, steps=4)
    kept: list[bool] = []
    log = run.Run._log

    def noted(self: run.Run, *given: object) -> None:
        kept.append((tmp_path / "a.encoder.state").exists())
        log(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(run, "SAVE_SECONDS", 60.0)
    monkeypatch.setattr(run.Run, "_log", noted)
    encoders.train(labelled(), output=place, steps=2, overwrite=True, **SMALL)
    assert kept == [True, False]
