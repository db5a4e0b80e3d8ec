"""Score normalisation against double loops, and that it does what it is for."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gallery.curves import curve, equal_error_rate
from gallery.normalisation import adaptive_s_norm, s_norm, t_norm, z_norm


def usual(values):
    mean = sum(values) / len(values)
    return mean, math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))


@pytest.fixture
def held():
    chance = np.random.default_rng(0)
    distances = chance.random((7, 5)).astype("f4")
    distances[2, 3] = np.inf
    return distances, chance.random((7, 11)).astype("f4"), chance.random((5, 11)).astype("f4")


def test_each_is_what_a_double_loop_comes_to(held):
    distances, probes, subjects = held
    z, t, s = z_norm(distances, subjects), t_norm(distances, probes), s_norm(distances, probes, subjects)
    adaptive = adaptive_s_norm(distances, probes, subjects, 4)
    for p in range(7):
        for column in range(5):
            away = float(distances[p, column])
            if math.isinf(away):
                assert z[p, column] == t[p, column] == s[p, column] == adaptive[p, column] == math.inf
                continue
            mine, theirs = probes[p].tolist(), subjects[column].tolist()
            by_subject = (away - usual(theirs)[0]) / usual(theirs)[1]
            by_probe = (away - usual(mine)[0]) / usual(mine)[1]
            assert z[p, column] == pytest.approx(by_subject, rel=1e-9)
            assert t[p, column] == pytest.approx(by_probe, rel=1e-9)
            assert s[p, column] == pytest.approx((by_subject + by_probe) / 2, rel=1e-9)
            near = [usual(sorted(one)[:4]) for one in (mine, theirs)]
            expected = sum((away - mean) / spread for mean, spread in near) / 2
            assert adaptive[p, column] == pytest.approx(expected, rel=1e-9)
    whole = adaptive_s_norm(distances, probes, subjects, 11)
    np.testing.assert_allclose(whole, s, rtol=1e-12)


def test_it_takes_out_what_probes_and_subjects_are_off_by():
    chance = np.random.default_rng(1)
    count, cohort = 150, 60
    of_probe, of_subject = chance.normal(0, 1, count), chance.normal(0, 1, count)
    noise = lambda *shape: chance.normal(0, 0.6, shape)  # noqa: E731
    distances = 8 + of_probe[:, None] + of_subject[None, :] + noise(count, count)
    distances[np.eye(count, dtype=bool)] -= 3
    probes = 8 + of_probe[:, None] + noise(count, cohort)
    subjects = 8 + of_subject[:, None] + noise(count, cohort)

    def eer(scores):
        own = np.eye(count, dtype=bool)
        return equal_error_rate(curve(scores[own].astype("f4"), scores[~own].astype("f4")))[0]

    plain = eer(distances)
    z, t, s = (
        eer(z_norm(distances, subjects)),
        eer(t_norm(distances, probes)),
        eer(s_norm(distances, probes, subjects)),
    )
    assert s < min(z, t) and max(z, t) < plain and s < plain / 2


def test_a_cohort_that_says_nothing_is_refused(held):
    distances, probes, subjects = held
    with pytest.raises(ValueError, match="2 or more"):
        z_norm(distances, subjects[:, :1])
    with pytest.raises(ValueError, match="2 or more"):
        t_norm(distances, probes[0])
    flat = subjects.copy()
    flat[3] = 0.25
    with pytest.raises(ValueError, match="subject 3 is as far from everybody"):
        z_norm(distances, flat)
    flat[3, 2] = np.nan
    with pytest.raises(ValueError, match="subject 3 has a distance to the cohort that is not finite"):
        z_norm(distances, flat)
    for nearest in (1, 12):
        with pytest.raises(ValueError, match="2 to 11"):
            adaptive_s_norm(distances, probes, subjects, nearest)
