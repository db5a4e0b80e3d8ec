"""Inference in fewer bits: speed and drift of distances. `python -m benchmarks.precision`.

The encoders that ship, on real items prepared once: the digits of scikit-learn for "glyph", photographs for
"photo". Forms: torch and ONNX in float32, torch in bfloat16, ONNX in int8 (static: ranges from 64 other
items, weights by channel; dynamic: ranges as they come). One thread each; CPU seconds an item, the least of
nine rounds in turn, so that a busy machine disturbs little. Drift: the change of the distances of all pairs
against torch in float32; flips: pairs that change sides at the threshold the encoder recommends.
"""

from __future__ import annotations

import copy
import io
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import encoders
from benchmarks import data_sets, report
from encoders import evaluation, export
from encoders.batches import CHUNK
from encoders.evaluation import Floats

ITEMS, CALIBRATION, ROUNDS = 400, 64, 9
Embed = Callable[[Floats], Floats]


def digits() -> tuple[list[Any], np.ndarray | None]:
    """The digits of scikit-learn, light on dark, 8 x 8."""
    from sklearn.datasets import load_digits

    held = load_digits()
    count = ITEMS + CALIBRATION
    return list((held.images[:count] * (255 / 16)).astype(np.uint8)), held.target[:count]


def photographs() -> tuple[list[Any], np.ndarray | None]:
    """One photograph of each of so many ImageNet classes."""
    with zipfile.ZipFile(data_sets.folder("photos") / "imagenet_sample_320.zip") as held:
        names = sorted(name for name in held.namelist() if name.lower().endswith((".jpg", ".jpeg", ".png")))
        return [io.BytesIO(held.read(name)).getvalue() for name in names[: ITEMS + CALIBRATION]], None


def forms(encoder: Any, calibration: Floats, folder: Path) -> dict[str, Embed]:
    """Each form as a function of one chunk of prepared items."""
    plain = encoder.network.eval()
    small = copy.deepcopy(plain).to(torch.bfloat16)
    file = folder / "float32.onnx"
    export.to_onnx(encoder, file)
    return {
        "torch float32": lambda chunk: _torch(plain, chunk, torch.float32),
        "torch bfloat16": lambda chunk: _torch(small, chunk, torch.bfloat16),
        "ONNX float32": _session(file),
        "ONNX int8, static": _session(_static(file, calibration, folder / "static.onnx")),
        "ONNX int8, dynamic": _session(_dynamic(file, folder / "dynamic.onnx")),
    }


def _torch(network: Any, chunk: Floats, kind: torch.dtype) -> Floats:
    with torch.inference_mode():
        rows: Floats = network(torch.from_numpy(chunk).to(kind)).float().numpy()
    return rows


def _session(file: Path) -> Embed:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda chunk: session.run(["embeddings"], {"items": chunk})[0]  # type: ignore[no-any-return]


def _static(file: Path, calibration: Floats, target: Path) -> Path:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            starts = range(0, len(calibration), CHUNK)
            self.chunks = iter([{"items": calibration[at : at + CHUNK]} for at in starts])

        def get_next(self) -> Any:
            return next(self.chunks, None)

    ready = target.with_suffix(".ready.onnx")
    quant_pre_process(str(file), str(ready), skip_symbolic_shape=True)
    quantize_static(
        str(ready), str(target), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        op_types_to_quantize=["Conv", "MatMul", "Gemm"],
    )  # fmt: skip
    return target


def _dynamic(file: Path, target: Path) -> Path:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(str(file), str(target), weight_type=QuantType.QUInt8)
    return target


def chunked(items: Floats) -> Iterator[Floats]:
    """Chunks of the one size that encoders use, the last one padded with zeros."""
    for at in range(0, len(items), CHUNK):
        chunk = np.zeros((CHUNK, *items.shape[1:]), np.float32)
        chunk[: len(items[at : at + CHUNK])] = items[at : at + CHUNK]
        yield chunk


def timed(every: dict[str, Embed], items: Floats) -> tuple[dict[str, Floats], dict[str, float]]:
    """({form: embeddings}, {form: CPU seconds an item}), the forms in turn."""
    rows: dict[str, Floats] = {}
    least = dict.fromkeys(every, np.inf)
    for _ in range(ROUNDS):
        for name, embed in every.items():
            begun = time.process_time()
            found = np.concatenate([embed(chunk) for chunk in chunked(items)])[: len(items)]
            least[name] = min(least[name], (time.process_time() - begun) / len(items))
            rows[name] = found
    return rows, least


def drift(rows: Floats, exact: Floats, labels: np.ndarray | None, encoder: Any) -> dict[str, Any]:
    """How the distances of all pairs change; EER where the items have labels."""
    left, right = np.triu_indices(len(rows), 1)
    ours, theirs = (evaluation.distances(one, one, encoder.metric)[left, right] for one in (rows, exact))
    change = np.abs(ours - theirs)
    flipped = (ours <= encoder.threshold) != (theirs <= encoder.threshold)
    found = {"mean": float(change.mean()), "largest": float(change.max())}
    found |= {"flips": int(flipped.sum()), "pairs": len(left)}
    if labels is not None:
        same = labels[left] == labels[right]
        found["eer"] = float(evaluation.eer(ours[same], ours[~same])[0])
    return found


def measured(name: str, items: list[Any], labels: np.ndarray | None) -> dict[str, Any]:
    """The table of one encoder."""
    encoder = encoders.load(name, device="cpu")
    arrays = np.stack([encoder.preprocess(item) for item in items])
    held = None if labels is None else labels[CALIBRATION:]
    with tempfile.TemporaryDirectory() as folder:
        every = forms(encoder, arrays[:CALIBRATION], Path(folder))
        rows, seconds = timed(every, arrays[CALIBRATION:])
        sizes = {
            "float32": (Path(folder) / "float32.onnx").stat().st_size,
            "int8": (Path(folder) / "static.onnx").stat().st_size,
        }
    exact = rows["torch float32"]
    table = {
        form: {"items_a_second": 1 / seconds[form], **drift(rows[form], exact, held, encoder)}
        for form in rows
    }
    return {
        "items": len(arrays) - CALIBRATION,
        "threshold": encoder.threshold,
        "bytes": sizes,
        "forms": table,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the tables and writes benchmarks/results/precision.json."""
    torch.set_num_threads(1)
    found = {"glyph": measured("glyph", *digits()), "photo": measured("photo", *photographs())}
    for name, one in found.items():
        print(f"{name}: {one['items']} items, threshold {one['threshold']:.3f}, bytes {one['bytes']}")
        for form, row in one["forms"].items():
            eer = f"  EER {row['eer']:.2%}" if "eer" in row else ""
            print(
                f"  {form:20} {row['items_a_second']:8.0f} a second   drift {row['mean']:.5f}, at most "
                f"{row['largest']:.5f}   flips {row['flips']} of {row['pairs']:,}{eer}"
            )
    report.write("precision", found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
