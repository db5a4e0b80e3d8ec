"""Voices: Resemblyzer's weights on recordings of six people, and the preparation beside plain loops."""

from __future__ import annotations

import io
import wave
import zipfile
from typing import Any

import numpy as np
import pytest

import encoders
from benchmarks.adapters import in_a_row
from encoders.packages import versions
from tests.data import needs
from tests.encoders.adapters.contract import AdapterContract

if not versions("resemblyzer"):
    pytest.skip("the extra [voices] is not installed", allow_module_level=True)

from encoders.adapters import voices

SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")


def recordings(numbers: range, digits: str = "0369") -> list[tuple[str, bytes]]:
    """(speaker, WAV bytes) of all digits said one after the other, which is longer than half a second."""
    found = []
    with zipfile.ZipFile(needs("fsdd", "fsdd_wav.zip")) as held:
        names = {name.rsplit("/", 1)[-1]: name for name in held.namelist()}
        for number in numbers:
            for speaker in SPEAKERS:
                said = [held.read(names[f"{digit}_{speaker}_{number}.wav"]) for digit in digits]
                found.append((speaker, in_a_row(said)))
    return found


class TestVoices(AdapterContract):
    dim, metric = 256, "cosine"

    @classmethod
    def make(cls) -> Any:
        return encoders.load("voices", device="cpu")

    @pytest.fixture(scope="class")
    @classmethod
    def items(cls) -> list[Any]:
        return [recording for _, recording in recordings(range(3, 6))]

    @pytest.fixture
    def bad(self) -> list[tuple[Any, str]]:
        return [
            (np.zeros(16_000, np.float32), "silent"),
            (np.full(900, 0.1, np.float32), r"0\.06 seconds of sound: at least 0\.1"),
            (b"RIFFnothing", "not a whole WAV file"),
            (np.array([0.1, np.nan] * 4000, np.float32), "NaN"),
            ((np.full(9000, 0.1, np.float32), 3), "3 samples a second"),
        ]

    def test_people_are_told_apart(self, embedded: np.ndarray) -> None:
        first, rest = embedded[:6], embedded[6:]
        assert (rest @ first.T).argmax(axis=1).tolist() == [*range(6)] * 2

    def test_pauses_and_a_low_volume_change_little(self, encoder: Any, items: list[Any]) -> None:
        with wave.open(io.BytesIO(items[SPEAKERS.index("lucas")])) as file:
            voice = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32768
        middle, second = len(voice) // 2, np.zeros(8000, np.float32)
        paused = np.concatenate([second, voice[:middle], second, voice[middle:]])
        rows = encoder.encode([(each, 8000) for each in (voice, paused, voice / 100, voice / 50)])
        assert 1 - rows[0] @ rows[1] < 0.05, "strangers are 0.38 and more from this speaker"
        assert 1 - rows[2] @ rows[3] < 1e-4, "both are raised to the same volume"


def test_pauses_are_cut_to_the_frame() -> None:
    sound, silence = np.full(1600, 0.5, np.float32), np.zeros(16_000, np.float32)
    assert len(voices.without_pauses(np.concatenate([sound, silence, sound]))) == 3200 + 2 * 9 * 160
    assert np.array_equal(voices.without_pauses(sound[:900]), sound[:900]), "shorter than a pause"
    assert np.array_equal(voices.without_pauses(sound[:100]), sound[:100])


def test_mel_bands_beside_a_plain_loop() -> None:
    samples = np.random.default_rng(0).standard_normal(4000).astype(np.float32)
    found = voices.mel(samples)
    assert found.shape == (26, 40)
    hann = np.array([0.5 - 0.5 * np.cos(2 * np.pi * n / 400) for n in range(400)])
    padded = np.concatenate([np.zeros(200), samples, np.zeros(200)])
    filters = voices._mel_filters()
    for frame in (0, 7, 25):
        window = padded[frame * 160 : frame * 160 + 400] * hann
        power = np.array([
            abs(sum(window * np.exp(-2j * np.pi * k * np.arange(400) / 400))) ** 2 for k in range(201)
        ])  # fmt: skip
        expected = [sum(filters[band] * power) for band in range(40)]
        assert found[frame] == pytest.approx(expected, rel=1e-4)


def test_mel_filters_are_triangles_of_equal_area() -> None:
    filters = voices._mel_filters()
    assert filters.shape == (40, 201) and (filters >= 0).all()
    assert (filters.sum(axis=1) * 40.0)[15:] == pytest.approx(np.ones(25), rel=0.05)  # bins are 40 Hz apart
    peaks = filters.argmax(axis=1) * 40.0
    assert (np.diff(peaks) > 0).all() and abs(peaks[-1] - 7400) < 41


def test_windows_lie_as_resemblyzer_lays_them() -> None:
    assert voices.window_starts(1600) == [0]
    assert voices.window_starts(25_600) == [0]
    assert voices.window_starts(52_345) == [0, 77, 154]
    assert voices.window_starts(16_000 * 5)[:3] == [0, 77, 154]


@pytest.mark.slow  # numba compiles for ten seconds
def test_the_same_bands_as_librosa_would_give() -> None:
    librosa = pytest.importorskip("librosa", reason="librosa is not installed: an oracle")
    samples = np.random.default_rng(1).standard_normal(20_000).astype(np.float32)
    theirs = librosa.feature.melspectrogram(y=samples, sr=16_000, n_fft=400, hop_length=160, n_mels=40).T
    assert voices.mel(samples) == pytest.approx(theirs, rel=1e-4, abs=1e-6)
