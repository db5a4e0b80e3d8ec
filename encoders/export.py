"""An encoder as one file for other programs: ONNX, or safetensors with its record inside.

Neither holds code or a pickle. The ONNX file has the network with a free batch size, input `items`, output
`embeddings`; how items become arrays stays in the record, which goes into its metadata. The safetensors file
has every weight by its name and the record in its header.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from encoders import batches, checkpoint
from encoders.errors import CheckpointError, EncoderError, first_line
from encoders.network import SiameseNetwork
from encoders.packages import needed
from encoders.siamese import SiameseEncoder
from encoders.spec import RECORD_KEY, from_json
from encoders.text import PADDING, UNKNOWN

OPSET = 18
AGREE = 1e-5  # the largest difference between a number of ours and one of the exported model


def to_onnx(encoder: SiameseEncoder, file: str | os.PathLike[str]) -> float:
    """Writes the encoder as an ONNX model; gives the largest difference of its embeddings from ours.

    Every number is compared, on items made of noise (texts of random letters), before the file is put in
    place. EncoderError where the tower has no form in ONNX or the model computes something else; nothing is
    written then.
    """
    onnx, runtime = needed("onnx", "onnx"), needed("onnxruntime", "onnx")
    needed("onnxscript", "onnx")
    network = _plain(encoder)
    probe = _noise(encoder, 2 * batches.CHUNK + 3)
    made = _traced(network, torch.from_numpy(probe[:3]), encoder.spec.tower)
    made.metadata_props.append(onnx.StringStringEntryProto(key=RECORD_KEY, value=_record(encoder)))
    content = made.SerializeToString()
    apart = _difference(runtime, content, network, probe)
    if not apart <= AGREE:
        raise EncoderError(
            f"the exported {encoder.spec.tower} tower gives embeddings {apart:.2g} away from ours "
            f"(at most {AGREE:g} is right): nothing was written"
        )
    _placed(Path(file), lambda path: path.write_bytes(content))
    return apart


def to_safetensors(encoder: SiameseEncoder, file: str | os.PathLike[str]) -> None:
    """Writes the weights and the record as one file, which `encoders.load` reads."""
    weights = checkpoint.kept_weights(encoder.network)
    _placed(Path(file), lambda path: save_file(weights, path, metadata={RECORD_KEY: _record(encoder)}))


def from_safetensors(file: str | os.PathLike[str], device: str | None = None) -> SiameseEncoder:
    """The encoder in a file of `to_safetensors`. CheckpointError: what is missing or damaged."""
    path = Path(file)
    if not path.is_file():
        raise CheckpointError(f"{path} is not there, or is no file")
    try:
        with safe_open(path, framework="pt") as held:
            text = (held.metadata() or {}).get(RECORD_KEY)
            weights = {name: held.get_tensor(name) for name in held.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as exc:
        raise CheckpointError(f"{path} is truncated or not a safetensors file: {exc}") from exc
    if text is None:
        raise CheckpointError(
            f"{path} holds weights without the record of an encoder: it was not exported here"
        )
    try:
        spec = from_json(json.loads(text))
    except ValueError as exc:
        raise CheckpointError(f"{path}: its record is no JSON: {exc}") from exc
    return SiameseEncoder(spec, checkpoint.network_of(spec, weights), device=device)


def _record(encoder: SiameseEncoder) -> str:
    return json.dumps(encoder.spec.to_json(), ensure_ascii=True, allow_nan=False)


def _plain(encoder: SiameseEncoder) -> SiameseNetwork:
    """The network again, on the CPU and in the plain memory format: that of the encoder stays as it is."""
    weights = {k: v.detach().cpu().contiguous() for k, v in encoder.network.state_dict().items()}
    return checkpoint.network_of(encoder.spec, weights).eval()


def _noise(encoder: SiameseEncoder, count: int) -> Any:
    rng = np.random.default_rng(0)
    if encoder.preprocess.kind == "text":
        return _texts(encoder.preprocess, count, rng)
    return rng.random((count, *encoder.preprocess.shape), dtype=np.float32)


def _texts(preprocess: Any, count: int, rng: np.random.Generator) -> Any:
    """Rows of letter numbers of every length; numbers in [0, 1) would all be padding, and show nothing."""
    rows = rng.integers(preprocess.letters, size=(count, preprocess.longest))
    lengths = np.linspace(1, preprocess.longest, count).round()
    letters = np.where(rows == PADDING, UNKNOWN, rows)
    space = preprocess.number(" ")
    if space != PADDING:  # grams within words and over spaces weigh differently, so there are words
        letters[rng.random(rows.shape) < 1 / 6] = space
    return np.where(np.arange(preprocess.longest) < lengths[:, None], letters, PADDING).astype(np.float32)


def _traced(network: SiameseNetwork, sample: Any, tower: str) -> Any:
    batch = torch.export.Dim("batch", min=1, max=4096)
    try:
        with warnings.catch_warnings(), _without_remarks(), torch.inference_mode():
            warnings.simplefilter("ignore")  # about the exporter's own parts
            program = torch.onnx.export(
                network, (sample,), input_names=["items"], output_names=["embeddings"], opset_version=OPSET,
                dynamic_shapes=({0: batch},), dynamo=True, verbose=False,
            )  # fmt: skip
    except Exception as exc:  # the exporter's errors have no common root of their own
        said = first_line(exc)
        raise EncoderError(
            f"a {tower} tower has no form in ONNX ({said}): --safetensors keeps every encoder"
        ) from exc
    assert program is not None
    return program.model_proto


@contextmanager
def _without_remarks() -> Iterator[None]:
    """No log lines about torchvision, which is not needed."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _difference(runtime: Any, content: bytes, network: SiameseNetwork, probe: Any) -> float:
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    with torch.inference_mode():
        ours = network(torch.from_numpy(probe)).numpy()
    try:
        session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        theirs = session.run(["embeddings"], {"items": probe})[0]
    except Exception as exc:  # those of onnxruntime have no common root of their own
        said = first_line(exc)
        raise EncoderError(
            f"the exported model does not run ({said}): nothing was written; "
            "--safetensors keeps every encoder"
        ) from exc
    return float(np.abs(theirs - ours).max())


def _placed(path: Path, write: Callable[[Path], Any]) -> None:
    """Writes under a temporary name beside it, and renames: a file that is there is a whole one."""
    if path.is_dir():
        raise EncoderError(f"{path} is a folder; a file is written")
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    fresh = Path(name)
    try:
        write(fresh)
        with fresh.open("rb") as held:
            os.fsync(held.fileno())
        fresh.chmod(0o644)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
