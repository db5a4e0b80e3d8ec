"""Batches keep their promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders import sampling
from encoders.errors import TrainingError


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(1, 9), min_size=3, max_size=12),
    p=st.integers(2, 6),
    k=st.integers(2, 6),
    seed=st.integers(0, 10_000),
)
def test_batches_of_p_subjects_and_k_items(counts: list[int], p: int, k: int, seed: int) -> None:
    usable = sum(c >= 2 for c in counts)
    labels = np.repeat(np.arange(len(counts)), counts)
    if usable < 2:
        with pytest.raises(TrainingError, match="at least 2 are needed"):
            sampling.PKSampler(labels, p, k, np.random.default_rng(seed))
        return
    drawn = sampling.PKSampler(labels, p, k, np.random.default_rng(seed)).draw().reshape(-1, k)
    assert len(drawn) == min(p, usable)
    subjects = labels[drawn]
    assert (subjects == subjects[:, :1]).all()
    assert len(np.unique(subjects[:, 0])) == len(drawn)
    for row, subject in zip(drawn, subjects[:, 0], strict=True):
        assert counts[subject] >= 2
        assert len(np.unique(row)) == min(k, counts[subject])


def test_subjects_are_drawn_evenly_whatever_their_size() -> None:
    labels = np.repeat(np.arange(4), [2, 2, 50, 200])
    sampler = sampling.PKSampler(labels, 2, 2, np.random.default_rng(0))
    seen = np.bincount(np.concatenate([labels[sampler.draw()] for _ in range(600)]), minlength=4)
    assert (abs(seen / seen.sum() - 0.25) < 0.03).all()


def test_the_same_seed_draws_the_same_batches() -> None:
    labels = np.repeat(np.arange(5), 6)
    one, two = (sampling.PKSampler(labels, 3, 2, np.random.default_rng(8)) for _ in range(2))
    assert all((one.draw() == two.draw()).all() for _ in range(5))
