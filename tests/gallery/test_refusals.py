"""Everything that is refused: with the numbers in the message, and nothing written."""

from __future__ import annotations

import sqlite3
import types

import numpy as np
import pytest

import gallery
from gallery import (
    CorruptGalleryError,
    EncoderMismatchError,
    GalleryError,
    GalleryExistsError,
    GalleryNotFoundError,
    InvalidItemError,
    Precomputed,
    UnknownSubjectError,
)
from tests.gallery.doubles import Words, contents

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
        {"x": object()},
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


@pytest.mark.parametrize("numbers", ["4", [3.7], [None], ["1"]])
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


# -- encoders


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (Precomputed(5), "dim 4 there, 5 here"),
        (Precomputed(4, "euclidean"), "metric cosine there, euclidean here"),
        (
            Precomputed(4, name="other"),
            r"\(fingerprint precomputed/precomputed/4/cosine there, precomputed/other/4/cosine here\)",
        ),
    ],
)
def test_another_encoder(people, encoder, message):
    with pytest.raises(EncoderMismatchError, match=message) as caught:
        gallery.open(people.location, encoder)
    assert "as it was, or enrol the original items into a new gallery" in str(caught.value)


def test_a_newer_version_of_the_same_encoder(tmp_path):
    gallery.open(tmp_path / "g", Words()).close()
    newer = Words()
    newer.fingerprint = "words/2"
    with pytest.raises(EncoderMismatchError, match=r"\(fingerprint words/1 there, words/2 here\)"):
        gallery.open(tmp_path / "g", newer)
    with gallery.open(tmp_path / "g") as people:
        with pytest.raises(EncoderMismatchError, match=r"opened without an encoder.*'words'"):
            people.enroll("a", ["1 0 0 0"])
        assert people.ids() == []


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"dim": 0}, ValueError, "dim must be a positive whole number, not 0"),
        ({"dim": 4.0}, ValueError, "dim must be a positive whole number, not 4.0"),
        ({"metric": "l2"}, ValueError, "metric must be one of cosine, euclidean, not 'l2'"),
        ({"fingerprint": ""}, ValueError, "fingerprint must be a non-empty string"),
        ({"fingerprint": 5}, ValueError, "fingerprint must be a non-empty string"),
    ],
)
def test_what_is_no_encoder(tmp_path, change, error, message):
    encoder = Words()
    for name, value in change.items():
        setattr(encoder, name, value)
    with pytest.raises(error, match=message):
        gallery.open(tmp_path / "g", encoder)
    assert not (tmp_path / "g").exists()


def test_what_lacks_the_parts_of_an_encoder(tmp_path):
    with pytest.raises(TypeError, match="it lacks metric, encode"):
        gallery.open(tmp_path / "g", types.SimpleNamespace(dim=4, fingerprint="f"))


@pytest.mark.parametrize(
    ("encode", "message"),
    [
        (lambda items: np.ones((len(items) + 1, 4)), "the encoder gave 2 embeddings for 1 items"),
        (lambda items: np.ones((len(items), 3)), r"expected vectors of shape \(n, 4\), got .* \(1, 3\)"),
        (lambda items: None, "these hold object"),
        (lambda items: 1 / 0, "ZeroDivisionError: division by zero"),
    ],
)
def test_encoders_that_misbehave(tmp_path, encode, message):
    encoder = Words()
    encoder.encode = encode
    with gallery.open(tmp_path / "g", encoder) as people:
        with pytest.raises(InvalidItemError, match=message):
            people.enroll("a", ["x"])
        assert people.template_count == 0


def test_an_encoder_that_lacks_a_package_is_not_the_items_fault(tmp_path):
    def encode(items):
        raise ModuleNotFoundError("no torch")

    encoder = Words()
    encoder.encode = encode
    with (
        gallery.open(tmp_path / "g", encoder) as people,
        pytest.raises(ModuleNotFoundError, match="no torch"),
    ):
        people.enroll("a", ["x"], on_error="skip")


# -- places


def test_nothing_to_open(tmp_path):
    for use in (
        lambda: gallery.open(tmp_path / "g"),
        lambda: gallery.open(tmp_path / "g", Precomputed(4), read_only=True),
    ):
        with pytest.raises(GalleryNotFoundError, match="there is no gallery at"):
            use()
    assert list(tmp_path.iterdir()) == []


def test_a_gallery_is_already_there(people):
    before = (people.location / "catalog.sqlite").read_bytes()
    with pytest.raises(GalleryExistsError, match=r"already at .*open it instead"):
        gallery.create(people.location, Precomputed(4))
    assert (people.location / "catalog.sqlite").read_bytes() == before


