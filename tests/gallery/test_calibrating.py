"""A gallery measures its own thresholds: the distances behind them, the verbs, and when they are void."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

import gallery
from gallery.engines import scoring
from tests.gallery.doubles import METRICS, true_distances, vectors

DIM = 12


def people_of(count: int, each: int, noise: float, seed: int) -> list[tuple[str, np.ndarray]]:
    centres = vectors(count, DIM, seed)
    return [
        (f"s{n}", centres[n] + np.float32(noise) * vectors(each, DIM, 1000 * seed + n + 1))
        for n in range(count)
    ]


@pytest.fixture(params=METRICS)
def people(request, tmp_path):
    with gallery.open(tmp_path / "g", gallery.Precomputed(DIM, request.param)) as people:
        people.enroll_many(people_of(40, 3, 0.5, 1))
        yield people


def loops(people, probes, owners, skip=lambda probe, number: False):
    """(distances, mated, nearest) by two plain loops over everything that is enrolled."""
    ids = people.ids()
    metric = people.encoder.metric
    held = {id: people._engine.embeddings(id) for id in ids}
    distances = np.full((len(probes), len(ids)), np.inf)
    mated = np.full(len(probes), np.nan)
    for at, (probe, owner) in enumerate(zip(probes, owners, strict=True)):
        for column, id in enumerate(ids):
            away = [
                float(distance)
                for distance, number in zip(
                    true_distances(probe, held[id].rows, metric), held[id].numbers.tolist(), strict=True
                )
                if not skip(at, number) and distance > 1e-6
            ]
            if not away:
                continue
            if id == owner:
                mated[at] = min(away)
            else:
                distances[at, column] = min(away)
    return distances, mated, distances.min(axis=1)


def check_scores(scores, expected):
    distances, mated, nearest = expected
    np.testing.assert_allclose(scores.distances, distances, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(scores.mated, mated, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(scores.nearest, nearest, rtol=1e-4, atol=1e-6)
    ranked = np.sort(distances, axis=1)
    np.testing.assert_allclose(scores.second, ranked[:, 1], rtol=1e-4, atol=1e-6)
    behind = [1 + sum(row <= own) if own == own else 0 for row, own in zip(distances, mated, strict=True)]
    np.testing.assert_array_equal(scores.rank, np.minimum(behind, 1 + scoring.RANKS))
    at = distances[np.arange(len(distances)), scores.found]
    np.testing.assert_allclose(at, ranked[:, 0], rtol=1e-4, atol=1e-6)


def test_probes_that_equal_a_template_of_somebody_else_are_said(tmp_path):
    """Copies under two ids, or an encoder that takes different items for one: the embedding does not tell."""
    rows = vectors(120, 8, 3)
    with gallery.open(tmp_path / "g", gallery.Precomputed(8)) as people:
        people.enroll_many((f"s{at}", rows[at : at + 1]) for at in range(60))
        asked = [(f"new{at}", rows[60 + at : 61 + at]) for at in range(60)]
        clean = people.calibrate(asked, target_fpir=0.2)
        assert (clean.copied, clean.sure, clean.to_dict()["copied"]) == (0, True, 0)
        # Eleven of sixty are in the gallery under another id, and twelve are more than the target.
        for many, sure in ((11, True), (13, False)):
            twice = [(id, rows[at : at + 1] if at < many else items) for at, (id, items) in enumerate(asked)]
            found = people.calibrate(twice, target_fpir=0.2)
            assert (found.copied, found.sure) == (many, sure)
            told = people.evaluate(twice, threshold=found.threshold)
            assert told.copied == many and f"{many} not compared with templates of others" in str(told)


@pytest.mark.parametrize("far", [0.0, 2e5])
def test_what_is_a_copy_does_not_depend_on_where_the_origin_is(tmp_path, far):
    """A column that is large everywhere, such as a year in seconds: 40 millionths of it are no distance."""
    rows = np.round(vectors(200, 8, 5) * 64) / 64 * 4
    rows[:, 0] += far
    with gallery.open(tmp_path / "g", gallery.Precomputed(8, "euclidean")) as people:
        people.enroll_many((f"s{at}", rows[at : at + 1]) for at in range(100))
        found = people.evaluate([(f"new{at}", rows[at : at + 1]) for at in range(100, 200)], threshold=7.0)
    nearest = [true_distances(row, rows[:100], "euclidean").min() for row in rows[100:]]
    assert found.copied == 0
    assert found.fpir.value == np.mean(np.array(nearest) <= 7.0) > 0.3


def test_every_template_is_compared_with_all_others_but_copies_of_itself(people):
    copied = people._engine.embeddings("s3").rows[0]
    people.enroll("s4", [copied])
    people.enroll("s5", [copied])
    people.remove("s7")
    with people._engine._at_one_revision() as store:
        asked = scoring.from_the_gallery(store, 1000, 0)
        scores = scoring.scored(store, asked, 0)
        ids = {store.subject(id): id for id in store.ids()}
    assert len(asked.rows) == people.template_count == 119
    owners = [ids[number] for number in asked.owners.tolist()]
    check_scores(scores, loops(people, asked.rows, owners))
    assert scores.subjects == 39


class FromFiles(gallery.Precomputed):
    def encode(self, items):
        return np.stack([np.fromfile(item, np.float32) for item in items])


@pytest.mark.parametrize("metric", METRICS)
def test_templates_of_one_file_are_not_compared(tmp_path, metric):
    files = []
    rows = vectors(12, 4, 2)
    for n, row in enumerate(rows):
        files.append(tmp_path / f"{n}.bin")
        row.tofile(files[-1])
    with gallery.open(tmp_path / "g", FromFiles(4, metric)) as people:
        for n in range(6):
            people.enroll(f"s{n}", files[2 * n : 2 * n + 2])
        # The same file embedded on another machine: still no second picture of anybody.
        (rows[0] * np.array([1.004, 1, 1, 1], np.float32)).tofile(files[0])
        people.enroll("s0", [files[0]])
        people.enroll("s1", [files[0]])
        # Other files of the same path: as good as any.
        for number, id in ((50, "s0"), (51, "s1")):
            vectors(1, 4, number)[0].tofile(files[0])
            people.enroll(id, [files[0]])
        one_file = {1, 13, 14}
        with people._engine._at_one_revision() as store:
            asked = scoring.from_the_gallery(store, 100, 0)
            scores = scoring.scored(store, asked, 0)
            ids = {store.subject(id): id for id in store.ids()}
        owners = [ids[number] for number in asked.owners.tolist()]
        # They are drawn in no order, and templates are told by what they hold.
        stored = {
            row.tobytes(): number
            for id in people.ids()
            for number, row in zip(*held(people, id), strict=True)
            if number != 14  # equal to 13
        }
        asking = [stored[row.tobytes()] for row in asked.rows]
        expected = loops(
            people, asked.rows, owners, lambda probe, number: {asking[probe], number} <= one_file
        )
        check_scores(scores, expected)


@pytest.mark.parametrize("metric", METRICS)
def test_a_camera_that_writes_every_picture_to_one_path(tmp_path, metric, monkeypatch):
    found = []
    for name in ("each.bin", "{}.bin"):
        place = tmp_path / str(len(found))
        place.mkdir()
        # Relative, as of a process that is started in another folder each time.
        monkeypatch.chdir(place)
        with gallery.open(place / "g", FromFiles(DIM, metric)) as people:
            for at, (id, rows) in enumerate(people_of(30, 2, 0.5, 1)):
                for n, row in enumerate(rows):
                    row.tofile(name.format(2 * at + n))
                    people.enroll(id, [name.format(2 * at + n)])
            assert people.templates("s3")[0].source == name.format(6), "as it was given"
            measured = people.calibrate(target_fmr=0.1)
            vectors(1, DIM, 99)[0].tofile(name.format(1))
            told = people.evaluate([("x", [name.format(1)])], threshold=measured.threshold)
            found.append((measured.to_dict() | {"measured": None}, told.fmr, told.fpir))
    assert found[0] == found[1]
    assert (found[0][0]["fmr"]["trials"], found[0][1].trials) == (60 * 29, 30)


def test_a_large_gallery_is_compared_in_part_and_searched_whole(people, monkeypatch):
    with people._engine._at_one_revision() as store:
        asked = scoring.from_the_gallery(store, 50, 0)
        whole = scoring.scored(store, asked, 0)
        monkeypatch.setattr(scoring, "MOST_CELLS", 50 * 10)
        part = scoring.scored(store, asked, 0)
    assert part.distances.shape == (50, 10)
    np.testing.assert_array_equal(part.mated, whole.mated)
    np.testing.assert_array_equal(part.nearest, whole.nearest)
    np.testing.assert_array_equal(part.second, whole.second)
    np.testing.assert_array_equal(part.rank, whole.rank)
    # The same pairs find each other, whatever their numbers.
    for scores in (part, whole):
        assert len(set(zip(scores.probe_subject.tolist(), asked.owners.tolist(), strict=True))) == len(
            set(asked.owners.tolist())
        )
    same = part.found[:, None] == part.probe_subject[None, :]
    np.testing.assert_array_equal(same, whole.found[:, None] == whole.probe_subject[None, :])
    assert part.subjects == 40
    kept = {column.tobytes() for column in whole.distances.T}
    assert all(column.tobytes() in kept for column in part.distances.T)
    assert len(set(part.probe_subject.tolist())) == len(set(asked.owners.tolist()))


def test_rates_are_what_the_verbs_do_at_that_threshold(people):
    fresh = [(id, rows[:2]) for id, rows in people_of(40, 3, 0.6, 1)][:15]
    strangers = [(f"t{n}", rows) for n, (_, rows) in enumerate(people_of(10, 2, 0.5, 7))]
    found = people.calibrate([*fresh, *strangers], target_fmr=0.02)
    limit = found.threshold
    pairs = accepted = missed = positive = 0
    for id, rows in [*fresh, *strangers]:
        for row in rows:
            others = [other for other in people.ids() if other != id]
            accepted += sum(people.verify(other, row, limit).accepted for other in others)
            pairs += len(others)
            if id in people:
                missed += not people.verify(id, row, limit)
            best = people.identify(row, k=2, threshold=limit)
            positive += any(one.id != id for one in best.candidates)
    assert (found.fmr.trials, found.fnmr.trials, found.fpir.trials) == (pairs, 30, 50)
    assert found.fmr.value == pytest.approx(accepted / pairs, abs=2 / pairs)
    assert found.fmr.value <= 0.02
    assert found.fnmr.value == pytest.approx(missed / 30, abs=1e-9)
    assert found.fpir.value == pytest.approx(positive / 50, abs=1 / 50)
    for rate in (found.fmr, found.fnmr, found.fpir, found.fnir):
        assert 0 <= rate.low <= rate.value <= rate.high <= 1
        assert rate.independent <= rate.trials
    assert (found.subjects, found.templates, found.probes) == (40, 120, 50)


def test_what_is_adopted_decides_and_stays(people):
    assert people.threshold is None
    found = people.calibrate(target_fpir=0.1)
    assert people.threshold is None, "calibrate changes nothing"
    people.adopt(found)
    assert people.threshold == pytest.approx(found.threshold)
    assert people.info().threshold_source == "gallery"
    assert people.log()[-1].verb == "adopt"
    probe = people_of(40, 3, 0.5, 1)[0][1][0]
    assert people.identify(probe).decision == "match"
    assert people.identify(probe).threshold == people.verify("s0", probe).threshold == people.threshold
    place, encoder = people.location, people.encoder
    people.close()
    with gallery.open(place, encoder, read_only=True) as again:
        assert again.threshold == pytest.approx(found.threshold)
        assert again.calibrate(target_fpir=0.1).threshold == found.threshold
        with pytest.raises(gallery.GalleryError, match="read-only"):
            again.adopt(found)


def test_a_search_warns_when_the_gallery_has_another_size(people):
    people.adopt(people.calibrate(target_fpir=0.1))
    probe = vectors(1, DIM, 9)[0]
    people.enroll_many(people_of(50, 1, 0.5, 3)[40:])  # 50 of 40: the bound
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        people.identify(probe)
    people.enroll("one more", [probe])
    with pytest.warns(gallery.StaleCalibrationWarning, match="with 40 subjects and there are 51"):
        people.identify(probe)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        people.identify(probe, threshold=0.2)
        people.verify("s0", probe)
    people.remove_many(people.ids()[:20])
    with pytest.warns(gallery.StaleCalibrationWarning, match="there are 31"):
        people.identify_batch([probe])


@pytest.mark.parametrize(
    ("days", "age", "void"), [(365, 365, False), (365, 366, True), (30, 31, True), (None, 9999, False)]
)
def test_a_search_warns_when_the_calibration_is_old(people, days, age, void):
    found = people.calibrate(target_fpir=0.1)
    people.adopt(replace(found, measured=found.measured - timedelta(days=age)), valid_days=days)
    told = people.info().calibration
    assert (told.target, told.requested, told.margin, told.fusion) == ("fpir", 0.1, found.margin, "nearest")
    assert (told.subjects, found.measured - told.measured) == (40, timedelta(days=age))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        people.identify(vectors(1, DIM, 9)[0])
    assert bool(said) == bool(told.void_because) == void
    if void:
        assert said[0].category is gallery.StaleCalibrationWarning
        assert f"{age} days ago, and is good for {days}" in str(said[0].message)
        with pytest.warns(gallery.StaleCalibrationWarning, match=f"{age} days ago") as there:
            people.verify("s0", vectors(1, DIM, 9)[0])
        assert there[0].filename == __file__
        assert f"{age} days ago" in told.to_dict()["void_because"][0] and "void: " in str(told)


@pytest.mark.parametrize("days", [0, -1, 1.5, True, "365"])
def test_an_age_is_a_whole_number_of_days(people, days):
    with pytest.raises(ValueError, match="valid_days is a whole number of days"):
        people.adopt(people.calibrate(target_fpir=0.1), valid_days=days)
    assert people.info().calibration is None


def test_a_calibration_of_another_encoder_is_not_adopted(people, tmp_path):
    found = people.calibrate(target_fmr=0.1)
    other = gallery.Precomputed(DIM, people.encoder.metric, "another")
    with gallery.open(tmp_path / "other", other) as elsewhere:
        elsewhere.enroll_many(people_of(5, 1, 0.5, 1))
        with pytest.raises(gallery.EncoderMismatchError, match="calibrate this gallery"):
            elsewhere.adopt(found)
        assert elsewhere.threshold is None
        with pytest.raises(TypeError, match="calibrate"):
            elsewhere.adopt(0.4)


def test_a_migration_leaves_the_threshold_behind(people):
    people.adopt(people.calibrate(target_fmr=0.1))
    adopted = people.threshold
    new = gallery.Precomputed(DIM, people.encoder.metric, "new")
    rows = {int(n): row for id in people.ids() for n, row in zip(*held(people, id), strict=True)}
    people.migrate(new, lambda template: -rows[int(template)])
    assert people.threshold is None
    people.rollback()
    assert people.threshold == adopted


def held(people, id):
    stored = people._engine.embeddings(id)
    return stored.numbers, stored.rows


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"target_fmr": 1e-4}, "0.0001 needs about 30,000 independent non-mated comparisons, there are"),
        ({}, "0.001 needs about 3,000 independent"),
        ({"target_fpir": 0.01}, "0.01 needs about 300 independent searches, there are"),
    ],
)
def test_what_the_data_cannot_support_is_refused(people, wanted, said):
    with pytest.raises(gallery.NotEnoughDataError, match=said):
        people.calibrate(**wanted)


def test_extrapolation_is_marked(people):
    near = people.calibrate(target_fmr=0.05, extrapolate=True)
    assert not near.extrapolated
    assert near.sure
    beyond = people.calibrate(target_fmr=1e-4, extrapolate=True)
    assert beyond.extrapolated
    assert not beyond.sure
    assert 0 <= beyond.threshold < near.threshold
    assert "extrapolated" in str(beyond)


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        ({"target_fmr": 0.1, "target_fpir": 0.1}, "not both"),
        ({"target_fmr": 0.0}, "between 0 and 1"),
        ({"target_fpir": 1}, "between 0 and 1"),
        ({"target_fmr": True}, "between 0 and 1"),
        ({"target_fmr": "0.1"}, "between 0 and 1, not '0.1'"),
        ({"target_fmr": 0.1, "misnamed": "x"}, "misnamed is a rate of 0 or more and below 1, not 'x'"),
        ({"target_fmr": 0.1, "sample": 0}, "sample is a whole number of templates, 1 or more, not 0"),
        ({"target_fmr": 0.1, "sample": -1}, "1 or more, not -1"),
        ({"target_fmr": 0.1, "sample": 2.5}, "1 or more, not 2.5"),
        ({"target_fmr": 0.1, "seed": -1}, "seed is a whole number, 0 or more, not -1"),
        ({"target_fmr": 0.1, "fusion": "best"}, "fusion must be auto or one of"),
        ({"probes": [("a", [np.ones(DIM)], 3)], "target_fmr": 0.1}, "probe 0"),
        ({"probes": [("", [np.ones(DIM)])], "target_fmr": 0.1}, "an id is"),
        ({"probes": [("a", [np.full(DIM, np.nan)])], "target_fmr": 0.1}, "NaN"),
        ({"probes": [], "target_fmr": 0.1}, "no probes"),
    ],
)
def test_mistakes_are_named(people, wanted, error):
    with pytest.raises(ValueError, match=error):
        people.calibrate(**wanted)
    shared = wanted.keys() - {"misnamed", "fusion"}
    if shared == wanted.keys():
        with pytest.raises(ValueError, match=error):
            people.compare_fusions(**wanted)


def test_a_wrong_option_is_told_before_anything_is_measured(people):
    def probes():
        raise AssertionError("asked for a probe")
        yield

    for wrong in ({"sample": 0}, {"seed": -1}, {"fusion": "best"}, {"misnamed": 2}, {"target_fmr": 2}):
        with pytest.raises(ValueError, match="not"):
            people.calibrate(probes(), **{"target_fmr": 0.1} | wrong)
    for wrong in ({"worst": 2.5}, {"worst": -1}, {"seed": -5}, {"threshold": -1}):
        with pytest.raises(ValueError, match="not"):
            people.evaluate(probes(), **wrong)
    assert people.calibrate(target_fmr=0.1, sample=np.int64(9), seed=np.int64(3)).probes == 9


def test_an_empty_gallery_and_a_lonely_subject(tmp_path):
    with gallery.open(tmp_path / "g", gallery.Precomputed(DIM)) as people:
        for _ in range(2):
            with pytest.raises(gallery.NotEnoughDataError, match="nothing can be compared"):
                people.calibrate(target_fmr=0.1)
            people.enroll("a", vectors(3, DIM))


def test_a_calibration_can_be_printed_and_kept_as_json(people):
    found = people.calibrate(target_fmr=0.05)
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["fmr"]["value"] == found.fmr.value
    assert (plain["target"], plain["requested"], plain["fusion"]) == ("fmr", 0.05, "nearest")
    assert str(found).startswith(f"threshold {found.threshold:.4f} for FMR 0.05: FMR ")
