"""Recordings: every width of WAV, rates, trimming, and the spectrogram against known tones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import encoders
from encoders import sound, towers
from encoders.errors import DatasetError, EncoderError
from encoders.sound import AudioPreprocess
from encoders.towers._spectrogram import mel_bands
from tests.encoders.samples import tone, wav


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_every_width_reads_alike(width: int) -> None:
    samples, rate = sound.samples_of(wav(tone(300), width=width), 16_000)
    assert rate == 8000 and samples.dtype == np.float32
    assert np.abs(samples - tone(300)).max() < 2.0 ** (3 - 8 * min(width, 3))


def test_channels_are_averaged_and_a_path_is_read(tmp_path: Path) -> None:
    both = np.stack([tone(300), np.zeros_like(tone(300))], axis=1)
    (tmp_path / "a.wav").write_bytes(wav(both, channels=2))
    samples, _ = sound.samples_of(tmp_path / "a.wav", 0)
    assert np.abs(samples - tone(300) / 2).max() < 1e-3


def test_arrays_are_scaled_by_their_range() -> None:
    whole = np.round(tone(300) * 32767).astype(np.int16)
    for item in (tone(300), whole, (whole, 8000), tone(300).astype(np.float64)):
        samples, rate = sound.samples_of(item, 8000)
        assert rate == 8000 and np.abs(samples - tone(300)).max() < 1e-4
    assert sound.samples_of((whole, 44100), 8000)[1] == 44100


def test_resampling_keeps_a_tone_where_it_is() -> None:
    low = sound.resampled(tone(440, 0.5, 16_000), 16_000, 8000)
    assert len(low) == 4000 and np.abs(low - tone(440, 0.5, 8000))[100:-100].max() < 0.02
    assert sound.resampled(low, 8000, 8000) is low


def test_silence_at_the_ends_is_cut() -> None:
    padded = np.concatenate([np.zeros(800), tone(300), np.zeros(1600)]).astype(np.float32)
    assert len(sound.trimmed(padded, 8000, 40.0)) == len(tone(300))
    assert len(sound.trimmed(padded, 8000, 0.0)) == len(padded)
    quiet = padded + np.float32(1e-3) * np.sin(np.arange(len(padded))).astype(np.float32)
    assert len(sound.trimmed(quiet, 8000, 40.0)) == len(tone(300))
    assert len(sound.trimmed(quiet, 8000, 80.0)) == len(padded)


def test_loudness_and_place_do_not_matter() -> None:
    read = AudioPreprocess(rate=8000, seconds=0.5)
    expected = read(tone(300))
    assert expected.shape == (4000,) and np.sqrt(np.mean(expected[:3200] ** 2)) == pytest.approx(
        1.0, abs=1e-3
    )
    moved = np.concatenate([np.zeros(800), 0.1 * tone(300), np.zeros(800)])
    assert np.abs(read(moved) - expected).max() < 1e-4
    long = tone(300, 1.5)
    assert np.allclose(read(long), long[4000:8000] / np.sqrt(np.mean(long**2)), atol=1e-3)


@pytest.mark.parametrize("rate", [float("inf"), float("nan"), "quick", None])
def test_a_rate_that_is_no_number_is_refused(rate: Any) -> None:
    with pytest.raises(ValueError, match="a rate in samples a second is needed, not"):
        sound.samples_of((tone(300), rate), 8000)


def test_fitting_finds_rate_and_length() -> None:
    items = [wav(tone(300, 0.2 + 0.02 * n)) for n in range(20)] + [b"broken"]
    assert AudioPreprocess.fit({}, items) == {"rate": 8000, "seconds": pytest.approx(0.56, abs=0.011)}
    assert AudioPreprocess.fit({"seconds": 2.0}, items)["seconds"] == 2.0
    with pytest.raises(EncoderError, match="none could be read"):
        AudioPreprocess.fit({}, [b"broken"])


@pytest.mark.parametrize("settings", [{"rate": 10}, {"seconds": 0.0}, {"trim": -1.0}])
def test_settings_that_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="rate lies within"):
        AudioPreprocess(**settings)  # type: ignore[arg-type]


def test_mel_bands_are_triangles_that_cover_the_range() -> None:
    bands = mel_bands(8000, 256, 40)
    assert bands.shape == (40, 129) and torch.allclose(bands.sum(1), torch.ones(40))
    assert (bands[:, 3:128].sum(0) > 0).all()
    peaks = bands.argmax(1).tolist()
    assert peaks == sorted(peaks)


def test_a_tone_stands_in_its_band_however_long_it_lasts() -> None:
    tower = towers.build("audio", (8000,), rate=8000, mels=40, frames=32).eval()
    read = AudioPreprocess(rate=8000, seconds=1.0)
    peaks = {}
    for hertz in (300, 1000, 2000):
        maps = tower.spectrogram(
            torch.from_numpy(np.stack([read(tone(hertz, s)[: int(8000 * s)]) for s in (0.3, 0.9)]))
        )
        assert maps.shape == (2, 40, 32)
        assert torch.allclose(maps.mean((1, 2)), torch.zeros(2), atol=1e-4)
        short, long = maps.mean(2).argmax(1).tolist()
        assert short == long
        peaks[hertz] = short
    centres = mel_bands(8000, 256, 40).argmax(1) * 8000 / 256
    for hertz, band in peaks.items():
        assert float(centres[band]) == pytest.approx(hertz, abs=70)


def damaged(whole: bytes, rng: np.random.Generator) -> bytes:
    """A WAV file with one or two bytes of its header (44 of them) changed."""
    stored = bytearray(whole)
    for at in rng.integers(44, size=rng.integers(1, 3)):
        stored[at] ^= int(rng.integers(1, 256)) if rng.random() < 0.5 else 1 << int(rng.integers(8))
    return bytes(stored)


def test_damaged_headers_are_refused_in_words() -> None:
    """The standard library raises a bare RuntimeError for one in eight of them."""
    rng, whole, refused = np.random.default_rng(0), wav(tone(300)), 0
    read = AudioPreprocess(rate=8000, seconds=0.5)
    for _ in range(300):
        stored = damaged(whole, rng)
        try:
            assert np.isfinite(read(stored)).all()
        except ValueError as exc:  # whatever else is raised fails the test
            refused += 1
            assert str(exc).strip()
    assert 150 < refused < 300


def test_a_damaged_recording_is_named_or_left_out(tmp_path: Path) -> None:
    for number in range(16):
        place = tmp_path / "wavs" / f"s{number // 4}"
        place.mkdir(parents=True, exist_ok=True)
        stored = bytearray(wav(tone(200 + 30 * number)))
        if number == 6:
            stored[16] ^= 0x40  # the length of the fmt chunk
        (place / f"{number}.wav").write_bytes(stored)
    given = {"output": tmp_path / "x", "steps": 1, "progress": False, "holdout": 0.5}
    with pytest.raises(DatasetError, match=r"1 of 16 items .*\n  .*s1/6.wav: not a whole WAV file") as raised:
        encoders.train(tmp_path / "wavs", **given)
    assert isinstance(raised.value, EncoderError) and not (tmp_path / "x").exists()
    encoders.train(tmp_path / "wavs", skip_unreadable=True, **given)
    trained = encoders.load(tmp_path / "x", device="cpu")
    with pytest.raises(EncoderError, match="item 0: not a whole WAV file"):
        trained.encode([tmp_path / "wavs" / "s1" / "6.wav"])
