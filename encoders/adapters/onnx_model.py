"""ONNX models, run by onnxruntime."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from encoders import batches
from encoders.adapters.base import Adapter, Array, hash_of_files
from encoders.adapters.prepared import Prepared, Transform, prepared
from encoders.errors import EncoderError, first_line
from encoders.packages import needed, versions
from encoders.spec import RECORD_KEY, Spec, from_json, hash_of

REVISION = "onnx/1"
_LOCATION = re.compile(rb"\n\x08location\x12([\x01-\x7f])", re.DOTALL)
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}


class OnnxEncoder(Adapter):
    """Items -> transform -> ONNX model -> (n, dim). `spec`: the record of an exported encoder, or None."""

    def __init__(
        self, path: Path, transform: Prepared, session: Any, output: str, *, name: str, metric: str,
        threshold: float | None, spec: Spec | None = None,
    ) -> None:  # fmt: skip
        self.session, self.transform, self.output, self.spec = session, transform, output, spec
        self.of_images = transform.of_images  # type: ignore[misc]
        self._input = _only_input(session, path)
        fixed = self._input.shape[0]
        self.chunk = fixed if isinstance(fixed, int) else batches.CHUNK
        _check_shape(self._input, transform, path)
        probe = self._run(np.zeros((self.chunk, *transform.shape), np.float32))
        super().__init__(name, dim=probe.shape[1], metric=metric, threshold=threshold)
        shown = {"transform": transform.described, "shape": list(transform.shape), "output": output}
        parts = {"weights": hash_of_files(*_files(path)), "preprocessing": hash_of(shown)}
        self.identify(REVISION, parts, versions("onnxruntime", "numpy", "pillow"))

    def _read(self, item: Any) -> Array:
        return self.transform(item)

    def _embed(self, chunk: list[Array]) -> Array:
        batch = np.zeros((self.chunk, *self.transform.shape), np.float32)
        batch[: len(chunk)] = chunk
        return self._run(batch)[: len(chunk)]

    def _run(self, batch: Array) -> Array:
        fed = {self._input.name: batch.astype(_TYPES[self._input.type])}
        try:
            (found,) = self.session.run([self.output], fed)
        except Exception as exc:  # onnxruntime's errors have no common root of their own
            raise EncoderError(
                f"the ONNX model failed on a batch of shape {batch.shape}: {first_line(exc)}"
            ) from exc
        rows = np.asarray(found)
        if rows.ndim != 2 or len(rows) != len(batch):
            raise EncoderError(
                f"output {self.output!r} has shape {rows.shape} for a batch of {len(batch)}: pooled "
                f"embeddings ({len(batch)}, dim) are needed; outputs: {', '.join(_outputs(self.session))}"
            )
        return rows.astype(np.float32)


def adapt(
    name: str,
    device: str | None = None,
    *,
    preprocess: Transform | dict[str, Any] | None = None,
    output: str | None = None,
    metric: str | None = None,
    shape: tuple[int, ...] | None = None,
    of_images: bool = True,
    revision: str | None = None,
    threshold: float | None = None,
) -> OnnxEncoder:
    """`encoders.load("model.onnx", preprocess=..., output=..., metric=...)`.

    A file of `encoders export` knows the rest itself. For any other, `preprocess` is needed: settings or a
    callable, with `shape`, `of_images` and `revision` as in `encoders.from_module`. `output` is the name of
    the output with the embeddings (default: the first), `metric` "cosine" unless said otherwise. A file
    model.onnx.json beside the model may hold preprocess (settings), output, metric and threshold instead.
    """
    runtime = needed("onnxruntime", "onnx")
    path = Path(name)
    session = _session(runtime, path, device)
    spec = _record(session, path)
    said = _beside(path)
    preprocess, output = preprocess or said.get("preprocess"), output or said.get("output")
    metric = metric or said.get("metric")
    threshold = said.get("threshold") if threshold is None else threshold
    if output is not None and output not in _outputs(session):
        raise EncoderError(f"{path} has no output {output!r}; it has {', '.join(_outputs(session))}")
    chosen = output or _outputs(session)[0]
    if spec is not None and preprocess is None:
        return OnnxEncoder(
            path, prepared(spec.preprocess, None, True, None), session, chosen, spec=spec, name=spec.name,
            metric=metric or spec.metric, threshold=spec.threshold if threshold is None else threshold,
        )  # fmt: skip
    if preprocess is None:
        raise EncoderError(
            f"{path} does not say how its items are prepared; its input is "
            f"{_shown(_only_input(session, path))}: "
            f'pass preprocess={{"kind": "rgb", "size": 224}} or a callable, or write it into {path.name}.json'
        )
    ready = prepared(preprocess, shape, of_images, revision)
    return OnnxEncoder(
        path, ready, session, chosen, name=path.stem, metric=metric or "cosine", threshold=threshold
    )


def inside(path: Path) -> tuple[Spec | None, dict[str, list[str]]]:
    """The record of an exported encoder, None of any other model, and what the model takes and gives."""
    session = _session(needed("onnxruntime", "onnx"), path, "cpu")
    entries = {"inputs": session.get_inputs(), "outputs": session.get_outputs()}
    return _record(session, path), {name: [_shown(one) for one in found] for name, found in entries.items()}


def _session(runtime: Any, path: Path, device: str | None) -> Any:
    if not path.is_file():
        raise EncoderError(f"{path} is not there, or is no file")
    wanted = {None: "CPUExecutionProvider", "cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
    if wanted.get(device) not in runtime.get_available_providers():
        there = ", ".join(runtime.get_available_providers())
        raise EncoderError(f"device {device!r} cannot be used by this onnxruntime, which has {there}")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    try:
        return runtime.InferenceSession(str(path), options, providers=[wanted[device]])
    except Exception as exc:  # onnxruntime's errors have no common root of their own
        raise EncoderError(f"{path} is no ONNX model that onnxruntime opens: {first_line(exc)}") from exc


def _record(session: Any, path: Path) -> Spec | None:
    text = session.get_modelmeta().custom_metadata_map.get(RECORD_KEY)
    if text is None:
        return None
    try:
        return from_json(json.loads(text))
    except (ValueError, RecursionError) as exc:
        raise EncoderError(f"{path}: its record of the encoder is damaged: {exc}") from exc


def _only_input(session: Any, path: Path) -> Any:
    found: Sequence[Any] = session.get_inputs()
    if len(found) != 1 or found[0].type not in _TYPES or not found[0].shape:
        raise EncoderError(
            f"{path} has the inputs {', '.join(map(_shown, found))}: "
            "one of floats, a batch of items, is needed"
        )
    return found[0]


def _check_shape(entry: Any, transform: Prepared, path: Path) -> None:
    """EncoderError where the arrays of the transform do not fit the fixed sides of the input."""
    sides = entry.shape[1:]
    fits = len(sides) == len(transform.shape) and all(
        not isinstance(side, int) or side == ours for side, ours in zip(sides, transform.shape, strict=False)
    )
    if not fits:
        raise EncoderError(f"{path} takes {_shown(entry)}, and the items are prepared as {transform.shape}")


def _beside(path: Path) -> dict[str, Any]:
    """What model.onnx.json says; nothing where it is not there."""
    file = path.with_name(path.name + ".json")
    if not file.exists():
        return {}
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as exc:
        raise EncoderError(f"{file} cannot be read as JSON: {exc}") from exc
    kinds = {"preprocess": dict, "output": str, "metric": str, "threshold": int | float}
    wrong = [
        key for key, value in said.items() if key not in kinds or not isinstance(value, kinds[key])
    ] if isinstance(said, dict) else ["no object"]  # fmt: skip
    if wrong:
        raise EncoderError(
            f"{file}: {', '.join(wrong)}; it holds preprocess (an object), output and metric (text) and "
            "threshold (a number), each if it is needed"
        )
    return dict(said)


def _files(path: Path) -> list[Path]:
    """The model and the files beside it that it names: large models keep their weights in such files."""
    named = {content.decode("utf-8", "replace") for content in _locations(path.read_bytes())}
    beside = (path.parent / name for name in sorted(named))
    return [path, *(one for one in beside if one.is_file())]


def _locations(content: bytes) -> list[bytes]:
    """The entries ("location", file) of a model, as protobuf writes them: key, length (below 128), name."""
    return [content[one.end() : one.end() + one.group(1)[0]] for one in _LOCATION.finditer(content)]


def _outputs(session: Any) -> list[str]:
    return [one.name for one in session.get_outputs()]


def _shown(entry: Any) -> str:
    return f"{entry.name} {tuple(entry.shape)} of {entry.type}"
