"""A trained Siamese encoder: items in, embeddings out. It satisfies the gallery's encoder protocol."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from encoders import batches
from encoders import preprocess as preprocessing
from encoders.comparator import log_odds
from encoders.errors import EncoderError
from encoders.network import SiameseNetwork, best_device
from encoders.packages import versions
from encoders.spec import Spec, fingerprint, provenance

Array = NDArray[np.float32]


class SiameseEncoder:
    """One shared tower and head, always in eval mode.

    `dim` (int), `metric` ("cosine" or "euclidean"), `fingerprint` (changes whenever the same item could embed
    differently), `provenance` (a hash of each part, library versions: what a mismatch is explained by),
    `name`, `threshold` (recommended distance or None), `card` (Markdown), `suffixes` (of files that hold
    its items, None: pictures).
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
        self.suffixes: frozenset[str] | None = getattr(self.preprocess, "suffixes", None)
        weights = {k: v.detach().cpu().numpy() for k, v in network.state_dict().items()}
        self.fingerprint = fingerprint(spec, weights)
        self.provenance = provenance(spec, weights) | versions("torch", "numpy", "pillow")

    def encode(self, items: Iterable[Any]) -> Array:
        """Embeddings (n, dim) float32 of n items, of unit length under cosine; (0, dim) for none.

        Items are read one chunk at a time, so any iterable will do and memory is bounded by the result.
        Raises EncodeError with the index and the reason of the first item that cannot be embedded, and
        TypeError for a path, bytes or a picture that is not in a list.
        """
        listed = batches.listed(items, of_images=self.preprocess.of_images)
        return self.encode_prepared(batches.read_each(listed, self.preprocess))

    def encode_prepared(self, arrays: Iterable[Array]) -> Array:
        """Like `encode`, for arrays that already went through `preprocess`."""
        rows = [self._embed(chunk) for chunk in batches.chunks(iter(arrays))]
        return np.concatenate(rows) if rows else np.empty((0, self.dim), dtype=np.float32)

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

    def _embed(self, arrays: list[Array]) -> Array:
        batch = np.zeros((batches.CHUNK, *self.preprocess.shape), dtype=np.float32)
        batch[: len(arrays)] = arrays
        self.network.eval()  # whoever put it into train mode: batch norm must not look at the batch
        with torch.inference_mode(), batches.exact(self.device):
            embedded = self.network(torch.from_numpy(batch).to(self.device))
        result: Array = embedded[: len(arrays)].float().cpu().numpy()
        return result

    def __repr__(self) -> str:
        return (
            f"SiameseEncoder({self.name!r}, dim={self.dim}, metric={self.metric!r}, {self.fingerprint[:12]})"
        )
