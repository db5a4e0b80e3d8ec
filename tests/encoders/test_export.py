"""Exported files: the same embeddings, loaded again, and refusals that write nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save_file

import encoders
from encoders import checkpoint, cli, export
from encoders.errors import CheckpointError, EncoderError, MissingExtraError
from encoders.packages import versions
from tests.encoders import made
from tests.encoders.samples import GOOD
from tests.encoders.test_towers import PAIRS, encoder

ONNX = len(versions("onnx", "onnxruntime", "onnxscript")) == 3
with_onnx = pytest.mark.skipif(not ONNX, reason="the extra [onnx] is not installed")
FIRST = [next(pair for pair in PAIRS if pair[0] == name) for name in dict(PAIRS)]


@with_onnx
@pytest.mark.slow  # the exporter takes seconds for each
@pytest.mark.parametrize(("tower", "kind"), FIRST, ids=str)
def test_every_tower_in_onnx(tower: str, kind: str, tmp_path: Path) -> None:
    """Number by number, on real items."""
    ours, file = encoder(tower, kind), tmp_path / "it.onnx"
    export.to_onnx(ours, file)
    rows, again = ours.encode(GOOD[kind]), encoders.load(file)
    assert np.abs(again.encode(GOOD[kind]) - rows).max() < 1e-5
    assert np.abs(rows - rows[0]).max() > 1e-4, "a network that embeds all items alike shows nothing"


@with_onnx
def test_glyph_in_onnx(tmp_path: Path) -> None:
    """The encoder that ships, exported on the command line and loaded through the adapter."""
    file = tmp_path / "glyph.onnx"
    assert cli.main(["export", "glyph", "--onnx", str(file)]) == 0
    glyph, again = encoders.load("glyph", device="cpu"), encoders.load(file)
    rows, theirs = glyph.encode(GOOD["ink"]), again.encode(GOOD["ink"])
    assert np.abs(theirs - rows).max() < 1e-5
    assert (again.name, again.dim, again.metric) == (glyph.name, glyph.dim, glyph.metric)
    assert again.threshold == glyph.threshold and again.fingerprint != glyph.fingerprint
    assert encoders.load(file).fingerprint == again.fingerprint
    changed = tmp_path / "changed.onnx"
    changed.write_bytes(file.read_bytes().replace(b'"format": 1', b'"format": 9'))
    with pytest.raises(EncoderError, match="format 9"):
        encoders.load(changed)


@with_onnx
def test_a_model_that_computes_something_else_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = export._traced

    def other(network: Any, *rest: Any) -> Any:
        return real(checkpoint.network_of(made.encoder().spec, wrong), *rest)

    ours = made.encoder()
    wrong = {k: v + (0.01 if k == "norm.bias" else 0) for k, v in ours.network.state_dict().items()}
    monkeypatch.setattr(export, "_traced", other)
    with pytest.raises(EncoderError, match=r"away from ours .*nothing was written"):
        export.to_onnx(ours, tmp_path / "it.onnx")
    assert not list(tmp_path.iterdir())


@with_onnx
@pytest.mark.parametrize("width", [0, 8])
def test_texts_are_compared_on_letters(width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise in [0, 1) was all padding; and the batch of the trace was a constant of the model."""
    pytest.importorskip("onnxruntime")
    read = {"kind": "text", "alphabet": "abc ,", "longest": 20}
    tower = {"letters": 7, "space": 5, "comma": 6, "buckets": 512, "bag": 32, "width": width}
    ours = made.encoder(tower="chars", tower_args=tower, preprocess=read, dim=16 if width else 32)
    probe = export._noise(ours, 35)
    texts = [ours.preprocess.text(row) for row in probe]
    assert len(set(texts)) > 30 and [len(t) for t in texts][::34] == [1, 20]
    assert set("".join(texts)) == set("abc ,?") and sum(" " in t.strip() for t in texts) > 20
    assert export.to_onnx(ours, tmp_path / "it.onnx") < 1e-5
    names = ["ab", "ca b", "abc,ab", "b", "cc cc cc"]
    assert np.abs(encoders.load(tmp_path / "it.onnx").encode(names) - ours.encode(names)).max() < 1e-5


