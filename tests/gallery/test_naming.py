"""Who is named: "match" or "ambiguous", by a margin from data, and how probable it is."""

from __future__ import annotations

import json
import math
import warnings
from dataclasses import replace

import numpy as np
import pytest

import gallery
from gallery.calibration import Scores
from gallery.decisions import identification
from gallery.measures import Likelihoods
from gallery.naming import likelihoods, margin_for, naming_rates, shows
from gallery.records import Candidate
from tests.gallery.doubles import vectors

INF = math.inf


def searches(mated, nearest, second=None) -> Scores:
    """Each by another subject."""
    mated, nearest = np.asarray(mated, "f4"), np.asarray(nearest, "f4")
    second = np.full(len(mated), INF, "f4") if second is None else np.asarray(second, "f4")
    nobody = np.full(len(mated), -1)
    return Scores(nearest[:, None], mated, nearest, second, nobody, nobody, np.arange(len(mated)), len(mated))


def ranked(*distances: float) -> list[Candidate]:
    return [Candidate(f"s{n}", distance, n) for n, distance in enumerate(distances)]


def test_a_second_that_is_within_the_margin_makes_it_ambiguous():
    def said(*distances, k=5, margin=0.25):
        return identification(ranked(*distances), 0.5, k, margin).decision

    assert said(0.25, 0.5) == "match", "as far behind as the margin is far enough"
    assert said(0.25, np.nextafter(0.5, 0)) == "ambiguous"
    assert said(0.5, 0.625) == "ambiguous", "the second need not be within the threshold"
    assert said(0.5001, 0.5002) == "unknown"
    assert said(0.25) == said().replace("unknown", "match") == "match"
    assert said(0.25, 0.3, margin=None) == said(0.25, 0.25, margin=0.0) == "match"
    answer = identification(ranked(0.25, 0.3, 0.31), 0.5, 1, 0.1)
    assert (answer.decision, answer.best.id, answer.rival.id) == ("ambiguous", "s0", "s1")
    assert len(answer.candidates) == 1 and "s1 at 0.3000 is within the margin" in str(answer)
    assert identification(ranked(0.25, 0.3), None, 5, None).decision == "undecided"


def by_loops(scores: Scores, threshold: float, margin: float) -> tuple[int, int, int]:
    """(matches, of them with somebody else, ambiguous) of searches with somebody enrolled."""
    matches = wrong = ambiguous = 0
    for own, other, third in zip(scores.mated, scores.nearest, scores.second, strict=True):
        order = sorted([(float(own), 1), (float(other), 0), (float(third), 0)])
        if math.isnan(own) or math.isinf(order[1][0]) or order[0][0] > threshold:
            continue
        if order[1][0] - order[0][0] < margin:
            ambiguous += 1
        else:
            matches += 1
            wrong += not order[0][1]
    return matches, wrong, ambiguous


@pytest.mark.parametrize("seed", range(6))
def test_the_margin_is_the_smallest_that_lets_so_few_wrong_ones_through(seed):
    chance = np.random.default_rng(seed)
    count = 400
    mated = chance.normal(0.4, 0.15, count).clip(0).round(2)
    mated[chance.random(count) < 0.1] = np.nan
    nearest = chance.normal(0.7, 0.15, count).clip(0).round(2)
    second = nearest + chance.exponential(0.1, count).round(2)
    scores = searches(mated, nearest, second)
    for misnamed in (0.0, 0.01, 0.05):
        margin = margin_for(scores, 0.6, misnamed)
        matches, wrong, ambiguous = by_loops(scores, 0.6, margin)
        # One more is reckoned with, where that leaves a match.
        more = int(misnamed > 0)
        assert wrong + more <= misnamed * (matches + more) and matches > 20
        rates = naming_rates(scores, 0.6, margin)
        assert (rates[0].value, rates[0].trials) == (pytest.approx(wrong / matches), matches)
        assert (rates[1].value, rates[1].trials) == (
            pytest.approx(ambiguous / (matches + ambiguous)),
            matches + ambiguous,
        )
        gaps = sorted({abs(float(a) - float(b)) for a in mated for b in (*nearest, *second)})
        for smaller in [gap for gap in gaps if gap < margin - 1e-6][-3000::37]:
            matches, wrong, _ = by_loops(scores, 0.6, smaller)
            assert wrong + more > misnamed * (matches + more)
    assert margin_for(scores, 0.6, 0.9) == 0.0
    assert margin_for(scores, -1.0, 0.01) is None
    lonely = searches([0.1, 0.2], [INF, INF])
    assert margin_for(lonely, 0.6, 0.01) is None, "nobody to be mistaken for"


