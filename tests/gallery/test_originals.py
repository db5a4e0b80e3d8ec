"""Items that are kept: they come back as they were, in bounded memory, and go with their templates."""

from __future__ import annotations

import io
import os
import stat
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import gallery
from gallery import CorruptGalleryError, GalleryError, InvalidItemError
from gallery.originals import pack, unpack
from tests.gallery.doubles import contents, vectors


def through(item, folder: Path):
    kind, content = pack(item)
    assert type(content) is bytes
    return unpack(kind, content, folder, "7")


@pytest.mark.parametrize(
    "item",
    [
        "a sentence",
        "",
        "ümläut \N{SNOWMAN}",
        "x" * 5000,
        b"bytes\0",
        [1, 2, 3],
        [1.5, -0.0],
        [[1, 2], [3, 4]],
        (1.0, 2.0),
        [True, False],
        [2**62, -1],
        np.float32(1.5),
    ],
    ids=str,
)
def test_what_compares_equal(item, tmp_path):
    back = through(item, tmp_path)
    assert (type(back), back) == (type(item), item)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.arange(6, dtype=">f8"),
        np.zeros((0, 3), np.uint8),
        np.array(3.5),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array([np.nan, np.inf, -0.0]),
        np.arange(12, dtype=np.uint8).reshape(2, 2, 3)[:, ::-1],
        np.array([1 + 2j]),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_arrays(array, tmp_path):
    back = through(array, tmp_path)
    assert (back.dtype, back.shape, back.tobytes()) == (array.dtype, array.shape, array.tobytes())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int64, torch.uint8, torch.bool])
def test_tensors(dtype, tmp_path):
    tensor = torch.arange(6).reshape(2, 3).to(dtype)
    back = through(tensor, tmp_path)
    assert back.dtype == dtype and torch.equal(back, tensor)
    assert torch.equal(through(tensor.float().requires_grad_(), tmp_path), tensor.float())


MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "I", "F", "I;16", "CMYK", "YCbCr", "HSV", "LAB", "RGBa", "La"]


@pytest.mark.parametrize("mode", MODES)
def test_pictures_of_every_mode(mode, tmp_path):
    size = (7, 5)
    blank = Image.new(mode, size)
    noise = np.random.default_rng(0).integers(0, 256, len(blank.tobytes()), np.uint8).tobytes()
    picture = Image.frombytes(mode, size, noise)
    if mode == "P":
        picture = Image.frombytes("RGB", size, noise * 3).quantize(16)
    back = through(picture, tmp_path)
    assert (back.mode, back.size, back.tobytes()) == (mode, size, picture.tobytes())
    if mode == "P":
        assert back.convert("RGBA").tobytes() == picture.convert("RGBA").tobytes()


def test_the_orientation_and_the_transparency_of_a_picture(tmp_path):
    picture = Image.new("RGB", (3, 2), (9, 8, 7))
    picture.getexif()[0x0112] = 6
    assert through(picture, tmp_path).getexif()[0x0112] == 6
    grey = Image.new("L", (3, 2), 5)
    grey.info["transparency"] = 5
    assert through(grey, tmp_path).convert("LA").tobytes() == grey.convert("LA").tobytes()


def test_a_picture_that_was_opened_from_a_stream(tmp_path):
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(stream, "JPEG")
    opened = Image.open(io.BytesIO(stream.getvalue()))
    assert through(opened, tmp_path).tobytes() == opened.tobytes()
    cut = Image.open(io.BytesIO(stream.getvalue()[:-900]))
    with pytest.raises(InvalidItemError, match="this JpegImageFile cannot be kept"):
        pack(cut)


@pytest.mark.parametrize("as_path", [str, Path])
@pytest.mark.parametrize("name", ["a.png", "b.tar.gz", "none", ".hidden", "odd.p\udcffg", "spa ce.j pg"])
def test_files(tmp_path, as_path, name):
    try:
        (tmp_path / name).write_bytes(b"\x89 content")
    except (OSError, UnicodeError):
        pytest.skip("no such name here")
    out = tmp_path / "out"
    out.mkdir()
    back = through(as_path(tmp_path / name), out)
    assert type(back) is type(as_path("x"))
    assert Path(back).parent == out and Path(back).read_bytes() == b"\x89 content"
    assert Path(back).suffix in (Path(name).suffix, "")


