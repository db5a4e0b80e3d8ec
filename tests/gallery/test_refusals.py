"""Everything that is refused: with the numbers in the message, and nothing written."""

from __future__ import annotations

import json

import numpy as np
import pytest

import gallery
from gallery import (
    InvalidItemError,
    Precomputed,
    UnknownSubjectError,
)

CORNERS = np.eye(4, dtype=np.float32)
NAN, INF = float("nan"), float("inf")


@pytest.fixture
def people(tmp_path):
    with gallery.open(tmp_path / "g", Precomputed(4)) as people:
        people.enroll("a", CORNERS, metadata={"x": 1})
        before = (people.info().revision, people.ids(), people.template_count, people.metadata("a"))
        yield people
        assert (people.info().revision, people.ids(), people.template_count, people.metadata("a")) == before
        assert people.check() == []


BAD_ITEMS = [
    ([[1, 2, 3, NAN]], r"'b': item 0 of 1 cannot be used: .*1 NaN and 0 infinite values of 4"),
    ([[1, 2, 3, 4], [INF, -INF, NAN, 0]], r"item 1 of 2 .*1 NaN and 2 infinite values of 4"),
    ([[1, 2, 3, 1e39]], r"item 0 of 1 .*0 NaN and 1 infinite values of 4"),
    ([[0, 0, 0, 0]], r"item 0 of 1 .*all zeros"),
    ([[1, 2, 3]], r"item 0 of 1 .*expected vectors of shape \(n, 4\), got an array of shape \(1, 3\)"),
    ([[1, 2, 3, 4], [1, 2, 3, 4, 5]], r"item 1 of 2 .*\(n, 4\), got an array of shape \(1, 5\)"),
    (np.ones((2, 5)), r"item 0 of 2 .*\(n, 4\), got an array of shape \(\d, 5\)"),
    (np.ones((2, 4, 1)), r"\(n, 4\), got an array of shape \(\d, 4, 1\)"),
    (np.ones(4), r"expected a list of items, got one array of shape \(4,\): wrap it in a list"),
    ([1.0, 2.0, 3.0, 4.0], r"item 0 of 4 .*\(n, 4\), got an array of shape \(1,\)"),
    ("a.png", "expected a list of items, got one str: wrap it in a list"),
    (b"bytes", "expected a list of items, got one bytes"),
    (5, "expected a list of items, got one int"),
    (None, "expected a list of items, got one NoneType"),
    ([], "'b': the list of items is empty"),
    (np.empty((0, 4)), "'b': the list of items is empty"),
    (["x"], r"item 0 of 1 .*real numbers, these hold <U1"),
    ([[1j, 0, 0, 0]], "real numbers, these hold complex128"),
    ([[None, 0, 0, 0]], "real numbers, these hold object"),
]


@pytest.mark.parametrize(("items", "message"), BAD_ITEMS)
def test_bad_items(people, items, message):
    with pytest.raises(InvalidItemError, match=message) as caught:
        people.enroll("b", items)
    assert str(caught.value).count("nothing was written") == 1
    with pytest.raises(InvalidItemError, match=message):
        people.enroll_many([("b", CORNERS), ("b", items)])
    assert "b" not in people


@pytest.mark.parametrize(("items", "message"), BAD_ITEMS[:6])
def test_skipping_what_cannot_be_used_needs_something_that_can(people, items, message):
    del message
    with pytest.raises(InvalidItemError, match=r"'b': none of the 1 items can be used; item 0: .*"):
        people.enroll("b", items[-1:], on_error="skip")


@pytest.mark.parametrize(
    ("probe", "message"),
    [
        ([1, 2, 3, NAN], "the item cannot be used: .*1 NaN"),
        ([0, 0, 0, 0], "the item cannot be used: .*all zeros"),
        ([1, 2, 3], r"the item cannot be used: .*got an array of shape \(1, 3\)"),
        ("a.png", "the item cannot be used: .*real numbers"),
        (np.ones((1, 4)), r"got an array of shape \(1, 1, 4\)"),
    ],
)
def test_bad_probes(people, probe, message):
    with pytest.raises(InvalidItemError, match=message):
        people.identify(probe)
    with pytest.raises(InvalidItemError, match=message):
        people.verify("a", probe, threshold=1)


