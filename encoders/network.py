"""The shared tower and its head: one module, used for both items of every pair."""

from __future__ import annotations

import torch

from encoders import preprocess as preprocessing
from encoders.comparator import Comparator
from encoders.errors import EncoderError, first_line
from encoders.headed import Headed
from encoders.spec import Spec


class SiameseNetwork(Headed):
    """The tower and the head that a record describes: (n, *shape) -> (n, dim), of unit length under cosine.

    `comparator` is the learnt comparison of two embeddings, None where the encoder has none.
    """

    def __init__(self, spec: Spec) -> None:
        shape = preprocessing.build(spec.preprocess).shape
        super().__init__(shape, spec.tower, spec.tower_args, spec.dim, unit=spec.metric == "cosine")
        self.comparator = Comparator(spec.dim) if spec.comparator else None


def best_device(wanted: str | None = None) -> torch.device:
    """The device asked for, or CUDA, or Apple's MPS, or the CPU. EncoderError for one that is not there."""
    if wanted is not None:
        return _present(wanted)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _present(name: str) -> torch.device:
    try:
        device = torch.device(name)
        if device.type != "meta":  # a device of shapes without numbers
            torch.zeros(1, device=device).cpu()
            return device
        said = "it holds no numbers"
    except Exception as exc:  # each backend has its own way to say that it is absent
        said = first_line(exc, 120)
    raise EncoderError(f"device {name!r} cannot be used ({said}): cpu, cuda, mps, or leave it out")
