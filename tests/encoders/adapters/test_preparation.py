"""What adapters do with items before a model sees them, and with models that fail: no model is needed."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import encoders
from encoders.adapters.hub import Pictures
from encoders.adapters.voices import VoiceEncoder
from encoders.errors import EncodeError, EncoderError

GREY = np.full((8, 8, 3), 90, np.uint8)
TIME = np.arange(48_000) / 48_000


def adapted(transform: Any, module: nn.Module | None = None, threshold: Any = None) -> Any:
    """The module, or one that flattens, behind this transform to (3, 2, 2)."""
    return encoders.from_module(
        module or nn.Flatten(), transform, name="m", shape=(3, 2, 2), revision="1", device="cpu",
        threshold=threshold,
    )  # fmt: skip


def zeros(_: Any) -> Any:
    return np.zeros((3, 2, 2))


@pytest.mark.parametrize("error", [RuntimeError, KeyError, IndexError, AssertionError])
def test_whatever_a_transform_raises_is_told_by_the_item(error: type[Exception]) -> None:
    def second(image: Any) -> Any:
        if np.asarray(image).min() == 0:
            raise error("no such size")
        return np.ones((3, 2, 2))

    with pytest.raises(EncodeError, match=f"^item 1: the transform failed: {error.__name__}: .*no such size"):
        adapted(second).encode([GREY, GREY * 0])


def test_numbers_that_float32_does_not_hold() -> None:
    with pytest.raises(EncodeError, match="item 0: the transform gave NaN or infinity"):
        adapted(lambda _: np.full((3, 2, 2), 1e39)).encode([GREY])


class Failing(nn.Module):
    """Works for nothing but zeros."""

    def forward(self, batch: Tensor) -> Tensor:
        if batch.any():
            raise IndexError("index out of range in self")
        return batch.flatten(1)


def test_a_module_that_fails_or_gives_nothing() -> None:
    with pytest.raises(EncoderError, match=r"failed on a batch of shape \(16, 3, 2, 2\): index out of range"):
        adapted(lambda _: np.ones((3, 2, 2)), Failing()).encode([GREY])
    with pytest.raises(EncoderError, match="mat1 and mat2 shapes cannot be multiplied"):
        adapted(zeros, nn.Sequential(nn.Flatten(), nn.Linear(5, 3)))
    with pytest.raises(EncoderError, match="gives embeddings of 0 numbers"):
        adapted(zeros, nn.Sequential(nn.Flatten(), Empty()))


class Empty(nn.Module):
    def forward(self, batch: Tensor) -> Tensor:
        return batch[:, :0]


@pytest.mark.parametrize("threshold", [float("nan"), float("inf"), -0.1, "0.5", True])
def test_thresholds_that_are_no_distance(threshold: Any) -> None:
    with pytest.raises(EncoderError, match="is no distance: a number from 0"):
        adapted(zeros, threshold=threshold)
    assert adapted(zeros, threshold=np.float32(0.5)).threshold == 0.5


def test_read_and_encode_prepared_are_encode() -> None:
    encoder = adapted(lambda image: np.asarray(image, np.float32)[:2, :2].transpose(2, 0, 1))
    items = [np.random.default_rng(k).integers(0, 255, (8, 8, 3)).astype(np.uint8) for k in range(20)]
    again = encoder.encode_prepared(encoder.read(item) for item in items)
    assert np.array_equal(again, encoder.encode(items)) and again.shape == (20, 12)
    assert encoder.encode_prepared([]).shape == (0, 12)


def test_a_picture_as_narrow_as_a_thread_does_not_fill_the_memory() -> None:
    ready = Pictures({"image_processor_type": "CLIPImageProcessor"})
    assert ready(np.zeros((300, 1, 3), np.uint8)).shape == (3, 224, 224)
    for shape, words in (((60_000, 1, 3), "1 x 60,000"), ((1, 60_000, 3), "60,000 x 1")):
        with pytest.raises(ValueError, match=f"{words} pixels are too narrow: 224 x 13,440,000 would be"):
            ready(np.zeros(shape, np.uint8))


def windows(samples: Any, rate: int = 16_000) -> Any:
    """The preparation of voices, which needs no weights."""
    return VoiceEncoder.__new__(VoiceEncoder)._read((np.asarray(samples, np.float32), rate))


def test_sound_that_no_ear_and_no_float32_hears() -> None:
    low, high = np.sin(2 * np.pi * 300 * TIME), np.sin(2 * np.pi * 20_000 * TIME)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for loud in (1e-15, 1.0, 1e5):
            assert np.isfinite(windows(loud * low, 48_000)).all()
        with pytest.raises(ValueError, match="nothing to hear below 8,000 Hz"):
            windows(high, 48_000)
        assert np.isfinite(windows(0.01 * low + high, 48_000)).all()
        for loud in (1e-40, 1e30):
            with pytest.raises(
                ValueError, match=rf"largest sample is {re.escape(format(loud, '.2g'))}: .* within -1 to 1"
            ):
                windows(loud * low)


def test_the_network_of_a_failed_call_is_whole() -> None:
    """An error in one call leaves the encoder as it was."""
    encoder = adapted(lambda image: np.full((3, 2, 2), float(np.asarray(image).max())), Failing())
    with pytest.raises(EncoderError):
        encoder.encode([GREY])
    assert torch.is_grad_enabled() and encoder.encode([GREY * 0]).shape == (1, 12)
