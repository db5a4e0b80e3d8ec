"""Encoders of other people on real things: `python -m benchmarks.adapters [faces] [lfw3d] [voices]`.

faces   ten people x ten photographs of LFW: how many are refused, EER of all pairs, rank-1 by one of them
lfw3d   View 1 DevTest of LFW3D (frontalized, cropped; detector "whole"): EER, accuracy at the threshold of
        dlib and at the one that is best on 600 pairs of DevTrain, whose people are others
voices  FSDD speakers: EER of all pairs of single digits (0.4 s) and of ten digits in a row, rank-1 by five

None of these encoders was trained here. dlib's and Resemblyzer's were trained on outside data, so that their
figures stand beside no protocol that allows only the training data given. Intervals resample people.
"""

from __future__ import annotations

import io
import sys
import time
import wave
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import encoders
from benchmarks import data_sets, report
from benchmarks.tasks import base, recordings
from encoders import evaluation, resampling, verification
from encoders.errors import EncodeError

Pair = tuple[str, str, bool]
TRAINING_PAIRS = 300  # of each kind, on which LFW3D's threshold is chosen
SPOKEN = 10  # recordings 0 to 9 of each digit and speaker


def embedded(encoder: Any, items: Sequence[Any]) -> tuple[base.Floats, list[int], list[str]]:
    """(rows, the items that have one, why the others have none), one item at a time."""
    rows, kept, refused = [], [], []
    for at, item in enumerate(items):
        try:
            rows.append(encoder.encode([item])[0])
            kept.append(at)
        except EncodeError as error:
            refused.append(error.reason)
    return np.stack(rows), kept, refused


@dataclass(frozen=True, slots=True)
class Compared:
    """n pairs: their distances, and the person on each side as a number."""

    apart: base.Floats
    left: base.Ints
    right: base.Ints

    @property
    def mated(self) -> np.ndarray:
        return self.left == self.right


def all_pairs(apart: base.Floats, owners: np.ndarray) -> Compared:
    """Every pair of items once."""
    _, people = np.unique(owners, return_inverse=True)
    left, right = np.triu_indices(len(people), 1)
    return Compared(apart[left, right], people[left], people[right])


def described(pairs: Compared, threshold: float | None = None) -> dict[str, Any]:
    """EER with its interval, which resamples people; the rates at a threshold."""
    same = pairs.mated
    held = verification.Comparisons(pairs.apart[same], pairs.apart[~same])
    error, at = verification.eer(held.curve())

    def drawn(times: np.ndarray) -> float | None:
        mated, other = times[pairs.left[same]], (times[pairs.left] * times[pairs.right])[~same]
        return verification.eer(held.curve(mated, other))[0] if mated.any() and other.any() else None

    people = 1 + int(max(pairs.left.max(), pairs.right.max()))
    rng = np.random.default_rng(2026)
    rate = resampling.interval(error, len(pairs.apart), people, drawn, rng)
    found: dict[str, Any] = {"eer": asdict(rate), "eer_threshold": at}
    found |= {"mated": int(same.sum()), "non_mated": int((~same).sum())}
    if threshold is not None:
        accepted = pairs.apart <= threshold
        rates = {"fmr": float(accepted[~same].mean()), "fnmr": float(1 - accepted[same].mean())}
        found["at_threshold"] = {"threshold": threshold, **rates}
    return found


def rank_one(apart: base.Floats, owners: np.ndarray, enrolled: int, times: int = 20) -> dict[str, Any]:
    """How often the nearest of `enrolled` templates a person is that person's, over random draws."""
    values, about = [], []
    for held, asked in base.draws(owners, enrolled, times, seed=2026):
        right = base.nearest(apart[np.ix_(asked, held)], owners[held]) == owners[asked]
        values.append(right.astype(np.float64))
        about.append(owners[asked])
    rng = np.random.default_rng(2026)
    return asdict(resampling.mean(np.concatenate(values), np.concatenate(about), rng))


def faces() -> dict[str, Any]:
    """lfw10_250px, with what is refused counted and left out."""
    files = sorted((data_sets.folder("lfw10_250px") / "images").rglob("*.jpg"))
    found: dict[str, Any] = {"photographs": len(files), "people": len({file.parent for file in files})}
    for several in ("refuse", "largest"):
        encoder = encoders.load("faces", several=several)
        begun = time.process_time()
        rows, kept, refused = embedded(encoder, files)
        seconds = (time.process_time() - begun) / len(files)
        owners = np.array([files[at].parent.name for at in kept])
        apart = evaluation.distances(rows, rows, encoder.metric)
        found[f"several_{several}"] = {
            "refused": refused, "cpu_seconds_each": seconds,
            **described(all_pairs(apart, owners), encoder.threshold),
            "rank_1_by_one": rank_one(apart, owners, 1),
        }  # fmt: skip
    return found


def listed_pairs(path: Path, most: int | None = None) -> list[Pair]:
    """(file, file, mated) of a pair list of LFW; `most` of each kind, from the front."""
    found: list[Pair] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        parts = line.split("\t")
        if len(parts) == 3:
            found.append((named(parts[0], parts[1]), named(parts[0], parts[2]), True))
        elif len(parts) == 4:
            found.append((named(parts[0], parts[1]), named(parts[2], parts[3]), False))
    return [pair for kind in (True, False) for pair in [p for p in found if p[2] is kind][:most]]


