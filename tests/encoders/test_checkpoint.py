"""Checkpoints: round trip bit for bit, the fingerprint, atomic writing, and every refusal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import encoders
from encoders import checkpoint
from encoders.errors import CheckpointError, UnknownEncoderError
from tests.encoders import made
from tests.encoders.shapes import picture

PICTURES = [picture(s) for s in range(20)]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    encoder = made.encoder(card="# a card\n", threshold=0.25, threshold_fmr=0.001)
    return checkpoint.save(encoder, tmp_path / "a.encoder")


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "encoder.json"
    record = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in record.items() if v != "DROP"}))


def test_round_trip_bit_for_bit(saved: Path) -> None:
    before, after = made.encoder(), encoders.load(saved)
    assert np.array_equal(before.encode(PICTURES), after.encode(PICTURES))
    assert after.fingerprint == before.fingerprint and len(after.fingerprint) == 64
    assert (after.name, after.dim, after.metric, after.threshold) == ("made", 8, "cosine", 0.25)
    assert after.card == "# a card\n"
    assert sorted(p.name for p in saved.iterdir()) == ["card.md", "encoder.json", "weights.safetensors"]
    assert [p.name for p in saved.parent.iterdir()] == ["a.encoder"]  # no temporary folder is left


def test_loading_leaves_the_random_state_alone(saved: Path) -> None:
    import torch

    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    encoders.load(saved)
    assert torch.equal(torch.rand(2), expected)


def test_fingerprint_follows_what_changes_embeddings() -> None:
    base = made.encoder().fingerprint
    assert made.encoder().fingerprint == base
    same = [made.encoder(card="other"), made.encoder(name="other"), made.encoder(threshold=0.1)]
    same += [made.encoder(facts={"a": 1}), made.encoder(versions={"x": "1"})]
    assert all(e.fingerprint == base for e in same)
    wider = {"kind": "ink", "revision": 1, "size": 24, "margin": 0.2}
    other = [made.encoder(seed=1), made.encoder(metric="euclidean"), made.encoder(preprocess=wider)]
    assert len({base, *(e.fingerprint for e in other)}) == 4
    assert made.encoder(preprocess=wider | {"revision": 2}).fingerprint != other[2].fingerprint


def test_saving_again_replaces_a_checkpoint_but_no_other_folder(saved: Path, tmp_path: Path) -> None:
    checkpoint.save(made.encoder(seed=1), saved)
    assert encoders.load(saved).fingerprint == made.encoder(seed=1).fingerprint
    assert not (saved / "card.md").exists()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="is not a checkpoint: choose another name"):
        checkpoint.save(made.encoder(), tmp_path / "photos")
    assert (tmp_path / "photos" / "a.jpg").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": 2}, "format 2, this version reads up to 1: upgrade"),
        ({"format": "DROP"}, "no format number"),
        ({"tower": "DROP"}, "missing 1 required .*'tower'"),
        ({"wings": 2}, "unexpected keyword argument 'wings'"),
        ({"metric": "manhattan"}, "metric 'manhattan'"),
        ({"dim": 9}, "weights do not fit"),
        ({"tower": "babel"}, "no tower is called 'babel'"),
        ({"preprocess": {"kind": "smell"}}, "no preprocessing is called 'smell'"),
        ({"tower_args": {"widths": [4, 7]}}, "weights do not fit"),
    ],
)
def test_records_that_are_refused(saved: Path, changes: dict[str, Any], words: str) -> None:
    edit(saved, **changes)
    with pytest.raises(CheckpointError, match=words):
        encoders.load(saved)


def test_damaged_missing_and_foreign_parts(saved: Path, tmp_path: Path) -> None:
    weights = saved / "weights.safetensors"
    whole = weights.read_bytes()
    for cut in (0, 4, 100, len(whole) - 1):
        weights.write_bytes(whole[:cut])
        with pytest.raises(CheckpointError, match="truncated or not a safetensors file"):
            encoders.load(saved)
    weights.unlink()
    with pytest.raises(CheckpointError, match=r"has no weights\.safetensors"):
        encoders.load(saved)
    (saved / "encoder.json").write_text("{")
    with pytest.raises(CheckpointError, match="damaged"):
        encoders.load(saved)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"has no encoder\.json"):
        encoders.load(tmp_path / "empty")


def test_links_out_of_the_folder_are_refused(saved: Path, tmp_path: Path) -> None:
    weights = saved / "weights.safetensors"
    weights.rename(tmp_path / "elsewhere")
    weights.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="link out of the checkpoint"):
        encoders.load(saved)


def test_unknown_names() -> None:
    with pytest.raises(UnknownEncoderError, match="no encoder is called 'glyhp'"):
        encoders.load("glyhp")
