"""HDF5 for what goes in and out: everything survives the journey, and nothing damaged is taken in."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

import gallery

DIM = 8


def vectors(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float32)


@pytest.fixture(params=["cosine", "euclidean"])
def filled(request: pytest.FixtureRequest, tmp_path: Path) -> gallery.Gallery:
    people = gallery.create(tmp_path / "from", gallery.Precomputed(DIM, request.param))
    rows = vectors(40)
    people.enroll("alice", rows[:3], metadata={"badge": 7, "név": "Ádám"})
    people.enroll_many((f"s{n}", [rows[n]]) for n in range(3, 40))
    people.remove("s5")
    yield people
    people.close()


def test_round_trip_gives_the_same_answers_bit_for_bit(filled: gallery.Gallery, tmp_path: Path) -> None:
    assert filled.export(tmp_path / "all.h5") == 39
    with gallery.create(tmp_path / "to", filled.encoder) as other:
        done = other.import_file(tmp_path / "all.h5")
        assert (done.subjects, done.templates, done.created) == (37, 39, 37)
        assert other.ids() == filled.ids()
        assert other.metadata("alice") == {"badge": 7, "név": "Ádám"}
        assert [t.enrolled for t in other.templates("alice")] == [
            t.enrolled for t in filled.templates("alice")
        ]
        for probe in vectors(20, seed=1):
            ours = [(c.id, c.distance) for c in filled.identify(probe, k=10).candidates]
            assert [(c.id, c.distance) for c in other.identify(probe, k=10).candidates] == ours


def test_it_is_readable_with_plain_h5py(filled: gallery.Gallery, tmp_path: Path) -> None:
    filled.export(tmp_path / "all.h5")
    with h5py.File(tmp_path / "all.h5") as file:
        assert file.attrs["dim"] == DIM and file.attrs["format"] == 1
        assert file.attrs["fingerprint"] == filled.encoder.fingerprint
        ids = file["ids"].asstr()[:]
        assert ids[0] == "alice" and "s5" not in ids
        assert file["subject"][:4].tolist() == [0, 0, 0, 1]
        assert json.loads(file["metadata"].asstr()[0])["badge"] == 7
        if filled.encoder.metric == "euclidean":
            np.testing.assert_array_equal(file["embeddings"][:3], vectors(40)[:3])


def test_the_file_is_private_and_never_overwritten(filled: gallery.Gallery, tmp_path: Path) -> None:
    filled.export(tmp_path / "all.h5")
    assert (tmp_path / "all.h5").stat().st_mode & 0o777 == 0o600
    content = (tmp_path / "all.h5").read_bytes()
    with pytest.raises(gallery.GalleryExistsError, match="never overwrites"):
        filled.export(tmp_path / "all.h5")
    assert (tmp_path / "all.h5").read_bytes() == content
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.h5", "from"]


def test_strange_ids_survive(tmp_path: Path) -> None:
    ids = ["a\0b", "\u00e9", "e\u0301", "👩‍🚀", "\\u0000", "x" * 5000, " "]
    with gallery.create(tmp_path / "from", gallery.Precomputed(DIM)) as people:
        people.enroll_many((id, [row]) for id, row in zip(ids, vectors(len(ids)), strict=True))
        people.export(tmp_path / "all.h5")
        with gallery.create(tmp_path / "to", gallery.Precomputed(DIM)) as other:
            other.import_file(tmp_path / "all.h5")
            assert other.ids() == ids


def test_an_empty_gallery_makes_a_file_too(tmp_path: Path) -> None:
    with gallery.create(tmp_path / "from", gallery.Precomputed(DIM)) as people:
        assert people.export(tmp_path / "none.h5") == 0
        done = people.import_file(tmp_path / "none.h5")
        assert (done.subjects, done.templates) == (0, 0)


@pytest.mark.parametrize(
    ("other", "differs"),
    [
        (gallery.Precomputed(DIM + 1), "dim 9 there, 8 here"),
        (gallery.Precomputed(DIM, "euclidean"), "metric euclidean there, cosine here"),
        (gallery.Precomputed(DIM, name="v2"), "fingerprint"),
    ],
)
def test_another_encoders_embeddings_are_refused(
    tmp_path: Path, other: gallery.Precomputed, differs: str
) -> None:
    with gallery.create(tmp_path / "from", gallery.Precomputed(DIM)) as people:
        people.enroll("alice", vectors(2))
        people.export(tmp_path / "all.h5")
    with gallery.create(tmp_path / "to", other) as people:
        with pytest.raises(gallery.EncoderMismatchError, match=differs):
            people.import_file(tmp_path / "all.h5")
        assert len(people) == 0


def damage_truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def damage_nan(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["embeddings"][1, 2] = np.nan


def damage_missing(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["enrolled"]


def damage_subject(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["subject"][-1] = 999


def damage_short(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["embeddings"].resize(2, axis=0)


def damage_metadata(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["metadata"][0] = "[1"


def damage_text(path: Path) -> None:
    path.write_text("not HDF5 at all")


def damage_negative_subject(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["subject"][0] = -1


def damage_float_subject(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        values = file["subject"][:]
        del file["subject"]
        file["subject"] = values + 0.5


def damage_far_future(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["enrolled"][0] = 2**62


def damage_metadata_nan(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["metadata"][0] = '{"a": NaN}'


@pytest.mark.parametrize(
    "damage",
    [
        damage_negative_subject,
        damage_float_subject,
        damage_far_future,
        damage_metadata_nan,
        damage_truncate,
        damage_nan,
        damage_missing,
        damage_subject,
        damage_short,
        damage_metadata,
        damage_text,
    ],
)
def test_a_damaged_file_is_refused_and_nothing_written(damage: object, tmp_path: Path) -> None:
    with gallery.create(tmp_path / "from", gallery.Precomputed(DIM)) as people:
        people.enroll_many((f"s{n}", [row]) for n, row in enumerate(vectors(5)))
        people.export(tmp_path / "all.h5")
    damage(tmp_path / "all.h5")
    with gallery.create(tmp_path / "to", gallery.Precomputed(DIM)) as people:
        with pytest.raises(gallery.CorruptGalleryError, match=r"all\.h5"):
            people.import_file(tmp_path / "all.h5")
        assert (len(people), people.template_count, people.ids()) == (0, 0, [])


def test_a_newer_export_format_is_refused(tmp_path: Path) -> None:
    with gallery.create(tmp_path / "from", gallery.Precomputed(DIM)) as people:
        people.enroll("alice", vectors(1))
        people.export(tmp_path / "all.h5")
        with h5py.File(tmp_path / "all.h5", "r+") as file:
            file.attrs["format"] = 2
        with pytest.raises(gallery.GalleryError, match="export format 2 and this version reads format 1"):
            people.import_file(tmp_path / "all.h5")


def test_nothing_there(tmp_path: Path) -> None:
    with gallery.create(tmp_path / "from", gallery.Precomputed(DIM)) as people:
        with pytest.raises(gallery.GalleryNotFoundError, match="no file"):
            people.import_file(tmp_path / "none.h5")
        with pytest.raises(gallery.GalleryError, match="could not be written"):
            people.export(tmp_path / "no such folder" / "all.h5")


@pytest.mark.parametrize("how", ["external link", "soft link", "external storage", "virtual"])
def test_columns_that_lie_in_other_files_are_refused(tmp_path, how):
    with gallery.open(tmp_path / "g", gallery.Precomputed(3)) as people:
        people.enroll("alice", np.eye(3))
        people.export(tmp_path / "e.h5")
        people.export(tmp_path / "other.h5")
        with h5py.File(tmp_path / "e.h5", "r+") as file:
            rows = file["embeddings"][:]
            del file["embeddings"]
            if how == "external link":
                file["embeddings"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/embeddings")
            elif how == "soft link":
                file["kept"] = rows
                file["embeddings"] = h5py.SoftLink("/kept")
            elif how == "external storage":
                raw = tmp_path / "raw"
                raw.write_bytes(rows.tobytes())
                file.create_dataset("embeddings", rows.shape, "<f4", external=[(str(raw), 0, rows.nbytes)])
            else:
                layout = h5py.VirtualLayout(rows.shape, "<f4")
                layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "embeddings", rows.shape)
                file.create_virtual_dataset("embeddings", layout)
        with pytest.raises(gallery.CorruptGalleryError, match=r"somewhere else|in other files"):
            people.import_file(tmp_path / "e.h5")
        assert people.template_count == 3
