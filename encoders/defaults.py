"""Sensible settings found from the data: what its items are, and what learns from so many of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from encoders import towers
from encoders.datasets import LabelledSet
from encoders.errors import EncoderError
from encoders.images import ImageError, read_image
from encoders.ink import otsu
from encoders.starting import base_encoder

LOOKED_AT = 40  # images, spread over the set, by which its kind is decided
PAPER = 0.6  # of the pixels of a drawing or of handwriting lie near the paper's grey level
COLOUR = 12.0  # mean difference of channels, of 255, from which a picture is a colour picture
SIDES = {"ink": 48, "rgb": 96, "grey": 64}
BATCH, EPOCHS = 128, 40
AUGMENT = {
    "ink": "ink",
    "strokes": "ink",
    "grey": "photo",
    "rgb": "photo",
    "vector": "noise",
    "sequence": "sequence",
    "audio": "audio",
    "text": "text",
}
SOUNDS = (".wav", ".wave")
# What the arrays of an .npz, by their names, are for; pictures are told apart by looking at them.
NAMED = {
    "images": ("ink", "strokes", "grey", "rgb"),
    "vectors": ("vector",),
    "texts": ("text",),
    "sequences": ("sequence",),
    "recordings": ("audio",),
}
# Nothing of these is learnt by steps but the head.
HEADS = {"gradients": "discriminant", "fisher": "discriminant", "spectra": "whitening"}


def found(data: LabelledSet, given: dict[str, Any]) -> dict[str, Any]:
    """The settings that were given, and for those that were not what suits the data; nothing is overruled.

    The preprocessing comes from what the items are, the tower and the augmentation from the preprocessing,
    batches and steps from the numbers of subjects and items. An encoder to go on from decides all but those.
    """
    chosen = _over(_of_base(given.get("base")), given)
    if "preprocess" not in chosen:
        chosen["preprocess"] = {
            "kind": _kind_for(chosen["tower"], data) if "tower" in chosen else kind_of(data.items, data.holds)
        }
    kind = str(chosen["preprocess"].get("kind"))
    _check_fits(kind, data.holds)
    chosen.setdefault("tower", _tower_for(kind))
    chosen.setdefault("augment", AUGMENT.get(kind, "none"))
    if chosen["tower"] == "chars" and not chosen.get("tower_args", {}).get("width"):
        chosen.setdefault("dim", chosen.get("tower_args", {}).get("bag", 512))  # the bag is the embedding
    if chosen["tower"] in HEADS and "base" not in chosen:
        chosen.setdefault("start", HEADS[chosen["tower"]])
    counts = np.bincount(data.labels)
    counts = counts[counts >= 2]
    chosen.setdefault("subjects", max(2, min(32, len(counts))))
    chosen.setdefault("items", _items(counts, int(chosen["subjects"])))
    if chosen.get("start", "random") != "random":
        chosen.setdefault("steps", 0)
    batch = int(chosen["subjects"]) * int(chosen["items"])
    chosen.setdefault("steps", int(np.clip(EPOCHS * len(data) / max(1, batch), 300, 20_000)))
    return chosen


def _of_base(base: str | None) -> dict[str, Any]:
    """What an encoder that is gone on from says: everything that its embeddings depend on."""
    if base is None:
        return {}
    part = base_encoder(base).spec.embedding_part()
    return {key: part[key] for key in ("tower", "tower_args", "preprocess", "dim", "metric")}


def _over(base: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """What is given over what the base says; of its preprocessing what is not said otherwise is kept."""
    read, said = base.get("preprocess", {}), given.get("preprocess", {})
    if read and said.get("kind", read["kind"]) == read["kind"]:
        return base | given | {"preprocess": read | said}
    return base | given


def _items(counts: Any, subjects: int) -> int:
    """K, so that a batch has about 128 items: no more than half of the subjects have, and at least 2."""
    usual = int(np.median(counts)) if len(counts) else 2
    return max(2, min(usual, max(4, BATCH // subjects)))


def _tower_for(kind: str) -> str:
    usual = {"vector": "dense", "sequence": "recurrent", "audio": "audio", "text": "chars"}
    return usual.get(kind, "conv")


def _kind_for(tower: str, data: LabelledSet) -> str:
    """What the items are where the tower takes that, else the usual kind of the tower."""
    kinds = towers.takes(tower)
    if len(kinds) == 1:
        return kinds[0]
    seen = kind_of(data.items, data.holds)
    return seen if seen in kinds else kinds[0]


def _check_fits(kind: str, holds: str) -> None:
    """EncoderError where items that have a name would be read as something else."""
    known = {one for kinds in NAMED.values() for one in kinds}
    if holds and kind in known and kind not in NAMED[holds]:
        raise EncoderError(
            f"{holds} are not for preprocess {kind}, but for {', '.join(NAMED[holds])}: leave out "
            f"--preprocess and --tower, which are found, or call the array what it is ({', '.join(NAMED)})"
        )


def kind_of(items: Any, holds: str = "") -> str:
    """The kind of preprocessing that the items ask for: ink, grey, rgb, vector, sequence, audio or text.

    By what they are called (see `NAMED`) where that is known, else by what they look like.
    """
    if holds:
        return NAMED[holds][0] if len(NAMED[holds]) == 1 else _kind_of_images(items)
    first = items[0]
    if isinstance(items, np.ndarray) and items.ndim == 2:
        return "vector"
    if isinstance(first, Path):
        return "audio" if first.suffix.lower() in SOUNDS else _kind_of_images(items)
    if isinstance(first, str):
        return "text"
    if isinstance(first, bytes) and first[:4] == b"RIFF":
        return "audio"
    if not isinstance(items, np.ndarray) and isinstance(first, np.ndarray) and first.dtype != np.uint8:
        return "audio" if first.ndim == 1 else "sequence"
    return _kind_of_images(items)


def _kind_of_images(items: Sequence[Any]) -> str:
    """Ink, where most pictures are mostly paper; else grey or rgb, by whether most have colour."""
    votes = []
    for at in np.unique(np.linspace(0, len(items) - 1, LOOKED_AT).astype(int)):
        try:
            votes.append(_vote(read_image(items[at])))
        except (ImageError, ValueError, TypeError):
            continue  # told with all the unreadable ones when the set is prepared
    if not votes:
        raise EncoderError(
            "what the items are cannot be told from the first ones: say it with --preprocess "
            "(ink, strokes, grey, rgb, vector, sequence, audio or text)"
        )
    return max(sorted(set(votes)), key=votes.count)


def _vote(image: Image.Image) -> str:
    small = np.asarray(image.resize((48, 48), Image.Resampling.BOX), dtype=np.float32)
    if float(np.ptp(small, axis=2).mean()) > COLOUR:
        return "rgb"
    grey = small.mean(axis=2)
    if float(np.ptp(grey)) < 1:
        return "ink"
    bright = grey > otsu(grey)
    paper = grey[bright] if bright.mean() >= 0.5 else grey[~bright]
    near = np.abs(grey - np.median(paper)) < 0.12 * max(1.0, float(np.ptp(grey)))
    return "ink" if near.mean() >= PAPER else "grey"
