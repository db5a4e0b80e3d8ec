"""Log-mel spectrograms, computed in torch: what the towers for recordings begin with."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from encoders.errors import EncoderError

HOP = 0.010  # seconds
FLOOR = 60.0  # decibels below the loudest point of a recording, under which nothing is told apart


class Spectrogram(nn.Module):
    """Samples (n, rate * seconds) -> (n, bands, frames), each map of mean 0 and deviation 1.

    Windows of `window` seconds (rounded up to a power of two samples) every 10 ms, in `bands` mel bands. What
    is zero at the ends is left out, and the rest is stretched to `frames` frames, so that a word said slowly
    and quickly looks alike. `centred` takes each band's mean over the recording away.
    """

    def __init__(
        self, shape: tuple[int, ...], rate: int, bands: int, frames: int, window: float, centred: bool = False
    ) -> None:
        super().__init__()
        if len(shape) != 1:
            raise EncoderError(f"a tower for recordings takes items of shape (samples,), not {shape}")
        self.hop = max(1, round(HOP * rate))
        self.window = 2 ** math.ceil(math.log2(window * rate))
        if shape[0] < 2 * self.window:
            raise EncoderError(
                f"recordings of {shape[0]} samples are shorter than two windows of {self.window}"
            )
        self.frames, self.centred = frames, centred
        self.bell: Tensor
        self.bands: Tensor
        self.register_buffer("bell", torch.hann_window(self.window), persistent=False)
        self.register_buffer("bands", mel_bands(rate, self.window, bands), persistent=False)

    def forward(self, batch: Tensor) -> Tensor:
        with torch.autocast(batch.device.type, enabled=False):
            samples = batch.float()
            power = torch.stft(
                samples, self.window, self.hop, window=self.bell, center=True, pad_mode="constant",
                return_complex=True,
            ).abs().square()  # fmt: skip
            loud = 10 * torch.log10(torch.einsum("mf,nft->nmt", self.bands, power).clamp_min(1e-10))
            loud = torch.maximum(loud, loud.amax(dim=(1, 2), keepdim=True) - FLOOR)
            maps = _stretched(loud, *self._heard(samples), self.frames)
            if self.centred:
                maps = maps - maps.mean(dim=2, keepdim=True)
            middle, spread = maps.mean(dim=(1, 2), keepdim=True), maps.std(dim=(1, 2), keepdim=True)
            return (maps - middle) / spread.clamp_min(1e-3)

    def _heard(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """First and last frame of what is not zero padding, of each recording."""
        places = torch.arange(samples.shape[1], device=samples.device)
        sounding = samples != 0
        first = torch.where(sounding, places, samples.shape[1] - 1).amin(dim=1)
        last = torch.where(sounding, places, 0).amax(dim=1)
        return first / self.hop, torch.maximum(last, first) / self.hop


def mel_bands(rate: int, window: int, mels: int) -> Tensor:
    """Triangular filters (mels, window // 2 + 1), evenly spaced in mel from 60 Hz to half the rate.

    mel = 2595 log10(1 + f / 700); a filter narrower than a bin keeps the bin that is nearest to it.
    """

    def mel(hertz: float) -> float:
        return 2595 * math.log10(1 + hertz / 700)

    edges = torch.linspace(mel(60.0), mel(rate / 2), mels + 2, dtype=torch.float64)
    corners = 700 * (10 ** (edges / 2595) - 1)
    bins = torch.linspace(0, rate / 2, window // 2 + 1, dtype=torch.float64)
    low, middle, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    rising, falling = (bins - low) / (middle - low), (high - bins) / (high - middle)
    bands = torch.minimum(rising, falling).clamp_min(0.0)
    empty = bands.sum(dim=1) == 0
    bands[empty, (bins - middle).abs().argmin(dim=1)[empty]] = 1.0
    return (bands / bands.sum(dim=1, keepdim=True)).float()


def _stretched(maps: Tensor, first: Tensor, last: Tensor, frames: int) -> Tensor:
    """The frames from `first` to `last` of each map (n, mels, time), as (n, mels, frames), interpolated."""
    share = torch.linspace(0, 1, frames, device=maps.device)
    at = (first[:, None] + share * (last - first)[:, None]).clamp(0, maps.shape[2] - 1)
    left = at.floor().long().clamp_max(maps.shape[2] - 2)
    weight = (at - left)[:, None, :]
    index = left[:, None, :].expand(-1, maps.shape[1], -1)
    return maps.gather(2, index) * (1 - weight) + maps.gather(2, index + 1) * weight
