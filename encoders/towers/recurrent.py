"""A recurrent tower, for sequences of any length: LSTM or GRU in both directions."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from encoders.errors import EncoderError


class RecurrentTower(nn.Module):
    """(n, longest, channels + 1), the last column being 1 where a step is real -> (n, 4 * width).

    Each layer runs once forwards and once backwards over the real steps; the features are the mean and the
    largest value over them. Training packs the sequences: padding costs nothing. In eval mode all rows take
    the same padded way, which gives the same numbers and does not depend on what else is in the batch.
    Hochreiter and Schmidhuber, "Long short-term memory", 1997; Cho et al. (GRU), 2014.
    """

    takes: ClassVar = ("sequence",)

    def __init__(
        self,
        shape: tuple[int, ...],
        cell: str = "gru",
        width: int = 96,
        layers: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if len(shape) != 2 or shape[1] < 2:
            raise EncoderError(f"a recurrent tower takes items of shape (longest, channels + 1), not {shape}")
        if cell not in ("gru", "lstm"):
            raise EncoderError(f"cell is {cell!r}: it must be gru or lstm")
        kind = nn.GRU if cell == "gru" else nn.LSTM
        inputs = [shape[1] - 1, *(2 * width for _ in range(layers - 1))]
        self.ahead = nn.ModuleList(kind(i, width, batch_first=True) for i in inputs)
        self.back = nn.ModuleList(kind(i, width, batch_first=True) for i in inputs)
        self.dropout = nn.Dropout(dropout)
        self.features = 4 * width

    def forward(self, batch: Tensor) -> Tensor:
        steps, mask = batch[:, :, :-1], batch[:, :, -1:]
        lengths = mask.sum(dim=(1, 2)).long().clamp_min(1)
        turned = _backwards(lengths, steps.shape[1])
        for ahead, back in zip(self.ahead, self.back, strict=True):
            forth = self._over(ahead, steps, lengths)
            behind = _taken(self._over(back, _taken(steps, turned), lengths), turned)
            steps = self.dropout(torch.cat([forth, behind], dim=2))
        mean = (steps * mask).sum(dim=1) / lengths[:, None]
        most = steps.masked_fill(mask == 0, -1.0).amax(dim=1)  # no state of a cell is below -1
        return torch.cat([mean, most], dim=1)

    def _over(self, cell: nn.Module, steps: Tensor, lengths: Tensor) -> Tensor:
        if not self.training:
            states: Tensor = cell(steps)[0]
            return states
        packed = pack_padded_sequence(steps, lengths.cpu(), batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(cell(packed)[0], batch_first=True, total_length=steps.shape[1])[0]


def _backwards(lengths: Tensor, longest: int) -> Tensor:
    """For each row the order in which its real steps are reversed and its padding stays; (n, longest)."""
    places = torch.arange(longest, device=lengths.device)[None, :]
    last = lengths[:, None] - 1
    return torch.where(places <= last, last - places, places)


def _taken(steps: Tensor, order: Tensor) -> Tensor:
    return steps.gather(1, order[:, :, None].expand(-1, -1, steps.shape[2]))


TOWER = RecurrentTower
