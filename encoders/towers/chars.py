"""A tower for short texts, such as names: convolutions over learnt letters, and bags of letter n-grams."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.errors import EncoderError

PADDING = 0


class CharsTower(nn.Module):
    """Letter numbers (n, longest), 0 being padding -> (n, 2 * width + bag), whatever the padding.

    Two parts: convolutions over embedded letters, whose mean and largest value are kept; and a bag, in which
    every run of 2 to `grams` letters, word ends included, is hashed to a row of a table (Bojanowski et al.,
    "Enriching word vectors with subword information", 2017); a row that was never trained is a random
    direction, by which texts that share rare runs still come near each other.
    """

    takes: ClassVar = ("text",)

    def __init__(
        self,
        shape: tuple[int, ...],
        letters: int = 128,
        width: int = 96,
        kernels: Sequence[int] = (3, 3),
        bag: int = 192,
        buckets: int = 16_384,
        grams: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if len(shape) != 1:
            raise EncoderError(f"a tower for texts takes items of shape (longest,), not {shape}")
        self.letters, self.buckets, self.grams = letters, buckets, grams
        self.embed = nn.Embedding(letters, width, padding_idx=PADDING)
        self.convs = nn.ModuleList(nn.Conv1d(width, width, k, padding=k // 2, bias=False) for k in kernels)
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for _ in kernels)
        self.table = nn.Embedding(buckets + 1, bag, padding_idx=buckets)
        self.weigh = nn.Embedding(buckets + 1, 1, padding_idx=buckets)
        nn.init.zeros_(self.weigh.weight)
        self.dropout = nn.Dropout(dropout)
        self.features = 2 * width + bag

    @classmethod
    def fit(cls, preprocess: Any) -> dict[str, Any]:
        """The number of letters is that of the preprocessing."""
        return {"letters": preprocess.letters}

    def forward(self, batch: Tensor) -> Tensor:
        numbers = batch.long().clamp(0, self.letters - 1)
        return torch.cat([self._read(numbers), self._bag(numbers)], dim=1)

    def _read(self, numbers: Tensor) -> Tensor:
        mask = (numbers != PADDING)[:, None, :]
        maps = self.embed(numbers).transpose(1, 2)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            maps = (maps + F.relu(norm(conv(maps)))) * mask  # padding stays 0 for the next one
        mean = maps.sum(dim=2) / mask.sum(dim=2).clamp_min(1)
        most = maps.masked_fill(~mask, -torch.inf).amax(dim=2).clamp_min(-1e4)
        read: Tensor = self.dropout(torch.cat([mean, most], dim=1))
        return read

    def _bag(self, numbers: Tensor) -> Tensor:
        rows = hashed_grams(numbers, self.grams, self.buckets)
        held = (rows != self.buckets)[:, :, None]
        weights = torch.exp(self.weigh(rows)) * held
        if self.training:
            weights = self.dropout(weights)
        summed = (self.table(rows) * weights).sum(dim=1)
        scaled: Tensor = F.normalize(summed, dim=1) * summed.shape[1] ** 0.5
        return scaled


def hashed_grams(numbers: Tensor, longest: int, buckets: int) -> Tensor:
    """The table rows of all runs of 2 to `longest` letters; `buckets` where a run would reach into padding.

    A 0 before and after the text takes part, as the mark of its ends: (n, places), places fixed by the shape.
    """
    ended = F.pad(numbers, (1, 1))
    lengths = (numbers != PADDING).sum(dim=1, keepdim=True) + 2
    places = torch.arange(ended.shape[1], device=numbers.device)[None, :]
    rows, code = [], torch.zeros_like(ended)
    for size in range(1, longest + 1):
        # The letter that lies size - 1 further on; a multiplicative hash in 31 bits.
        code = (code * 1_000_003 + F.pad(ended, (0, size - 1))[:, size - 1 :] + size) & 0x7FFF_FFFF
        if size > 1:
            rows.append(
                torch.where(places + size <= lengths, code * 2_654_435_761 % 2**32 % buckets, buckets)
            )
    return torch.cat(rows, dim=1)


TOWER = CharsTower
