"""Embeddings of real subjects for the calibration benchmark: unit rows, and whose they are."""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path

import numpy as np

from benchmarks.data_sets import folder

Labelled = tuple[np.ndarray, np.ndarray]
"""(n, dim) unit rows float32, (n,) subject numbers"""


def omniglot() -> Labelled:
    """The 659 evaluation characters, by the encoder that ships, which never saw them."""
    import encoders

    held = np.load(folder("omniglot") / "omniglot.npz")
    bits = held["evaluation_bits"]
    images = np.unpackbits(bits, axis=1)[:, : 105 * 105].reshape(-1, 105, 105)
    ink = ((1 - images) * 255).astype(np.uint8)
    encoder = encoders.load("glyph")
    rows = np.concatenate([encoder.encode(list(ink[at : at + 256])) for at in range(0, len(ink), 256)])
    subjects = np.unique(
        np.stack([held["evaluation_alphabet"], held["evaluation_character"]], axis=1),
        axis=0,
        return_inverse=True,
    )[1]
    return _unit(rows), subjects.ravel()


def att() -> Labelled:
    """40 people by their standardised pixels."""
    held = np.load(folder("att_faces") / "att_faces.npz")
    images = held["images"].astype(np.float32)[:, :112, :92].reshape(-1, 28, 4, 23, 4).mean(axis=(2, 4))
    return _unit(_standard(images.reshape(len(images), -1))), held["subject"].astype(np.int64)


FITTED_ON = 500
"""People of LFW3D whose pictures make the components and who are measured on nowhere."""


def lfw3d() -> Labelled:
    """5,249 people by the 128 whitened principal components of the pixels of 500 others."""
    place = folder("lfw3d_crop90")
    from PIL import Image

    with zipfile.ZipFile(place / "lfw3d_crop90.zip") as pack, (place / "index.csv").open() as index:
        lines = list(csv.DictReader(index))
        inside = {Path(name).name: name for name in pack.namelist()}
        files = [next(value for value in line.values() if Path(value).name in inside) for line in lines]
        rows = np.stack(
            [
                np.asarray(
                    Image.open(io.BytesIO(pack.read(inside[Path(file).name]))).convert("L").resize((30, 30)),
                    np.float32,
                ).ravel()
                for file in files
            ]
        )
    names = np.array([Path(file).stem.rpartition("_")[0] for file in files])
    people = np.unique(names, return_inverse=True)[1]
    apart = np.random.default_rng(0).permutation(people.max() + 1)[:FITTED_ON]
    fitted_on = np.isin(people, apart)
    rows = _standard(rows)
    return _unit(_whitened(rows[~fitted_on], rows[fitted_on], 128)), people[~fitted_on]


def _standard(rows: np.ndarray) -> np.ndarray:
    return (rows - rows.mean(axis=1, keepdims=True)) / (rows.std(axis=1, keepdims=True) + 1e-6)


def _whitened(rows: np.ndarray, others: np.ndarray, dim: int) -> np.ndarray:
    """By the principal components of others."""
    centred = others - others.mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T @ centred / len(others))
    return (rows - others.mean(axis=0)) @ vectors[:, -dim:] / np.sqrt(values[-dim:])


def _unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


SETS = {"Omniglot": omniglot, "AT&T": att, "LFW3D": lfw3d}


BANDS, FRAMES = 24, 24


def fsdd() -> Labelled:
    """40 pairs of a speaker and a digit, 50 recordings each, by their whitened log spectrograms.

    The components are fitted on the other 20 pairs, those of two speakers, who are measured on nowhere.
    """
    from encoders.sound import AudioPreprocess

    hear = AudioPreprocess(rate=8000, seconds=0.6)
    with zipfile.ZipFile(folder("fsdd") / "fsdd_wav.zip") as pack:
        names = sorted(name for name in pack.namelist() if name.endswith(".wav"))
        rows = np.stack([_spectrogram(hear(pack.read(name))) for name in names])
    said = [Path(name).stem.split("_")[:2] for name in names]
    speakers = np.unique([speaker for _, speaker in said])
    apart = np.isin([speaker for _, speaker in said], speakers[:2])
    pairs = np.unique([f"{speaker} {digit}" for digit, speaker in said], return_inverse=True)[1]
    rows = _standard(rows)
    return _unit(_whitened(rows[~apart], rows[apart], 64)), pairs[~apart]


def _spectrogram(samples: np.ndarray) -> np.ndarray:
    """(BANDS * FRAMES,) log energies of 256 samples at a time, in bands of equal width."""
    starts = np.linspace(0, len(samples) - 256, FRAMES).astype(int)
    windows = np.stack([samples[start : start + 256] for start in starts]) * np.hanning(256)
    energy = np.square(np.abs(np.fft.rfft(windows, axis=1)))[:, 1 : 1 + 5 * BANDS]
    return np.log(energy.reshape(FRAMES, BANDS, 5).mean(axis=2) + 1e-4).astype(np.float32).ravel()
