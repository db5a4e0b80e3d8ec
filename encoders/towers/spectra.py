"""A tower for voices without learnt filters: how loud each pitch is over a recording, for few speakers."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from encoders.errors import EncoderError
from encoders.towers._spectrogram import Spectrogram

FRAMES = 32  # what is heard is looked at so often, however long it is


class SpectraTower(nn.Module):
    """Mean and deviation over time of each mel band: samples (n, rate * seconds) -> (n, 2 * bands).

    Long windows (`window` seconds) and many bands tell voices apart by their harmonics and formants, whatever
    is said; the microphone counts as well. All is fixed but for `gain`, the weights of means and deviations:
    what decides is the linear head, best started by whitening (the setting start="whitening") where speakers
    are few.
    """

    takes: ClassVar = ("audio",)

    def __init__(
        self, shape: tuple[int, ...], rate: int = 16_000, bands: int = 128, window: float = 0.128
    ) -> None:
        super().__init__()
        if bands < 2 or window <= 0:
            raise EncoderError(f"bands {bands} and window {window}: at least 2, and more than 0 seconds")
        self.spectrogram = Spectrogram(shape, rate, bands, FRAMES, window)
        self.gain = nn.Parameter(torch.ones(2))
        self.features = 2 * bands

    @classmethod
    def fit(cls, preprocess: Any) -> dict[str, Any]:
        """The rate is that of the preprocessing."""
        return {"rate": preprocess.rate}

    def forward(self, batch: Tensor) -> Tensor:
        maps: Tensor = self.spectrogram(batch)
        return torch.cat([self.gain[0] * maps.mean(dim=2), self.gain[1] * maps.std(dim=2)], dim=1)


TOWER = SpectraTower
