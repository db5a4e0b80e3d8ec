"""The audit on real faces (AT&T, 40 people x 10), with mistakes whose truth is known, embedded by pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import gallery
from gallery import Precomputed
from tests.data import needs


def faces() -> tuple[np.ndarray, np.ndarray]:
    """(400, 644) blurred, mean-free pixels, and whose face each is."""
    with np.load(needs("att_faces", "att_faces.npz")) as file:
        images, subjects = file["images"].astype(np.float32), file["subject"]
    small = images.reshape(400, 28, 4, 23, 4).mean(axis=(2, 4)).reshape(400, -1)
    return small - small.mean(axis=1, keepdims=True), subjects


def spoilt(subjects: np.ndarray, seed: int) -> tuple[list[str], set[int], set[frozenset[str]]]:
    """Ids with ten wrong labels and four people under two ids: (ids, wrong positions, double ids)."""
    chance = np.random.default_rng(seed)
    ids = [f"p{subject}" for subject in subjects]
    people = chance.permutation(np.unique(subjects))
    for subject in people[:4]:
        theirs = np.flatnonzero(subjects == subject)
        for at in theirs[5:]:
            ids[at] = f"q{subject}"
    wrong = set()
    for subject, other in zip(people[4:14], people[14:24], strict=True):
        at = int(chance.choice(np.flatnonzero(subjects == subject)))
        ids[at] = f"p{other}"
        wrong.add(at)
    return ids, wrong, {frozenset([f"p{subject}", f"q{subject}"]) for subject in people[:4]}


def measured(place: Path, seed: int, target: float) -> dict[str, int]:
    """How much of what is wrong the audit finds, and how much that is not."""
    rows, subjects = faces()
    ids, wrong, double = spoilt(subjects, seed)
    with gallery.create(place, Precomputed(rows.shape[1])) as people:
        people.enroll_many([(id, rows[at : at + 1]) for at, id in enumerate(ids)])
        people.adopt(people.calibrate(target_fmr=target))
        found = people.audit()
    listed = {one.template - 1 for one in found.mislabelled}
    same = [frozenset([one.id, one.other_id]) for one in found.same]
    return {
        "wrong found": len(listed & wrong),
        "wrong in the first ten": len({one.template - 1 for one in found.mislabelled[:10]} & wrong),
        "not wrong": len(listed - wrong),
        "double found": len({*same} & double),
        "double in the first eight": len({*same[:8]} & double),
        "pairs": len(same),
    }


@pytest.mark.parametrize("seed", [0, 1])
def test_planted_mistakes_are_found(tmp_path, seed):
    found = measured(tmp_path / "g", seed, 0.01)
    assert found["wrong found"] >= 8
    assert found["double found"] == 4
