"""The shared tower and its head: one module, used for both items of every pair."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoders import preprocess as preprocessing
from encoders import towers
from encoders.comparator import Comparator
from encoders.errors import EncoderError, first_line
from encoders.spec import Spec


class SiameseNetwork(nn.Module):
    """Tower, then a linear head with batch norm: (n, *shape) -> (n, dim), of unit length under cosine.

    A tower that says it is `bare` has no head: its features are the embedding.
    `comparator` is the learnt comparison of two embeddings, None where the encoder has none.
    """

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        shape = preprocessing.build(spec.preprocess).shape
        self.tower = towers.build(spec.tower, shape, **spec.tower_args)
        bare = getattr(self.tower, "bare", False)
        if bare and self.tower.features != spec.dim:
            raise EncoderError(
                f"the features of tower {spec.tower} are the embedding as it is: dim must be "
                f"{self.tower.features}, not {spec.dim}"
            )
        self.head = nn.Identity() if bare else nn.Linear(self.tower.features, spec.dim, bias=False)
        self.norm = nn.Identity() if bare else nn.BatchNorm1d(spec.dim)
        self.comparator = Comparator(spec.dim) if spec.comparator else None
        self._unit = spec.metric == "cosine"

    def forward(self, batch: Tensor) -> Tensor:
        embeddings: Tensor = self.norm(self.head(self.tower(batch)))
        return F.normalize(embeddings, dim=1) if self._unit else embeddings


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
