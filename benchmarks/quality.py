"""What the quality gate refuses: of ordinary pictures, which it should not, and of the same ones blurred.

`python -m benchmarks.quality`. Blur is Gaussian; its width is given as a share of the longer side.
"""

from __future__ import annotations

import argparse
import io
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from benchmarks import report
from benchmarks.data_sets import folder
from gallery.quality import ImageQuality

MOST = 500
BLURS = (0.01, 0.02, 0.04)


def _zipped(*parts: str) -> Callable[[], list[Image.Image]]:
    def load() -> list[Image.Image]:
        with zipfile.ZipFile(folder(parts[0]).joinpath(*parts[1:])) as pack:
            names = [
                name for name in pack.namelist() if Path(name).suffix.lower() in (".jpg", ".jpeg", ".png")
            ]
            some = np.random.default_rng(0).permutation(sorted(names))[:MOST]
            return [Image.open(io.BytesIO(pack.read(str(name)))).convert("RGB") for name in some]

    return load


def _faces() -> list[Image.Image]:
    return [Image.fromarray(one) for one in np.load(folder("att_faces") / "att_faces.npz")["images"]]


SETS = {
    "photographs (ImageNet)": _zipped("photos", "imagenet_sample_320.zip"),
    "groceries": _zipped("photos", "grocery_train_192.zip"),
    "clothes": _zipped("photos", "clothing_192.zip"),
    "faces (LFW3D)": _zipped("lfw3d_crop90", "lfw3d_crop90.zip"),
    "faces (AT&T)": _faces,
    "signatures": _zipped("sigcomp2011_dutch", "images_256.zip"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser("python -m benchmarks.quality")
    parser.add_argument("--output", default=str(report.RESULTS), help="folder for quality.json")
    arguments = parser.parse_args(argv)
    results: dict[str, Any] = {"sets": {}, "skipped": {}}
    for name, load in SETS.items():
        try:
            images = load()
        except FileNotFoundError as error:
            results["skipped"][name] = f"{Path(error.filename or '').name} is not there"
            continue
        refused = {"as they are": _refused(images)}
        for blur in BLURS:
            soft = [one.filter(ImageFilter.GaussianBlur(blur * max(one.size))) for one in images]
            refused[f"blurred by {blur:g}"] = _refused(soft)
        results["sets"][name] = {"pictures": len(images), "refused": refused}
        print(
            f"{name:24}{len(images):5}  " + "  ".join(f"{k} {v:.3f}" for k, v in refused.items()), flush=True
        )
    print(report.write("quality", results, Path(arguments.output)).name)
    return 0


def _refused(images: Sequence[Image.Image]) -> float:
    gate = ImageQuality()
    return round(float(np.mean([gate(image) is not None for image in images])), 4)


if __name__ == "__main__":
    sys.exit(main())
