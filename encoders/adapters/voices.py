"""Voices: the speaker encoder of Resemblyzer (Wan et al. 2018, GE2E), who speaks rather than what is said.

Only the weights that the package resemblyzer carries are used: its code needs packages that no longer install
beside a new Python, so that the preparation is written anew here. Like there: 16 kHz, volume raised to -30
dBFS, 40 mel bands of 25 ms every 10 ms, windows of 1.6 s averaged. Unlike there: pauses are found by their
loudness, not by webrtcvad.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from encoders import batches
from encoders.adapters.base import Adapter, Array, hash_of_files
from encoders.errors import EncoderError
from encoders.network import best_device
from encoders.packages import files_of, versions
from encoders.sound import resampled, samples_of
from encoders.spec import hash_of

REVISION = "voices/1"
RATE, STEP, WINDOW, BANDS, FRAMES = 16_000, 160, 400, 40, 160  # frames are 10 ms apart; a window has 160
PER_SECOND, COVERED = 1.3, 0.75  # windows a second; the share of the last one that must be sound
QUIET, KEPT_PAUSE = 35.0, 18  # decibels below the loudest that count as a pause; frames of it that stay
TINY, HUGE = 1e-20, 1e6  # the largest sample: beyond, float32 overflows
INAUDIBLE = 1e-6  # of the power: what is left of a tone that 16 kHz cannot hold is rounding
LOUDNESS, LEAST = -30.0, 0.1  # dBFS; seconds of speech


class SpeakerNetwork(nn.Module):
    """Mel spectrograms (n, 160, 40) -> (n, 256): three layers of LSTM, a linear one, unit length."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(BANDS, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, 256)

    def forward(self, mels: Tensor) -> Tensor:
        _, (hidden, _) = self.lstm(mels)
        return nn.functional.normalize(torch.relu(self.linear(hidden[-1])), dim=1)


class VoiceEncoder(Adapter):
    """Recordings -> (n, 256), cosine. An item is a WAV file (path or bytes), samples at 16 kHz, or a pair
    (samples, rate). Silence, NaN and less than a tenth of a second of sound are refused.
    """

    suffixes: ClassVar[frozenset[str] | None] = frozenset({".wav", ".wave"})

    def __init__(self, device: str | None = None) -> None:
        super().__init__("voices", dim=256, metric="cosine")
        lighter = "pip install --no-deps resemblyzer"
        weights = files_of("resemblyzer", "voices", lighter) / "pretrained.pt"
        self.device = best_device(device)
        with torch.random.fork_rng(devices=[]):
            self.network = SpeakerNetwork()
        self.network.load_state_dict(_weights(weights))
        self.network.eval().to(self.device)
        settings = {"rate": RATE, "quiet": QUIET, "pause": KEPT_PAUSE, "loudness": LOUDNESS}
        parts = {"weights": hash_of_files(weights), "preprocessing": hash_of(settings)}
        self.identify(REVISION, parts, versions("resemblyzer", "torch", "numpy"))

    @property
    def canary(self) -> Any:
        """A made-up vowel, for galleries to embed whenever they are opened."""
        time = np.arange(RATE) / RATE
        pitch = 2 * np.pi * (120 * time + 8 * time**2)
        vowel = sum(np.sin(n * pitch) / (1 + abs(n - 6)) for n in range(1, 20))
        return np.asarray(vowel * np.sin(np.pi * time) / 10, np.float32)

    def _read(self, item: Any) -> NDArray[np.float32]:
        """The windows of a recording, (windows, 160, 40)."""
        samples, rate = samples_of(item, RATE)
        if not 1_000 <= rate <= 768_000:
            raise ValueError(f"{rate:,} samples a second: 1,000 to 768,000 can be read")
        speech = without_pauses(louder(_audible(samples, resampled(samples, rate, RATE))))
        if len(speech) < LEAST * RATE:
            raise ValueError(f"{len(speech) / RATE:.2f} seconds of sound: at least {LEAST} are needed")
        starts = window_starts(len(speech))
        speech = np.pad(speech, (0, max(0, (starts[-1] + FRAMES) * STEP - len(speech))))
        bands = mel(speech)
        return np.stack([bands[start : start + FRAMES] for start in starts])

    def _embed(self, chunk: list[NDArray[np.float32]]) -> Array:
        owner = np.repeat(np.arange(len(chunk)), [len(windows) for windows in chunk])
        rows = np.concatenate([self._windows(group) for group in batches.chunks(iter(np.concatenate(chunk)))])
        means = [rows[owner == at].mean(axis=0, dtype=np.float64) for at in range(len(chunk))]
        return np.stack(means).astype(np.float32)

    def _windows(self, group: list[NDArray[np.float32]]) -> Array:
        batch = np.zeros((batches.CHUNK, FRAMES, BANDS), np.float32)
        batch[: len(group)] = group
        with torch.inference_mode(), batches.exact(self.device):
            found = self.network.eval()(torch.from_numpy(batch).to(self.device))
        rows: Array = found[: len(group)].float().cpu().numpy()
        return rows


