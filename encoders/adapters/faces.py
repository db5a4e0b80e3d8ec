"""Faces: dlib's detector, alignment and 128 numbers (King 2009; a ResNet with 29 convolutions, 2017).

The models come with the package face-recognition-models. Pictures in, one face each: a picture without a
face, or with several, is refused and the reason says so.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from encoders.adapters.base import Adapter, Array, hash_of_files
from encoders.errors import EncoderError
from encoders.images import read_image
from encoders.packages import files_of, needed, versions
from encoders.spec import hash_of

REVISION = "faces/1"
DETECTORS, SEVERAL = ("hog", "cnn", "whole"), ("refuse", "largest")
CHIP, PADDING = 150, 0.25  # the pixels and the margin that the network was trained with
THRESHOLD = 0.6  # dlib's own; what it comes to is measured in benchmarks/adapters.py
_NETWORK, _LANDMARKS = "dlib_face_recognition_resnet_model_v1.dat", "shape_predictor_5_face_landmarks.dat"
_CNN = "mmod_human_face_detector.dat"


class FaceEncoder(Adapter):
    """Pictures of one person each -> (n, 128), euclidean; dlib recommends a threshold of 0.6.

    detector  "hog" (frontal faces, fast), "cnn" (any pose, slow without a GPU), or "whole": the picture is a
              face already, cropped closely; nothing is detected and nothing refused
    several   "refuse" a picture with more than one face, or take the "largest"
    upsample  how often a picture is doubled before faces are looked for: 1 finds faces of 40 pixels, 0 of 80
    longest   larger pictures are made this long first: faces are found at every size, huge pictures slowly
    """

    of_images: ClassVar[bool] = True

    def __init__(
        self, *, detector: str = "hog", several: str = "refuse", upsample: int = 1, longest: int = 1600
    ) -> None:
        super().__init__("faces", dim=128, metric="euclidean", threshold=THRESHOLD)
        _check(detector, several, upsample, longest)
        dlib = needed("dlib", "faces")
        models = files_of("face_recognition_models", "faces") / "models"
        self.detector, self.several, self.upsample, self.longest = detector, several, upsample, longest
        self._dlib = dlib
        self._cnn = dlib.cnn_face_detection_model_v1(str(models / _CNN)) if detector == "cnn" else None
        self._hog = dlib.get_frontal_face_detector() if detector == "hog" else None
        self._landmarks = dlib.shape_predictor(str(models / _LANDMARKS))
        self._network = dlib.face_recognition_model_v1(str(models / _NETWORK))
        self._name_parts([models / _NETWORK], [models / _LANDMARKS] + [models / _CNN] * (detector == "cnn"))

    def _name_parts(self, weights: list[Any], finding: list[Any]) -> None:
        settings = {"detector": self.detector, "several": self.several, "upsample": self.upsample}
        settings |= {"longest": self.longest, "models": hash_of_files(*finding)}
        parts = {"weights": hash_of_files(*weights), "preprocessing": hash_of(settings)}
        found = {"dlib": str(self._dlib.__version__)} | versions("numpy", "pillow")
        self.identify(REVISION, parts, found, "dlib")

    @property
    def canary(self) -> Any:
        """A drawn face, for galleries to embed whenever they are opened: noise would have no face in it."""
        return drawn_face()

    def faces(self, item: Any) -> list[tuple[int, int, int, int]]:
        """Where the faces of a picture are: (left, top, right, bottom) in its own pixels, largest first."""
        picture = read_image(item, mode="RGB")
        small = _at_most(picture, self.longest)
        scale = picture.width / small.width
        found = []
        for box in self._boxes(np.asarray(small)):
            left, top = round(box.left() * scale), round(box.top() * scale)
            found.append((left, top, round(box.right() * scale), round(box.bottom() * scale)))
        return found

    def _read(self, item: Any) -> NDArray[np.uint8]:
        pixels = np.ascontiguousarray(np.asarray(_at_most(read_image(item, mode="RGB"), self.longest)))
        boxes = self._boxes(pixels)
        if not boxes:
            height, width = pixels.shape[:2]
            raise ValueError(
                f"no face was found in {width} x {height} pixels: is it upright, frontal and at least "
                f"{80 >> self.upsample} pixels wide? detector='cnn' looks further, 'whole' does not look"
            )
        if len(boxes) > 1 and self.several == "refuse":
            sizes = ", ".join(f"{b.width()} x {b.height()} at ({b.left()}, {b.top()})" for b in boxes)
            raise ValueError(
                f"{len(boxes)} faces were found ({sizes}): cut out the one that is meant, "
                "or load with several='largest'"
            )
        shape = self._landmarks(pixels, boxes[0])
        chip: NDArray[np.uint8] = self._dlib.get_face_chip(pixels, shape, CHIP, PADDING)
        return chip

    def _boxes(self, pixels: NDArray[np.uint8]) -> list[Any]:
        if self._hog is not None:
            found = list(self._hog(pixels, self.upsample))
        elif self._cnn is not None:
            found = [one.rect for one in self._cnn(pixels, self.upsample)]
        else:
            found = [self._dlib.rectangle(0, 0, pixels.shape[1] - 1, pixels.shape[0] - 1)]
        return sorted(found, key=lambda box: (-box.area(), box.left(), box.top()))

    def _embed(self, chunk: list[NDArray[np.uint8]]) -> Array:
        # dlib gives the same bits for a face in any batch (asserted by the contract tests).
        return np.array([list(one) for one in self._network.compute_face_descriptor(chunk)], np.float32)


def adapt(name: str, device: str | None = None, **settings: Any) -> FaceEncoder:
    """`encoders.load("faces", detector=..., several=..., upsample=..., longest=...)`."""
    if device not in (None, "cpu"):
        raise EncoderError(f"dlib chooses its device itself, when it is built: leave out device={device!r}")
    return FaceEncoder(**settings)


def _check(detector: str, several: str, upsample: int, longest: int) -> None:
    if detector not in DETECTORS:
        raise EncoderError(f"detector {detector!r} is none of {', '.join(DETECTORS)}")
    if several not in SEVERAL:
        raise EncoderError(f"several {several!r} is none of {', '.join(SEVERAL)}")
    if type(upsample) is not int or not 0 <= upsample <= 3:
        raise EncoderError(f"upsample is a whole number from 0 to 3, not {upsample!r}")
    if type(longest) is not int or not 40 <= longest <= 10_000:
        raise EncoderError(f"longest is a whole number of pixels from 40 to 10,000, not {longest!r}")


def _at_most(picture: Image.Image, longest: int) -> Image.Image:
    scale = longest / max(picture.size)
    if scale >= 1:
        return picture
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.BILINEAR)


# Ellipses (x, y, half width, half height, grey), painted one over the other on 200 x 200 pixels.
_DRAWING = (
    *((100, 75, 54, 66, 45), (100, 98, 44, 56, 175)),  # hair, head
    *((80, 71, 15, 3.5, 50), (120, 71, 15, 3.5, 50)),  # brows
    *((80, 87, 14, 9, 135), (120, 87, 14, 9, 135), (80, 87, 10, 6, 240), (120, 87, 10, 6, 240)),  # eyes
    *((80, 87, 5, 5.5, 30), (120, 87, 5, 5.5, 30)),
    *((100, 105, 8, 16, 155), (93, 117, 4, 3.5, 90), (107, 117, 4, 3.5, 90)),  # nose
    *((100, 138, 20, 8, 100), (100, 138, 20, 1.5, 55)),  # mouth
)


def drawn_face() -> NDArray[np.uint8]:
    """A face that the detector finds, (200, 200, 3) uint8; the same pixels whatever library is there."""
    y, x = np.mgrid[0:200, 0:200].astype(np.float64)
    picture = np.full((200, 200), 108.0)
    for left, top, width, height, grey in _DRAWING:
        inside = 1.0 - np.sqrt(((x - left) / width) ** 2 + ((y - top) / height) ** 2)
        cover = np.clip(inside * min(width, height) / 3.0 + 0.5, 0.0, 1.0)  # edges three pixels wide
        picture += cover * (grey - picture)
    return np.repeat(np.rint(picture).astype(np.uint8)[:, :, None], 3, axis=2)