def named(person: str, number: str) -> str:
    return f"{person}/{person}_{int(number):04}.jpg"


def lfw3d() -> dict[str, Any]:
    """DevTest, with the threshold of dlib and with the one that suits DevTrain."""
    folder = data_sets.folder("lfw3d_crop90")
    encoder = encoders.load("faces", detector="whole")
    tested = listed_pairs(folder / "pairsDevTest.txt")
    trained = listed_pairs(folder / "pairsDevTrain.txt", TRAINING_PAIRS)
    people = [{name.split("/")[0] for p in part for name in p[:2]} for part in (tested, trained)]
    if shared := people[0] & people[1]:
        raise ValueError(f"{len(shared)} people are in DevTest and in DevTrain")
    with zipfile.ZipFile(folder / "lfw3d_crop90.zip") as held:
        names = sorted({name for pair in tested + trained for name in pair[:2]})
        rows = dict(zip(names, encoder.encode([held.read(name) for name in names]), strict=True))
    test, train = compared(tested, rows), compared(trained, rows)
    same = train.mated
    held = verification.Comparisons(train.apart[same], train.apart[~same])
    accuracy, best = verification.best_accuracy(held.curve())
    about = [pair[0].split("/")[0] for pair in tested]
    return {
        "pairs": len(tested), "people": len(people[0]), **described(test, encoder.threshold),
        "accuracy_at_dlibs_threshold": base.rate([answers(test, encoder.threshold, about)]),
        "accuracy_at_devtrains_threshold": base.rate([answers(test, best, about)]),
        "devtrain": {"pairs": len(trained), "threshold": best, "accuracy": accuracy},
    }  # fmt: skip


def compared(listed: list[Pair], rows: dict[str, base.Floats]) -> Compared:
    """The distances of listed pairs."""
    apart = [float(np.linalg.norm(rows[left] - rows[right])) for left, right, _ in listed]
    owners = [name.split("/")[0] for side in (0, 1) for name in [pair[side] for pair in listed]]
    _, people = np.unique(owners, return_inverse=True)
    return Compared(np.array(apart, np.float32), people[: len(listed)], people[len(listed) :])


def answers(pairs: Compared, threshold: float, about: list[str]) -> base.Answers:
    """Which pairs a threshold decides rightly."""
    return base.Answers(((pairs.apart <= threshold) == pairs.mated).astype(np.float32), about)


def voices() -> dict[str, Any]:
    """FSDD: recordings 0 to 9 of each digit and speaker."""
    held, encoder = recordings.load(), encoders.load("voices", device="cpu")
    chosen = np.flatnonzero(held.numbers < SPOKEN)
    owners = held.speakers[chosen]
    begun = time.process_time()
    rows = encoder.encode([held.wavs[at] for at in chosen])
    seconds = (time.process_time() - begun) / len(chosen)
    joined = [
        (speaker, [held.wavs[at] for at in chosen[(owners == speaker) & (held.numbers[chosen] == number)]])
        for speaker in np.unique(owners) for number in range(SPOKEN)
    ]  # fmt: skip
    long = encoder.encode([in_a_row(wavs) for _, wavs in joined])
    speakers = np.array([speaker for speaker, _ in joined])
    found: dict[str, Any] = {"speakers": len(np.unique(owners)), "cpu_seconds_each": seconds}
    for name, each, people, enrolled in (
        ("one_digit", rows, owners, 5), ("ten_digits", long, speakers, 1)
    ):  # fmt: skip
        apart = evaluation.distances(each, each, encoder.metric)
        found[name] = {"recordings": len(each), **described(all_pairs(apart, people))}
        found[name][f"rank_1_by_{enrolled}"] = rank_one(apart, people, enrolled)
    return found


def in_a_row(wavs: list[bytes]) -> bytes:
    """Several WAV files of one kind as one."""
    out = io.BytesIO()
    with wave.open(out, "wb") as joined:
        for at, content in enumerate(wavs):
            with wave.open(io.BytesIO(content)) as file:
                if at == 0:
                    joined.setparams(file.getparams())
                joined.writeframes(file.readframes(file.getnframes()))
    return out.getvalue()


MEASURED: dict[str, Callable[[], dict[str, Any]]] = {"faces": faces, "lfw3d": lfw3d, "voices": voices}


def main(argv: Sequence[str] | None = None) -> int:
    """Measures those named, or all, and writes each into benchmarks/results/adapters.json."""
    wanted = list(argv if argv is not None else sys.argv[1:]) or list(MEASURED)
    try:
        results = report.read("adapters")
    except FileNotFoundError:
        results = {}
    for name in wanted:
        results[name] = MEASURED[name]()
        print(name, {key: value for key, value in results[name].items() if key != "refused"}, flush=True)
        report.write("adapters", {key: value for key, value in results.items() if key != "machine"})
    return 0


if __name__ == "__main__":
    sys.exit(main())
