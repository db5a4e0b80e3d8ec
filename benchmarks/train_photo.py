"""Trains the encoder `photo` that ships: `python -m benchmarks.train_photo --output photo`.

Grocery (MIT) and clothing (CC0) photographs, nine in ten of them; the rest sets the threshold. Only made
copies are mated pairs, so no label is used. One seed; the weights are the same again on the same machine,
library versions and number of threads. `--calibrate photo` sets the threshold and writes the card again.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks import photo_card, photos
from encoders import checkpoint
from encoders.copies import pictures
from encoders.copy_training import CopySettings, spec_of, train_on_copies
from encoders.siamese import SiameseEncoder

Floats = NDArray[np.float32]
FMR = 5e-5
HELD_OUT = 26 / 256  # of the pictures, by a hash of their names
KINDS = photos.COPIES | photos.MORE | photos.BEYOND


def main(argv: Sequence[str] | None = None) -> int:
    """Trains, sets the threshold, writes the checkpoint and its card."""
    arguments = _parser().parse_args(argv)
    torch.set_num_threads(arguments.threads)
    data = [item for name in photos.FREE for item in photos.stored(name)]
    held = [item for item in data if is_held_out(item[0])]
    if arguments.calibrate:
        encoder, seconds = checkpoint.load(arguments.calibrate), None
    else:
        encoder, seconds = _trained(arguments, [item for item in data if not is_held_out(item[0])])
    print(f"setting the threshold on {len(held)} held-out pictures", file=sys.stderr)
    evidence = measure(encoder, [data for _, data in held])
    finished = finish(encoder, evidence, arguments.fmr, seconds)
    checkpoint.save(finished, arguments.output)
    print(finished.card)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.train_photo")
    parser.add_argument("--output", type=Path, required=True, help="the checkpoint folder to write")
    parser.add_argument("--steps", type=int, default=CopySettings().steps)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: 1, as the shipped one)")
    parser.add_argument("--fmr", type=float, default=FMR, help="false match rate the threshold is set for")
    parser.add_argument("--calibrate", metavar="FOLDER", help="only set the threshold of this checkpoint")
    return parser


def is_held_out(name: str) -> bool:
    """True for one picture in ten, whatever the order and number of the others."""
    return hashlib.sha256(name.encode()).digest()[0] < 256 * HELD_OUT


def _trained(
    arguments: argparse.Namespace, data: Sequence[tuple[str, bytes]]
) -> tuple[SiameseEncoder, float]:
    settings = CopySettings(steps=arguments.steps, seed=arguments.seed)
    versions = {name: version(name) for name in ("numpy", "pillow", "torch")}
    facts = {"training": settings.to_json() | {"pictures": len(data)}}
    spec = replace(spec_of(settings, "photo"), versions=versions, facts=facts)
    images = pictures([item for _, item in data])
    begun = time.monotonic()
    with tqdm(total=settings.steps, unit="step") as bar:

        def report(step: int, loss: float) -> None:
            bar.update()
            bar.set_postfix_str(f"loss {loss:.3f}")

        network = train_on_copies(images, spec, settings, report)
    return SiameseEncoder(spec, network), time.monotonic() - begun


@dataclass(frozen=True, slots=True)
class Evidence:
    """Distances on held-out pictures: all non-mated pairs, sorted, and each picture to its copies by kind."""

    non_mated: Floats
    mated: dict[str, Floats]


def measure(encoder: SiameseEncoder, data: Sequence[bytes]) -> Evidence:
    """Embeds the pictures and a copy of each kind of each."""
    originals = encoder.encode(data).astype(np.float64)
    made = [photos.copies(item, KINDS) for item in data]
    mated = {
        kind: (1 - (originals * encoder.encode([m[kind] for m in made])).sum(axis=1)).astype(np.float32)
        for kind in KINDS
    }
    upper = np.triu_indices(len(data), 1)
    return Evidence(np.sort((1 - originals @ originals.T)[upper]).astype(np.float32), mated)


def finish(encoder: SiameseEncoder, evidence: Evidence, fmr: float, seconds: float | None) -> SiameseEncoder:
    """The same network with its threshold, its facts and its card."""
    threshold = threshold_at(evidence.non_mated, fmr)
    training: dict[str, Any] = dict(encoder.spec.facts.get("training", {}))
    if seconds is not None:
        training["minutes"] = round(seconds / 60, 1)
    validation = {
        "pictures": len(next(iter(evidence.mated.values()))),
        "non_mated": len(evidence.non_mated),
        "nearest_non_mated": round(float(evidence.non_mated[0]), 4),
        "fnmr": {kind: round(float((found > threshold).mean()), 4) for kind, found in evidence.mated.items()},
    }
    facts = {"training": training, "validation": validation}
    spec = replace(encoder.spec, threshold=threshold, threshold_fmr=fmr, facts=facts)
    card = photo_card.text(spec, encoder.fingerprint, sum(p.numel() for p in encoder.network.parameters()))
    return SiameseEncoder(spec, encoder.network, card)


def threshold_at(non_mated: Floats, fmr: float) -> float:
    """The largest distance of four digits that accepts at most `fmr` of the sorted non-mated pairs."""
    first_refused = float(non_mated[int(fmr * len(non_mated))])
    return float(np.ceil(first_refused * 1e4) - 1) / 1e4


if __name__ == "__main__":
    sys.exit(main())
