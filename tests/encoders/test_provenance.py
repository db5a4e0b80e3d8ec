"""What an encoder is made of, and that a gallery opened with another one names the part that differs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import encoders
import gallery
from encoders import checkpoint
from tests.encoders import made
from tests.encoders.shapes import picture

WIDER = {"kind": "ink", "revision": 1, "size": 24, "margin": 0.2}
PARTS = ("weights", "tower", "preprocessing")


def test_the_parts_and_the_versions() -> None:
    found = made.encoder().provenance
    assert set(found) == {*PARTS, "torch", "numpy", "pillow"}
    assert all(re.fullmatch("[0-9a-f]{16}", found[part]) for part in PARTS)
    assert found["torch"] == torch.__version__
    assert made.encoder(name="other", card="other", threshold=0.1).provenance == found


def test_a_checkpoint_keeps_it(tmp_path: Path) -> None:
    checkpoint.save(made.encoder(), tmp_path / "a.encoder")
    assert encoders.load(tmp_path / "a.encoder").provenance == made.encoder().provenance


CHANGES: list[tuple[dict[str, Any], set[str]]] = [
    ({"seed": 1}, {"weights"}),
    ({"preprocess": WIDER}, {"preprocessing"}),
    ({"metric": "euclidean"}, {"tower"}),
    ({"tower_args": {"widths": [4, 7]}}, {"tower", "weights"}),
    ({"seed": 1, "preprocess": WIDER}, {"weights", "preprocessing"}),
]


@pytest.mark.parametrize(("changes", "parts"), CHANGES)
def test_a_gallery_names_the_parts_that_differ(
    tmp_path: Path, changes: dict[str, Any], parts: set[str]
) -> None:
    ours, other = made.encoder(), made.encoder(**changes)
    with gallery.open(tmp_path / "g", ours) as people:
        people.enroll("a", [picture(0)])
    with pytest.raises(gallery.EncoderMismatchError) as raised:
        gallery.open(tmp_path / "g", other)
    named = set(re.findall(r"(\S+) [0-9a-f]{16} there, [0-9a-f]{16} here", str(raised.value)))
    assert named == parts
    for part in parts:
        assert f"{part} {ours.provenance[part]} there, {other.provenance[part]} here" in str(raised.value)


def test_the_canary_names_another_library(tmp_path: Path) -> None:
    with gallery.open(tmp_path / "g", made.encoder()) as people:
        people.enroll("a", [picture(0)])
    same = made.encoder()
    same.provenance["torch"] = "1.0"
    gallery.open(tmp_path / "g", same).close()  # another version is no reason by itself
    with torch.no_grad():
        same.network.norm.bias[0] += 1.0  # stands for a library that computes something else
    with pytest.raises(gallery.EncoderMismatchError, match=r"canary item .*What differs: torch .* 1\.0 here"):
        gallery.open(tmp_path / "g", same)
