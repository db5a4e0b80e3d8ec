"""A trained Siamese encoder: items in, embeddings out. It satisfies the gallery's encoder protocol."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any, TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray

from encoders import preprocess as preprocessing
from encoders.comparator import log_odds
from encoders.errors import EncodeError, EncoderError
from encoders.network import SiameseNetwork, best_device
from encoders.packages import versions
from encoders.spec import Spec, fingerprint, provenance

Array = NDArray[np.float32]

# Every forward pass has exactly this many rows, the last one padded with zeros: one shape means one kernel,
# so an item embeds to the same bits whatever it is encoded with (asserted by tests/encoders/test_siamese.py).
CHUNK = 16


class SiameseEncoder:
    """One shared tower and head, always in eval mode.

    `dim` (int), `metric` ("cosine" or "euclidean"), `fingerprint` (changes whenever the same item could embed
    differently), `provenance` (a hash of each part, library versions: what a mismatch is explained by),
    `name`, `threshold` (recommended distance or None), `card` (Markdown).
    """

    def __init__(
        self, spec: Spec, network: SiameseNetwork, card: str = "", device: str | None = None
    ) -> None:
        self.spec, self.card = spec, card
        self.name, self.dim, self.metric, self.threshold = spec.name, spec.dim, spec.metric, spec.threshold
        self.device = best_device(device)
        self.network = network.eval().to(self.device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.preprocess = preprocessing.build(spec.preprocess)
        weights = {k: v.detach().cpu().numpy() for k, v in network.state_dict().items()}
        self.fingerprint = fingerprint(spec, weights)
        self.provenance = provenance(spec, weights) | versions("torch", "numpy", "pillow")

    def encode(self, items: Iterable[Any]) -> Array:
        """Embeddings (n, dim) float32 of n items, of unit length under cosine; (0, dim) for none.

        Items are read one chunk at a time, so any iterable will do and memory is bounded by the result.
        Raises EncodeError with the index and the reason of the first item that cannot be embedded, and
        TypeError for a path, bytes or a picture that is not in a list.
        """
        if isinstance(items, str | bytes | os.PathLike) or not isinstance(items, Iterable):
            raise TypeError(f"encode takes a list of items, not one {type(items).__name__}: encode([item])")
        if self.preprocess.of_images and _one_picture(items):
            raise TypeError(f"this is one image array of shape {items.shape}: wrap it in a list")
        chunks = [self._embed(chunk) for chunk in _chunks(self._prepared(items))]
        return np.concatenate(chunks) if chunks else np.empty((0, self.dim), dtype=np.float32)

    def encode_prepared(self, arrays: Iterable[Array]) -> Array:
        """Like `encode`, for arrays that already went through `preprocess`."""
        chunks = [self._embed(chunk) for chunk in _chunks(iter(arrays))]
        return np.concatenate(chunks) if chunks else np.empty((0, self.dim), dtype=np.float32)

    def compare(self, left: Array, right: Array) -> Array:
        """The learnt distance of every row of `left` (n, dim) to every row of `right`; (n, m) in [0, 1].

        1 - the probability that both are of one subject, by the comparator that pairwise training (loss
        "bce") leaves behind; for scoring the finalists of a search again. Smaller is nearer.
        EncoderError where the encoder has none.
        """
        learnt = self.network.comparator
        if learnt is None:
            raise EncoderError(f"{self.name} has no learnt comparator: one is trained with the loss bce")
        rows, columns = (torch.tensor(np.asarray(part), dtype=torch.float32) for part in (left, right))
        weight, bias = learnt.weight.detach().cpu(), learnt.bias.detach().cpu()
        apart = [torch.sigmoid(-log_odds(row, columns, weight, bias)) for row in rows]  # bounded memory
        return torch.stack(apart).numpy() if apart else np.empty((0, len(columns)), dtype=np.float32)

    def _prepared(self, items: Iterable[Any]) -> Iterator[Array]:
        for index, item in enumerate(items):
            try:
                yield self.preprocess(item)
            except (ValueError, TypeError) as exc:
                raise EncodeError(index, str(exc)) from exc

    def _embed(self, arrays: list[Array]) -> Array:
        batch = np.zeros((CHUNK, *self.preprocess.shape), dtype=np.float32)
        batch[: len(arrays)] = arrays
        self.network.eval()  # whoever put it into train mode: batch norm must not look at the batch
        with torch.inference_mode(), _exact(self.device):
            embedded = self.network(torch.from_numpy(batch).to(self.device))
        result: Array = embedded[: len(arrays)].float().cpu().numpy()
        return result

    def __repr__(self) -> str:
        return (
            f"SiameseEncoder({self.name!r}, dim={self.dim}, metric={self.metric!r}, {self.fingerprint[:12]})"
        )


def _one_picture(items: Any) -> TypeGuard[NDArray[Any]]:
    """Whether `items` is one array (H, W) or (H, W, 1 | 3 | 4), and no stack (n, H, W) or (n, H, W, c)."""
    if not isinstance(items, np.ndarray) or items.dtype == object:
        return False
    return items.ndim == 2 or (items.ndim == 3 and items.shape[2] in (1, 3, 4))


def _exact(device: torch.device) -> AbstractContextManager[None]:
    """On CUDA: no TF32 and no kernel chosen by timing, so that the same item embeds the same each time."""
    if device.type != "cuda":
        return nullcontext()
    flags: AbstractContextManager[None] = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
    return flags


def _chunks(arrays: Iterator[Array]) -> Iterator[list[Array]]:
    while chunk := list(islice(arrays, CHUNK)):
        yield chunk
