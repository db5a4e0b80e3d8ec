"""Filters by metadata: what matches, and what is no filter."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gallery
from gallery.engines.filtering import Views
from gallery.filters import checked_where, text_of, texts_of
from gallery.indexes.exact import ExactIndex
from gallery.metadata import as_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.0, 1.0, 2.5]) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=4,
)
KEYS = st.sampled_from(["site", 'a"b', "ä", "", "\\"])


def plain_matches(metadata, where) -> bool:
    """The rule, said again: values are equal when their JSON is, numbers by value."""

    def canon(value):
        if isinstance(value, bool) or value is None or isinstance(value, str):
            return repr(value)
        if isinstance(value, int | float):
            return f"number {float(value)}"
        if isinstance(value, list):
            return "[" + ",".join(map(canon, value)) + "]"
        return "{" + ",".join(f"{key!r}:{canon(value[key])}" for key in sorted(value)) + "}"

    return all(
        key in metadata
        and canon(metadata[key]) in [canon(one) for one in (wanted if isinstance(wanted, list) else [wanted])]
        for key, wanted in where.items()
    )


@given(st.dictionaries(KEYS, VALUES, max_size=3), st.dictionaries(KEYS, VALUES, min_size=1, max_size=2))
def test_what_matches(metadata, where):
    where = {key: value for key, value in where.items() if value != []}
    stored = json.loads(as_json(metadata))
    texts = texts_of(checked_where(where))
    found = all(key in stored and text_of(stored[key]) in texts[key] for key in texts)
    assert found == plain_matches(metadata, where)


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("site=north", "mapping"),
        ({1: "north"}, "mapping"),
        ({"site": []}, "'site' is empty"),
        ({"site": float("nan")}, "JSON can hold"),
        ({"site": {1, 2}}, "JSON can hold"),
    ],
)
def test_what_is_no_filter_is_refused(tmp_path, where, said):
    with gallery.open(tmp_path / "g", gallery.Precomputed(4)) as people:
        people.enroll("a", np.eye(4)[:1], metadata={"site": "north"})
        with pytest.raises(ValueError, match=said):
            people.identify(np.eye(4)[0], where=where)
        with pytest.raises(ValueError, match=said):
            people.within(np.eye(4)[0], 1.0, where=where)


@pytest.mark.parametrize(("count", "most"), [(24_000, 20_000), (200_000, 50_000)])
def test_what_filters_leave_is_not_copied_without_bound(count, most):
    """Four filters that leave seven eighths of what may be copied held four copies of that."""
    rows = np.zeros((count, 1), np.float32)
    index, views = ExactIndex(1, "euclidean"), Views()
    index.add(np.arange(count), rows)
    each = max(20_000, count // 8) * 7 // 8
    made = []
    for at in range(6):
        numbers = np.arange(at, at + each)
        for again in range(2):
            found, copy = views.of(index, f"{at}", numbers, (1, 1), rows.__getitem__, (1, "euclidean"))
            assert found is copy and len(copy) == each
            made.append(copy)
            assert again == 0 or made[-1] is made[-2], "one that was asked for last is kept"
        assert each <= views._held() <= most
    assert views._held() + each > most, "as many as fit"


def test_a_filter_follows_changed_metadata_at_once(tmp_path):
    probe = np.eye(4)[0]
    with gallery.open(tmp_path / "g", gallery.Precomputed(4)) as people:
        people.enroll("a", [probe], metadata={"site": "north"})
        people.enroll("b", np.eye(4)[1:2], metadata={"site": "south"})
        assert people.identify(probe, where={"site": "south"}).candidates[0].id == "b"
        people.enroll("a", [probe], metadata={"site": "south"})
        assert people.identify(probe, where={"site": "south"}).candidates[0].id == "a"
        assert people.identify(probe, where={"site": "north"}).candidates == ()
        assert people.identify(probe, threshold=0.5, where={"site": "north"}).decision == "unknown"
        assert [one.id for one in people.within(probe, 1.0)] == ["a", "b"]
        assert [one.id for one in people.within(probe, 1.0, where={"site": ["north", "south"]})] == ["a", "b"]
        assert people.within_batch([], 1.0) == []
        for radius in (-1, float("nan")):
            with pytest.raises(ValueError, match="distance of 0 or more"):
                people.within(probe, radius)
