"""Every way an image is stored reads as the same picture, and every broken one is an ImageError."""

from __future__ import annotations

import io
import os
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from encoders.images import ImageError, image_size, read_image, thumbnail
from encoders.names import printable

RAMP = np.array([[0, 40, 80], [120, 160, 200]], np.uint8)


def stored(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    held = io.BytesIO()
    image.save(held, kind, **options)
    return held.getvalue()


def grey(item: Any) -> list[list[int]]:
    found: list[list[int]] = np.asarray(read_image(item, mode="L")).tolist()
    return found


def pixel(item: Any) -> tuple[int, ...]:
    return tuple(int(v) for v in np.asarray(read_image(item))[0, 0])


def photo(width: int = 64, height: int = 48) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([4 * x, 5 * y, 2 * (x + y)], 2).clip(0, 255).astype(np.uint8))


# What it reads


def test_a_path_a_string_bytes_an_image_and_an_array_are_one_picture(tmp_path: Path) -> None:
    image = Image.fromarray(RAMP)
    path = tmp_path / "ramp.png"
    path.write_bytes(stored(image))
    data = path.read_bytes()
    for item in (path, str(path), data, bytearray(data), memoryview(data), image, RAMP, RAMP[:, :, None]):
        assert grey(item) == RAMP.tolist()
        assert read_image(item).mode == "RGB"


ORIENTED = {
    1: [[0, 40, 80], [120, 160, 200]],
    2: [[80, 40, 0], [200, 160, 120]],
    3: [[200, 160, 120], [80, 40, 0]],
    4: [[120, 160, 200], [0, 40, 80]],
    5: [[0, 120], [40, 160], [80, 200]],
    6: [[120, 0], [160, 40], [200, 80]],
    7: [[200, 80], [160, 40], [120, 0]],
    8: [[80, 200], [40, 160], [0, 120]],
}


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize(("orientation", "upright"), ORIENTED.items())
def test_exif_orientation_is_applied_once(kind: str, orientation: int, upright: list[list[int]]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = stored(Image.fromarray(RAMP), kind, exif=exif)
    assert grey(data) == upright
    assert image_size(data) == (len(upright[0]), len(upright))
    assert grey(read_image(data, mode="L")) == upright  # nothing is left to be applied again


@pytest.mark.parametrize(("alpha", "expected"), [(0, 255), (255, 100), (128, 177), (64, 216)])
def test_transparency_is_composited_over_white(alpha: int, expected: int) -> None:
    image = Image.new("RGBA", (2, 2), (100, 100, 100, alpha))
    assert pixel(stored(image)) == (expected,) * 3
    assert pixel(image) == pixel(np.asarray(image)) == (expected,) * 3
    assert grey(Image.new("LA", (1, 1), (100, alpha))) == [[expected]]


def test_a_palette_gives_its_colours_and_its_transparent_entry_is_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    assert np.asarray(read_image(stored(image))).tolist() == [[[10, 20, 30], [200, 100, 50]]]
    clear = stored(image, transparency=0)
    assert np.asarray(read_image(clear)).tolist() == [[[255, 255, 255], [200, 100, 50]]]
    by_bytes = stored(image, transparency=b"\xff\x00")
    assert np.asarray(read_image(by_bytes)).tolist() == [[[10, 20, 30], [255, 255, 255]]]


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (256, 1), (257, 1), (25700, 100), (65535, 255)])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_values_are_scaled_not_clipped(kind: str, value: int, expected: int) -> None:
    array = np.full((2, 3), value, np.uint16)
    assert grey(stored(Image.fromarray(array), kind)) == [[expected] * 3] * 2
    assert grey(array) == [[expected] * 3] * 2


@pytest.mark.parametrize("dtype", [np.int64, np.int8, ">u2", "<u2", ">i4", np.uint32])
def test_integers_of_any_width_read_as_bytes_where_they_are(dtype: Any) -> None:
    ramp = RAMP // 2
    assert grey(ramp.astype(dtype)) == ramp.tolist()
    if np.dtype(dtype).itemsize > 1:
        assert grey((ramp.astype(np.int64) * 257).astype(dtype)) == ramp.tolist()


def test_a_wide_picture_of_small_values_is_not_black() -> None:
    for item in (RAMP.astype(np.int32), RAMP.astype(np.uint16)):
        image = Image.fromarray(item)
        assert image.mode in ("I", "I;16")
        assert grey(image) == grey(stored(image, "TIFF")) == RAMP.tolist()


