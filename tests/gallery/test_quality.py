"""The quality gate: what it refuses, with which number, and what becomes of it at enrolment."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

import gallery
from gallery.cli import main
from gallery.errors import InvalidItemError
from gallery.quality import ImageQuality, contrast, sharpness
from tests.data import needs
from tests.gallery.doubles import vectors


def busy(width: int = 96, height: int = 80, seed: int = 0) -> Image.Image:
    """Blocks of grey, eight pixels wide."""
    blocks = np.random.default_rng(seed).integers(0, 255, (height // 8 + 1, width // 8 + 1)).astype(np.uint8)
    return Image.fromarray(blocks.repeat(8, axis=0).repeat(8, axis=1)[:height, :width])


def test_sharpness_is_that_of_a_loop():
    grey = np.random.default_rng(0).random((9, 7))
    laplacian = [
        grey[y - 1, x] + grey[y + 1, x] + grey[y, x - 1] + grey[y, x + 1] - 4 * grey[y, x]
        for y in range(1, 8)
        for x in range(1, 6)
    ]
    rounding = 20 / 12 / 255**2
    assert sharpness(grey) == pytest.approx((np.var(laplacian) - rounding) / np.var(grey), rel=1e-12)
    assert sharpness(0.2 + 0.3 * grey) == pytest.approx(sharpness(grey), rel=1e-3)
    # What is left of a picture that is blurred away is rounding.
    y, x = np.mgrid[:64, :64]
    smooth = 0.5 + 0.03 * np.sin(y / 20) * np.cos(x / 20)
    assert sharpness(np.rint(255 * smooth) / 255) < 0.3 * rounding / smooth.var()
    assert contrast(0.3 * grey) == pytest.approx(0.3 * grey.std())
    assert sharpness(np.full((9, 9), 0.5)) == sharpness(grey[:2]) == 0


def test_what_is_wrong_is_said_with_the_number_and_the_limit():
    gate = ImageQuality()
    assert gate(busy()) is None
    assert gate(busy(200, 24)) is None
    assert gate(busy(200, 23)) == "too small: 200 x 23 pixels, the least is 24"
    assert gate(Image.new("L", (90, 90), 255)) == "without content: contrast 0.000, the least is 0.02"
    assert gate(busy().filter(ImageFilter.GaussianBlur(4))).startswith("too blurred: sharpness 0.00")
    assert ImageQuality(min_sharpness=0)(busy().filter(ImageFilter.GaussianBlur(4))) is None
    assert ImageQuality(0, 0, 0)(Image.new("L", (3, 3))) is None
    # Sharpness is a matter of the whole picture, not of how many pixels show it.
    large = busy().resize((1920, 1600), Image.Resampling.NEAREST)
    assert gate(large) is None and gate(large.filter(ImageFilter.GaussianBlur(80))).startswith("too blurred")


@pytest.mark.parametrize("limit", [{"min_side": -1}, {"min_contrast": np.nan}, {"min_sharpness": np.inf}])
def test_limits_are_numbers(limit):
    with pytest.raises(ValueError, match="0 or more"):
        ImageQuality(**limit)


def test_what_is_no_picture_is_left_to_the_encoder():
    assert ImageQuality()(np.ones(4)) is None
    assert ImageQuality()(b"no picture") is None
    assert ImageQuality()("no such file.png") is None


def odd(item) -> str | None:
    """Against vectors that begin below zero; fails for 9."""
    if item[0] == 9:
        raise RuntimeError("nine")
    return f"begins with {item[0]:g}" if item[0] < 0 else None


GOOD, BAD, NINE = np.array([1.0, 2, 0]), np.array([-1.0, 2, 0]), np.array([9.0, 1, 0])


@pytest.mark.parametrize("keep_items", [False, True])
def test_refused_items_are_not_enrolled(tmp_path, keep_items):
    made = gallery.create(tmp_path / "g", gallery.Precomputed(3), quality=odd, keep_items=keep_items)
    with made as people:
        with pytest.raises(
            gallery.InvalidItemError, match="item 1 of 2 cannot be used: begins with -1"
        ) as error:
            people.enroll("a", [GOOD, BAD])
        assert error.value.index == 1 and len(people) == 0
        with pytest.raises(gallery.InvalidItemError, match="the quality gate failed: RuntimeError: nine"):
            people.enroll("a", [NINE])
        done = people.enroll("a", [BAD, GOOD, np.full(3, np.nan), GOOD + 1], on_error="skip")
        assert [(one.index, one.reason[:10]) for one in done.refused] == [
            (0, "begins wit"),
            (2, "its embedd"),
        ]
        assert len(done.templates) == 2 and done.flagged == ()
        rows = people._engine.embeddings("a").rows
        np.testing.assert_allclose(rows[0] / rows[0, 0], [1, 2, 0], rtol=1e-6)
        np.testing.assert_allclose(rows[1] / rows[1, 0], [1, 1.5, 0.5], rtol=1e-6)
        many = people.enroll_many([("b", [BAD, BAD]), ("c", [GOOD])], on_error="skip")
        assert (many.subjects, many.templates, len(many.refused)) == (1, 1, 2) and "b" not in people
        assert people.identify(GOOD, threshold=2).quality is None
        for ask in (people.identify_batch, lambda some: people.within_batch(some, 0.5)):
            with pytest.raises(
                gallery.InvalidItemError, match="item 1 of 3 cannot be used: begins with -1"
            ) as error:
                ask([GOOD, BAD, BAD])
            assert error.value.index == 1
        with pytest.raises(gallery.InvalidItemError, match="the item cannot be used: begins with -1"):
            people.verify("a", BAD, 2)
        assert people.verify("a", GOOD, 2).quality is None


def test_flagged_items_are_enrolled_and_reported(tmp_path):
    with gallery.open(tmp_path / "g", gallery.Precomputed(3), quality=odd, on_quality="flag") as people:
        done = people.enroll("a", [GOOD, BAD, NINE])
        assert len(done.templates) == 3 and done.refused == ()
        assert [(one.id, one.index) for one in done.flagged] == [("a", 1), ("a", 2)]
        assert "2 of them of doubtful quality" in str(done)
        many = people.enroll_many([("b", [GOOD]), ("c", [BAD])])
        assert many.templates == 2 and [one.id for one in many.flagged] == ["c"]
        good, poor = people.identify_batch([GOOD, BAD], threshold=2)
        assert (good.quality, poor.quality) == (None, "begins with -1")
        assert poor.best is not None and str(poor).endswith("; the item is poor: begins with -1")
        claim = people.verify("a", BAD, 2)
        assert claim and claim.to_dict()["quality"] == "begins with -1" and "poor" in str(claim)
        assert "quality" not in people.verify("a", GOOD, 2).to_dict()
        assert len(people.within(BAD, 2)) == 3
    # It belongs to whoever opens the gallery, not to its files.
    with gallery.open(tmp_path / "g", gallery.Precomputed(3)) as people:
        assert people.enroll("d", [BAD]).flagged == ()


def test_mistakes_are_named_before_anything_is_made(tmp_path):
    with pytest.raises(ValueError, match="'refuse' or 'flag'"):
        gallery.open(tmp_path / "g", gallery.Precomputed(3), quality=odd, on_quality="drop")
    with pytest.raises(TypeError, match="called with an item"):
        gallery.create(tmp_path / "g", gallery.Precomputed(3), quality=3)
    assert not (tmp_path / "g").exists()


def test_on_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        Path("people", name).mkdir(parents=True)
        busy(seed=ord(name)).save(f"people/{name}/sharp.png")
    busy().filter(ImageFilter.GaussianBlur(5)).save("people/b/soft.png")
    enroll = ["enroll", "g", "people", "--encoder", "glyph"]
    assert main([*enroll, "--quality", "refuse"]) == 2
    assert "too blurred: sharpness" in capsys.readouterr().err and not Path("g").exists()
    assert main([*enroll, "--quality", "flag", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["templates"] == 3 and said["refused"] == []
    assert [one["path"] for one in said["flagged"]] == ["people/b/soft.png"]
    assert main([*enroll, "--quality", "refuse", "--on-error", "skip"]) == 0
    printed = capsys.readouterr().out
    assert "refused" in printed and "people/b/soft.png" in printed
    assert main(["enroll", "h", "people", "--encoder", "glyph", "--json"]) == 0
    assert "flagged" not in json.loads(capsys.readouterr().out)
    images = ["people/a/sharp.png", "people/b/soft.png"]
    assert main(["identify", "h", *images, "--quality", "refuse"]) == 2
    assert "people/b/soft.png: item 1 of 2 cannot be used: too blurred" in capsys.readouterr().err
    assert main(["identify", "h", *images, "--quality", "flag", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert "quality" not in said[0] and said[1]["quality"].startswith("too blurred")
    assert main(["identify", "h", *images, "--quality", "flag"]) == 0
    assert "the item is poor: too blurred" in capsys.readouterr().out
    assert main(["verify", "h", "b", images[1], "--quality", "refuse"]) == 2


def test_ordinary_photographs_pass_and_blurred_ones_do_not():
    gate = ImageQuality()
    with zipfile.ZipFile(needs("photos", "imagenet_sample_320.zip")) as pack:
        names = [name for name in pack.namelist() if name.lower().endswith((".jpg", ".jpeg"))][::20]
        photos = [Image.open(io.BytesIO(pack.read(name))).convert("RGB") for name in names]
    assert len(photos) >= 40
    assert [gate(photo) for photo in photos] == [None] * len(photos)
    soft = [gate(photo.filter(ImageFilter.GaussianBlur(0.02 * max(photo.size)))) for photo in photos]
    assert sum(one is not None and "too blurred" in one for one in soft) >= 0.95 * len(photos)


def test_a_gate_may_be_anything_that_can_be_called(tmp_path):
    seen = []
    with gallery.open(tmp_path / "g", gallery.Precomputed(4), quality=seen.append) as people:
        people.enroll_many([("a", vectors(5, 4))])
    assert len(seen) == 5


def test_probes_of_a_calibration_and_an_evaluation_go_through_the_gate(tmp_path):
    poor = vectors(1, 8)[0]

    def gate(item):
        return "a poor one" if np.array_equal(item, poor) else None

    rows = vectors(400, 8)
    with gallery.open(tmp_path / "g", gallery.Precomputed(8)) as people:
        people.enroll_many((f"s{k}", [row]) for k, row in enumerate(rows))
    asked = [(f"s{k}", [row + 0.01]) for k, row in enumerate(rows)]
    spoilt = [*asked, ("s1", [rows[1] + 0.02, poor])]
    with gallery.open(tmp_path / "g", gallery.Precomputed(8), quality=gate) as people:
        for measured in (
            lambda probes: people.calibrate(probes, target_fmr=0.01),
            lambda probes: people.compare_fusions(probes, target_fmr=0.01),
            lambda probes: people.evaluate(probes, threshold=0.1),
        ):
            measured(asked)
            with pytest.raises(InvalidItemError, match=r"item 401 of 402 .*a poor one"):
                measured(spoilt)
    with gallery.open(tmp_path / "g", gallery.Precomputed(8), quality=gate, on_quality="flag") as people:
        assert people.evaluate(spoilt, threshold=0.1).to_dict()["probes"] == 402
