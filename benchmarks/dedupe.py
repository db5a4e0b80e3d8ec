"""Made copies with known truth through `gallery.find_duplicates`: `python -m benchmarks.dedupe`.

300 photographs of the ImageNet sample and four made copies of each (half size, JPEG quality 40, centre crop
85 % a side, brightness x 1.3), 1,500 files, with the defaults. Then all 1,000 originals, no two alike.

Pairs: a found pair is two files of one group, a true pair two files made from one photograph (10 each).
Precision and recall are counted over all pairs, recall by kind over the pairs (original, copy of that kind).
Groups: one is whole when it holds all five files of a photograph and no other, mixed when it holds files of
two or more. The baseline is the 64-bit difference hash (dHash) at several radii, grouped much the same way.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

import encoders
from benchmarks import photos, report
from gallery.dedupe import find_duplicates
from gallery.duplicates import Duplicates

RADII = (0, 2, 4, 8, 10, 12)
FLOOR_RECALL, FLOOR_PRECISION = 0.95, 0.99
ORIGINAL = "original"
Labels = dict[str, str]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; 1 when the floor is missed."""
    arguments = _parser().parse_args(argv)
    encoder = encoders.load(arguments.encoder)
    with tempfile.TemporaryDirectory() as folder:
        results = measure(encoder, Path(folder), arguments.pictures)
    print(table(results))
    print(f"written: {report.write('dedupe', results, Path(arguments.results)).name}")
    met = results["pairs"]["recall"] >= FLOOR_RECALL and results["pairs"]["precision"] >= FLOOR_PRECISION
    return 0 if met else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.dedupe")
    parser.add_argument("--encoder", default="photo", help="a shipped name or a checkpoint folder")
    parser.add_argument("--pictures", type=int, default=300, help="how many photographs get copies")
    parser.add_argument("--results", default=str(report.RESULTS), help="folder for dedupe.json")
    return parser


def measure(encoder: Any, folder: Path, count: int) -> dict[str, Any]:
    """Everything that goes into the JSON."""
    load = round(os.getloadavg()[0], 1)  # what else ran on the machine: a speed means little without it
    pool = photos.stored(photos.POOL)
    copied, originals = folder / "copied", folder / "originals"
    labels = lay_out(copied, pool[:count], photos.COPIES)
    lay_out(originals, pool, {})
    found, seconds = timed(copied, encoder)
    alone, alone_seconds = timed(originals, encoder)
    hashes = {name: difference_hash(copied / name) for name in labels}
    false = [[Path(g.keeper).name, Path(g.weakest.path).name, g.weakest.distance] for g in alone.groups]
    return {
        "encoder": {"name": encoder.name, "fingerprint": encoder.fingerprint},
        "threshold": found.threshold,
        "pictures": count,
        "files": len(labels),
        "pairs": score(names(found), labels),
        "groups": whole_groups(names(found), labels),
        "images_per_second": round((len(labels) + len(pool)) / (seconds + alone_seconds), 1),
        "torch_threads": torch.get_num_threads(),
        "load_before": load,
        "originals": {"files": len(pool), "groups": len(false), "false": false},
        "baseline": {str(radius): score(hash_groups(hashes, radius), labels) for radius in RADII},
    }


def lay_out(folder: Path, pool: Iterable[tuple[str, bytes]], kinds: dict[str, Any]) -> Labels:
    """Writes the originals and their copies into `folder`; {file name: "photograph/kind"}."""
    folder.mkdir()
    labels: Labels = {}
    for name, data in pool:
        files = {ORIGINAL: data, **photos.copies(data, kinds)}
        for number, (kind, held) in enumerate(files.items()):
            file = f"{Path(name).stem}_{number}.jpg"
            (folder / file).write_bytes(held)
            labels[file] = f"{name}/{kind}"
    return labels


