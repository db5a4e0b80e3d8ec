"""A gallery beside a plain dict: whatever is done in whatever order, both say the same.

Embeddings are small whole numbers, so that equal distances are frequent and every one is exact in float64.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import gallery
from gallery import ConflictError, InvalidItemError, Precomputed, QuarantinedError, UnknownSubjectError
from tests.gallery.doubles import seen, true_distances

DIM = 3
IDS = st.sampled_from(["a", "b", "c", "é", "e\u0301"])
VECTOR = st.lists(st.integers(-2, 2), min_size=DIM, max_size=DIM).filter(any)
VECTORS = st.lists(VECTOR, min_size=1, max_size=4)
METADATA = st.dictionaries(st.sampled_from("xy"), st.integers() | st.text(max_size=2), max_size=2)


class GalleryBesideADict(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.templates: dict[int, tuple[str, list[int]]] = {}
        self.about: dict[str, dict] = {}
        self.given = 0
        self.commits = 0
        self.barred: set[int] = set()
        self.different: set[frozenset[str]] = set()
        self.order: list[str] = []
        """The ids in order of first enrolment."""
        self.last: tuple | None = None
        """The last operation, and what was there before and after it."""

    @initialize(metric=st.sampled_from(["cosine", "euclidean"]), index=st.sampled_from(["auto", "Flat"]))
    def create(self, metric: str, index: str) -> None:
        self.encoder = Precomputed(DIM, metric)
        self.people = gallery.create(self.folder / "g", self.encoder, index=index)
        self.commits = self.people.info().revision

    def teardown(self) -> None:
        self.people.close()
        shutil.rmtree(self.folder)

    # -- changes

    def note(self, id: str, rows: list[list[int]], metadata: dict | None) -> tuple[int, ...]:
        numbers = tuple(range(self.given + 1, self.given + 1 + len(rows)))
        self.given += len(rows)
        self.templates |= {number: (id, row) for number, row in zip(numbers, rows, strict=True)}
        self.about[id] = {**self.about.get(id, {}), **(metadata or {})}
        self.order += [id] * (id not in self.order)
        return numbers

    def forget(self, numbers: list[int]) -> None:
        for number in numbers:
            del self.templates[number]
        left = {id for id, _ in self.templates.values()}
        self.about = {id: metadata for id, metadata in self.about.items() if id in left}
        self.barred &= set(self.templates)
        self.different = {pair for pair in self.different if pair <= left}
        self.order = [id for id in self.order if id in left]
        self.commits += 1

    @rule(id=IDS, rows=VECTORS, metadata=st.none() | METADATA)
    def enroll(self, id, rows, metadata) -> None:
        known = id in self.about
        result = self.people.enroll(id, rows, metadata=metadata)
        self.commits += 1
        assert result.templates == self.note(id, rows, metadata)
        assert (result.created, result.revision) == (not known, self.commits)

    @rule(batch=st.lists(st.tuples(IDS, VECTORS, st.none() | METADATA), min_size=1, max_size=4))
    def enroll_many(self, batch) -> None:
        known = set(self.about)
        result = self.people.enroll_many(batch)
        self.commits += 1
        for id, rows, metadata in batch:
            self.note(id, rows, metadata)
        ids = {id for id, _, _ in batch}
        assert (result.subjects, result.created) == (len(ids), len(ids - known))
        assert result.templates == sum(len(rows) for _, rows, _ in batch)

    @rule(id=IDS, rows=VECTORS)
    def enroll_with_a_bad_item(self, id, rows) -> None:
        with pytest.raises(InvalidItemError, match=f"item {len(rows)} of {len(rows) + 1}"):
            self.people.enroll(id, [*rows, [float("nan")] * DIM], metadata={"x": "never"})

    @rule(id=IDS, erase=st.booleans())
    def remove(self, id, erase) -> None:
        mine = [number for number, (owner, _) in self.templates.items() if owner == id]
        if not mine:
            with pytest.raises(UnknownSubjectError):
                self.people.remove(id, erase=erase)
            return
        assert self.people.remove(id, erase=erase) == len(mine)
        self.forget(mine)
        self.commits = self.people.info().revision

    @precondition(lambda self: self.templates)
    @rule(data=st.data())
    def remove_templates(self, data) -> None:
        numbers = data.draw(st.lists(st.sampled_from(sorted(self.templates)), min_size=1, max_size=5))
        assert self.people.remove_templates(numbers) == len(set(numbers))
        self.forget(list(set(numbers)))

    @rule()
    def remove_what_is_not_there(self) -> None:
        with pytest.raises(InvalidItemError, match="not enrolled"):
            self.people.remove_templates([*list(self.templates)[:2], self.given + 1])

    @rule(index_files=st.sampled_from(["kept", "deleted"]))
    def reopen(self, index_files) -> None:
        self.people.close()
        if index_files == "deleted":
            shutil.rmtree(self.folder / "g" / "index", ignore_errors=True)
        self.people = gallery.open(self.folder / "g", self.encoder)

    # -- putting in order

    def held(self) -> tuple:
        return (
            dict(self.templates),
            {id: dict(metadata) for id, metadata in self.about.items()},
            set(self.barred),
            set(self.different),
            list(self.order),
        )

    def noted(self, operation, before: tuple) -> None:
        self.commits += 1
        assert int(operation) == self.commits
        self.last = (operation, before, self.held())

    def mine(self, id: str) -> list[int]:
        return [number for number, (owner, _) in self.templates.items() if owner == id]

    @rule(old=IDS, new=IDS)
    def rename(self, old, new) -> None:
        if old not in self.about or new in self.about:
            with pytest.raises((UnknownSubjectError, ConflictError, InvalidItemError)):
                self.people.rename(old, new)
            return
        before = self.held()
        done = self.people.rename(old, new)
        self.templates |= {number: (new, self.templates[number][1]) for number in self.mine(old)}
        self.about[new] = self.about.pop(old)
        self.different = {frozenset(new if id == old else id for id in pair) for pair in self.different}
        self.order = [new if id == old else id for id in self.order]
        self.noted(done, before)

    @rule(into=IDS, other=IDS)
    def merge(self, into, other) -> None:
        pair = frozenset([into, other])
        if into == other or not pair <= set(self.about) or pair in self.different:
            with pytest.raises((UnknownSubjectError, ConflictError, InvalidItemError)):
                self.people.merge(into, [other])
            return
        before = self.held()
        done = self.people.merge(into, [other])
        self.templates |= {number: (into, self.templates[number][1]) for number in self.mine(other)}
        self.about[into] = self.about.pop(other) | self.about[into]
        self.different = {frozenset(into if id == other else id for id in pair) for pair in self.different}
        self.order.remove(other)
        self.noted(done, before)

    @rule(id=IDS, new=IDS, count=st.integers(1, 3))
    def split(self, id, new, count) -> None:
        mine = self.mine(id)
        if new in self.about or len(mine) <= count:
            with pytest.raises((UnknownSubjectError, ConflictError, InvalidItemError)):
                self.people.split(id, mine[:count], new)
            return
        before = self.held()
        done = self.people.split(id, mine[:count], new)
        self.templates |= {number: (new, self.templates[number][1]) for number in mine[:count]}
        self.about[new] = {}
        self.different.add(frozenset([id, new]))
        self.order.append(new)
        self.noted(done, before)

    @precondition(lambda self: self.templates)
    @rule(data=st.data())
    def quarantine_or_release(self, data) -> None:
        numbers = set(
            data.draw(st.lists(st.sampled_from(sorted(self.templates)), min_size=1, max_size=3), "numbers")
        )
        before = self.held()
        if numbers <= self.barred:
            done = self.people.release(numbers)
        elif numbers & self.barred:
            with pytest.raises(ConflictError, match="already"):
                self.people.quarantine(numbers, "why")
            return
        else:
            done = self.people.quarantine(numbers, "why")
        self.barred ^= numbers
        self.noted(done, before)

    @rule(one=IDS, other=IDS)
    def differ(self, one, other) -> None:
        pair = frozenset([one, other])
        if one == other or not pair <= set(self.about):
            with pytest.raises((UnknownSubjectError, InvalidItemError)):
                self.people.differ(one, other)
            return
        before = self.held()
        done = self.people.differ(one, other, different=pair not in self.different)
        self.different ^= {pair}
        self.noted(done, before)

    @precondition(lambda self: self.last is not None)
    @rule()
    def undo(self) -> None:
        """What nothing came after is taken back as it was; what something did is at least never half-done."""
        operation, before, after = self.last
        self.last = None
        if self.held() == after and self.people.info().revision == int(operation):
            done = self.people.undo(operation)
            self.templates, self.about, self.barred, self.different, self.order = before
            self.noted(done, after)
            return
        try:
            self.people.undo(operation)
        except (ConflictError, InvalidItemError):
            return
        # It touched nothing that came since; taken back again, all is as it was.
        self.people.undo(self.people.operations()[-1])
        self.commits += 2

    # -- questions

    def away(self, probe: list[int], metric: str) -> dict[int, float]:
        if not self.templates:
            return {}
        living = {number: row for number, (_, row) in self.templates.items() if number not in self.barred}
        if not living:
            return {}
        rows = np.array([*living.values()], float)
        return dict(zip(living, true_distances(np.array(probe, float), rows, metric), strict=True))

    @rule(probe=VECTOR, k=st.integers(1, 6), threshold=st.sampled_from([0.0, 0.5, 1.0, 2.0, 9.0]))
    def identify(self, probe, k, threshold) -> None:
        away = self.away(probe, self.encoder.metric)
        answer = self.people.identify(probe, k=k, threshold=threshold)
        for candidate in answer.candidates:
            id, _ = self.templates[candidate.template]
            assert candidate.id == id
            assert candidate.metadata == self.about[id]
            assert candidate.distance == pytest.approx(away[candidate.template], rel=1e-6, abs=1e-7)
            assert candidate.distance <= threshold
        best = self.ranked(away)[:k]
        within = [one for one in best if one[0] <= threshold + 1e-7]
        # Rounding may put a distance that is the threshold on either side under cosine, and no other.
        certain = [one for one in best if one[0] <= threshold - 1e-7]
        assert len(certain) <= len(answer.candidates) <= len(within)
        assert [one.distance for one in answer.candidates] == sorted(
            one.distance for one in answer.candidates
        )
        if self.encoder.metric == "euclidean":
            assert [(one.id, one.template) for one in answer.candidates] == [(id, n) for _, n, id in within]
        else:
            assert len({one.id for one in answer.candidates}) == len(answer.candidates)
        assert answer.decision == ("match" if answer.candidates else "unknown")
        assert (answer.nearest is None) == (not best)
        if best:
            assert answer.nearest.distance == pytest.approx(best[0][0], rel=1e-6, abs=1e-7)
        assert seen(self.people.identify_batch([[1] * DIM, probe], k, threshold)[1]) == seen(answer)

    def ranked(self, away: dict[int, float]) -> list[tuple[float, int, str]]:
        """Subjects by their nearest template, ties by template number; all brute force."""
        best: dict[str, tuple[float, int, str]] = {}
        for number in away:
            id = self.templates[number][0]
            mine = (float(away[number]), number, id)
            best[id] = min(best.get(id, mine), mine)
        return sorted(best.values())

    @rule(id=IDS, probe=VECTOR, threshold=st.sampled_from([0.0, 1.0, 2.0, 3.0]))
    def verify(self, id, probe, threshold) -> None:
        if id not in self.about:
            with pytest.raises(UnknownSubjectError):
                self.people.verify(id, probe, threshold=threshold)
            return
        away = self.away(probe, self.encoder.metric)
        if set(self.mine(id)) <= self.barred:
            with pytest.raises(QuarantinedError, match="in quarantine"):
                self.people.verify(id, probe, threshold=threshold)
            return
        mine = min((away[n], n) for n in away if self.templates[n][0] == id)
        claim = self.people.verify(id, probe, threshold=threshold)
        assert claim.distance == pytest.approx(mine[0], rel=1e-6, abs=1e-7)
        assert bool(claim) == (claim.distance <= threshold)
        if self.encoder.metric == "euclidean":
            assert (claim.template, claim.accepted) == (mine[1], mine[0] <= threshold)

    @invariant()
    def both_hold_the_same(self) -> None:
        if not hasattr(self, "people"):
            return
        owners = Counter(id for id, _ in self.templates.values())
        assert {one.id: one.templates for one in self.people.subjects()} == owners
        assert (len(self.people), self.people.template_count) == (len(owners), len(self.templates))
        assert {id: self.people.metadata(id) for id in self.about} == self.about
        assert self.people.info().revision == self.commits
        assert self.people.ids() == self.order
        assert {int(one): one.id for one in self.people.quarantined()} == {
            number: self.templates[number][0] for number in self.barred
        }
        assert {frozenset(pair) for pair in self.people.different()} == self.different


TestGalleryBesideADict = GalleryBesideADict.TestCase
TestGalleryBesideADict.settings = settings(
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
