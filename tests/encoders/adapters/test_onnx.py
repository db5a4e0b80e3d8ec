"""ONNX models, made with onnx's own helpers and compared with plain numpy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import encoders
from encoders import cli, export
from encoders.errors import EncoderError
from encoders.packages import versions
from tests.encoders import made as made_encoder
from tests.encoders.adapters.pictures import PicturesContract, pictures

if len(versions("onnx", "onnxruntime")) < 2:
    pytest.skip("the extra [onnx] is not installed", allow_module_level=True)

import onnx
from onnx import TensorProto, helper, numpy_helper

RGB = {"kind": "rgb", "size": 6}
WEIGHT = np.random.default_rng(0).standard_normal((108, 5)).astype(np.float32)


def model(
    path: Path, *, batch: Any = "n", weight: np.ndarray = WEIGHT, external: str | None = None,
    kind: int = TensorProto.FLOAT, inputs: int = 1,
) -> Path:  # fmt: skip
    """Pictures (batch, 3, 6, 6) -> flat -> matrix: the outputs are `rows` (n, 5), `flat`, `whole`."""
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    held = numpy_helper.from_array(weight.astype(dtype), "weight")
    nodes = [
        helper.make_node("Flatten", ["x0"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["rows"]),
        helper.make_node("Identity", ["x0"], ["whole"]),
    ]
    takes = [helper.make_tensor_value_info(f"x{at}", kind, [batch, 3, 6, 6]) for at in range(inputs)]
    gives = [helper.make_tensor_value_info(name, kind, None) for name in ("rows", "flat", "whole")]
    graph = helper.make_graph(nodes, "graph", takes, gives, [held])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    if external:
        onnx.save(made, path, save_as_external_data=True, location=external, size_threshold=0)
    else:
        onnx.save(made, path)
    return path


class OnnxContract(PicturesContract):
    dim, metric = 5, "cosine"
    batch: Any = "n"
    path: Path

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def file(cls, tmp_path_factory: pytest.TempPathFactory) -> None:
        cls.path = model(tmp_path_factory.mktemp("onnx") / "model.onnx", batch=cls.batch)

    @classmethod
    def make(cls) -> Any:
        return encoders.load(cls.path, preprocess=RGB)

    def test_plain_numbers(self, items: list[Any], embedded: np.ndarray) -> None:
        from encoders.preprocess import build

        rows = np.stack([build(RGB)(item).ravel().astype(np.float64) @ WEIGHT for item in items])
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        assert np.abs(rows - embedded).max() < 1e-5


class TestAnyBatch(OnnxContract):
    pass


class TestOneAtATime(OnnxContract):
    batch = 1


class TestMoreThanAreThere(OnnxContract):
    batch = 64


def test_a_callable_and_another_output(tmp_path: Path) -> None:
    path = model(tmp_path / "m.onnx")
    found = encoders.load(
        path, preprocess=lambda item: item, shape=(3, 6, 6), of_images=False, revision="1", output="flat",
        metric="euclidean",
    )  # fmt: skip
    item = np.random.default_rng(1).standard_normal((3, 6, 6)).astype(np.float32)
    assert np.array_equal(found.encode([item]), item.reshape(1, 108))


def test_half_and_double_precision_models(tmp_path: Path) -> None:
    items = pictures(3)
    single = encoders.load(model(tmp_path / "s.onnx"), preprocess=RGB).encode(items)
    for kind, within in ((TensorProto.FLOAT16, 5e-3), (TensorProto.DOUBLE, 1e-5)):
        other = encoders.load(model(tmp_path / "o.onnx", kind=kind), preprocess=RGB).encode(items)
        assert other.dtype == np.float32 and np.abs(other - single).max() < within


def test_what_changes_the_fingerprint(tmp_path: Path) -> None:
    path = model(tmp_path / "m.onnx")
    first = encoders.load(path, preprocess=RGB)
    others = [
        encoders.load(path, preprocess=RGB | {"mean": [0.5, 0.5, 0.5]}),
        encoders.load(path, preprocess=RGB, output="flat"),
        encoders.load(path, preprocess=RGB, metric="euclidean"),
        encoders.load(model(tmp_path / "n.onnx", weight=WEIGHT * 1.001), preprocess=RGB),
    ]
    assert len({one.fingerprint for one in (first, *others)}) == 5
    assert encoders.load(path, preprocess=RGB, threshold=0.1).fingerprint == first.fingerprint


def test_weights_in_a_file_beside_the_model_are_in_the_fingerprint(tmp_path: Path) -> None:
    path = model(tmp_path / "m.onnx", external="w.bin")
    (tmp_path / "n").write_bytes(b"a file whose name is in every model, and which none names")
    first = encoders.load(path, preprocess=RGB).fingerprint
    (tmp_path / "n").write_bytes(b"changed")
    assert encoders.load(path, preprocess=RGB).fingerprint == first
    held = bytearray((tmp_path / "w.bin").read_bytes())
    held[2] ^= 1
    (tmp_path / "w.bin").write_bytes(held)
    assert encoders.load(path, preprocess=RGB).fingerprint != first


def test_settings_in_a_file_beside_the_model(tmp_path: Path) -> None:
    """So that the command line can load it too."""
    path = model(tmp_path / "m.onnx")
    said = {"preprocess": RGB, "output": "flat", "metric": "euclidean", "threshold": 2}
    beside = tmp_path / "m.onnx.json"
    beside.write_text(json.dumps(said))
    found = encoders.load(path)
    assert (found.dim, found.metric, found.threshold) == (108, "euclidean", 2)
    assert encoders.load(path, output="rows", metric="cosine", threshold=0.5).threshold == 0.5
    for wrong in ({"preprocess": 3}, {"size": 6}, [1]):
        beside.write_text(json.dumps(wrong))
        with pytest.raises(EncoderError, match=r"m.onnx.json: .*it holds preprocess \(an object\)"):
            encoders.load(path)
    for damaged in ("{", "[" * 100_000):
        beside.write_text(damaged)
        with pytest.raises(EncoderError, match="cannot be read as JSON"):
            encoders.load(path)
    beside.write_text(json.dumps(said | {"threshold": float("nan")}))
    with pytest.raises(EncoderError, match="threshold nan is no distance"):
        encoders.load(path)


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    from gallery import cli

    path, place = model(tmp_path / "m.onnx"), str(tmp_path / "g")
    for at, item in enumerate(pictures(3)):
        (tmp_path / "people" / str(at)).mkdir(parents=True)
        Image.fromarray(item).save(tmp_path / "people" / str(at) / "1.png")
    command = ["enroll", place, str(tmp_path / "people"), "--encoder", str(path)]
    assert cli.main(command) == 2
    assert "does not say how its items are prepared" in capsys.readouterr().err
    (tmp_path / "m.onnx.json").write_text(json.dumps({"preprocess": RGB, "threshold": 0.001}))
    assert cli.main(command) == 0
    assert cli.main(["identify", place, str(tmp_path / "people" / "1" / "1.png")]) == 0
    assert "match" in capsys.readouterr().out
    (tmp_path / "m.onnx.json").write_text(json.dumps({"preprocess": RGB | {"std": [1, 1, 1]}}))
    assert cli.main(["identify", place, str(tmp_path / "people" / "1" / "1.png")]) == 2
    assert "preprocessing" in capsys.readouterr().err


def test_models_that_cannot_be_encoders(tmp_path: Path) -> None:
    path = model(tmp_path / "m.onnx")
    (tmp_path / "no.onnx").write_bytes(b"no model")
    for name, settings, said in (
        ("absent.onnx", {}, "is not there, or is no file"),
        ("no.onnx", {}, "is no ONNX model that onnxruntime opens"),
        ("m.onnx", {}, r"does not say how its items are prepared; its input is x0 \('n', 3, 6, 6\)"),
        ("m.onnx", {"output": "none"}, "has no output 'none'; it has rows, flat, whole"),
        ("m.onnx", {"output": "whole"}, r"output 'whole' has shape \(16, 3, 6, 6\) .* outputs: rows, flat"),
        ("m.onnx", {"preprocess": {"kind": "rgb", "size": 7}}, r"items are prepared as \(3, 7, 7\)"),
        ("m.onnx", {"device": "tpu"}, "device 'tpu' cannot be used by this onnxruntime, which has .*CPU"),
        ("two.onnx", {}, r"has the inputs x0 \(.*, x1 \(.*one of floats"),
        ("whole.onnx", {}, r"has the inputs x0 .*int64"),
    ):
        model(tmp_path / "two.onnx", inputs=2)
        model(tmp_path / "whole.onnx", kind=TensorProto.INT64)
        given = {"preprocess": RGB} | settings if settings or name != "m.onnx" else {}
        with pytest.raises(EncoderError, match=said):
            encoders.load(path.with_name(name), **given)


def test_info_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours = made_encoder.encoder(threshold=0.25, threshold_fmr=0.01)
    export.to_onnx(ours, tmp_path / "made.onnx")
    assert cli.main(["info", str(tmp_path / "made.onnx")]) == 0
    printed = capsys.readouterr().out
    assert "8 numbers, cosine distance, recommended threshold 0.2500 (set for FMR 1%)" in printed
    assert cli.main(["info", str(tmp_path / "made.onnx"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tower_args"] == ours.spec.tower_args
    assert cli.main(["info", str(model(tmp_path / "other.onnx"))]) == 0
    assert "inputs: x0 ('n', 3, 6, 6) of tensor(float)\noutputs: rows" in capsys.readouterr().out
    assert cli.main(["info", str(tmp_path / "none.onnx")]) == 2
    assert "none.onnx is not there" in capsys.readouterr().err
    assert cli.main(["info", "FILE.onnx"]) == 0
    assert "ONNX models" in capsys.readouterr().out
