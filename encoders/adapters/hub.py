"""Vision models of Hugging Face transformers: "hf:FOLDER", or "hf:OWNER/NAME" from the hub.

The pictures are prepared here, from the model's own preprocessor_config.json, with Pillow alone: what the
library does depends on whether torchvision is there, and a fingerprint must not.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from encoders.adapters.module import TorchEncoder
from encoders.adapters.prepared import Prepared
from encoders.adapters.quiet import without_bars
from encoders.errors import EncoderError, first_line
from encoders.images import read_image
from encoders.packages import needed

REVISION = "hub/1"
CONFIG = "preprocessor_config.json"
MOST_PIXELS = 50_000_000  # of a resized picture: a narrow one would fill the memory
POOLING = ("auto", "cls", "mean")
_KNOWN = {"image_processor_type", "feature_extractor_type", "processor_class", "image_mean", "image_std"}
_KNOWN |= {"do_resize", "size", "resample", "do_center_crop", "crop_size", "crop_pct", "do_rescale"}
_KNOWN |= {"rescale_factor", "do_normalize", "do_convert_rgb", "data_format", "input_data_format"}
_KNOWN |= {"return_tensors", "device", "default_to_square", "_processor_class", "auto_map"}
_TYPE = re.compile("(.*?)(ImageProcessor|FeatureExtractor)(Fast|Pil)?$")
_HALF, _IMAGENET = ([0.5] * 3, [0.5] * 3), ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
_CLIP = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])


def _defaults(
    resample: int, scale: tuple[list[float], list[float]], edge: int = 0, crop: bool = False, **more: Any
) -> dict[str, Any]:
    size = {"shortest_edge": edge} if edge else {"height": 224, "width": 224}
    named = {"resample": resample, "image_mean": scale[0], "image_std": scale[1], "size": size}
    return named | {"do_center_crop": crop, "crop_size": {"height": 224, "width": 224}} | more


# What each processor of transformers does where its file says nothing; those of older models say little.
PROCESSORS = {
    "ViT": _defaults(2, _HALF), "DeiT": _defaults(3, _HALF, crop=True, size={"height": 256, "width": 256}),
    "CLIP": _defaults(3, _CLIP, 224, True), "Bit": _defaults(3, _CLIP, 224, True),
    "Siglip": _defaults(3, _HALF), "Beit": _defaults(3, _HALF), "Pvt": _defaults(3, _IMAGENET),
    "ConvNext": _defaults(3, _HALF, 384, crop_pct=0.875, crop_size=None),
    "MobileNetV2": _defaults(2, _HALF, 256, True),
}  # fmt: skip


class Pooled(nn.Module):
    """A vision model whose answer is one row a picture.

    pooling: "cls" takes the first token, "mean" the mean of all tokens or places; "auto" takes what the model
    itself calls its image features or pooled output, and "cls" where it has none.
    """

    def __init__(self, model: nn.Module, pooling: str) -> None:
        super().__init__()
        self.model, self.pooling = model, pooling

    def forward(self, pixels: Tensor) -> Tensor:
        features: Any = getattr(self.model, "get_image_features", None)
        if self.pooling == "auto" and features is not None:
            found: Any = features(pixel_values=pixels)
            rows: Tensor = found if isinstance(found, Tensor) else found.pooler_output
            return rows
        found = self.model(pixel_values=pixels)
        pooled = getattr(found, "pooler_output", None)
        if self.pooling == "auto" and pooled is not None:
            flat: Tensor = pooled.flatten(1)
            return flat
        last: Tensor = found.last_hidden_state
        if last.ndim == 4:  # (n, channels, height, width) of a convolutional model
            return last.mean(dim=(2, 3))
        return last.mean(dim=1) if self.pooling == "mean" else last[:, 0]

    def extra_repr(self) -> str:
        return f"pooling={self.pooling!r}"


class Pictures:
    """A picture as a processor of transformers prepares it: resized, cropped, scaled; (3, height, width)."""

    def __init__(self, config: dict[str, Any]) -> None:
        asked = {name for name, value in config.items() if value not in (None, False)}
        unknown = asked - _KNOWN
        if unknown:
            raise EncoderError(
                f"{CONFIG} asks for {', '.join(sorted(unknown))}, which is not known here: load the model "
                "yourself and use encoders.from_module with its own processor"
            )
        config = _whole(config)
        self.mean = np.array(config["image_mean"], np.float32)
        self.std = np.array(config["image_std"], np.float32)
        self.normalise = config.get("do_normalize", True)
        scaled = config.get("do_rescale", True)
        self.factor = np.float32(config.get("rescale_factor", 1 / 255) if scaled else 1)
        self.resample = Image.Resampling(config["resample"])
        size, crop_pct = config["size"], config.get("crop_pct")
        self.size = _size(size, crop_pct) if config.get("do_resize", True) else None
        middle = self.size is not None and "shortest_edge" in self.size and crop_pct is not None
        crops = config.get("do_center_crop", False) or middle
        self.crop = _square(_size(config.get("crop_size") or size)) if crops else None
        exact = self.crop or self.size
        if exact is None or "height" not in exact:
            raise EncoderError(f"{CONFIG} gives pictures of no fixed size ({size})")
        self.shape = (3, exact["height"], exact["width"])

    def __call__(self, item: Any) -> NDArray[np.float32]:
        image = read_image(item, mode="RGB")
        if self.size is not None:
            image = image.resize(_target(image.size, self.size), self.resample)
        if self.crop is not None:
            image = _cropped(image, self.crop)
        pixels = np.asarray(image, np.float32) * self.factor
        if self.normalise:
            pixels = (pixels - self.mean) / self.std
        return np.ascontiguousarray(pixels.transpose(2, 0, 1), np.float32)


def adapt(
    name: str, device: str | None = None, *, pooling: str = "auto", metric: str = "cosine",
    threshold: float | None = None,
) -> TorchEncoder:  # fmt: skip
    """`encoders.load("hf:PATH_OR_HUB_NAME", pooling="auto" | "cls" | "mean", metric=..., threshold=...)`."""
    if pooling not in POOLING:
        raise EncoderError(f"pooling {pooling!r} is none of {', '.join(POOLING)}")
    library = needed("transformers", "hf")
    source = name.removeprefix("hf:")
    if Path(source).is_dir():
        source = str(Path(source).resolve())
    model, config = _opened(library, source)
    pictures = Pictures(config)
    ready = Prepared(pictures, pictures.shape, config, of_images=True)
    return TorchEncoder(
        Pooled(model, pooling), ready, name=f"hf:{source}", metric=metric, threshold=threshold, device=device,
        kind=REVISION, versions_of=("transformers",), counted=("transformers",),
    )  # fmt: skip


def _opened(library: Any, source: str) -> tuple[nn.Module, dict[str, Any]]:
    # Only safetensors are opened (no pickle), and no code that comes with a model is run.
    try:
        found = library.utils.cached_file(source, CONFIG)
        config: dict[str, Any] = json.loads(Path(found).read_text(encoding="utf-8"))
        with without_bars():
            model = library.AutoModel.from_pretrained(source, use_safetensors=True, trust_remote_code=False)
    except (OSError, ValueError, RuntimeError, KeyError) as exc:
        said = first_line(exc)
        raise EncoderError(f"{source} is no vision model that transformers opens: {said}") from exc
    return model, config


def _whole(config: dict[str, Any]) -> dict[str, Any]:
    """The settings with what the processor of this type does where they say nothing."""
    name = str(config.get("image_processor_type") or config.get("feature_extractor_type"))
    found = _TYPE.match(name)
    if found is None or found.group(1) not in PROCESSORS:
        raise EncoderError(
            f"{CONFIG} is of type {name}; known here are {', '.join(sorted(PROCESSORS))}: load the model "
            "yourself and use encoders.from_module with its own processor"
        )
    defaults = PROCESSORS[found.group(1)]
    whole = defaults | {key: value for key, value in config.items() if value is not None}
    if isinstance(whole["size"], int) and "shortest_edge" in defaults["size"]:
        whole["size"] = {"shortest_edge": whole["size"]}
    return whole


def _size(size: Any, crop_pct: float | None = None) -> dict[str, int] | None:
    """{"height", "width"} or {"shortest_edge"} of any way in which processors write a size."""
    if isinstance(size, int):
        return {"height": size, "width": size}
    if not isinstance(size, dict):
        return None
    if "shortest_edge" in size:
        edge = int(size["shortest_edge"])
        if crop_pct is not None and edge < 384:  # the ConvNeXt way: larger first, then the middle
            return {"shortest_edge": int(edge / crop_pct)}
        return {"shortest_edge": edge} if crop_pct is None else {"height": edge, "width": edge}
    return {"height": int(size["height"]), "width": int(size["width"])}


def _square(size: dict[str, int] | None) -> dict[str, int] | None:
    if size is not None and "shortest_edge" in size:
        return {"height": size["shortest_edge"], "width": size["shortest_edge"]}
    return size


def _target(size: tuple[int, int], wanted: dict[str, int]) -> tuple[int, int]:
    if "height" in wanted:
        return wanted["width"], wanted["height"]
    width, height = size
    short, edge = min(width, height), wanted["shortest_edge"]
    long = int(edge * max(width, height) / short)
    if edge * long > MOST_PIXELS:
        raise ValueError(
            f"{width:,} x {height:,} pixels are too narrow: {edge} x {long:,} would be needed, crop it"
        )
    return (edge, long) if width <= height else (long, edge)


def _cropped(image: Image.Image, wanted: dict[str, int]) -> Image.Image:
    left = (image.width - wanted["width"]) // 2
    top = (image.height - wanted["height"]) // 2
    return image.crop((left, top, left + wanted["width"], top + wanted["height"]))
