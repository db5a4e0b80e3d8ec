"""The photographs of the benchmarks, and copies of them made with Pillow alone."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from benchmarks import data_sets

FREE = ("grocery_train_192.zip", "clothing_192.zip")  # may be trained on and shipped: MIT and CC0
POOL = "imagenet_sample_320.zip"  # only ever measured on

Change = Callable[[Image.Image], Image.Image]


def folder() -> Path:
    """Where the photographs are."""
    return data_sets.folder("photos")


def stored(name: str) -> list[tuple[str, bytes]]:
    """(name, bytes) of every JPEG file in an archive, by name."""
    with zipfile.ZipFile(folder() / name) as archive:
        return [(n, archive.read(n)) for n in sorted(archive.namelist()) if n.lower().endswith(".jpg")]


def half(image: Image.Image) -> Image.Image:
    """Half the width and half the height."""
    return image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)


def centre(image: Image.Image, share: float = 0.85) -> Image.Image:
    """The centre, `share` of the width and of the height: 72 % of the area at 0.85."""
    x, y = round(image.width * (1 - share) / 2), round(image.height * (1 - share) / 2)
    return image.crop((x, y, image.width - x, image.height - y))


def brighter(image: Image.Image, factor: float = 1.3) -> Image.Image:
    """Every value times `factor`, clipped."""
    return ImageEnhance.Brightness(image).enhance(factor)


def captioned(image: Image.Image) -> Image.Image:
    """White text over the middle, a tenth of the height."""
    laid = image.copy()
    place = (image.width // 10, image.height // 2)
    ImageDraw.Draw(laid).text(place, "SAMPLE TEXT", fill="white", font_size=max(8, image.height // 10))
    return laid


def jpeg(image: Image.Image, quality: int) -> bytes:
    """The image as JPEG bytes."""
    held = io.BytesIO()
    image.save(held, "JPEG", quality=quality)
    return held.getvalue()


# The copies of the floor, each with the JPEG quality that it is saved with.
COPIES: dict[str, tuple[Change, int]] = {
    "half size": (half, 90),
    "JPEG quality 40": (lambda image: image, 40),
    "centre crop 85 %": (centre, 90),
    "brightness x 1.3": (brighter, 90),
}
# Others, looked at when a threshold is set.
MORE: dict[str, tuple[Change, int]] = {
    "caption": (captioned, 90),
    "turned by 5 degrees": (lambda image: image.rotate(5, resample=Image.Resampling.BILINEAR), 90),
    "Gaussian blur, radius 2": (lambda image: image.filter(ImageFilter.GaussianBlur(2)), 90),
    "contrast x 0.7": (lambda image: ImageEnhance.Contrast(image).enhance(0.7), 90),
    "brightness x 0.7": (lambda image: brighter(image, 0.7), 90),
    "grey": (lambda image: image.convert("L").convert("RGB"), 90),
}

# What `photo` was not trained to find, to say how much of it is found all the same.
BEYOND: dict[str, tuple[Change, int]] = {
    "centre crop 70 %": (lambda image: centre(image, 0.7), 90),
    "centre crop 60 %": (lambda image: centre(image, 0.6), 90),
    "mirrored": (ImageOps.mirror, 90),
    "turned by 90 degrees": (lambda image: image.rotate(90, expand=True), 90),
    "squeezed to the other format": (lambda image: image.resize((image.height, image.width)), 90),
}


def copies(data: bytes, kinds: dict[str, tuple[Change, int]]) -> dict[str, bytes]:
    """{kind: JPEG bytes} of one picture."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    return {kind: jpeg(change(image), quality) for kind, (change, quality) in kinds.items()}