def test_of_fresh_searches_no_more_are_misnamed():
    """Set on the searches of one gallery, kept on others: on those that it was chosen on it always is."""

    def asked(chance: np.random.Generator, count: int = 150) -> Scores:
        centres = chance.normal(size=(count, 8))
        one, other = (centres + 0.2 * chance.normal(size=centres.shape) for _ in range(2))
        one, other = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (one, other))
        away = np.maximum(0, 1 - one @ other.T)
        mated = np.diag(away).copy()
        np.fill_diagonal(away, INF)
        away.sort(axis=1)
        return searches(mated, away[:, 0], away[:, 1])

    wrong = matches = 0
    for seed in range(40):
        chance = np.random.default_rng(seed)
        margin = margin_for(asked(chance), 0.35, 0.01)
        for _ in range(5):
            rate = naming_rates(asked(chance), 0.35, margin)[0]
            matches += rate.trials
            wrong += rate.value * rate.trials if rate.trials else 0
    # 0.6 %; by what was seen alone it would be 1.1 %.
    assert matches > 20_000 and wrong <= 0.008 * matches


@pytest.mark.parametrize(
    ("right", "wrong", "sure"), [(182, 0, False), (183, 0, True), (270, 1, False), (280, 1, True)]
)
def test_how_many_matches_show_one_in_a_hundred(right, wrong, sure):
    """The interval of what is misnamed has to end below twice that, as for other rates."""
    nearest = np.array([0.9] * right + [0.1] * wrong)
    scores = searches([0.5] * (right + wrong), nearest, np.ones(right + wrong))
    rate = naming_rates(scores, 0.6, 0.0)[0]
    assert (rate.value, rate.trials) == (wrong / (right + wrong), right + wrong)
    assert shows(rate, 0.01) == sure
    assert not shows(naming_rates(scores, 0.6, 9.0)[0], 0.01), "nobody is named"


