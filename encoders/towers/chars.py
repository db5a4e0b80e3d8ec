"""A tower for short texts, such as names: weighted bags of letter n-grams, and convolutions over letters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.errors import EncoderError

PADDING = 0
LONGEST_GRAM = 5
ENTRIES = 8  # places of the bag that a gram is written to
PLACES = 4 * 2 * 2 * 4 * 3  # kinds of place a gram can have, see `_grams`
CROSSING = -1.0  # log weight at the start of a gram that reaches over a space: it is in the words already


class CharsTower(nn.Module):
    """Letter numbers (n, longest), 0 being padding -> (n, bag + 2 * width), whatever the padding.

    The bag: every run of 2 to 4 letters within a word, ends included, and of 3 to 5 letters over one space,
    is written with random signs to 8 of `bag` places, so that the angle between two bags tells how many runs
    they share (Weinberger et al., ICML 2009). What a run weighs is learnt: by what it is, out of
    `buckets`, and by where it stands (which word, from the start and the end, before or after a comma). It
    starts with how rare the run is among the training items.
    The bag is the embedding itself. `width` > 0 adds convolutions over learnt letters, whose mean and largest
    value are kept, and a head.
    """

    takes: ClassVar = ("text",)

    def __init__(
        self,
        shape: tuple[int, ...],
        letters: int = 128,
        space: int = PADDING,
        comma: int = PADDING,
        bag: int = 512,
        buckets: int = 65_536,
        width: int = 0,
        kernels: Sequence[int] = (3, 3),
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if len(shape) != 1:
            raise EncoderError(f"a tower for texts takes items of shape (longest,), not {shape}")
        self.letters, self.space, self.comma, self.buckets, self.bag = letters, space, comma, buckets, bag
        self.rarity = nn.Parameter(torch.zeros(buckets + 1))
        place = torch.arange(PLACES + 1)
        self.place = nn.Parameter(torch.where((place // 24) % 2 == 1, CROSSING, 0.0))
        self.register_buffer("entries", _entries(buckets, bag), persistent=False)
        self.entries: Tensor
        self.dropout = nn.Dropout(dropout)
        self.read = _Reader(letters, width, kernels, dropout) if width else None
        self.features, self.bare = bag + 2 * width, not width

    @classmethod
    def fit(cls, preprocess: Any) -> dict[str, Any]:
        """How many letters there are and which of them are space and comma: the preprocessing says it."""
        numbers = {"space": preprocess.number(" "), "comma": preprocess.number(",")}
        return {"letters": preprocess.letters, **numbers}

    @torch.no_grad()
    def look_at(self, items: Tensor) -> None:
        """Starts with the weights of inverse document frequency among the training items (n, longest)."""
        seen = torch.zeros(self.buckets + 1)
        for part in torch.split(items, 512):
            rows = self._grams(self._numbers(part))[0]
            for row in rows:
                seen[row.unique()] += 1
        rare = torch.log((1 + len(items)) / (1 + seen)) + 1
        self.rarity.copy_(rare.log().to(self.rarity.device))

    def forward(self, batch: Tensor) -> Tensor:
        numbers = self._numbers(batch)
        parts = [self._bag(numbers)]
        if self.read is not None:
            parts.append(self.read(numbers))
        return torch.cat(parts, dim=1)

    def _numbers(self, batch: Tensor) -> Tensor:
        return batch.long().clamp(0, self.letters - 1)

    def _bag(self, numbers: Tensor) -> Tensor:
        rows, places = self._grams(numbers)
        weights = torch.exp(self.rarity[rows] + self.place[places]) * (rows != self.buckets)
        weights = self.dropout(weights)
        entries = self.entries[rows]  # the place, and the sign as the lowest bit
        signs = 1.0 - 2.0 * (entries & 1)
        # Summed in float64, so that the order of the summands leaves no trace. The number of rows is not
        # taken by len(), which would be a constant in ONNX.
        summed = torch.zeros(numbers.shape[0], self.bag, dtype=torch.float64, device=numbers.device)
        amounts = (weights[:, :, None] * signs).double().flatten(1)
        summed = summed.scatter_add(1, (entries >> 1).flatten(1), amounts)
        scaled: Tensor = F.normalize(summed.float(), dim=1) * self.bag**0.5
        return scaled

    def _grams(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """(rows, places) of all runs of letters, (n, runs), `buckets` where there is none.

        A place is a number made of: the length of the run, whether it reaches over a space, whether it
        follows a comma, in which word it starts (the fourth stands for all later ones), and how many words
        follow that one (two for more).
        """
        real = numbers != PADDING
        lengths = real.sum(dim=1, keepdim=True) + 2
        at = torch.arange(numbers.shape[1] + 2, device=numbers.device)[None, :]
        ended = F.pad(numbers, (1, 1))
        ended = torch.where(ended == PADDING, self.space, ended)
        spaces = (ended == self.space) & (at < lengths)
        word = (spaces.cumsum(dim=1) - 1).clamp_min(0)
        follow = (spaces.sum(dim=1, keepdim=True) - 2 - word).clamp(0, 2)
        after = (ended == self.comma).cumsum(dim=1).clamp_max(1) if self.comma else torch.zeros_like(ended)
        code, inside = torch.zeros_like(ended), torch.zeros_like(ended)
        rows, places = [], []
        for size in range(1, LONGEST_GRAM + 1):
            letter = F.pad(ended, (0, size - 1))[:, size - 1 :]
            code = (code * 1_000_003 + letter + size) & 0x7FFF_FFFF  # a hash in 31 bits
            if size > 1:
                over = (inside > 0).long()
                allowed = ((over == 0) & (size < LONGEST_GRAM)) | ((inside == 1) & (size > 2))
                kept = allowed & (at + size <= lengths)
                row = code * 2_654_435_761 % 2**32 % self.buckets
                place = ((((size - 2) * 2 + over) * 2 + after) * 4 + word.clamp_max(3)) * 3 + follow
                rows.append(torch.where(kept, row, self.buckets))
                places.append(torch.where(kept, place, PLACES))
                inside = inside + (letter == self.space).long()
        return torch.cat(rows, dim=1), torch.cat(places, dim=1)


class _Reader(nn.Module):
    """Embedded letters and convolutions with shortcuts over them: (n, longest) -> (n, 2 * width)."""

    def __init__(self, letters: int, width: int, kernels: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.embed = nn.Embedding(letters, width, padding_idx=PADDING)
        self.convs = nn.ModuleList(nn.Conv1d(width, width, k, padding=k // 2, bias=False) for k in kernels)
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for _ in kernels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, numbers: Tensor) -> Tensor:
        mask = (numbers != PADDING)[:, None, :]
        maps = self.embed(numbers).transpose(1, 2)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            maps = (maps + F.relu(norm(conv(maps)))) * mask  # padding stays 0 for the next one
        mean = maps.sum(dim=2) / mask.sum(dim=2).clamp_min(1)
        most = maps.masked_fill(~mask, -torch.inf).amax(dim=2).clamp_min(-1e4)
        read: Tensor = self.dropout(torch.cat([mean, most], dim=1))
        return read


def _entries(buckets: int, bag: int) -> Tensor:
    """The 8 places of the bag of each bucket, times two, plus 1 for a minus; (buckets + 1, 8)."""
    code = torch.arange(buckets + 1)[:, None] * ENTRIES + torch.arange(ENTRIES)
    for factor in (0x45D9F3B, 0x119DE1F3):  # a finalizer that spreads every bit over all others
        code = ((code >> 16) ^ code) * factor & 0xFFFF_FFFF
    code = (code >> 16) ^ code
    return (code >> 1) % bag * 2 + (code & 1)


TOWER = CharsTower
