"""What every store promises; a new kind inherits this class and says how it is made."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gallery.errors import GalleryError, InvalidItemError, UnknownSubjectError
from gallery.stores.base import Header, NewTemplates, Store


def new(
    id: str, *rows: list[float], metadata: dict | None = None, sources: list | None = None
) -> NewTemplates:
    array = np.array(rows, np.float32)
    return NewTemplates(id, array, sources or [None] * len(array), metadata)


def add(store: Store, one: NewTemplates) -> tuple[list[int], bool]:
    (added,) = store.add([one])
    return list(added.templates), added.created


class StoreContract:
    """Inherit, and give `create` and `open`; dim is 3, the metric euclidean."""

    def create(self, place: Path) -> Store:
        raise NotImplementedError

    def open(self, place: Path) -> Store:
        raise NotImplementedError

    @pytest.fixture
    def place(self, tmp_path: Path) -> Path:
        return tmp_path

    @pytest.fixture
    def store(self, place: Path):
        store = self.create(place)
        yield store
        store.close()

    def put(self, store: Store, *batch: NewTemplates) -> list[tuple[list[int], bool]]:
        with store.commit():
            return [add(store, one) for one in batch]

    def test_a_new_store_is_empty_at_revision_0(self, store):
        assert (store.revision(), store.last_template(), store.counts(), store.ids()) == (0, 0, (0, 0), [])
        assert store.check() == []

    def test_numbers_count_up_over_subjects_and_commits(self, store):
        assert self.put(store, new("a", [1, 2, 3], [4, 5, 6]), new("b", [7, 8, 9])) == [
            ([1, 2], True),
            ([3], True),
        ]
        assert self.put(store, new("a", [0, 0, 1])) == [([4], False)]
        assert (store.revision(), store.last_template(), store.counts()) == (2, 4, (2, 4))

    def test_embeddings_come_back_bit_for_bit(self, store):
        odd = np.array([[1e-45, -0.0, 3.4e38], [0.1, 1 / 3, -2.5e-38]], np.float32)
        self.put(store, NewTemplates("a", odd, [None, None]))
        stored = store.embeddings("a")
        assert stored.rows.tobytes() == odd.tobytes()
        assert stored.rows.dtype == np.float32
        assert stored.numbers.tolist() == [1, 2]
        assert stored.subjects.tolist() == [store.subject("a")] * 2

    def test_fetch_gives_those_that_are_there_by_number(self, store):
        self.put(store, new("a", [1, 0, 0], [2, 0, 0]), new("b", [3, 0, 0]))
        stored = store.fetch([3, 99, 1, 1])
        assert stored.numbers.tolist() == [1, 3]
        assert stored.rows[:, 0].tolist() == [1, 3]
        assert store.fetch([]).rows.shape == (0, 3)

    def test_scan_goes_through_all_in_blocks(self, store):
        self.put(store, new("a", *[[n, 0, 0] for n in range(1, 8)]))
        with store.snapshot():
            blocks = list(store.scan(after=2, block=2))
        assert [block.numbers.tolist() for block in blocks] == [[3, 4], [5, 6], [7]]
        assert [block.rows[:, 0].tolist() for block in blocks] == [[3, 4], [5, 6], [7]]

    def test_metadata_is_merged_and_new_values_win(self, store):
        self.put(store, new("a", [1, 0, 0], metadata={"x": 1, "y": [1, {"z": None}]}))
        self.put(store, new("a", [1, 0, 0], metadata={"x": 2, "ü": "ß"}), new("a", [1, 0, 0]))
        assert store.metadata("a") == {"x": 2, "y": [1, {"z": None}], "ü": "ß"}
        assert store.describe([store.subject("a")]) == {store.subject("a"): ("a", store.metadata("a"))}

    def test_templates_tell_where_they_came_from(self, store):
        self.put(store, new("a", [1, 0, 0], [2, 0, 0], sources=["x.png", None]))
        first, second = store.templates("a")
        assert (int(first), first.id, first.source) == (1, "a", "x.png")
        assert (int(second), second.source) == (2, None)
        assert first.enrolled.utcoffset().total_seconds() == 0

    def test_removing_a_subject(self, store):
        self.put(store, new("a", [1, 0, 0], [2, 0, 0]), new("b", [3, 0, 0]))
        with store.commit():
            assert store.remove_subject("a") == 2
        assert (store.ids(), store.counts(), store.subject("a")) == (["b"], (1, 1), None)
        assert store.removed_since(0).tolist() == [1, 2]
        assert store.removed_since(store.revision()).tolist() == []
        with pytest.raises(UnknownSubjectError, match="'a'"):
            store.embeddings("a")

    def test_a_subject_goes_with_its_last_template(self, store):
        self.put(store, new("a", [1, 0, 0], [2, 0, 0]), new("b", [3, 0, 0]))
        with store.commit():
            assert store.remove_templates([3, 1, 3]) == 2
        assert store.ids() == ["a"]
        assert store.embeddings("a").numbers.tolist() == [2]

    def test_a_removal_with_an_unknown_number_removes_nothing(self, store):
        self.put(store, new("a", [1, 0, 0]))
        with (
            pytest.raises(InvalidItemError, match="1 of the 2 templates are not enrolled, 7 among them"),
            store.commit(),
        ):
            store.remove_templates([1, 7])
        assert store.counts() == (1, 1)
        assert store.revision() == 1

    def test_numbers_are_never_used_again(self, place):
        store = self.create(place)
        self.put(store, new("a", [1, 0, 0]), new("b", [1, 0, 0]))
        subject = store.subject("b")
        with store.commit():
            store.remove_subject("b")
        store.erase()
        store.close()
        store = self.open(place)
        assert store.last_template() == 2
        assert self.put(store, new("b", [1, 0, 0])) == [([3], True)]
        assert store.subject("b") > subject
        store.close()

    def test_a_commit_that_raises_changes_nothing(self, store):
        self.put(store, new("a", [1, 0, 0], metadata={"x": 1}))
        with pytest.raises(ZeroDivisionError), store.commit():
            add(store, new("b", [1, 0, 0]))
            add(store, new("a", [9, 9, 9], metadata={"x": 2}))
            store.set_setting("k", "v")
            store.remove_templates([1])
            raise ZeroDivisionError
        assert (store.ids(), store.counts(), store.revision()) == (["a"], (1, 1), 1)
        assert (store.metadata("a"), store.setting("k"), store.last_template()) == ({"x": 1}, None, 1)
        assert self.put(store, new("c", [1, 0, 0])) == [([2], True)]

    def test_a_commit_of_nothing_keeps_the_revision(self, store):
        with store.commit():
            pass
        assert store.revision() == 0

    def test_settings_are_kept_and_deleted(self, store):
        with store.commit():
            store.set_setting("threshold", json.dumps(0.25))
        assert (store.setting("threshold"), store.setting("other"), store.revision()) == ("0.25", None, 1)
        with store.commit():
            store.set_setting("threshold", None)
        assert store.setting("threshold") is None

    def test_a_commit_inside_a_snapshot_is_refused_with_a_reason(self, store):
        with pytest.raises(GalleryError, match="being read by this thread"), store.snapshot(), store.commit():
            pass
        assert self.put(store, new("a", [1, 0, 0])) == [([1], True)]

    def test_a_snapshot_sees_one_revision_while_another_commits(self, place):
        reader, writer = self.create(place), self.open(place)
        self.put(writer, new("a", [1, 0, 0]))
        with reader.snapshot():
            assert reader.counts() == (1, 1)
            self.put(writer, new("b", [1, 0, 0]))
            assert (reader.counts(), reader.revision(), reader.last_template()) == ((1, 1), 1, 1)
        assert (reader.counts(), reader.revision()) == ((2, 2), 2)
        reader.close()
        writer.close()

    def test_everything_is_there_after_reopening(self, place):
        store = self.create(place)
        self.put(store, new("a", [1, 2, 3], metadata={"x": 1}, sources=["p"]), new("b", [4, 5, 6]))
        header, templates = store.header, store.templates("a")
        store.close()
        store.close()
        store = self.open(place)
        assert (store.header, store.ids(), store.revision()) == (header, ["a", "b"], 1)
        assert (store.metadata("a"), store.templates("a")[0].enrolled) == ({"x": 1}, templates[0].enrolled)
        assert store.embeddings("b").rows.tolist() == [[4, 5, 6]]
        assert [(one.id, one.templates) for one in store.listing()] == [("a", 1), ("b", 1)]
        store.close()

    @pytest.mark.parametrize(
        "id", ["é", "e\u0301", "👩‍👩‍👧", "a\0b", "a", " ", "x" * 100_000, "'; DROP TABLE subjects; --", "5"]
    )
    def test_any_unicode_is_an_id(self, store, id):
        self.put(store, new("a\0", [1, 0, 0]), new(id, [2, 0, 0]), new("é" + "e\u0301", [3, 0, 0]))
        assert store.ids() == ["a\0", id, "é" + "e\u0301"]
        assert store.embeddings(id).rows.tolist() == [[2, 0, 0]]
        with store.commit():
            store.add([new(id, [4, 0, 0]), new("a\0", [5, 0, 0])])
        assert store.ids() == ["a\0", id, "é" + "e\u0301"]
        assert store.embeddings(id).rows.tolist() == [[2, 0, 0], [4, 0, 0]]
        with store.commit():
            store.remove_subject(id)
        assert store.ids() == ["a\0", "é" + "e\u0301"]

    @pytest.mark.parametrize("id", ["\ud800", 5, None, ["5"], b"5", ""])
    def test_what_cannot_be_an_id_is_no_subject(self, store, id):
        self.put(store, new("5", [1, 0, 0]))
        assert store.subject(id) is None
        with pytest.raises(UnknownSubjectError, match="no subject"):
            store.embeddings(id)

    def test_erasing_leaves_no_byte(self, place):
        store = self.create(place)
        row = [1.2345678, -7.654321, 3.1415926]
        self.put(store, *[new(f"keep{n}", [n, 0, 0]) for n in range(50)])
        self.put(store, new("SECRET-SUBJECT", row, metadata={"k": "SECRET-DATA"}, sources=["SECRET-PATH"]))
        with store.commit():
            store.remove_subject("SECRET-SUBJECT")
        with store.commit("erase"):
            store.forget_removed()
        store.erase()
        raw = b"".join(path.read_bytes() for path in place.rglob("*") if path.is_file())
        assert b"SECRET" not in raw
        assert np.array(row, "<f4").tobytes() not in raw
        assert len(store.ids()) == 50
        store.close()

    def test_the_header_is_what_was_given(self, store):
        header: Header = store.header
        assert (header.dim, header.metric, header.fingerprint) == (3, "euclidean", "fp")
        assert len(header.identity) >= 16

    def test_whose_each_template_is(self, store):
        with store.snapshot():
            assert [one.tolist() for one in store.owners()] == [[], []]
        self.put(store, new("a", [1, 2, 3], [4, 5, 6]), new("b", [7, 8, 9]), new("a", [0, 0, 1]))
        self.put(store, new("c", [1, 1, 1]), new("b", [2, 2, 2]))
        a, b, c = (store.subject(id) for id in "abc")
        with store.snapshot():
            assert [one.tolist() for one in store.owners()] == [[1, 2, 3, 4, 5, 6], [a, a, b, a, c, b]]
            assert [one.tolist() for one in store.owners(after=4)] == [[5, 6], [c, b]]
            assert [one.tolist() for one in store.owners(after=6)] == [[], []]
        with store.commit():
            store.remove_templates([2, 3])
            store.remove_subject("c")
        with store.snapshot():
            assert [one.tolist() for one in store.owners()] == [[1, 4, 6], [a, a, b]]

    def test_the_records_of_all_subjects(self, store):
        assert list(store.records()) == []
        self.put(store, new("a", [1, 2, 3], metadata={"x": 1}), new("b", [7, 8, 9]))
        self.put(store, new("c", [1, 1, 1], metadata={"x": 1}), new("a", [1, 1, 1], metadata={"y": [2]}))
        expected = [({"x": 1, "y": [2]}, "a"), ({}, "b"), ({"x": 1}, "c")]
        assert list(store.records()) == [(store.subject(id), about) for about, id in expected]