def test_many_shots_of_few_people_show_little():
    """All of the shots of the next one may be of a look-alike."""
    many = searches([0.5] * 400, [0.9] * 400, [1.0] * 400)
    few = replace(many, probe_subject=np.arange(400) // 100)
    assert [shows(naming_rates(one, 0.6, 0.0)[0], 0.01) for one in (many, few)] == [True, False]
    mistaken = replace(few, nearest=np.where(np.arange(400) == 399, np.float32(0.1), few.nearest))
    # One of four people in one of a hundred shots: 1 of 400 is within the share, 1 + 100 of 500 is not.
    assert margin_for(replace(mistaken, probe_subject=np.arange(400)), 0.6, 0.01) == 0.0
    assert margin_for(mistaken, 0.6, 0.01) == 0.0, "no margin leaves a match then, so what was seen decides"


def drawn(count: int, chance: np.random.Generator, enrolled: float):
    """(distance to the nearest, whether it is right) of searches."""
    own = np.where(chance.random(count) < enrolled, chance.normal(0.4, 0.15, count), INF)
    other = chance.normal(0.8, 0.12, count)
    return np.minimum(own, other), own < other, own, other


@pytest.mark.parametrize("prior", [0.1, 0.5, 0.9])
def test_a_probability_is_how_often_it_is_right(prior):
    chance = np.random.default_rng(1)
    _, _, own, other = drawn(3000, chance, 1.0)
    held = likelihoods(searches(own, other))
    first, right, _, _ = drawn(60_000, np.random.default_rng(2), prior)
    said = np.array([held.probability(float(distance), prior) for distance in first])
    assert said.min() > 0 and said.max() < 1
    for low, high in ((0, 0.1), (0.1, 0.3), (0.3, 0.7), (0.7, 0.95), (0.95, 1)):
        inside = (said >= low) & (said < high)
        if inside.sum() > 300:
            assert said[inside].mean() == pytest.approx(right[inside].mean(), abs=0.06)
    # And it tells: better than to say the same of all.
    assert np.mean((said - right) ** 2) < 0.5 * np.mean((right.mean() - right) ** 2) + 0.02
    order = np.argsort(first)
    if prior == 0.5:
        assert (np.diff(said[order]) <= 1e-12).mean() > 0.999, "nearer is more probable"


def test_bins_are_counted_by_hand():
    mated = np.repeat([0.1, 0.9], [40, 10])
    nearest = np.repeat([0.5, 0.3], [40, 10])
    held = likelihoods(searches(mated, nearest))
    # At 0.1 forty right ones; at 0.3 ten wrong ones and ten strangers; at 0.5 forty strangers.
    assert held.up_to == pytest.approx([0.2])
    total = 50 + 0.5 * 2
    assert held.right == pytest.approx([40.5 / total, 0.5 / total])
    assert held.wrong == pytest.approx([0.5 / total, 10.5 / total])
    assert held.stranger == pytest.approx([0.5 / total, 50.5 / total])
    assert held.probability(0.15, 0.25) == pytest.approx(0.25 * 40.5 / (0.25 * 41 + 0.75 * 0.5))
    assert likelihoods(searches(mated[:29], nearest[:29])) is None
    assert likelihoods(searches(np.full(50, np.nan), nearest)) is None


@pytest.fixture
def people(tmp_path):
    """Forty subjects in twenty pairs of look-alikes."""
    rows = np.repeat(vectors(20, 16, 1), 2, axis=0) + np.float32(0.25) * vectors(40, 16, 2)
    with gallery.open(tmp_path / "g", gallery.Precomputed(16, "euclidean")) as people:
        noise = np.float32(0.3) * vectors(160, 16, 3)
        people.enroll_many((f"s{n}", rows[n] + noise[4 * n : 4 * n + 4]) for n in range(40))
        people.rows = rows
        yield people


def test_ambiguity_and_probability_come_with_an_adopted_calibration_only(people):
    between = (people.rows[6] + people.rows[7]) / 2
    own_item = people._engine.embeddings("s6").rows[0]
    found = people.calibrate(target_fpir=0.3)
    assert found.margin > 0 and found.misnamed.value <= 0.01 and found.ambiguous.value > 0
    assert people.identify(between, threshold=found.threshold).decision == "match"
    with pytest.raises(gallery.NotCalibratedError, match="no calibration was adopted"):
        people.identify(between, prior=0.5)
    people.adopt(found)
    answer = people.identify(between, k=1)
    assert answer.decision == "ambiguous" and len(answer.candidates) == 1
    assert {answer.best.id, answer.rival.id} == {"s6", "s7"} and answer.margin == found.margin
    assert answer.rival.distance - answer.best.distance < found.margin
    assert (answer.probability, answer.prior) == (None, None)
    assert people.identify(own_item).decision == "match"
    assert people.identify(own_item).rival is None
    assert people.identify(np.full(16, 9)).decision == "unknown"
    assert people.identify(between, threshold=found.threshold).decision == "match", "the caller decides then"
    likely, less = (people.identify(own_item, prior=prior) for prior in (0.9, 0.1))
    assert 1 > likely.probability > less.probability > 0
    assert likely.probability == found.likelihoods.probability(likely.nearest.distance, 0.9)
    assert people.identify(np.full(16, 9), prior=0.5).probability < 0.2
    assert "with probability" in str(likely)
    again = people.identify_batch([between, own_item], prior=0.9)
    assert [one.decision for one in again] == ["ambiguous", "match"] and again[1] == likely
    place, encoder = people.location, people.encoder
    people.close()
    with gallery.open(place, encoder, read_only=True) as reopened:
        assert reopened.identify(own_item, prior=0.9) == likely


def test_a_probability_of_a_void_calibration_is_given_with_a_warning(people):
    people.adopt(people.calibrate(target_fpir=0.3))
    probe = people.rows[6]

    def said(**wanted) -> int:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            people.identify(probe, **wanted)
        assert {one.category for one in caught} <= {gallery.StaleCalibrationWarning}
        return len(caught)

    ways = ({}, {"threshold": 0.3}, {"prior": 0.5}, {"threshold": 0.3, "prior": 0.5})
    assert [said(**wanted) for wanted in ways] == [0, 0, 0, 0]
    people.enroll_many((f"more {n}", vectors(1, 16, 100 + n)) for n in range(11))  # 51 of 40
    # Once each: a threshold of the caller's own is not void, what a probability is read off is.
    assert [said(**wanted) for wanted in ways] == [1, 0, 1, 1]


def test_mistakes_are_named(people):
    people.adopt(people.calibrate(target_fpir=0.3))
    for prior in (0, 1, -0.1, True, math.nan, "0.5"):
        with pytest.raises(ValueError, match="a prior is"):
            people.identify(people.rows[0], prior=prior)
    with pytest.raises(ValueError, match="prior or where"):
        people.identify(people.rows[0], prior=0.5, where={"site": "north"})
    for misnamed in (1, -0.1, True):
        with pytest.raises(ValueError, match="misnamed"):
            people.calibrate(target_fpir=0.3, misnamed=misnamed)


def test_without_data_nothing_is_claimed(tmp_path, people):
    plain = people.calibrate(target_fpir=0.3, misnamed=None)
    assert plain.margin is plain.misnamed is plain.ambiguous is None
    people.adopt(plain)
    assert people.identify((people.rows[6] + people.rows[7]) / 2).decision == "match"
    with gallery.open(tmp_path / "one each", gallery.Precomputed(16, "euclidean")) as lone:
        lone.enroll_many((f"s{n}", row[None]) for n, row in enumerate(people.rows))
        found = lone.calibrate(target_fpir=0.3)
        assert found.margin is None and found.likelihoods is None
        lone.adopt(found)
        assert lone.identify(people.rows[0]).margin is None
        with pytest.raises(gallery.NotCalibratedError, match="fewer than 30 searches"):
            lone.identify(people.rows[0], prior=0.5)


def test_a_calibration_from_before_there_were_margins_still_decides(people):
    found = people.calibrate(target_fpir=0.3)
    old = {
        key: value
        for key, value in found.to_dict().items()
        if key not in ("margin", "misnamed", "ambiguous", "likelihoods")
    }
    people._engine.set_setting("threshold", json.dumps(old))
    answer = people.identify((people.rows[6] + people.rows[7]) / 2)
    assert (answer.decision, answer.margin) == ("match", None)


def test_likelihoods_are_json():
    held = Likelihoods((0.5,), (0.9, 0.1), (0.1, 0.2), (0.1, 0.9))
    assert Likelihoods(**{name: tuple(values) for name, values in held.to_dict().items()}) == held
    assert held.probability(0.5, 0.5) > held.probability(0.50001, 0.5)