def adapt(name: str, device: str | None = None) -> VoiceEncoder:
    """`encoders.load("voices")`."""
    return VoiceEncoder(device)


def _audible(samples: Array, kept: Array) -> Array:
    """`kept` of the samples, at 16 kHz; ValueError where next to nothing is, or the scale is not sound's."""
    peak = float(np.abs(samples).max())
    if not TINY <= peak <= HUGE:
        raise ValueError(f"its largest sample is {peak:.2g}: those of a recording lie within -1 to 1")
    powers = [float(np.mean(np.square(part, dtype=np.float64))) for part in (samples, kept)]
    if powers[1] <= powers[0] * INAUDIBLE:
        raise ValueError(f"there is nothing to hear below {RATE // 2:,} Hz")
    return kept


def louder(samples: Array) -> Array:
    """The recording at -30 dBFS, where it is quieter than that."""
    loudness = 10 * np.log10(np.mean(np.square(samples, dtype=np.float64)))
    return samples * np.float32(10 ** (max(0.0, LOUDNESS - loudness) / 20))


def without_pauses(samples: Array) -> Array:
    """The recording with pauses cut to 0.18 s: stretches of frames 35 dB below the loudest one."""
    count = len(samples) // STEP
    if count < 2:
        return samples
    power = np.square(samples[: count * STEP].reshape(count, STEP), dtype=np.float64).mean(axis=1)
    heard = power >= power.max() * 10 ** (-QUIET / 10)
    half = KEPT_PAUSE // 2
    near = np.convolve(heard, np.ones(2 * half + 1))[half : half + count] > 0
    kept = np.repeat(near, STEP)
    return np.concatenate([samples[: count * STEP][kept], samples[count * STEP :]])


def window_starts(samples: int) -> list[int]:
    """The first frames of the windows of a recording of so many samples, as Resemblyzer lays them."""
    frames = -(-(samples + 1) // STEP)
    apart = round(RATE / PER_SECOND / STEP)
    starts = list(range(0, max(1, frames - FRAMES + apart + 1), apart))
    covered = (samples - starts[-1] * STEP) / (FRAMES * STEP)
    return starts[:-1] if covered < COVERED and len(starts) > 1 else starts


def mel(samples: Array) -> Array:
    """Power in 40 mel bands, (frames, 40), as librosa's melspectrogram with a window of 25 ms computes it."""
    padded = np.pad(samples, WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::STEP]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    power = np.abs(np.fft.rfft(frames * hann, axis=1)) ** 2
    return (power @ _mel_filters().T).astype(np.float32)


def _mel_filters() -> NDArray[np.float64]:
    """(40, 201) triangles of equal area on Slaney's mel scale (1998), 0 to 8 kHz."""
    edges = _hertz(np.linspace(0, _mels(RATE / 2), BANDS + 2))
    bins = np.linspace(0, RATE / 2, WINDOW // 2 + 1)
    left, middle, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (bins - left) / (middle - left), (right - bins) / (right - middle)
    triangles: NDArray[np.float64] = np.maximum(0, np.minimum(rising, falling)) * 2 / (right - left)
    return triangles


def _mels(hertz: float) -> float:
    return float(15 + 27 * np.log(hertz / 1000) / np.log(6.4))


def _hertz(mels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear up to 1 kHz (15 mels), logarithmic above."""
    return np.where(mels < 15, mels * 200 / 3, 1000 * np.exp(np.log(6.4) / 27 * (mels - 15)))


def _weights(path: Path) -> dict[str, Tensor]:
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
        return {name: held[name] for name in SpeakerNetwork().state_dict()}
    except Exception as exc:  # torch names no root for what an unreadable file raises
        raise EncoderError(f"{path} does not hold the weights of Resemblyzer's encoder: {exc}") from exc
