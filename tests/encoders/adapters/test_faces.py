"""Faces: dlib's models on ten people of LFW, as photographed."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import encoders
from encoders.adapters.faces import drawn_face
from encoders.errors import EncodeError, EncoderError
from tests.data import needs
from tests.encoders.adapters.contract import AdapterContract

pytest.importorskip("dlib", reason="the extra [faces] is not installed")
PEOPLE = ("Hugo_Chavez", "Colin_Powell", "Gerhard_Schroeder")


def photo(person: str, number: int) -> Path:
    return needs("lfw10_250px", "images", person, f"{person}_{number:04}.jpg")


def drawn(left: int, size: int = 400) -> np.ndarray:
    """A drawn face in a grey picture."""
    picture = np.full((300, size, 3), 108, np.uint8)
    picture[50:250, left : left + 200] = drawn_face()
    return picture


class TestFaces(AdapterContract):
    dim, metric = 128, "euclidean"

    @classmethod
    def make(cls) -> Any:
        return encoders.load("faces", upsample=0)  # a quarter of the time; these faces are 109 pixels wide

    @pytest.fixture(scope="class")
    @classmethod
    def items(cls) -> list[Any]:
        return [photo(person, number) for number in range(1, 7) for person in PEOPLE]

    @pytest.fixture
    def bad(self) -> list[tuple[Any, str]]:
        two = np.concatenate([drawn(60), drawn(80)], axis=1)
        return [
            (np.full((200, 300, 3), 90, np.uint8), r"no face was found in 300 x 200 pixels"),
            (two, r"2 faces were found \(\d+ x \d+ at .*, \d+ x \d+ at .*several='largest'"),
            (b"no picture", "cannot|not an image|image"),
            (7, "int"),
        ]

    def test_people_are_told_apart(self, encoder: Any, embedded: np.ndarray) -> None:
        apart = np.linalg.norm(embedded[:, None] - embedded[None], axis=2)
        same = np.arange(18)[:, None] % 3 == np.arange(18)[None] % 3
        mated, non_mated = apart[same & ~np.eye(18, dtype=bool)], apart[~same]
        assert mated.max() < non_mated.min(), "no face of another is as near as the farthest of one's own"
        assert (mated <= encoder.threshold).all() and (non_mated > encoder.threshold).mean() > 0.99

    def test_every_kind_of_item_is_one_picture(self, encoder: Any) -> None:
        path = photo("Colin_Powell", 1)
        with Image.open(path) as image:
            image.load()
        kinds = [path, str(path), path.read_bytes(), image, np.asarray(image)]
        found = encoder.encode(kinds)
        assert all(np.array_equal(row, found[0]) for row in found)

    def test_a_photograph_that_lies_on_its_side(self, encoder: Any) -> None:
        """EXIF orientation is applied before faces are looked for."""
        with Image.open(photo("Colin_Powell", 1)) as image:
            turned, held = image.transpose(Image.Transpose.ROTATE_90), io.BytesIO()
            exif = Image.Exif()
            exif[0x0112] = 6
            turned.save(held, "PNG", exif=exif)
        upright = encoder.encode([photo("Colin_Powell", 1)])
        assert np.array_equal(encoder.encode([held.getvalue()]), upright)


@pytest.fixture(scope="module")
def largest() -> Any:
    return encoders.load("faces", several="largest")


def test_the_drawn_face_is_found_where_it_is() -> None:
    """No data needed: what the canary of a gallery embeds."""
    encoder = encoders.load("faces")
    ((left, top, right, bottom),) = encoder.faces(drawn(60))
    assert abs((left + right) / 2 - 160) < 15 and abs((top + bottom) / 2 - 160) < 15
    assert encoder.encode([encoder.canary]).shape == (1, 128)


def test_the_largest_of_several(largest: Any) -> None:
    small = np.asarray(Image.fromarray(drawn_face()).resize((120, 120)))
    picture = drawn(60, size=600)
    picture[100:220, 440:560] = small
    assert len(largest.faces(picture)) == 2
    both, one = largest.encode([picture, drawn(60, size=600)])
    assert np.linalg.norm(both - one) < 0.05
    with pytest.raises(EncodeError, match="2 faces"):
        encoders.load("faces").encode([picture])


def test_a_huge_picture_is_made_smaller_first() -> None:
    """And the places of its faces are told in its own pixels."""
    huge = np.asarray(Image.fromarray(drawn(60)).resize((3200, 2400)))
    ((left, top, right, bottom),) = encoders.load("faces", longest=400).faces(huge)
    assert abs((left + right) / 2 - 8 * 160) < 120 and abs((top + bottom) / 2 - 8 * 160) < 120


def test_a_picture_that_is_a_face_already() -> None:
    whole = encoders.load("faces", detector="whole")
    assert whole.encode([drawn_face()[40:180, 30:170]]).shape == (1, 128)
    assert whole.encode([np.full((90, 90, 3), 90, np.uint8)]).shape == (1, 128), "nothing is refused"


def test_settings_change_the_fingerprint_and_nothing_else_is_taken(largest: Any) -> None:
    made = [encoders.load("faces"), largest, encoders.load("faces", upsample=0)]
    made.append(encoders.load("faces", detector="whole"))
    assert len({one.fingerprint for one in made}) == 4
    assert len({one.provenance["weights"] for one in made}) == 1
    assert len({one.provenance["preprocessing"] for one in made}) == 4
    for wrong, said in (
        ({"detector": "haar"}, "detector 'haar' is none of hog, cnn, whole"),
        ({"several": "all"}, "several 'all' is none of refuse, largest"),
        ({"upsample": 9}, "upsample is a whole number from 0 to 3, not 9"),
        ({"longest": 1}, "longest is a whole number of pixels from 40"),
        ({"device": "cuda"}, "dlib chooses its device itself"),
    ):
        with pytest.raises(EncoderError, match=said):
            encoders.load("faces", **wrong)
    with pytest.raises(TypeError, match="jitter"):
        encoders.load("faces", jitter=3)


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without data: a drawn face is enrolled and known again, a wall is refused by its path."""
    from gallery import cli

    (tmp_path / "people" / "drawn").mkdir(parents=True)
    Image.fromarray(drawn(60)).save(tmp_path / "people" / "drawn" / "1.png")
    Image.fromarray(drawn(120)).save(tmp_path / "other.png")
    Image.new("RGB", (300, 200), (90, 90, 90)).save(tmp_path / "wall.png")
    place = str(tmp_path / "g")
    assert cli.main(["enroll", place, str(tmp_path / "people"), "--encoder", "faces"]) == 0
    assert cli.main(["identify", place, str(tmp_path / "other.png")]) == 0
    assert "threshold 0.6000" in (said := capsys.readouterr().out) and "match" in said
    assert cli.main(["identify", place, str(tmp_path / "wall.png")]) == 2
    assert "wall.png: the item cannot be used: no face was found" in capsys.readouterr().err


@pytest.mark.slow
def test_the_cnn_detector_finds_a_face() -> None:
    encoder = encoders.load("faces", detector="cnn")
    ((left, top, right, bottom),) = encoder.faces(drawn(60))
    assert abs((left + right) / 2 - 160) < 20 and abs((top + bottom) / 2 - 160) < 20