@with_onnx
def test_a_model_that_does_not_run_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = export.needed("onnxruntime", "onnx")

    class Broken:
        def __init__(self, *given: Any, **named: Any) -> None:
            raise RuntimeError("invalid dimensions\nand a long trace")

    monkeypatch.setattr(runtime, "InferenceSession", Broken)
    with pytest.raises(EncoderError, match=r"does not run \(invalid dimensions\): nothing was written"):
        export.to_onnx(made.encoder(), tmp_path / "it.onnx")
    assert not list(tmp_path.iterdir())


@with_onnx
def test_what_has_no_form_in_onnx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(*given: Any, **named: Any) -> Any:
        raise RuntimeError("no such operator\nand a long trace")

    monkeypatch.setattr("torch.onnx.export", cannot)
    with pytest.raises(EncoderError, match=r"a conv tower has no form in ONNX \(no such operator\): --safe"):
        export.to_onnx(made.encoder(), tmp_path / "it.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("tower", "kind"), FIRST, ids=str)
def test_every_tower_in_safetensors(tower: str, kind: str, tmp_path: Path) -> None:
    ours = encoder(tower, kind)
    export.to_safetensors(ours, tmp_path / "it.safetensors")
    again = encoders.load(tmp_path / "it.safetensors", device="cpu")
    assert (again.fingerprint, again.provenance) == (ours.fingerprint, ours.provenance)
    assert np.array_equal(again.encode(GOOD[kind][:3]), ours.encode(GOOD[kind][:3]))


def test_a_learnt_comparison_goes_along(tmp_path: Path) -> None:
    ours = made.encoder(comparator=True)
    export.to_safetensors(ours, tmp_path / "it.safetensors")
    again = encoders.load(tmp_path / "it.safetensors", device="cpu")
    rows = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)
    assert np.array_equal(again.compare(rows, rows), ours.compare(rows, rows))


def test_the_command_writes_safetensors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, file = (
        checkpoint.save(made.encoder(), tmp_path / "made.encoder"),
        tmp_path / "sub" / "m.safetensors",
    )
    assert cli.main(["export", str(folder), "--safetensors", str(file), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {"file": str(file), "bytes": file.stat().st_size, "largest_difference": None}
    assert encoders.load(file).fingerprint == encoders.load(folder).fingerprint
    assert cli.main(["export", str(file), "--safetensors", str(tmp_path / "again.safetensors")]) == 0
    assert (tmp_path / "again.safetensors").read_bytes() == file.read_bytes()
    assert [one.name for one in file.parent.iterdir()] == ["m.safetensors"]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["glyph", "--safetensors", "it.bin"], "a name that ends in .safetensors is needed"),
        (["glyph", "--onnx", "it"], "a name that ends in .onnx is needed"),
        (["faces", "--onnx", "it.onnx"], "has files of its own"),
        (["absent", "--onnx", "it.onnx"], "no encoder is called 'absent'"),
        (["glyph", "--safetensors", "folder.safetensors"], "is a folder; a file is written"),
    ],
)
def test_what_cannot_be_exported(
    command: list[str], said: str, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.safetensors").mkdir()
    assert cli.main(["export", *command]) == 2
    assert said in capsys.readouterr().err
    assert [one.name for one in tmp_path.iterdir()] == ["folder.safetensors"]


def test_without_the_extra_the_pip_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(module: str, extra: str) -> Any:
        raise MissingExtraError(f"{module}: pip install 'siamese-gallery[{extra}]'")

    monkeypatch.setattr(export, "needed", absent)
    with pytest.raises(MissingExtraError, match=r"pip install 'siamese-gallery\[onnx\]'"):
        export.to_onnx(made.encoder(), tmp_path / "it.onnx")


def test_damaged_and_foreign_files(tmp_path: Path) -> None:
    file = tmp_path / "it.safetensors"
    with pytest.raises(CheckpointError, match="is not there"):
        encoders.load(file)
    export.to_safetensors(made.encoder(), file)
    whole = file.read_bytes()
    weights = {k: v.contiguous() for k, v in made.encoder().network.state_dict().items()}
    file.write_bytes(whole[:-9])
    with pytest.raises(CheckpointError, match="truncated or not a safetensors file"):
        encoders.load(file)
    for metadata, said in (
        (None, "without the record of an encoder"),
        ({"siamese-gallery": "{"}, "its record is no JSON"),
        ({"siamese-gallery": "{}"}, "no format number"),
        ({"siamese-gallery": json.dumps(made.encoder(dim=9).spec.to_json())}, "do not fit the tower"),
    ):
        save_file(weights, file, metadata=metadata)
        with pytest.raises(CheckpointError, match=said):
            encoders.load(file)
