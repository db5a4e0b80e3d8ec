"""A tower for recordings: a log-mel spectrogram computed in torch, then convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from encoders.errors import EncoderError
from encoders.towers._spectrogram import Spectrogram

WINDOW = 0.032  # seconds


class AudioTower(nn.Module):
    """Samples (n, rate * seconds) -> (n, grid[0] * grid[1] * widths[-1]).

    The spectrogram has `mels` bands; what is zero at its ends is left out, and the rest is stretched
    to `frames` frames, so that a word said slowly and quickly looks alike. `centred` takes each band's mean
    over the recording away, and with it most of the microphone and some of the voice. `mask` is the largest
    share of bands and of frames that are blanked in training (SpecAugment, Park et al. 2019).
    """

    takes: ClassVar = ("audio",)

    def __init__(
        self,
        shape: tuple[int, ...],
        rate: int = 16_000,
        mels: int = 40,
        frames: int = 64,
        widths: Sequence[int] = (32, 64, 96),
        grid: Sequence[int] = (2, 4),
        centred: bool = False,
        mask: float = 0.2,
    ) -> None:
        super().__init__()
        if min(mels, frames) < 2 ** len(widths):
            raise EncoderError(f"{len(widths)} halvings need {2 ** len(widths)} bands and frames or more")
        self.spectrogram = Spectrogram(shape, rate, mels, frames, WINDOW, centred)
        self.mask = mask
        stages = [_stage(i, o) for i, o in zip([1, *widths], widths, strict=False)]
        self.body = nn.Sequential(*stages, nn.AdaptiveAvgPool2d(tuple(grid)), nn.Flatten())
        self.features = grid[0] * grid[1] * widths[-1]

    @classmethod
    def fit(cls, preprocess: Any) -> dict[str, Any]:
        """The rate is that of the preprocessing."""
        return {"rate": preprocess.rate}

    def forward(self, batch: Tensor) -> Tensor:
        maps = self.spectrogram(batch)
        if self.training and self.mask > 0:
            maps = _masked(_masked(maps, 1, self.mask), 2, self.mask)
        features: Tensor = self.body(maps[:, None])
        return features


def _masked(maps: Tensor, axis: int, share: float) -> Tensor:
    """The maps with one run of bands (axis 1) or frames (axis 2) set to 0, the mean, in each."""
    count = maps.shape[axis]
    width = torch.rand(len(maps), 1, device=maps.device) * share * count
    start = torch.rand(len(maps), 1, device=maps.device) * (count - width)
    places = torch.arange(count, device=maps.device)[None, :]
    gone = (places >= start) & (places < start + width)
    return maps.masked_fill(gone[:, :, None] if axis == 1 else gone[:, None, :], 0.0)


def _stage(inputs: int, outputs: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2))


TOWER = AudioTower