@pytest.mark.parametrize("suffix", ["/../../evil", ".a/b", "..", ".\0", "." + "x" * 30])
def test_a_forged_suffix_writes_nowhere(tmp_path, suffix):
    with pytest.raises(CorruptGalleryError):
        unpack(f"file:{suffix}", b"x", tmp_path, "1")
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (object(), "this object cannot be kept: what can be kept is"),
        ({"a": 1}, "this dict cannot be kept"),
        (np.array([None]), "this ndarray cannot be kept: Object arrays"),
        (np.ma.array([1, 2], mask=[0, 1]), "this MaskedArray cannot be kept"),
        ([1, None], "this list cannot be kept"),
        ([[1], [2, 3]], "this list cannot be kept"),
        ([Image.new("L", (2, 2))], "this list cannot be kept"),
        ("\ud800", "this str cannot be kept"),
        (Path("/not/there.png"), "this PosixPath cannot be kept: No such file"),
        (torch.zeros(2, dtype=torch.bfloat16), "this Tensor cannot be kept"),
        (Image.new("PA", (2, 2)), "mode PA"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_kept(item, reason):
    with pytest.raises(InvalidItemError, match=reason):
        pack(item)


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("array", b"\x93NUMPY"),
        ("array", b"\x93NUMPY\x01\x00\x76\x00" + b"((((".ljust(117) + b"\n"),
        ("array", b""),
        ("array", b"PK\x03\x04"),
        ("image", b"GIF89a"),
        ("image/RGB/2x2", b"too short"),
        ("text", b"\xff"),
        ("pickle", b"cos\nsystem\n"),
        ("", b""),
    ],
)
def test_what_no_pack_made(kind, content, tmp_path):
    with pytest.raises(CorruptGalleryError):
        unpack(kind, content, tmp_path, "1")


def test_an_array_of_objects_is_never_unpickled(tmp_path):
    stream = io.BytesIO()
    np.save(stream, np.array([{}]), allow_pickle=True)
    with pytest.raises(CorruptGalleryError, match="allow_pickle=False"):
        unpack("array", stream.getvalue(), tmp_path, "1")


# -- in a gallery


class Anything:
    """Embeds whatever it is given by its length."""

    dim, metric, name, canary = 2, "euclidean", "anything", None

    def __init__(self, version: int = 1) -> None:
        self.fingerprint = f"anything/{version}"
        self.version = version
        self.given: list = []
        self.modes: list[int] = []

    def encode(self, items):
        self.given += items
        for item in items:
            if isinstance(item, Path):
                self.modes.append(stat.S_IMODE(item.parent.stat().st_mode))
        return np.array([[self._size(item), self.version] for item in items], np.float32)

    def _size(self, item):
        return len(item.read_bytes()) if isinstance(item, Path) else len(getattr(item, "items", item))


@pytest.fixture
def people(tmp_path):
    with gallery.create(tmp_path / "g", Anything(), keep_items=True) as people:
        yield people


def kept(people) -> list[tuple[int, str, int]]:
    with people._engine._open() as store:
        return store._session.all("SELECT template, kind, length(content) FROM originals ORDER BY template")


def test_items_of_every_kind_come_back_to_the_new_encoder(people, tmp_path):
    (tmp_path / "a.bin").write_bytes(b"12345")
    people.enroll("a", [tmp_path / "a.bin", "sentence", np.arange(3)])
    people.enroll_many([("b", [[1, 2], b"xyz"]), ("c", [torch.arange(4)])])
    assert [(number, kind) for number, kind, _ in kept(people)] == [
        (1, "path:.bin"),
        (2, "text"),
        (3, "array"),
        (4, "list"),
        (5, "bytes"),
        (6, "tensor"),
    ]
    (tmp_path / "a.bin").unlink()
    encoder = Anything(2)
    people.migrate(encoder)
    file, *others = encoder.given
    assert file.name == "1.bin" and not file.exists() and not file.parent.exists()
    assert encoder.modes == [0o700]
    assert [type(one) for one in others] == [str, np.ndarray, list, bytes, torch.Tensor]
    assert people.identify(b"12345", threshold=0).best.template == 1
    assert people.check() == []


def test_an_item_that_cannot_be_kept_is_refused_with_its_position_and_type(people, tmp_path):
    class Odd:
        items = (1, 2)

    with pytest.raises(InvalidItemError, match=r"'a': item 1 of 3 .*keep_items.*this Odd cannot be kept"):
        people.enroll("a", ["x", Odd(), "y"])
    assert (len(people), kept(people), people.info().revision) == (0, [], 0)
    done = people.enroll("a", ["x", Odd(), "yy"], on_error="skip")
    assert [(one.index, one.id) for one in done.refused] == [(1, "a")]
    assert [length for _, _, length in kept(people)] == [1, 2]
    assert people.identify("yy", threshold=0).best.template == 2


