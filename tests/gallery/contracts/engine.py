"""What every engine promises; a new kind inherits this class and says how it is opened."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from gallery.engines import filtering
from gallery.engines.base import Engine
from gallery.errors import GalleryError, InvalidItemError, UnknownSubjectError
from gallery.stores.base import NewTemplates
from gallery.vectors import prepare
from tests.gallery.doubles import METRICS, true_distances, vectors

DIM = 6


def new(id: str, rows: np.ndarray, metadata: dict | None = None) -> NewTemplates:
    return NewTemplates(id, rows, [None] * len(rows), metadata)


def flat(found) -> list[tuple[str, float, int]]:
    return [(one.id, one.distance, one.template) for one in found]


class EngineContract:
    """Inherit and give `open`, which makes the engine of `place` where none is."""

    certain = True
    """Its answers are those of brute force even where float32 cannot tell who is nearer."""

    sharp = True
    """It tells templates apart that lie a thousandth from each other."""

    def open(self, place: Path, metric: str, *, read_only: bool = False) -> Engine:
        raise NotImplementedError

    @pytest.fixture(params=METRICS)
    def metric(self, request) -> str:
        return request.param

    @pytest.fixture
    def engine(self, tmp_path, metric):
        engine = self.open(tmp_path, metric)
        yield engine
        engine.close()

    def truth(self, probe, enrolled: dict[str, tuple[list[int], np.ndarray]], metric: str, k: int):
        """[(distance, template, id)] of the k nearest subjects, by brute force."""
        best = []
        for id, (numbers, rows) in enrolled.items():
            away = true_distances(probe, rows, metric)
            at = np.lexsort((numbers, away))[0]
            best.append((float(away[at]), numbers[at], id))
        return sorted(best)[:k]

    def check(self, engine, probes, enrolled, metric, k, where: dict | None = None) -> None:
        for probe, found in zip(probes, engine.nearest(probes, k, None, where), strict=True):
            expected = self.truth(probe, enrolled, metric, k)
            assert [one.id for one in found] == [one[2] for one in expected]
            if not self.sharp and any(len(rows) > 100 for _, rows in enrolled.values()):
                continue
            assert [one.template for one in found] == [one[1] for one in expected]
            np.testing.assert_allclose(
                [one.distance for one in found], [one[0] for one in expected], rtol=1e-6, atol=2e-7
            )

    def enrol(self, engine, sizes: list[int], metric: str, seed: int = 0):
        """Subjects s0, s1, ... of so many templates; what the oracle needs to know of them."""
        rows = prepare(vectors(sum(sizes), DIM, seed), metric)
        starts = np.cumsum([0, *sizes])
        batch = [new(f"s{n}", rows[starts[n] : starts[n + 1]]) for n in range(len(sizes))]
        added, _ = engine.add(batch)
        return {one.id: (list(one.templates), new.rows) for one, new in zip(added, batch, strict=True)}

    def test_an_empty_engine_knows_no_one(self, engine):
        assert engine.nearest(vectors(2, DIM), 3) == [[], []]
        assert (engine.counts(), engine.ids(), engine.has("a")) == ((0, 0), [], False)
        assert engine.state().templates == 0

    def test_subjects_are_ranked_by_their_nearest_template(self, engine, metric):
        enrolled = self.enrol(engine, [1, 2, 40, 1, 7, 3] * 5, metric)
        self.check(engine, prepare(vectors(25, DIM, 1), metric), enrolled, metric, 5)

    def test_k_counts_subjects_however_many_templates_one_has(self, engine, metric):
        """3,000 templates of one subject are all nearer than the only one of each of the others."""
        centre = np.zeros(DIM, np.float32)
        centre[0] = 1
        noise = vectors(3000, DIM, 2) * np.float32(1e-3)
        crowd = prepare(centre + noise, metric)
        others = prepare(np.eye(DIM, dtype=np.float32)[1:4] + np.float32(0.5) * centre, metric)
        added, _ = engine.add([new("crowd", crowd), *[new(f"o{n}", others[n : n + 1]) for n in range(3)]])
        enrolled = {one.id: (list(one.templates), rows) for one, rows in zip(
            added, [crowd, *[others[n : n + 1] for n in range(3)]], strict=True
        )}  # fmt: skip
        probes = prepare(centre[None] + np.float32(1e-4), metric)
        assert engine.nearest(probes, 4)[0][0].id == "crowd"
        self.check(engine, probes, enrolled, metric, 4)
        self.check(engine, probes, enrolled, metric, 2)

    def test_one_crowd_after_another_hides_nobody(self, engine, metric):
        """The nearest are 600 templates each of five subjects, one behind the other, then single ones."""
        step = {"cosine": 0.2, "euclidean": 1.0}[metric]
        noise = vectors(3000, DIM, 2) * np.float32(1e-2)
        first, second = np.eye(DIM, dtype=np.float32)[:2]
        where = [first + np.float32(step * n) * second for n in range(9)]
        crowds = [prepare(where[n] + noise[600 * n : 600 * n + 600], metric) for n in range(5)]
        singles = [prepare(where[n][None], metric) for n in range(5, 9)]
        batch = [new(f"s{n}", rows) for n, rows in enumerate([*crowds, *singles])]
        added, _ = engine.add(batch)
        enrolled = {one.id: (list(one.templates), its.rows) for one, its in zip(added, batch, strict=True)}
        probes = prepare(np.stack([where[0], where[3], where[8]]), metric)
        for k in (1, 3, 6, 9):
            self.check(engine, probes, enrolled, metric, k)

    def test_a_filter_leaves_only_those_whose_metadata_match(self, engine, metric):
        rows = prepare(vectors(400, DIM, 3), metric)
        sites = ["north", "south", None, ["north"]]
        batch = [
            new(f"s{n}", rows[2 * n : 2 * n + 2], {"site": sites[n % 4], "floor": n % 3} if n % 7 else None)
            for n in range(200)
        ]
        added, _ = engine.add(batch)
        enrolled = {one.id: (list(one.templates), its.rows) for one, its in zip(added, batch, strict=True)}
        probes = prepare(vectors(5, DIM, 4), metric)
        for where, matching in (
            ({"site": "north"}, lambda n: n % 4 == 0),
            ({"site": ["north", "south"]}, lambda n: n % 4 < 2),
            ({"site": [["north"]]}, lambda n: n % 4 == 3),
            ({"site": None}, lambda n: n % 4 == 2),
            ({"site": "north", "floor": 1}, lambda n: n % 4 == 0 and n % 3 == 1),
            ({"floor": 1.0}, lambda n: n % 3 == 1),
            ({"floor": True}, lambda n: False),
            ({"badge": 1}, lambda n: False),
        ):
            left = {f"s{n}": enrolled[f"s{n}"] for n in range(200) if n % 7 and matching(n)}
            for probe, found in zip(probes, engine.nearest(probes, 5, None, where), strict=True):
                expected = self.truth(probe, left, metric, 5)
                assert [(one.template, one.id) for one in found] == [(one[1], one[2]) for one in expected]
        engine.remove_subjects(["s4"])
        del enrolled["s4"]
        everybody = engine.nearest(probes[:1], 200, None, {"site": "north"})[0]
        assert {one.id for one in everybody} == {
            f"s{n}" for n in range(0, 200, 4) if n % 7 and f"s{n}" in enrolled
        }

    def test_all_within_a_radius(self, engine, metric):
        """Neighbours just inside, on and just outside of it, and a subject with one of two inside."""
        enrolled = self.enrol(engine, [2, 1, 3, 1, 1] * 40, metric, seed=5)
        probe = prepare(vectors(1, DIM, 6), metric)
        ranked = self.truth(probe[0], enrolled, metric, 200)
        (everybody,) = engine.within(probe, 2.0 if metric == "cosine" else 1e9)
        assert [(one.template, one.id) for one in everybody] == [(one[1], one[2]) for one in ranked]
        for last in (0, 1, 57, 199):
            on = everybody[last].distance
            below = float(np.nextafter(np.float32(on), np.float32(0)))
            assert [one.id for one in engine.within(probe, on)[0]] == [one[2] for one in ranked[: last + 1]]
            assert [one.id for one in engine.within(probe, below)[0]] == [one[2] for one in ranked[:last]]
        assert engine.within(probe, 0.0) == [[]]
        assert engine.within(probe[:0], 1.0) == []

    def test_a_radius_and_a_filter(self, engine, metric):
        rows = prepare(vectors(60, DIM, 7), metric)
        engine.add([new(f"s{n}", rows[n : n + 1], {"even": n % 2 == 0}) for n in range(60)])
        (everybody,) = engine.within(rows[:1], 1e9)
        limit = everybody[30].distance
        expected = [one.id for one in everybody[:31] if int(one.id[1:]) % 2]
        (found,) = engine.within(rows[:1], limit, None, {"even": False})
        assert [one.id for one in found] == expected
        assert [one.id for one in found] != [one.id for one in engine.within(rows[:1], limit)[0]]

    @pytest.mark.parametrize("k", [1, 3, 12, 400])
    def test_subjects_of_very_different_sizes(self, engine, metric, k):
        sizes = [1, 900, 2, 300, 1, 1, 40, 700, 5, 1] + [3] * 40
        enrolled = self.enrol(engine, sizes, metric)
        self.check(engine, prepare(vectors(12, DIM, 1), metric), enrolled, metric, k)

    def test_several_crowds_hide_no_one(self, engine, metric):
        """Each probe lies in a crowd of 1,200, with the other crowds between it and everybody else."""
        rng = np.random.default_rng(4)
        line = np.array([[0], [0.05], [0.12], [0.2]]) * np.eye(DIM)[1] + np.eye(DIM)[0]
        noise = 1e-3 * rng.standard_normal((4, 1200, DIM))
        crowds = [
            prepare((at + noisy).astype(np.float32), metric) for at, noisy in zip(line, noise, strict=True)
        ]
        others = prepare(vectors(30, DIM, 5) - np.float32(2) * np.eye(DIM, dtype=np.float32)[0], metric)
        batch = [new(f"crowd{n}", rows) for n, rows in enumerate(crowds)]
        batch += [new(f"o{n}", others[n : n + 1]) for n in range(30)]
        added, _ = engine.add(batch)
        enrolled = {one.id: (list(one.templates), of.rows) for one, of in zip(added, batch, strict=True)}
        probes = prepare((line + 1e-4).astype(np.float32), metric)
        self.check(engine, probes, enrolled, metric, 6)

    def test_inside_on_and_outside_a_distance(self, engine, metric):
        if metric == "cosine":
            pytest.skip("a cosine distance cannot be placed to the last bit")
        on = np.float32(0.3)
        steps = [np.nextafter(on, np.float32(0)), on, np.nextafter(on, np.float32(1))]
        engine.add([new(f"s{n}", np.eye(DIM, dtype=np.float32)[:1] * step) for n, step in enumerate(steps)])
        origin = np.zeros((1, DIM), np.float32)
        for radius, ids in [(float(on), ["s0", "s1"]), (0.3, ["s0"]), (float(steps[2]), ["s0", "s1", "s2"])]:
            assert [one.id for one in engine.within(origin, radius)[0]] == ids
        assert engine.within(origin, float("inf"))[0] == engine.nearest(origin, 3)[0]

    def test_within_an_empty_engine(self, engine):
        assert engine.within(vectors(2, DIM), 3.0) == [[], []]

    def placed(self, engine, metric, count: int = 90):
        """Subjects with metadata, some with many templates; what the oracle needs, with the metadata."""
        rows = prepare(vectors(3 * count, DIM, 3), metric)
        batch = []
        for n in range(count):
            about: dict = {"site": ["north", "south", "east"][n % 3], "floor": n % 7}
            if n % 2:
                about["vip"] = n % 4 == 1
            if n == 5:
                about = {}
            batch.append(new(f"s{n}", rows[3 * n : 3 * n + 1 + n % 3], about))
        added, _ = engine.add(batch)
        known = {one.id: (list(one.templates), of.rows) for one, of in zip(added, batch, strict=True)}
        return known, {one.id: one.metadata for one in batch}

    FILTERS = (
        {"site": "north"},
        {"site": ["north", "east"]},
        {"site": "north", "floor": 2.0},
        {"vip": True},
        {"vip": [False, 1]},
        {"nothing": None},
        {"floor": list(range(6))},
    )

    def among(self, enrolled, about, where):
        """By the definition, in plain Python."""

        def same(one, other):
            return one == other and isinstance(one, bool) == isinstance(other, bool)

        def meant(mine):
            return all(
                key in mine
                and any(same(mine[key], one) for one in (value if isinstance(value, list) else [value]))
                for key, value in where.items()
            )

        return {id: one for id, one in enrolled.items() if meant(about[id])}

    @pytest.mark.parametrize("copied", [True, False])
    def test_only_those_that_a_filter_holds_for(self, engine, metric, copied, monkeypatch):
        if not copied:
            monkeypatch.setattr(filtering, "_FEW", 0)
            monkeypatch.setattr(filtering, "_SHARE", 10**9)
        enrolled, about = self.placed(engine, metric)
        probes = prepare(vectors(4, DIM, 1), metric)
        for where in self.FILTERS:
            chosen = self.among(enrolled, about, where)
            for k in (3, 1000):
                self.check(engine, probes, chosen, metric, k, where)
            found = engine.within(probes, 0.7, None, where)
            for probe, near in zip(probes, found, strict=True):
                truth = [one for one in self.truth(probe, chosen, metric, 1000) if one[0] <= 0.7]
                assert [one.id for one in near] == [id for _, _, id in truth]

    def test_a_filter_sees_what_changed_since(self, tmp_path, metric):
        engine, other = self.open(tmp_path, metric), self.open(tmp_path, metric)
        enrolled, about = self.placed(engine, metric, 60)
        probes = prepare(vectors(5, DIM, 1), metric)
        where = {"site": "north"}
        row = prepare(vectors(1, DIM, 9), metric)

        def check() -> None:
            for one in (engine, other):
                self.check(one, probes, self.among(enrolled, about, where), metric, 4, where)

        check()
        # Metadata that changes; a removal; a newcomer; and one that came and went, leaving new metadata.
        (added,), _ = other.add([new("s1", row, {"site": "north"})])
        enrolled["s1"] = (enrolled["s1"][0] + list(added.templates), np.vstack([enrolled["s1"][1], row]))
        about["s1"]["site"] = "north"
        check()
        other.remove_subjects(["s0", "s3"])
        del enrolled["s0"], enrolled["s3"]
        check()
        (added,), _ = engine.add([new("new", row, {"site": "north"})])
        enrolled["new"], about["new"] = (list(added.templates), row), {"site": "north"}
        check()
        (added,), _ = other.add([new("s2", row, {"site": "north"})])
        other.remove_templates(list(added.templates))
        about["s2"]["site"] = "north"
        check()
        (added,), _ = other.add([new("s6", row, {"site": "south"})])
        enrolled["s6"] = (enrolled["s6"][0] + list(added.templates), np.vstack([enrolled["s6"][1], row]))
        about["s6"]["site"] = "south"
        check()
        engine.close()
        other.close()

    def test_who_is_nearer_is_settled_where_float32_cannot_tell(self, engine, metric):
        if not self.certain:
            pytest.skip("an approximate index proposes what float32 says")
        tight = {"cosine": 1e-4, "euclidean": 1e-2}[metric]
        centre = np.full(DIM, 1000.0)
        rows = prepare((centre + tight * centre * vectors(300, DIM)).astype(np.float32), metric)
        if metric == "euclidean":
            rows = (centre + tight * vectors(300, DIM)).astype(np.float32)
        added, _ = engine.add([new(f"s{n}", rows[n : n + 1]) for n in range(300)])
        enrolled = {one.id: (list(one.templates), rows[n : n + 1]) for n, one in enumerate(added)}
        self.check(engine, rows[:20], enrolled, metric, 3)

    @pytest.mark.parametrize("k", [4, 5, 1000, 10**15])
    def test_more_subjects_than_there_are(self, engine, metric, k):
        enrolled = self.enrol(engine, [300, 1, 200, 2], metric)
        self.check(engine, prepare(vectors(3, DIM, 1), metric), enrolled, metric, k)

    def test_ties_go_to_the_lower_template(self, engine, metric):
        row = prepare(np.arange(1, DIM + 1, dtype=np.float32)[None], metric)
        engine.add([new(f"s{n}", row) for n in range(60)])
        (found,) = engine.nearest(row, 50)
        assert flat(found) == [(f"s{n}", 0.0, n + 1) for n in range(50)]

    def test_the_same_bits_alone_and_in_any_batch(self, engine, metric):
        self.enrol(engine, [3] * 300, metric)
        probes = prepare(vectors(70, DIM, 1), metric)
        together = [flat(found) for found in engine.nearest(probes, 5)]
        assert [flat(engine.nearest(probes[n : n + 1], 5)[0]) for n in range(70)] == together
        assert [flat(found) for found in engine.nearest(probes[::-1].copy(), 5)] == together[::-1]

    def test_the_removed_are_gone_from_the_next_search(self, engine, metric):
        enrolled = self.enrol(engine, [2] * 50, metric)
        probes = prepare(vectors(10, DIM, 1), metric)
        self.check(engine, probes, enrolled, metric, 5)
        for id in {found[0].id for found in engine.nearest(probes, 1)}:
            assert engine.remove_subjects([id]) == {id: 2}
            del enrolled[id]
            assert not engine.has(id)
            self.check(engine, probes, enrolled, metric, 5)

    def test_removing_templates(self, engine, metric):
        enrolled = self.enrol(engine, [2] * 20, metric)
        probes = prepare(vectors(10, DIM, 1), metric)
        self.check(engine, probes, enrolled, metric, 5)
        assert engine.remove_templates([1, 3, 4]) == 3
        enrolled["s0"] = ([2], enrolled["s0"][1][1:])
        del enrolled["s1"]
        self.check(engine, probes, enrolled, metric, 19)
        with pytest.raises(InvalidItemError, match="1 of the 2 templates are not enrolled, 4 among them"):
            engine.remove_templates([2, 4])
        with pytest.raises(UnknownSubjectError, match="'s1'"):
            engine.remove_subjects(["s0", "s1"])
        self.check(engine, probes, enrolled, metric, 19)

    def test_it_stays_right_through_many_removals_and_additions(self, engine, metric):
        enrolled = self.enrol(engine, [4] * 700, metric)
        probes = prepare(vectors(3, DIM, 1), metric)
        self.check(engine, probes, enrolled, metric, 5)
        for round in range(3):
            gone = list(enrolled)[::2]
            engine.remove_subjects(gone)
            enrolled = {id: one for id, one in enrolled.items() if id not in gone}
            enrolled |= {
                f"{round}{id}": one
                for id, one in self.enrol_as(engine, f"{round}", [1, 3] * 40, metric, 10 + round).items()
            }
            self.check(engine, probes, enrolled, metric, 5)

    def enrol_as(self, engine, prefix, sizes, metric, seed):
        rows = prepare(vectors(sum(sizes), DIM, seed), metric)
        starts = np.cumsum([0, *sizes])
        batch = [new(f"{prefix}t{n}", rows[starts[n] : starts[n + 1]]) for n in range(len(sizes))]
        added, _ = engine.add(batch)
        return {f"t{n}": (list(one.templates), batch[n].rows) for n, one in enumerate(added)}

    def test_another_engine_sees_a_commit_at_its_next_call(self, tmp_path, metric):
        first, second = self.open(tmp_path, metric), self.open(tmp_path, metric)
        row = prepare(vectors(1, DIM), metric)
        assert first.nearest(row, 1) == second.nearest(row, 1) == [[]]
        first.add([new("a", row)])
        assert flat(second.nearest(row, 1)[0]) == [("a", 0.0, 1)]
        second.add([new("b", row)])
        assert flat(first.nearest(row, 5)[0]) == [("a", 0.0, 1), ("b", 0.0, 2)]
        first.remove_subjects(["a"])
        assert flat(second.nearest(row, 5)[0]) == [("b", 0.0, 2)]
        second.erase()
        assert flat(first.nearest(row, 5)[0]) == [("b", 0.0, 2)]
        assert (first.counts(), second.counts()) == ((1, 1), (1, 1))
        first.close()
        second.close()

    def test_reopening_gives_the_same_bits(self, tmp_path, metric):
        engine = self.open(tmp_path, metric)
        self.enrol(engine, [3] * 500, metric)
        probes = prepare(vectors(20, DIM, 1), metric)
        before = [flat(found) for found in engine.nearest(probes, 5)]
        for _ in range(2):
            engine.close()
            engine = self.open(tmp_path, metric)
            assert [flat(found) for found in engine.nearest(probes, 5)] == before
        engine.close()

    def test_an_addition_that_fails_adds_nothing(self, engine, metric):
        rows = prepare(vectors(2, DIM), metric)

        def failing():
            yield new("a", rows)
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            engine.add(failing())
        assert (engine.counts(), engine.nearest(rows, 3)) == ((0, 0), [[], []])

    def test_adding_nothing_stays_at_the_revision(self, engine):
        revision = engine.state().revision
        assert engine.add([]) == ([], revision)
        assert engine.add([new("a", vectors(1, DIM))])[1] == engine.state().revision == revision + 1

    def test_metadata_and_settings(self, engine):
        engine.add([new("a", vectors(1, DIM), {"x": 1})])
        engine.set_setting("threshold", "0.5")
        assert (engine.metadata("a"), engine.setting("threshold")) == ({"x": 1}, "0.5")
        assert engine.nearest(vectors(1, DIM), 1)[0][0].metadata == {"x": 1}

    def test_it_may_be_shared_by_threads(self, engine, metric):
        enrolled = self.enrol(engine, [2] * 40, metric)
        probes = prepare(vectors(4, DIM, 1), metric)
        expected = [flat(found) for found in engine.nearest(probes, 3)]
        far = prepare(-100 * probes[:1], metric)
        wrong: list[object] = []

        def search():
            for _ in range(15):
                found = [flat(one) for one in engine.nearest(probes, 3)]
                wrong.extend([found] if found != expected else [])

        def write(name: str):
            for n in range(8):
                engine.add([new(f"{name}{n}", far)])
                engine.remove_subjects([f"{name}{n}"])

        def guarded(work, *arguments):
            try:
                work(*arguments)
            except BaseException as error:
                wrong.append(error)

        # What is added lies opposite to a probe, so that no answer changes.
        self.check(engine, probes, enrolled, metric, 3)
        threads = [threading.Thread(target=guarded, args=(search,)) for _ in range(3)]
        threads += [threading.Thread(target=guarded, args=(write, name)) for name in "xy"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert engine.counts() == (40, 80)

    def test_everything_is_read_of_one_revision(self, engine, metric):
        enrolled = self.enrol(engine, [2, 1], metric)
        with engine.exported() as (_, subjects):
            read = list(subjects)
        assert [(id, [int(one) for one in templates]) for id, _, templates, _ in read] == [
            ("s0", [1, 2]),
            ("s1", [3]),
        ]
        for id, _, _, stored in read:
            assert stored.rows.tobytes() == enrolled[id][1].tobytes()

    def test_a_closed_engine_says_so(self, engine):
        engine.close()
        engine.close()
        with pytest.raises(GalleryError, match="was closed"):
            engine.nearest(vectors(1, DIM), 1)
        with pytest.raises(GalleryError, match="was closed"):
            engine.add([])