def test_a_bad_probe_in_a_long_batch_is_found(people):
    probes = np.ones((2500, 4))
    probes[1700] = NAN
    with pytest.raises(InvalidItemError, match="item 1700 of 2500 cannot be used") as caught:
        people.identify_batch(probes)
    assert caught.value.index == 1700
    with pytest.raises(InvalidItemError, match="expected a list of items, got one str"):
        people.identify_batch("a.png")


def test_too_long_for_float32_distances(tmp_path):
    with gallery.open(tmp_path / "g", Precomputed(4, "euclidean")) as people:
        people.enroll("zeros are a place like any other", [[0, 0, 0, 0]])
        people.enroll("far", [[9e17, 0, 0, 0], [-9e17, 0, 0, 0]])
        assert people.identify([9e17, 0, 0, 0], k=1).best.template == 2
        assert people.verify("far", [0, 9e17, 0, 0], threshold=2e18).distance == float(
            np.float32(np.hypot(float(np.float32(9e17)), float(np.float32(9e17))))
        )
        with pytest.raises(InvalidItemError, match=r"has length 3e\+38, over 1e\+18: scale it down"):
            people.enroll("b", [[3e38, 0, 0, 0]])


def test_the_bad_item_of_a_long_enrolment_is_numbered_within_its_subject(people):
    good = np.ones((5000, 4))
    bad = good.copy()
    bad[4999] = NAN
    with pytest.raises(InvalidItemError, match=r"^'b': item 4999 of 5000 cannot be used") as caught:
        people.enroll("b", bad)
    assert caught.value.index == 4999
    # The bad one of `c` is met while `d` is being read.
    with pytest.raises(InvalidItemError, match=r"^'c': item 2 of 3 cannot be used.*nothing was written \("):
        people.enroll_many([("b", good), ("c", [*CORNERS[:2], [NAN] * 4]), ("d", good)])


def test_a_whole_bulk_is_refused_for_its_5000th_item(people):
    def subjects():
        for n in range(5000):
            yield f"s{n}", CORNERS[:1] if n < 4999 else [[0, 0, 0, 0]]

    with pytest.raises(InvalidItemError, match=r"'s4999': item 0 of 1"):
        people.enroll_many(subjects())


def test_an_iterable_that_breaks_writes_nothing(people):
    def subjects():
        yield "b", CORNERS
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        people.enroll_many(subjects())

    def items():
        yield CORNERS[0]
        raise TypeError("mine")

    with pytest.raises(TypeError, match="mine"):
        people.enroll("b", items())


@pytest.mark.parametrize("subject", ["ab", 5, ("b",), ("b", CORNERS, {}, 1), {"b": CORNERS}])
def test_subjects_of_the_wrong_form(people, subject):
    with pytest.raises(
        InvalidItemError, match=r"subject 1: expected \(id, items\) or \(id, items, metadata\)"
    ):
        people.enroll_many([("b", CORNERS), subject])
    with pytest.raises(InvalidItemError, match="subject 0"):
        people.enroll_many({"bc": CORNERS})


@pytest.mark.parametrize("id", ["", None, 5, b"b", ["b"], "\ud800", "a\udcff"])
def test_bad_ids(people, id):
    with pytest.raises(InvalidItemError, match=r"an id is a non-empty string, not|is not valid Unicode"):
        people.enroll(id, CORNERS)
    assert id not in people
    for use in (
        lambda: people.verify(id, CORNERS[0], threshold=1),
        lambda: people.templates(id),
        lambda: people.metadata(id),
    ):
        with pytest.raises(UnknownSubjectError, match="no subject"):
            use()
    with pytest.raises(UnknownSubjectError, match="no subject"):
        people.remove(id)
    with pytest.raises(UnknownSubjectError, match="no subject"):
        people.remove_many(["a", id, "a"])


