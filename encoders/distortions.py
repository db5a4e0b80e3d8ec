"""Augmentation of what is no picture: sequences, recordings and texts, as their preprocessing makes them.

Functions (batch, generator) -> batch, like those in `augment`; what is padding stays padding.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor


def _uniform(shape: tuple[int, ...], low: float, high: float, generator: Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator)


def sequence(batch: Tensor, generator: Generator) -> Tensor:
    """Sequences (n, longest, channels + 1): up to 15 % slower or quicker, each channel scaled, some noise."""
    values, mask = batch[:, :, :-1], batch[:, :, -1]
    lengths = mask.sum(dim=1)
    wanted = (lengths * _uniform((len(batch),), 0.85, 1.15, generator)).round()
    wanted = wanted.clamp(min=1, max=batch.shape[1])
    values = _at_speed(values, lengths, wanted)
    values = values * (1 + 0.1 * torch.randn(len(batch), 1, values.shape[2], generator=generator))
    values = values + 0.1 * torch.randn(values.shape, generator=generator)
    mask = (torch.arange(batch.shape[1])[None, :] < wanted[:, None]).to(batch.dtype)[:, :, None]
    return torch.cat([values * mask, mask], dim=2)


def audio(batch: Tensor, generator: Generator) -> Tensor:
    """Recordings (n, samples): another microphone, a little noise, up to 5 % slower or quicker."""
    return _recorded(batch, 0.05, generator)


def speech(batch: Tensor, generator: Generator) -> Tensor:
    """Like `audio`, but up to 18 % slower or quicker, and as much higher: the same words of other people."""
    return _recorded(batch, 0.18, generator)


def _recorded(batch: Tensor, speed: float, generator: Generator) -> Tensor:
    n, room = batch.shape
    places = torch.arange(room)
    lengths = torch.where(batch != 0, places + 1, 0).amax(dim=1).clamp_min(1).to(batch.dtype)
    wanted = (lengths * torch.exp(_uniform((n,), -speed, speed, generator))).round().clamp(1, room)
    samples = _at_speed(batch[:, :, None], lengths, wanted)[:, :, 0]
    # A smooth random curve of gain over the frequencies, about 4 dB.
    knots = torch.randn(n, 1, 8, generator=generator) * 0.46
    spectrum = torch.fft.rfft(samples)
    curve = torch.nn.functional.interpolate(knots, size=spectrum.shape[1], mode="linear", align_corners=True)[
        :, 0
    ]
    samples = torch.fft.irfft(spectrum * curve.exp(), n=room)
    level = samples.square().mean(dim=1, keepdim=True).sqrt()
    decibels = _uniform((n, 1), 10, 40, generator)
    samples = samples + level * 10 ** (-decibels / 20) * torch.randn(n, room, generator=generator)
    sounding: Tensor = samples * (places[None, :] < wanted[:, None])
    return sounding


def text(batch: Tensor, generator: Generator) -> Tensor:
    """Texts (n, longest) of letter numbers: each letter is lost, doubled or mistaken in about 2 % each.

    A mistaken letter becomes any other one of the batch. At least one letter stays.
    """
    n, room = batch.shape
    real = batch != 0
    chance = torch.rand(n, room, generator=generator)
    letters = batch[real]
    others = letters[torch.randint(len(letters), (n, room), generator=generator)]
    changed = torch.where(real & (chance < 0.02), others, batch)
    copies = torch.where(real, 1, 0)
    copies = torch.where(real & (chance > 0.98), 2, copies)
    copies = torch.where(real & (chance > 0.46) & (chance < 0.48), 0, copies)
    copies[:, 0] = copies[:, 0].clamp_min(1)
    ends = copies.cumsum(dim=1)
    # The letter at place j of the new text is the first one whose copies reach beyond j.
    at = torch.searchsorted(ends, torch.arange(room).expand(n, room).contiguous(), right=True)
    moved = changed.gather(1, at.clamp_max(room - 1))
    return torch.where(torch.arange(room)[None, :] < ends[:, -1:], moved, 0.0)


def _at_speed(values: Tensor, lengths: Tensor, wanted: Tensor) -> Tensor:
    """The first `lengths` steps of (n, steps, c), spread over `wanted` steps by linear interpolation."""
    places = torch.arange(values.shape[1], dtype=values.dtype)[None, :]
    at = places * ((lengths - 1) / (wanted - 1).clamp_min(1))[:, None]
    at = torch.minimum(at, (lengths - 1)[:, None])
    left = at.floor().long()
    right = torch.minimum(left + 1, (lengths - 1).long()[:, None])
    weight = (at - left)[:, :, None]
    wide = (-1, -1, values.shape[2])
    return torch.lerp(
        values.gather(1, left[:, :, None].expand(wide)),
        values.gather(1, right[:, :, None].expand(wide)),
        weight,
    )
