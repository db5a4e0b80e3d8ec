"""Omniglot and the digits, one-shot: `python -m benchmarks.omniglot [--encoder glyph]`.

`python -m benchmarks.omniglot export background.npz` writes what `encoders train` takes.
Error on the 20 fixed runs and on sampled within-alphabet episodes, beside raw pixels and published figures;
verification on the evaluation half at the recommended threshold; one-shot accuracy on scikit-learn's digits.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import encoders
from benchmarks import omniglot_data, one_shot, report
from encoders import evaluation

Floats = NDArray[np.float32]

# Error on the 20 fixed runs, as collected by Lake, Salakhutdinov, Tenenbaum, "The Omniglot challenge:
# a 3-year progress report", 2019.
PUBLISHED = {
    "ARC (Shyam et al. 2017)": 0.015,
    "BPL (Lake et al. 2015)": 0.033,
    "people": 0.045,
    "Siamese network (Koch et al. 2015)": 0.080,
    "prototypical networks (Snell et al. 2017, in Lake et al. 2019)": 0.137,
    "modified Hausdorff distance": 0.388,
}

PROTOCOLS = {
    "fixed": "20 runs x 20 trials of Lake et al.; 95 % interval from resampling runs",
    "sampled": f"{one_shot.EPISODES:,} within-alphabet {one_shot.WAYS}-way episodes of any two drawers, "
    f"20 alphabets, seed {one_shot.SEED}; 95 % interval from resampling alphabets",
    "digits": f"10-way, one image each enrolled, {one_shot.DRAWS:,} random draws",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark, or the export."""
    arguments = _parser().parse_args(argv)
    if arguments.what == "export":
        print(f"{arguments.path}: {omniglot_data.export(Path(arguments.path)):,} pictures")
        return 0
    results = measure(encoders.load(arguments.encoder))
    print(table(results))
    print(f"written: {report.write('omniglot', results, Path(arguments.results)).name}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.omniglot")
    parser.add_argument("what", nargs="?", choices=("measure", "export"), default="measure")
    parser.add_argument("path", nargs="?", default="background.npz", help="of the export")
    parser.add_argument("--encoder", default="glyph", help="a shipped name or a checkpoint folder")
    parser.add_argument("--results", default=str(report.RESULTS), help="folder for omniglot.json")
    return parser


def measure(encoder: Any) -> dict[str, Any]:
    """All protocols for one encoder and for raw pixels, as plain JSON values."""
    data, runs = omniglot_data.characters("evaluation"), omniglot_data.fixed_runs()
    begun = time.perf_counter()
    embeddings = encoder.encode(data.images)
    rate = len(data.images) / (time.perf_counter() - begun)
    return {
        "encoder": {"name": encoder.name, "fingerprint": encoder.fingerprint, "threshold": encoder.threshold},
        "protocols": PROTOCOLS,
        encoder.name: {
            "fixed": asdict(one_shot.fixed(runs, encoder.encode, encoder.metric)),
            "sampled": asdict(one_shot.sampled(data, embeddings, encoder.metric)),
        },
        "raw pixels": {
            "fixed": asdict(one_shot.fixed(runs, pixels, "euclidean")),
            "sampled": asdict(one_shot.sampled(data, pixels(data.images), "euclidean")),
        },
        "published_fixed": PUBLISHED,
        "verification": verification(data, embeddings, encoder),
        "digits": digits(encoder),
        "speed": speed(encoder, data) | {"encoded_per_second": round(rate, 1)},
    }


def pixels(images: Sequence[Any]) -> Floats:
    """Ink as it is, flattened: (n, 105 * 105) in [0, 1]."""
    light = [np.asarray(image, dtype=np.float32).reshape(-1) for image in images]
    return np.stack([1.0 - row / row.max() for row in light])


def verification(data: omniglot_data.Characters, embeddings: Floats, encoder: Any) -> dict[str, Any]:
    """EER, and FMR and FNMR at the recommended threshold, over all pairs of the first ten drawers."""
    chosen = data.drawer <= 10
    subjects = np.unique(np.char.add(data.alphabet, data.character.astype(str)), return_inverse=True)[1]
    mated, other = evaluation.comparisons(embeddings[chosen], subjects[chosen], encoder.metric)
    strict = evaluation.threshold_at_fmr(other, 0.001)
    at = strict if encoder.threshold is None else encoder.threshold
    return {
        "eer": evaluation.eer(mated, other)[0],
        "threshold": at,
        "fmr": evaluation.fmr_at(other, at),
        "fnmr": evaluation.fnmr_at(mated, at),
        "at_fmr_0.1%": {"threshold": strict, "fnmr": evaluation.fnmr_at(mated, strict)},
        "mated": len(mated),
        "non_mated": len(other),
    }


def digits(encoder: Any) -> dict[str, Any]:
    """scikit-learn's 8 x 8 digits, light on dark: the encoder, raw pixels, pixels after its preprocessing."""
    from sklearn.datasets import load_digits

    held = load_digits()
    images = (held.images * (255.0 / 16.0)).astype(np.uint8)
    prepared = np.stack([encoder.preprocess(image).reshape(-1) for image in images])
    ways = {
        encoder.name: (encoder.encode(images), encoder.metric),
        "raw pixels": (held.images.reshape(len(images), -1).astype(np.float32), "euclidean"),
        "preprocessed pixels": (prepared, "euclidean"),
    }
    return {name: one_shot.digits(held.target, vectors, metric) for name, (vectors, metric) in ways.items()}


def speed(encoder: Any, data: omniglot_data.Characters) -> dict[str, float]:
    """Median milliseconds to encode one picture alone."""
    times = []
    for image in data.images[:60]:
        begun = time.perf_counter()
        encoder.encode([image])
        times.append(time.perf_counter() - begun)
    return {"one_picture_ms": round(1000 * float(np.median(times)), 2)}


def table(results: dict[str, Any]) -> str:
    """The results for people."""
    name = results["encoder"]["name"]
    lines = [f"{'error, 20-way one-shot':58} {'fixed runs':>24} {'sampled episodes':>24}"]
    for way in (name, "raw pixels"):
        cells = [_rate(results[way][protocol]) for protocol in ("fixed", "sampled")]
        lines.append(f"{way:58} {cells[0]:>24} {cells[1]:>24}")
    lines += [f"{who:58} {error:>24.1%}" for who, error in results["published_fixed"].items()]
    lines.append("\ndigits, 10-way one-shot accuracy (95 % of draws)")
    lines += [f"{way:58} {_accuracy(found)}" for way, found in results["digits"].items()]
    found = results["verification"]
    lines.append(f"\nverification on unseen alphabets: EER {found['eer']:.2%}; at the recommended threshold")
    lines.append(f"{found['threshold']:.4f} FMR {found['fmr']:.3%}, FNMR {found['fnmr']:.1%}")
    return "\n".join(lines)


def _rate(found: dict[str, Any]) -> str:
    return f"{found['value']:.1%} [{found['low']:.1%}, {found['high']:.1%}]"


def _accuracy(found: dict[str, Any]) -> str:
    return f"{found['accuracy']:.1%} [{found['low']:.1%}, {found['high']:.1%}]"


if __name__ == "__main__":
    sys.exit(main())