def test_modes_without_a_known_range_say_their_range() -> None:
    with pytest.raises(ImageError, match=r"run from 0 to 70000; 0\.\.65535"):
        read_image(Image.fromarray(np.array([[0, 70000]], np.int32)))
    with pytest.raises(ImageError, match=r"run from 0 to 300; floats in \[0, 1\]"):
        read_image(Image.fromarray(np.array([[0, 300]], np.float32)))
    assert grey(Image.fromarray(np.array([[0, 0.2, 1]], np.float32))) == [[0, 51, 255]]


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    for kind in ("GIF", "WEBP", "PNG"):
        data = stored(frames[0], kind, save_all=True, append_images=frames[1:], **_lossless(kind))
        assert pixel(data) == (255, 0, 0), kind


def _lossless(kind: str) -> dict[str, bool]:
    return {"lossless": True} if kind == "WEBP" else {}


def test_cmyk_and_one_bit() -> None:
    assert pixel(stored(Image.new("CMYK", (1, 1), (0, 255, 255, 0)), "TIFF")) == (255, 0, 0)
    red = pixel(stored(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"))
    assert red[0] > 250
    assert max(red[1:]) < 5
    assert grey(Image.fromarray(np.array([[True, False]]))) == [[255, 0]]
    assert grey(stored(Image.fromarray(np.array([[True, False]])))) == [[255, 0]]


def test_modes_that_only_a_program_makes() -> None:
    assert grey(Image.new("LA", (1, 1), (100, 128)).convert("La")) == [[177]]
    assert pixel(Image.new("HSV", (1, 1), (0, 255, 255))) == (255, 0, 0)
    assert pixel(Image.new("YCbCr", (1, 1), (255, 128, 128))) == (255, 255, 255)
    with pytest.raises(ImageError, match="colour mode LAB"):
        read_image(Image.new("LAB", (1, 1)))


def test_arrays_by_type() -> None:
    colour = np.array([[[1.0, 0.2, 0.0]]])
    assert pixel(colour) == pixel(colour.astype(np.float16).astype(np.float32).round(1)) == (255, 51, 0)
    assert grey(np.array([[True, False]])) == [[255, 0]]
    assert grey(np.array([[0, 1]], bool)[::-1]) == [[0, 255]]
    assert pixel(np.zeros((2, 2, 3), np.uint16)) == (0, 0, 0)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((3, 8, 8), np.uint8), r"shape \(3, 8, 8\) is no image"),
        (np.zeros(9, np.uint8), r"shape \(9,\) is no image"),
        (np.zeros((0, 4), np.uint8), "no pixels"),
        (np.zeros((4, 4), np.complex64), "complex64 has no known range"),
        (np.full((4, 4), -1, np.int64), r"run from -1 to -1; 0\.\.65535"),
        (np.full((4, 4), 70000, np.int64), r"run from 70000 to 70000; 0\.\.65535"),
        (np.full((2, 2), np.nan), "run from nan to nan"),
        (np.array([[0.0, 16.0]]), "run from 0 to 16"),
        (np.array([[-0.5, 1.0]]), "run from -0.5 to 1"),
    ],
)
def test_arrays_that_are_no_images(array: Any, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        read_image(array)


def test_another_type_or_mode_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(TypeError, match="not list"):
        read_image([[1, 2]])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match='"RGB" or "L"'):
        read_image(RAMP, mode="CMYK")  # type: ignore[arg-type]


