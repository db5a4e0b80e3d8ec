"""What a refusal suggests can be asked for, and an extrapolation is never laxer than its own data."""

import re

import numpy as np
import pytest

import gallery
from gallery.calibration import check_supported


def filled(location, subjects, seed=0):
    rng = np.random.default_rng(seed)
    people = gallery.open(location, gallery.Precomputed(16))
    centers = rng.standard_normal((subjects, 16))
    people.enroll_many(
        (f"s{n}", list(center + 0.3 * rng.standard_normal((2, 16)))) for n, center in enumerate(centers)
    )
    return people


@pytest.mark.parametrize("worth", [4, 12, 40, 43, 120, 2779, 8120, 1_000_003])
def test_the_rate_that_a_refusal_suggests_is_not_refused(worth):
    with pytest.raises(gallery.NotEnoughDataError) as refused:
        check_supported("FMR", 1e-9, worth)
    suggested = float(re.search(r"choose about (\S+) or more", str(refused.value)).group(1))
    assert 3 / worth <= suggested <= 1.11 * 3 / worth
    check_supported("FMR", suggested, worth)


@pytest.mark.parametrize("worth", [0, 1, 2, 3])
def test_no_rate_is_suggested_where_none_could_be_shown(worth):
    with pytest.raises(gallery.NotEnoughDataError) as refused:
        check_supported("FPIR", 1e-3, worth)
    assert str(refused.value).endswith("about more subjects")


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("target", ["target_fmr", "target_fpir"])
def test_an_extrapolated_threshold_accepts_nobody_who_was_seen_to_be_wrong(tmp_path, target, seed):
    with filled(tmp_path / "g", 60, seed) as people:
        try:
            found = people.calibrate(**{target: 1e-6}, extrapolate=True)
        except gallery.NotEnoughDataError as refused:
            assert "at distance 0 already" in str(refused)  # a threshold of 0 would accept nobody
            return
    assert found.extrapolated and found.threshold > 0
    assert getattr(found, target.removeprefix("target_")).value == 0
