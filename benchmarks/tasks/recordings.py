"""The Free Spoken Digit Dataset: reading it, and plain features of its recordings."""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from benchmarks import data_sets
from benchmarks.tasks.base import Answers, Floats, Ints, draws, nearest
from encoders import evaluation
from encoders.sound import AudioPreprocess
from encoders.towers._spectrogram import Spectrogram
from encoders.towers.audio import WINDOW

RATE, SECONDS = 8000, 0.8
ENROLLED, DRAWS = 5, 50
NAME = re.compile(r"(\d)_([a-z]+)_(\d+)\.wav$")


@dataclass(frozen=True, slots=True)
class Recordings:
    """n WAV files as bytes, with the digit, the speaker and the number of each."""

    wavs: list[bytes]
    digits: np.ndarray
    speakers: np.ndarray
    numbers: np.ndarray


@cache
def load() -> Recordings:
    """All 3,000 recordings, in the order of their names."""
    with zipfile.ZipFile(data_sets.folder("fsdd") / "fsdd_wav.zip") as held:
        names = sorted(name for name in held.namelist() if NAME.search(name))
        wavs = [held.read(name) for name in names]
    parts = [NAME.search(name).groups() for name in names]  # type: ignore[union-attr]
    digits, speakers, numbers = zip(*parts, strict=True)
    return Recordings(wavs, np.array(digits, np.int64), np.array(speakers), np.array(numbers, np.int64))


def spectrograms(items: list[bytes], frames: int = 24) -> Floats:
    """Raw features: the log-mel spectrogram, stretched to `frames` frames and flattened."""
    read = AudioPreprocess(RATE, SECONDS)
    spectrogram = Spectrogram(read.shape, RATE, 40, frames, WINDOW)
    with torch.inference_mode():
        rows = [spectrogram(torch.from_numpy(read(item))[None])[0].reshape(-1) for item in items]
    return torch.stack(rows).numpy()


def spectra(items: list[bytes]) -> Floats:
    """Raw features of a voice: mean and deviation over time of each band of the log-mel spectrogram."""
    maps = spectrograms(items, 24).reshape(len(items), 40, 24)
    return np.concatenate([maps.mean(2), maps.std(2)], axis=1).astype(np.float32)


def named(held: Recordings, rows: Floats, metric: str, enrollable: Ints, asked: Ints) -> Answers:
    """Whether the nearest template names each of `asked`; five `enrollable` of each speaker, 50 draws."""
    right, about = [], []
    for chosen, _ in draws(held.speakers[enrollable], ENROLLED, DRAWS, seed=1):
        enrolled = enrollable[chosen]
        probes = np.setdiff1d(asked, enrolled)
        apart = evaluation.distances(rows[probes], rows[enrolled], metric)
        right.append(nearest(apart, held.speakers[enrolled]) == held.speakers[probes])
        about.append(held.digits[probes])
    return Answers(np.concatenate(right).astype(np.float32), np.concatenate(about))