def test_a_string_is_no_list_of_ids(people):
    with pytest.raises(InvalidItemError, match="expected a list of ids, got one string"):
        people.remove_many("a")


@pytest.mark.parametrize(
    "metadata",
    [
        {"x": NAN},
        {"x": [INF]},
        pytest.param({"x": object()}, id="object"),
        {"x": {1, 2}},
        {"x": b"bytes"},
        {5: "x"},
        {"x": {1: 1, "b": 2}},
        {"x": "\ud800"},
        {"\udcff": 1},
        {"x": np.float32(1)},
        ["x"],
        "x",
        5,
    ],
    ids=repr,
)
def test_bad_metadata(people, metadata):
    with pytest.raises(InvalidItemError, match=r"'a': metadata must be .*nothing was written"):
        people.enroll("a", CORNERS, metadata=metadata)


def test_metadata_without_end(people):
    metadata: dict = {}
    metadata["self"] = metadata
    with pytest.raises(InvalidItemError, match="Circular"):
        people.enroll("a", CORNERS, metadata=metadata)
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(InvalidItemError, match="recursion"):
        people.enroll("a", CORNERS, metadata={"x": deep})


def _nested(levels: int):
    return {"x": json.loads("[" * (levels - 1) + '"[{]"' + "]" * (levels - 1))}


def test_metadata_may_be_64_levels_deep(people, tmp_path):
    with pytest.raises(InvalidItemError, match="nested 65 levels deep, and 64 are allowed; nothing"):
        people.enroll("a", CORNERS, metadata=_nested(65))
    with gallery.open(tmp_path / "deep", Precomputed(4)) as deep:
        deep.enroll("b", CORNERS, metadata=_nested(64))
        assert deep.identify(CORNERS[0]).nearest.metadata == _nested(64)
        deep.enroll("c", CORNERS, metadata={"x": "[" * 99 + '\\"' + "{" * 99, "y": [[]] * 99})


@pytest.mark.parametrize("numbers", ["4", [3.7], [None], ["1"], [True]])
def test_what_is_no_template_number(people, numbers):
    with pytest.raises(InvalidItemError, match=r"expected template numbers, got the .*nothing was removed"):
        people.remove_templates(numbers)


def test_templates_that_are_not_enrolled(people):
    with pytest.raises(InvalidItemError, match="2 of the 3 templates are not enrolled, 0 among them"):
        people.remove_templates([1, 99, 0])
    with pytest.raises(InvalidItemError, match="1 of the 1 templates are not enrolled"):
        people.remove_templates([10**30])
    assert people.remove_templates([]) == 0


@pytest.mark.parametrize("k", [0, -1, 2.0, "5", True, None])
def test_bad_k(people, k):
    with pytest.raises(ValueError, match="k must be a whole number of subjects, 1 or more, not"):
        people.identify(CORNERS[0], k=k)


@pytest.mark.parametrize("threshold", [NAN, -0.1, -INF])
def test_bad_thresholds(people, threshold):
    for use in (
        lambda: people.identify(CORNERS[0], threshold=threshold),
        lambda: people.verify("a", CORNERS[0], threshold=threshold),
    ):
        with pytest.raises(ValueError, match="a threshold is a distance of 0 or more, not"):
            use()


def test_bad_on_error(people):
    with pytest.raises(ValueError, match="on_error must be 'raise' or 'skip', not 'ignore'"):
        people.enroll("b", CORNERS, on_error="ignore")


@pytest.mark.parametrize("make", [gallery.open, gallery.create])
@pytest.mark.parametrize(
    "manner",
    [
        *({"lock_timeout": value} for value in ("x", NAN, -1, INF)),
        *({"actor": value} for value in ("\ud800", "two\nlines", 5)),
    ],
    ids=repr,
)
def test_bad_ways_of_opening(make, manner, tmp_path):
    (name,) = manner
    with pytest.raises(ValueError, match=f"^{name} must be"):
        make(tmp_path / "new", Precomputed(4), **manner)
    assert not (tmp_path / "new").exists()
