"""An evaluation of a gallery on labelled probes: its figures against plain loops, its page, its refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import gallery
from gallery import evaluation as pure
from gallery.cli import main
from gallery.curves import crossing, curve, equal_error_rate, outline
from gallery.evaluation_page import page
from gallery.folders import subject_folders
from tests.gallery.doubles import METRICS, vectors

DIM = 12


def people_of(count: int, each: int, noise: float, seed: int) -> list[tuple[str, np.ndarray]]:
    centres = vectors(count, DIM, 1)
    return [
        (f"s{n}", centres[n] + np.float32(noise) * vectors(each, DIM, 1000 * seed + n + 1))
        for n in range(count)
    ]


PROBES = people_of(26, 3, 0.7, 5)
"""Six of them are strangers."""


@pytest.fixture(params=METRICS)
def people(request, tmp_path):
    with gallery.open(tmp_path / "g", gallery.Precomputed(DIM, request.param)) as people:
        people.enroll_many(
            (id, rows, {"site": "north" if n % 3 else "south"})
            for n, (id, rows) in enumerate(people_of(20, 2, 0.7, 3))
        )
        yield people


def asked(people):
    """[(id, row, {enrolled id: distance})] by asking one by one."""
    far = 10.0 if people.encoder.metric == "euclidean" else 2.0
    return [
        (
            id,
            row,
            {one.id: one.distance for one in people.identify(row, k=20, threshold=100 * far).candidates},
        )
        for id, rows in PROBES
        for row in rows
    ]


def test_every_figure_is_what_the_verbs_do(people):
    everything = asked(people)
    limit = float(np.median([min(away.values()) for _, _, away in everything]))
    told = []
    found = people.evaluate(PROBES, threshold=limit, group="site", progress=lambda *said: told.append(said))
    assert told == [(78, 78)]
    assert (found.subjects, found.templates, found.probes, found.strangers) == (20, 40, 78, 18)
    mated = [away[id] for id, _, away in everything if id in people]
    other = [d for id, _, away in everything for one, d in away.items() if one != id]
    strange = [min(away.values()) for id, _, away in everything if id not in people]
    assert (found.fmr.trials, found.fnmr.trials, found.fpir.trials) == (len(other), len(mated), 18)
    assert found.fmr.value == pytest.approx(np.mean([d <= limit for d in other]), abs=1e-9)
    assert found.fnmr.value == pytest.approx(np.mean([d > limit for d in mated]), abs=1e-9)
    assert found.fpir.value == pytest.approx(np.mean([d <= limit for d in strange]), abs=1e-9)
    assert 0 < found.fmr.value < 1 and 0 < found.fnmr.value < 1 and 0 < found.fpir.value < 1
    places = [sorted(away.values()).index(away[id]) + 1 for id, _, away in everything if id in people]
    for place, rate in enumerate(found.cmc, 1):
        assert rate.value == pytest.approx(np.mean([at <= place for at in places]), abs=1e-9)
    assert len(found.cmc) == 20 and found.cmc[0].value < found.cmc[5].value <= found.cmc[19].value == 1
    exact = equal_error_rate(curve(np.array(mated, "f4"), np.array(other, "f4")))
    assert found.eer == pytest.approx(exact[0], abs=1e-9)
    assert found.eer_threshold == pytest.approx(exact[1], rel=1e-4)
    site = {id: people.metadata(id)["site"] for id in people.ids()}
    for group in found.groups:
        mine = [(id, away) for id, _, away in everything if site.get(id) == group.group]
        assert group.probes == len(mine)
        assert group.subjects == len({id for id, _ in mine})
        assert group.fnmr.value == pytest.approx(np.mean([away[id] > limit for id, away in mine]))
        within = [d for id, away in mine for one, d in away.items() if one != id and site[one] == group.group]
        assert group.fmr_within.trials == len(within)
        assert group.fmr_within.value == pytest.approx(np.mean([d <= limit for d in within]))
        others = [min(d for one, d in away.items() if one != id) for id, away in mine]
        assert group.fpir.trials == len(others)
        assert group.fpir.value == pytest.approx(np.mean([d <= limit for d in others]))
    assert [one.group for one in found.groups] == ["north", "south"]


def test_fnir_at_fpir(people):
    everything = asked(people)
    found = people.evaluate(PROBES)
    assert found.searched == "strangers"
    assert [one.target for one in found.open_set] == [0.3], "18 searches show nothing rarer than 3 in 18"
    (row,) = found.open_set
    # Of 18 strangers 5 may find somebody.
    strange = sorted(min(away.values()) for id, _, away in everything if id not in people)
    assert row.threshold == pytest.approx(strange[4], rel=1e-4)
    assert row.fpir.value == pytest.approx(5 / 18)
    own = [(away[id], away[id] == min(away.values())) for id, _, away in everything if id in people]
    assert row.fnir.value == pytest.approx(np.mean([d > row.threshold for d, _ in own]))
    assert row.not_first.value == pytest.approx(np.mean([d > row.threshold or not first for d, first in own]))
    # Now somebody else is nearer to every one of them.
    people.enroll_many((f"twin of {id}", rows + np.float32(0.01)) for id, rows in PROBES[:20])
    (row,) = people.evaluate(PROBES).open_set
    assert row.not_first.value == 1 > row.fnir.value
    whole = dict(zip(found.open_curve.thresholds, found.open_curve.fnir, strict=True))
    for threshold in list(whole)[::7]:
        assert whole[threshold] == pytest.approx(
            np.mean([np.float32(d) > threshold for d, _ in own]), abs=0.02
        )


def test_without_strangers_everybody_asks_as_if_not_enrolled(people):
    found = people.evaluate(PROBES[:20], threshold=0.3)
    assert (found.searched, found.strangers, found.fpir.trials) == ("left out", 0, 60)
    only = people.evaluate(PROBES[20:], threshold=0.3)
    assert only.cmc == () and only.eer is None and only.fnmr.trials == 0
    assert only.false_non_matches == () and only.false_matches
    assert json.loads(json.dumps(only.to_dict(), allow_nan=False))["fnmr"]["value"] is None


def test_the_worst_mistakes_come_first_and_name_what_was_compared(people):
    rows = dict(people_of(20, 2, 0.7, 3))
    # Somebody's probes under another id, and a stranger who is nearly s7's second template.
    probes = [*PROBES, ("s4", [rows["s9"][0] * np.float32(1.001) + np.float32(0.001)])]
    probes.append(("nobody", [rows["s7"][1] + np.float32(0.01)]))
    found = people.evaluate(probes, threshold=0.05, worst=5)
    first, second = sorted(found.false_matches[:2], key=lambda one: one.probe_id)
    assert (first.probe_id, first.id, first.wrong) == ("nobody", "s7", True)
    assert (second.probe_id, second.id) == ("s4", "s9")
    assert first.template == int(people.templates("s7")[1])
    assert second.template == int(people.templates("s9")[0])
    assert first.probe == f"probe {3 * 26 + 1}" and first.probe_picture == ""
    away = [one.distance for one in found.false_matches]
    assert len(away) == 5 and away == sorted(away)
    far = [one.distance for one in found.false_non_matches]
    assert far == sorted(far, reverse=True) and all(one.id == one.probe_id for one in found.false_non_matches)
    assert all(one.wrong for one in found.false_non_matches)
    assert far[0] == max(away[id] for id, _, away in [*asked(people)] if id in people) or far[0] > 0.05


def test_a_copy_of_a_template_is_never_compared(people):
    rows = people._engine.embeddings("s3").rows
    found = people.evaluate([("s3", rows)], threshold=1e-9)
    assert found.mated == 2 and found.fnmr.value == 1, "each is compared with the other one only"
    people.enroll("s4", rows[:1])
    assert people.evaluate([("s3", rows[:1])], threshold=1e-5).fmr.value == 0


def test_whom_quarantine_hides_is_not_found_by_any_search(people, tmp_path):
    limit = 0.5 if people.encoder.metric == "cosine" else 3.0
    before = people.evaluate(PROBES, threshold=limit)
    hidden = ["s1", "s2", "s5"]
    for id in hidden:
        people.quarantine(id, "poor")
    people.quarantine([int(people.templates("s3")[0])], "poor")  # the other one can be found
    found = people.evaluate(PROBES, threshold=limit)
    assert (before.quarantined, found.quarantined, found.mated, found.strangers) == (0, 9, 51, 18)
    assert (found.fnmr.trials, found.fnir.trials, found.cmc[0].trials) == (51, 60, 60)
    lost = missed = first = 0
    for id, rows in PROBES[:20]:
        for row in rows:
            ranking = people.identify(row, k=20, threshold=limit).candidates
            lost += id not in [one.id for one in ranking]
            missed += id not in hidden and not people.verify(id, row, limit)
            first += people.identify(row, k=1, threshold=1000.0).best.id == id
    assert found.fnir.value == lost / 60 and found.fnmr.value == missed / 51 and lost == missed + 9
    assert found.cmc[0].value == first / 60
    assert found.cmc[-1].value == pytest.approx(51 / 60), "not even the last place is theirs"
    assert found.open_set[0].fnir.trials == found.open_set[0].not_first.trials == 60
    least = np.min(found.open_curve.fnir)
    assert least == pytest.approx(9 / 60) and min(before.open_curve.fnir) == 0
    # And it is said, everywhere.
    assert "18 of them of strangers, 9 of subjects in quarantine" in str(found)
    assert found.to_dict()["quarantined"] == 9 and "quarantine" not in str(before)
    assert "of subjects in quarantine" in "".join(page(found)) and "9 probes are in" in "".join(page(found))
    assert "quarantine" not in "".join(page(before))


def test_a_large_gallery_is_compared_in_part_by_the_seed(people, monkeypatch):
    whole = people.evaluate(PROBES, threshold=0.3, seed=1)
    monkeypatch.setattr("gallery.engines.scoring.MOST_CELLS", 78 * 10)
    one, same, other = (people.evaluate(PROBES, threshold=0.3, seed=seed) for seed in (1, 1, 2))
    assert plain(one) == plain(same) != plain(other)
    assert one.fmr.trials < whole.fmr.trials
    # What is searched is the whole gallery.
    for some, every in zip((*one.cmc, one.fpir, one.fnmr), (*whole.cmc, whole.fpir, whole.fnmr), strict=True):
        assert (some.value, some.trials) == (every.value, every.trials)
        assert (some.low, some.high) == pytest.approx((every.low, every.high))


def plain(found):
    return json.dumps(found.to_dict() | {"measured": None}, allow_nan=False)


def test_the_adopted_threshold_is_the_one_that_is_reported_at(people):
    assert people.evaluate(PROBES).fmr is None
    people.adopt(people.calibrate(target_fmr=0.05))
    found = people.evaluate(PROBES)
    assert (found.threshold, found.threshold_source) == (people.threshold, "gallery")
    assert found.fmr is not None and "at threshold" in str(found)


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.46, 0.7])
def test_a_threshold_is_a_number_and_not_rounded_to_float32(tmp_path, threshold):
    at = float(np.float32(threshold))
    with gallery.open(tmp_path / "g", gallery.Precomputed(1, "euclidean")) as people:
        people.enroll("a", [[0.0]])
        people.enroll("b", [[5.0]])
        probes = [("a", [[at]]), *((f"x{n}", [[-at]]) for n in range(5))]
        found = people.evaluate(probes, threshold=threshold)
        near = bool(people.verify("a", [at], threshold=threshold))
        assert near == (people.identify([-at], threshold=threshold).decision == "match") == (at <= threshold)
        assert (found.fnmr.value, found.fpir.value) == (1 - near, near)
        # Five strangers with two subjects, and one probe with the subject that it is not.
        assert found.fmr.value == pytest.approx(5 / 11 if near else 0)
        assert all(one.wrong == near for one in found.false_matches[:5])


def test_a_threshold_beyond_float32_accepts_everything_that_was_compared(people):
    found = people.evaluate(PROBES, threshold=1e39)
    assert (found.fmr.value, found.fmr.low < 1, found.fmr.high) == (1, True, 1)
    assert (found.fmr.trials, found.fnmr.value, found.fpir.value) == (60 * 19 + 18 * 20, 0, 1)
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_crossing_is_that_of_the_whole_curve():
    chance = np.random.default_rng(0)
    for apart in (0.0, 0.5, 2.0, 8.0, -3.0):
        for count in (1, 2, 30, 2000):
            mated = chance.normal(0, 1, count).round(2).astype("f4")
            other = chance.normal(apart, 1, 3 * count).round(2).astype("f4")
            whole = curve(mated, other)
            assert crossing(mated, other) == equal_error_rate(whole)
            some = outline(mated, other)
            at = np.searchsorted(whole.thresholds, some.thresholds)
            np.testing.assert_array_equal(whole.thresholds[at], some.thresholds)
            np.testing.assert_array_equal(whole.fmr[at], some.fmr)
            np.testing.assert_array_equal(whole.fnmr[at], some.fnmr)
            assert len(some.thresholds) <= 202 and some.fmr[1:].any()


def test_a_histogram_holds_every_distance(people):
    found = people.evaluate(PROBES).histogram
    assert len(found.edges) == len(found.mated) + 1 == pure.BINS + 1
    assert sum(found.mated) == pytest.approx(1) and sum(found.other) == pytest.approx(1)


def test_the_page_refers_to_nothing_outside_and_acts_on_no_name(people, tmp_path):
    people.enroll("<script>alert(1)</script>", vectors(2, DIM, 77))
    probes = [*PROBES, ("<script>alert(1)</script>", vectors(1, DIM, 78))]
    found = people.evaluate(probes, threshold=0.3, group="site", worst=60)
    written = gallery.write_evaluation(found, tmp_path / "r.html").read_text()
    assert written == "".join(page(found))
    assert "<script" not in written and "http" not in written.replace("http-equiv", "").replace(
        "http://www.w3.org/2000/svg", ""
    )
    assert "&lt;script&gt;" in written and "(none)" in written
    for said in ("DET", "CMC", "FNIR at FPIR", "Errors by site", f"{found.fmr.value:.3g}"):
        assert said in written
    assert written.count("<svg") == 4
    with pytest.raises(gallery.GalleryError, match="cannot be written"):
        gallery.write_evaluation(found, tmp_path / "nowhere" / "r.html")


@pytest.mark.parametrize(
    ("wanted", "error", "said"),
    [
        ({"group": "site"}, gallery.NotCalibratedError, "pass threshold="),
        ({"group": "age", "threshold": 0.3}, gallery.NotEnoughDataError, "'age'"),
        ({"probes": []}, gallery.NotEnoughDataError, "no probes"),
        ({"probes": [("a", [np.full(DIM, np.nan)])]}, gallery.InvalidItemError, "NaN"),
        ({"probes": ["a"]}, gallery.InvalidItemError, "probe 0"),
        ({"threshold": -1}, ValueError, "0 or more"),
        ({"threshold": np.inf}, ValueError, "finite"),
        ({"worst": -1}, ValueError, "0 or more"),
        ({"worst": 2.5}, ValueError, "worst is a whole number of mistakes, 0 or more, not 2.5"),
        ({"seed": -5}, ValueError, "seed is a whole number, 0 or more, not -5"),
    ],
)
def test_mistakes_are_named(people, wanted, error, said):
    with pytest.raises(error, match=said):
        people.evaluate(**{"probes": PROBES} | wanted)


def test_an_empty_gallery_has_nothing_to_compare(tmp_path):
    with (
        gallery.open(tmp_path / "g", gallery.Precomputed(DIM)) as people,
        pytest.raises(gallery.NotEnoughDataError, match="0 subjects"),
    ):
        people.evaluate(PROBES)


class Grey:
    """Pictures as vectors of 64 means."""

    dim, metric, fingerprint, name = 64, "cosine", "grey/1", "grey"

    def encode(self, items):
        return np.stack(
            [
                np.asarray(Image.open(item).convert("L").resize((8, 8)), np.float32).ravel() + 1
                for item in items
            ]
        )


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """enrolled/{a,b,c}/1.png; probes/{a,b,c,d}/1.png, each nearly like those of its subject."""
    chance = np.random.default_rng(3)
    for name in "abcd":
        block = chance.integers(0, 200, (8, 8))
        for part in ("enrolled", "probes"):
            if (name, part) != ("d", "enrolled"):
                place = tmp_path / part / name
                place.mkdir(parents=True)
                grey = (block + chance.integers(0, 40, (8, 8))).astype(np.uint8)
                Image.fromarray(grey.repeat(8, axis=0).repeat(8, axis=1)).save(place / "1.png")
    return tmp_path


def test_pictures_are_of_what_was_kept_or_of_the_file(pictures: Path):
    folders = {part: subject_folders(pictures / part) for part in ("enrolled", "probes")}
    for keeps in (True, False):
        with gallery.create(pictures / f"g{keeps}", Grey(), keep_items=keeps) as people:
            people.enroll_many(folders["enrolled"])
            there = people.evaluate(folders["probes"], threshold=0.01)
            moved = pictures / "moved"
            (pictures / "enrolled").rename(moved)
            gone = people.evaluate(folders["probes"], threshold=0.01)
            moved.rename(pictures / "enrolled")
        for one in (*there.false_matches, *there.false_non_matches, *gone.false_matches):
            assert one.probe_picture[:2] == b"\xff\xd8"
        assert all(one.template_picture[:2] == b"\xff\xd8" for one in there.false_matches)
        assert {str(one.probe_id) for one in there.false_matches} == set("abcd")
        assert all(one.source == str(pictures / "enrolled" / one.id / "1.png") for one in there.false_matches)
        for one in gone.false_matches:
            if keeps:
                assert one.template_picture[:2] == b"\xff\xd8"
            else:
                assert one.template_picture == "not kept, and its file is gone"


class Sounds(Grey):
    """Its items are files that hold one number."""

    suffixes = frozenset({".wav"})

    def encode(self, items):
        return np.float32([[float(Path(item).read_text()), 1.0] + [0.0] * (self.dim - 2) for item in items])


@pytest.mark.parametrize("keeps", [True, False])
def test_sounds_are_shown_by_their_names(tmp_path: Path, keeps: bool):
    """There were grey boxes that said "is not an image in a format that can be read"."""
    for at, name in enumerate("abc"):
        for part in ("enrolled", "probes"):
            place = tmp_path / part / name / f"{part}-{name}.wav"
            place.parent.mkdir(parents=True)
            place.write_text(str(at + (part == "probes") / 10))
    with gallery.create(tmp_path / "g", Sounds(), keep_items=keeps) as people:
        people.enroll_many(subject_folders(tmp_path / "enrolled", suffixes=Sounds.suffixes))
        probes = subject_folders(tmp_path / "probes", suffixes=Sounds.suffixes)
        found = people.evaluate(probes, threshold=0.01)
    written = "".join(page(found))
    assert len(found.false_matches) == 3 and "<figure><figcaption>" in written
    assert 'class="pair"' not in written and "not an image" not in written
    assert "probes-a.wav" in written and "enrolled-b.wav" in written


def test_on_the_command_line(pictures: Path, monkeypatch, capsys):
    monkeypatch.chdir(pictures)
    assert main(["enroll", "g", "enrolled", "--encoder", "glyph"]) == 0
    assert (
        main(["evaluate", "g", "probes", "--threshold", "0.2", "--report", "r.html", "--json", "r.json"]) == 0
    )
    said = capsys.readouterr().out
    assert "3 subjects, 3 templates; 4 probes, 1 of them of strangers" in said and "FNMR" in said
    figures = json.loads((pictures / "r.json").read_text())
    assert figures["threshold"] == 0.2 and len(figures["false_matches"]) == 4
    assert (pictures / "r.html").read_text().count("data:image/jpeg") >= 8
    assert main(["evaluate", "g", "probes", "--threshold", "0.2", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again | {"measured": None} == figures | {"measured": None}
    shutil.copy("probes/a/1.png", "picture.png")
    before = Path("picture.png").read_bytes()
    for wrong in ("--json picture.png", "--report picture.png", "--json no/r.json", "--group site"):
        assert main(["evaluate", "g", "probes", *wrong.split()]) == 2
        assert "gallery: " in capsys.readouterr().err
    assert Path("picture.png").read_bytes() == before
    assert main(["quarantine", "g", "a", "--reason", "blurred"]) == 0
    capsys.readouterr()
    assert main(["evaluate", "g", "probes", "--threshold", "0.2"]) == 0
    assert "1 probe of subjects all of whose templates are in quarantine" in capsys.readouterr().out
    Path("probes/a/broken.png").write_bytes(b"\x89PNG")
    assert main(["evaluate", "g", "probes"]) == 2
    assert "broken.png" in capsys.readouterr().err
