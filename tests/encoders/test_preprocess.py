"""Ink is found whatever the polarity, contrast, size and place; other kinds standardise."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from encoders import ink, preprocess
from encoders.errors import EncoderError
from tests.encoders.samples import MADE
from tests.encoders.shapes import picture

READ = preprocess.InkPreprocess()


@pytest.mark.parametrize("subject", range(8))
def test_a_negative_gives_the_same_ink(subject: int) -> None:
    dark = picture(subject)
    assert np.array_equal(READ(dark), READ(255 - dark))


def test_light_ink_is_one_and_background_zero() -> None:
    found = READ(picture(1))
    assert found.shape == (1, 48, 48) and found.dtype == np.float32
    assert found.min() == 0.0 and found.max() == 1.0
    assert (found[0, 0] == 0).all()
    assert 0.02 < found.mean() < 0.35


def test_contrast_and_brightness_do_not_matter() -> None:
    full = picture(2)
    faint = (120 + full.astype(float) * 60 / 255).astype(np.uint8)
    assert abs(READ(full) - READ(faint)).max() < 0.02


def test_place_on_the_page_does_not_matter() -> None:
    page = np.full((90, 130), 255, dtype=np.uint8)
    page[31:71, 77:117] = picture(3)
    assert np.array_equal(READ(page), READ(picture(3)))


def test_size_hardly_matters() -> None:
    large = Image.fromarray(picture(4)).resize((400, 400), Image.Resampling.BICUBIC)
    # Half a pixel of the small picture is six of the large one: the box, and so the place, moves a little.
    assert np.corrcoef(READ(large).ravel(), READ(picture(4)).ravel())[0, 1] > 0.8


def test_aspect_is_kept() -> None:
    bar = np.full((60, 60), 255, dtype=np.uint8)
    bar[28:32, 10:50] = 0
    found = READ(bar)[0]
    rows, columns = np.flatnonzero((found > 0.5).any(1)), np.flatnonzero((found > 0.5).any(0))
    assert np.ptp(columns) + 1 == pytest.approx(48 / 1.16, abs=1.5)
    assert np.ptp(rows) + 1 == pytest.approx(4.8 / 1.16, abs=1.5)


def test_paper_grain_is_not_ink() -> None:
    rng = np.random.default_rng(0)
    page = np.clip(picture(5).astype(float) * 0.8 + 20 + rng.normal(0, 3, (40, 40)), 0, 255).astype(np.uint8)
    assert abs(READ(page) - READ(picture(5))).mean() < 0.05


@pytest.mark.parametrize("fall", [30.0, 70.0])
def test_a_fall_of_light_across_the_page_is_taken_out(fall: float) -> None:
    down, across = np.mgrid[0:40, 0:40] / 40
    dark = picture(5)
    page = np.clip(60 + dark * (150 / 255) - fall * (0.7 * across + 0.3 * down) * (dark / 255), 0, 255)
    assert np.corrcoef(READ(page.astype(np.uint8)).ravel(), READ(dark).ravel())[0, 1] > 0.95


def test_an_evenly_lit_page_is_not_touched() -> None:
    crossing = np.full((40, 40), 255, dtype=np.float32)
    crossing[:, 18:22] = 0  # ink that touches the border is no fall of light
    crossing[30:34, :] = 0
    for page in (crossing, picture(7).astype(np.float32)):
        assert ink.evenly_lit(page) is page


def test_a_tight_crop_full_of_ink_keeps_its_polarity() -> None:
    cross = np.full((12, 12), 250, dtype=np.uint8)
    cross[5:7, :] = 5
    cross[:, 5:7] = 5
    found = READ(cross)[0]
    assert found[24, 24] == 1.0 and found[10, 10] == 0.0


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_blank_picture_is_refused(level: int) -> None:
    with pytest.raises(ValueError, match="blank"):
        READ(np.full((20, 20), level, dtype=np.uint8))


def test_otsu_is_symmetric_and_between_two_levels() -> None:
    grey = np.array([[10, 10, 10, 200], [12, 11, 10, 190]], dtype=np.float32)
    assert 12 < ink.otsu(grey) < 190
    assert ink.otsu(255 - grey) == 255 - ink.otsu(grey)


def test_large_scans_are_shrunk_first() -> None:
    scan = Image.fromarray(picture(6)).resize((2400, 2400), Image.Resampling.NEAREST)
    assert abs(READ(scan) - READ(picture(6))).mean() < 0.03


def test_rgb_standardises_by_channel() -> None:
    read = preprocess.RgbPreprocess(size=4, mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 1.0))
    found = read(np.full((8, 6, 3), (255, 0, 51), dtype=np.uint8))
    assert found.shape == (3, 4, 4)
    assert found[:, 0, 0].tolist() == pytest.approx([1.0, -1.0, 0.2], abs=1e-6)


def test_vectors() -> None:
    read = preprocess.VectorPreprocess(2, mean=(1.0, 0.0), std=(2.0, 1.0))
    assert read([3, 4]).tolist() == [1.0, 4.0]
    with pytest.raises(ValueError, match="2 numbers"):
        read([1, 2, 3])
    with pytest.raises(ValueError, match="NaN"):
        read([1, float("nan")])


@pytest.mark.parametrize("made", [READ, preprocess.VectorPreprocess(3, (1.0,), (2.0,)), *MADE.values()])
def test_settings_round_trip(made: preprocess.Preprocess) -> None:
    assert preprocess.build(preprocess.settings_of(made)) == made


def test_unknown_kinds_and_settings_are_refused() -> None:
    with pytest.raises(EncoderError, match="audio, grey, ink, rgb, sequence, strokes, text, vector"):
        preprocess.build({"kind": "smell"})
    with pytest.raises(EncoderError, match=r"ink. has no setting .wings.: it has size, margin"):
        preprocess.build({"kind": "ink", "wings": 2})


def test_grey_pictures_are_standardised_one_by_one() -> None:
    read = preprocess.GreyPreprocess(height=8, width=6)
    picture_ = np.random.default_rng(0).integers(0, 100, size=(16, 12), dtype=np.uint8)
    found = read(picture_)
    assert found.shape == (1, 8, 6)
    assert (found.mean(), found.std()) == (pytest.approx(0, abs=1e-6), pytest.approx(1, abs=1e-5))
    assert np.corrcoef(read(picture_ + 100).ravel(), found.ravel())[0, 1] > 0.99


def test_strokes_fill_their_frame_and_keep_their_aspect() -> None:
    read = preprocess.StrokesPreprocess(height=32, width=64)
    page = np.full((200, 300), 255, dtype=np.uint8)
    page[50:60, 40:240] = 0
    page[60:90, 40:50] = 0  # an L on its side: 200 wide, 40 high
    found = read(page)[0]
    rows, columns = np.flatnonzero(found.max(1) > 0.5), np.flatnonzero(found.max(0) > 0.5)
    assert found.shape == (32, 64) and (columns[0], columns[-1]) == (0, 63)
    assert np.ptp(rows) + 1 == pytest.approx(64 * 40 / 200, abs=1)
    assert abs(rows[0] - (31 - rows[-1])) <= 1
    assert np.array_equal(read(page), read(255 - page))


def test_sequences_are_padded_and_marked() -> None:
    read = preprocess.SequencePreprocess(2, 4, mean=(1.0, 0.0), std=(2.0, 1.0))
    assert read([[3, 4], [1, 0]]).tolist() == [[1, 4, 1], [0, 0, 1], [0, 0, 0], [0, 0, 0]]
    assert preprocess.SequencePreprocess(1, 2)([5]).tolist() == [[5, 1], [0, 0]]


def test_texts_are_folded_and_numbered() -> None:
    read = preprocess.TextPreprocess("abe ", longest=8)
    assert read(" Béa\tZ ").tolist() == [3, 4, 2, 5, 1, 0, 0, 0]
    assert read.text(read(" Béa\tZ ")) == "bea ?"
    kept = preprocess.TextPreprocess("abeé ", longest=8, strip_accents=False)
    assert kept("Be\N{COMBINING ACUTE ACCENT}a").tolist() == [3, 5, 2, 0, 0, 0, 0, 0]


def test_what_is_learnt_from_training_items() -> None:
    rows = np.array([[1.0, 5.0], [3.0, 5.0]])
    assert preprocess.fitted({"kind": "vector"}, rows) == {
        "kind": "vector", "length": 2, "mean": [2.0, 5.0], "std": [1.0, 1.0],  # a constant is only centred
        "wide": True,
    }  # fmt: skip
    assert preprocess.fitted({"kind": "vector", "std": [9.0]}, rows)["std"] == [9.0]
    found = preprocess.fitted({"kind": "sequence"}, [rows, rows[:1]])
    assert (found["channels"], found["longest"]) == (2, 3)
    assert found["mean"] == [pytest.approx(5 / 3), 5.0]
    found = preprocess.fitted({"kind": "text"}, ["anna", "bàn"])
    assert found == {"kind": "text", "alphabet": "anb"[:2], "longest": 16}
    assert preprocess.fitted({"kind": "ink", "size": 9}, []) == {"kind": "ink", "size": 9}
    for kind, items in (("vector", ["x"]), ("sequence", []), ("sequence", ["x"]), ("text", [3])):
        with pytest.raises(EncoderError, match=f"{kind} needs"):
            preprocess.fitted({"kind": kind}, items)