# What it refuses


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_a_truncated_file_says_so(kind: str) -> None:
    data = stored(photo(), kind)
    with pytest.raises(ImageError, match=r"damaged|format"):
        read_image(data[: len(data) * 2 // 3])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "WEBP"])
def test_any_damage_is_an_image_error_or_a_picture(kind: str) -> None:
    whole = stored(photo(), kind)
    rng = np.random.default_rng(0)
    for _ in range(60):
        data = bytearray(whole[: int(rng.integers(1, len(whole) + 1))])
        for at in rng.integers(0, len(data), 3):
            data[at] = int(rng.integers(256))
        try:
            assert read_image(bytes(data)).mode == "RGB"
        except ImageError as error:
            assert error.reason


def test_plain_reasons_for_what_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "notes.jpg").write_text("shopping list")
    reasons = {
        "empty.png": "is empty (0 bytes)",
        "notes.jpg": "is not an image in a format that can be read",
        "none.png": "no such file",
        "": "is a folder, not a file",
    }
    for name, reason in reasons.items():
        with pytest.raises(ImageError) as caught:
            read_image(tmp_path / name)
        assert caught.value.reason == reason
        assert str(caught.value) == f"{tmp_path / name}: {reason}"
    with pytest.raises(ImageError, match="null byte"):
        read_image("a\0b.png")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PermissionError(13, "Permission denied"), "permission denied"),
        (OSError(5, "Input/output error"), "cannot be opened (input/output error)"),
    ],
)
def test_errors_of_the_system_are_translated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, reason: str
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(stored(photo()))

    def fails(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(Path, "open", fails)
    with pytest.raises(ImageError) as caught:
        read_image(path)
    assert caught.value.reason == reason
    assert caught.value.__cause__ is error


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageError, match="not a regular file"):
        read_image(tmp_path / "pipe.png")


def test_pixels_are_counted_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    data = stored(Image.new("1", (5000, 4000)))
    assert len(data) < 3000

    def decoded(_: Any) -> Any:
        raise AssertionError("was decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decoded)
    said = "5,000 x 4,000 = 20,000,000 pixels, more than the limit of 1,000,000"
    with pytest.raises(ImageError, match=said):
        read_image(data, max_pixels=1_000_000)
    with pytest.raises(ImageError, match="20,000,000 pixels"):
        image_size(data, max_pixels=19_999_999)
    assert image_size(data, max_pixels=20_000_000) == (5000, 4000)


def test_pillows_own_bomb_error_and_warning_are_translated(monkeypatch: pytest.MonkeyPatch) -> None:
    data = stored(Image.new("L", (40, 40)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 700)
    with pytest.raises(ImageError, match="too many pixels to decode safely"):
        read_image(data)  # more than twice Pillow's limit: its error
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert read_image(data).size == (40, 40)  # between once and twice: its warning, and our own limit decides


def test_postscript_is_not_run() -> None:
    with pytest.raises(ImageError, match="EPS is a program"):
        read_image(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n%%EOF\n")


# How it behaves


def test_the_item_is_left_alone_and_the_result_is_independent() -> None:
    image = Image.fromarray(RAMP.copy())
    read = read_image(image, mode="L")
    read.putpixel((0, 0), 255)
    assert image.getpixel((0, 0)) == 0
    array = RAMP.copy()
    read_image(array, mode="L").putpixel((0, 0), 255)
    assert array[0, 0] == 0


def test_warning_filters_are_as_before_even_after_threads() -> None:
    before = list(warnings.filters)
    data = [stored(photo(), "JPEG"), b"nothing"]

    def work() -> None:
        for item in data * 5:
            try:
                read_image(item)
            except ImageError:
                continue

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before


def test_a_large_jpeg_is_decoded_at_a_fraction_of_its_size() -> None:
    data = stored(photo(1600, 1200), "JPEG")
    whole, part = read_image(data), read_image(data, at_least=300)
    assert (whole.size, part.size) == ((1600, 1200), (400, 300))
    small = np.asarray(whole.resize((40, 30), Image.Resampling.BOX), np.int16)
    assert np.abs(np.asarray(part.resize((40, 30), Image.Resampling.BOX), np.int16) - small).max() <= 3
    assert read_image(stored(photo(1600, 1200)), at_least=300).size == (1600, 1200)


def test_a_thumbnail_is_a_small_jpeg() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = thumbnail(stored(photo(640, 480), "JPEG", exif=exif), 96)
    image = Image.open(io.BytesIO(data))
    assert (image.format, image.size, len(image.getexif())) == ("JPEG", (72, 96), 0)
    assert len(data) < 6000
    assert Image.open(io.BytesIO(thumbnail(RAMP, 96))).size == (3, 2)  # never enlarged


def test_paths_print_without_acting_on_the_terminal() -> None:
    assert printable("café.png") == "café.png"
    assert printable(os.fsdecode(b"caf\xe9.png")) == "caf\\xe9.png"
    assert printable("a\nb\x1b[31m\u202ec.png") == "a\\nb\\x1b[31m\\u202ec.png"
