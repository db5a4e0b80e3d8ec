"""Encoders that are none, are others, or misbehave; and places where no gallery can be opened or made."""

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
    assert "as it was, or migrate it to the new encoder" in str(caught.value)


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
        GalleryError, match="format 99 and this version reads formats up to 2: upgrade siamese-gallery"
    ):
        gallery.open(tmp_path / "g")


def test_a_damaged_embedding_is_named_and_listed(tmp_path):
    location = tmp_path / "g"
    with gallery.open(location, Precomputed(4)) as people:
        people.enroll_many([("a", CORNERS[:2]), ("b", CORNERS[2:])])
    db = sqlite3.connect(location / "catalog.sqlite")
    with db:
        (blob,) = db.execute("SELECT embedding FROM templates_1 WHERE template = 2").fetchone()
        db.execute(
            "UPDATE templates_1 SET embedding = ? WHERE template = 2", (bytes([blob[0] ^ 1]) + blob[1:],)
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

    kinds = {
        name: kind
        for name, kind in vars(errors).items()
        if getattr(kind, "__module__", "") == errors.__name__
    }
    assert issubclass(kinds.pop("StaleCalibrationWarning"), UserWarning)
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
        "ConflictError": "GalleryError",
        "QuarantinedError": "GalleryError",
    }
    assert all(f"{name}" in errors.__doc__ for name in kinds)
    assert str(UnknownSubjectError("no 'x'")) == "no 'x'"