def timed(folder: Path, encoder: Any) -> tuple[Duplicates, float]:
    """The answer and the seconds from the folder to the groups."""
    begun = time.perf_counter()
    with tqdm(unit="image", leave=False) as bar:

        def progress(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        found = find_duplicates(folder, encoder, progress=progress)
    return found, time.perf_counter() - begun


def names(found: Duplicates) -> list[list[str]]:
    """The file names of each group, the keeper first."""
    return [[Path(p).name for p in (g.keeper, *(m.path for m in g.members))] for g in found.groups]


def score(groups: Sequence[Sequence[str]], labels: Labels) -> dict[str, Any]:
    """Precision and recall over pairs, and recall by kind of copy."""
    pairs = [pair for group in groups for pair in combinations(group, 2)]
    good = [(a, b) for a, b in pairs if _photograph(labels[a]) == _photograph(labels[b])]
    sizes = Counter(_photograph(label) for label in labels.values())
    true = sum(size * (size - 1) // 2 for size in sizes.values())
    kinds = Counter(_kind(labels[x]) for pair in good for x in pair if _original(pair, labels))
    copied = Counter(_kind(label) for label in labels.values())
    return {
        "found": len(pairs),
        "right": len(good),
        "true": true,
        "precision": len(good) / len(pairs) if pairs else 1.0,
        "recall": len(good) / true,
        "recall_by_kind": {kind: kinds[kind] / number for kind, number in copied.items() if kind != ORIGINAL},
    }


def whole_groups(groups: Sequence[Sequence[str]], labels: Labels) -> dict[str, int]:
    """How many photographs have all their files, and no other, in one group; how many groups are mixed."""
    sizes = Counter(_photograph(label) for label in labels.values())
    inside = [{_photograph(labels[name]) for name in group} for group in groups]
    whole = sum(
        len(found) == 1 and len(group) == sizes[next(iter(found))]
        for found, group in zip(inside, groups, strict=True)
    )
    return {"found": len(groups), "whole": whole, "of": len(sizes), "mixed": sum(len(f) > 1 for f in inside)}


def difference_hash(path: Path) -> np.ndarray:
    """The 64 bits of dHash: which of each two neighbours of a 9 x 8 grey picture is brighter."""
    grey = np.asarray(Image.open(path).convert("L").resize((9, 8), Image.Resampling.LANCZOS), np.int16)
    return (grey[:, 1:] > grey[:, :-1]).ravel()


def hash_groups(hashes: dict[str, np.ndarray], radius: int) -> list[list[str]]:
    """Groups by Hamming distance: in the order of the names, each hash takes what is near and still free."""
    order = sorted(hashes)
    bits = np.stack([hashes[name] for name in order])
    free = np.ones(len(order), bool)
    groups = []
    for at in range(len(order)):
        if free[at]:
            near = np.flatnonzero(((bits != bits[at]).sum(axis=1) <= radius) & free)
            free[near] = False
            groups.append([order[i] for i in near])
    return [group for group in groups if len(group) > 1]


def table(results: dict[str, Any]) -> str:
    """The results for people."""
    pairs, groups, alone = results["pairs"], results["groups"], results["originals"]
    lines = [
        f"{results['files']:,} files, encoder {results['encoder']['name']}, threshold {results['threshold']}",
        f"pairs   precision {pairs['precision']:.4f}  recall {pairs['recall']:.4f}"
        f"  ({pairs['right']:,} right of {pairs['found']:,} found and {pairs['true']:,} true)",
        f"groups  {groups['whole']} of {groups['of']} whole, {groups['mixed']} mixed",
        *(f"  recall {kind:<18} {value:.4f}" for kind, value in pairs["recall_by_kind"].items()),
        f"{alone['files']:,} originals, no two alike: {alone['groups']} false groups",
        f"{results['images_per_second']:.0f} images a second, all included, on {results['torch_threads']} "
        f"threads (load before: {results['load_before']})",
        "baseline, 64-bit dHash:",
    ]
    for radius, found in results["baseline"].items():
        kinds = "  ".join(f"{value:.3f}" for value in found["recall_by_kind"].values())
        line = f"  radius {radius:>2}: precision {found['precision']:.4f}  recall {found['recall']:.4f}"
        lines.append(f"{line}  by kind {kinds}")
    return "\n".join(lines)


def _photograph(label: str) -> str:
    return label.rpartition("/")[0]


def _kind(label: str) -> str:
    return label.rpartition("/")[2]


def _original(pair: tuple[str, str], labels: Labels) -> bool:
    return any(_kind(labels[name]) == ORIGINAL for name in pair)


if __name__ == "__main__":
    sys.exit(main())