def test_a_gallery_made_without_keeps_nothing(tmp_path):
    with gallery.create(tmp_path / "g", Anything()) as people:
        people.enroll("a", [object.__new__(type("Odd", (), {"items": (1, 2)})), "x"])
        assert (kept(people), people.template_count) == ([], 2)


def test_removal_takes_the_items_along_and_erasure_leaves_no_byte(people, tmp_path):
    secret, other = os.urandom(40), os.urandom(40)
    people.enroll("a", [secret])
    people.enroll("b", [other, secret + b"2"])
    assert secret in b"".join(contents(tmp_path / "g").values())
    people.remove("a")
    people.remove_templates([3])
    assert [number for number, _, _ in kept(people)] == [2]
    people.compact()
    everything = b"".join(contents(tmp_path / "g").values())
    assert secret not in everything and other in everything
    assert people.check() == []


def test_a_bulk_of_large_items_stays_in_bounded_memory(people):
    large = 2**20

    def subjects():
        for n in range(150):
            yield f"s{n}", [bytes([n]) * large]

    tracemalloc.start()
    try:
        # Encoding takes what is given batch by batch; what is spooled must not add to that.
        people.enroll_many([(f"t{n}", [b"1"]) for n in range(1)])
        base = tracemalloc.get_traced_memory()[0]
        import gallery.bulk as bulk

        before, bulk._BATCH = bulk._BATCH, 8
        spooled, bulk._IN_MEMORY = bulk._IN_MEMORY, large
        try:
            people.enroll_many(subjects())
        finally:
            bulk._BATCH, bulk._IN_MEMORY = before, spooled
        people.encoder.given.clear()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [length for _, _, length in kept(people)][1:] == [large] * 150
    # The test's own encoder remembers what it was given: 150 items. Twice that would be a copy of them all.
    assert peak - base < 150 * large + 40 * large


def test_a_damaged_original_is_named(people):
    people.enroll("a", [b"one", b"two"])
    with people._engine._open() as store, store.commit():
        store._session.db.execute("UPDATE originals SET content = x'00' WHERE template = 2")
    assert [str(one) for one in people.check()] == ["original of template 2: it does not match its checksum"]
    with pytest.raises(CorruptGalleryError, match="item kept for template 2 does not match"):
        people.migrate(Anything(2))
    assert people.identify(b"one", threshold=0).best.template == 1


def test_templates_without_an_original_are_lacking(people, tmp_path):
    people.enroll("a", [b"one"])
    with gallery.create(tmp_path / "other", Anything()) as other:
        other.enroll("imported", [b"four"])
        other.export(tmp_path / "x.h5")
    people.import_file(tmp_path / "x.h5")
    with pytest.raises(GalleryError, match=r"1 template of 2 has no embedding.*template 2 of 'imported'"):
        people.migrate(Anything(2))
    assert people.migrate(Anything(2), {"imported": [b"four"]}).templates == 2


def test_batches_are_bounded_by_the_bytes_that_are_unpacked(people, monkeypatch):
    from gallery import staging

    people.enroll("a", [bytes(100), bytes(100), bytes(100), bytes(10)])
    monkeypatch.setattr(staging, "_BYTES", 150)
    steps = []
    people.migrate(Anything(2), progress=lambda done, total: steps.append((done, total)))
    assert steps == [(2, 4), (4, 4)]
    assert people.check() == []


def test_vectors_of_precomputed_galleries_are_kept_too(tmp_path):
    rows = vectors(4, 6)
    with gallery.create(tmp_path / "g", gallery.Precomputed(6), keep_items=True) as people:
        people.enroll_many([("a", rows[:2]), ("b", rows[2:])])
        people.migrate(gallery.Precomputed(6, "euclidean", "other"))
        assert people.verify("b", rows[3], threshold=0).distance == 0.0
        assert people._engine.embeddings("a").rows.tobytes() == rows[:2].tobytes()


@pytest.mark.parametrize(
    ("kind", "claimed"),
    [
        ("image/L/99999999x99999999", b"x"),
        ("image/1/9x9", b"x" * 10),
        ("array", b"{'descr': '<f8', 'fortran_order': False, 'shape': (999999999999999,), }"),
    ],
)
def test_what_claims_more_than_there_is_takes_no_room(kind, claimed, tmp_path):
    if kind == "array":
        header = claimed.ljust(117) + b"\n"
        claimed = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with pytest.raises(CorruptGalleryError, match=f"what was kept of an item is no {kind}"):
        unpack(kind, claimed, tmp_path, "x")