def test_something_else_is_already_there(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "photo.png").write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(GalleryExistsError, match="is a file; a gallery is a folder"):
        gallery.open(tmp_path / "file", Precomputed(4))
    with pytest.raises(GalleryExistsError, match="holds other files"):
        gallery.open(tmp_path / "folder", Precomputed(4))
    with pytest.raises(GalleryError, match="cannot be made"):
        gallery.open(tmp_path / "file" / "deeper", Precomputed(4))
    assert contents(tmp_path) == before


def test_a_bad_index_wish_makes_nothing(tmp_path):
    with pytest.raises(ValueError, match="FAISS cannot make an index 'Nonsense' of dim 4"):
        gallery.create(tmp_path / "g", Precomputed(4), index="Nonsense")
    assert not (tmp_path / "g").exists()


def test_a_creation_that_was_killed_is_taken_up(tmp_path):
    (tmp_path / "g").mkdir()
    (tmp_path / "g" / "catalog.sqlite").touch()
    with gallery.open(tmp_path / "g", Precomputed(4)) as people:
        assert people.enroll("a", CORNERS).templates == (1, 2, 3, 4)


@pytest.mark.parametrize(
    "content", [b"not a database at all, but long enough" * 50, b"SQLite format 3\0" + b"\0" * 984]
)
def test_a_catalog_that_is_no_database(tmp_path, content):
    (tmp_path / "g").mkdir()
    (tmp_path / "g" / "catalog.sqlite").write_bytes(content)
    with pytest.raises(CorruptGalleryError, match=r"catalog\.sqlite is damaged"):
        gallery.open(tmp_path / "g", Precomputed(4))
    assert (tmp_path / "g" / "catalog.sqlite").read_bytes() == content


def test_a_newer_format_is_refused(tmp_path):
    gallery.open(tmp_path / "g", Precomputed(4)).close()
    db = sqlite3.connect(tmp_path / "g" / "catalog.sqlite")
    with db:
        db.execute("UPDATE header SET format = 99")
    db.close()
    with pytest.raises(
        GalleryError, match="format 99 and this version reads format 1: upgrade siamese-gallery"
    ):
        gallery.open(tmp_path / "g")


def test_a_damaged_embedding_is_named_and_listed(tmp_path):
    location = tmp_path / "g"
    with gallery.open(location, Precomputed(4)) as people:
        people.enroll_many([("a", CORNERS[:2]), ("b", CORNERS[2:])])
    db = sqlite3.connect(location / "catalog.sqlite")
    with db:
        (blob,) = db.execute("SELECT embedding FROM templates WHERE template = 2").fetchone()
        db.execute(
            "UPDATE templates SET embedding = ? WHERE template = 2", (bytes([blob[0] ^ 1]) + blob[1:],)
        )
    db.close()
    with gallery.open(location) as people:
        for use in (
            lambda: people.verify("a", CORNERS[0], threshold=1),
            lambda: people.identify(CORNERS[3]),
        ):
            with pytest.raises(
                CorruptGalleryError, match=r"template 2 does not match its checksum.*gallery check"
            ):
                use()
        assert people.verify("b", CORNERS[2], threshold=0)
        assert [str(one) for one in people.check()] == [
            "template 2: its embedding does not match its checksum"
        ]
        people.remove_templates([2])
        assert people.check() == []
        assert people.identify(CORNERS[0], k=1).best.id == "a"


def test_every_error_is_a_gallery_error_and_the_built_in_one():
    from gallery import errors

    kinds = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type)}
    assert all(issubclass(kind, GalleryError) for kind in kinds.values())
    assert {name: kind.__bases__[-1].__name__ for name, kind in kinds.items()} == {
        "GalleryError": "Exception",
        "GalleryExistsError": "FileExistsError",
        "GalleryNotFoundError": "FileNotFoundError",
        "GalleryLockedError": "TimeoutError",
        "CorruptGalleryError": "GalleryError",
        "EncoderMismatchError": "GalleryError",
        "UnknownSubjectError": "KeyError",
        "InvalidItemError": "ValueError",
        "NotCalibratedError": "GalleryError",
        "NotEnoughDataError": "ValueError",
        "MissingExtraError": "ImportError",
    }
    assert all(f"{name}" in errors.__doc__ for name in kinds)
    assert str(UnknownSubjectError("no 'x'")) == "no 'x'"
