"""What the towers of pictures share: the shape of an image, and the small map that convolutions end in."""

from __future__ import annotations

from encoders.errors import EncoderError

GRID = 3  # features keep a 3 x 3 map of where things are
KINDS = ("ink", "strokes", "grey", "rgb")


def check_shape(shape: tuple[int, ...], tower: str) -> None:
    """EncoderError for items that are no pictures (channels, height, width)."""
    if len(shape) != 3:
        raise EncoderError(f"a {tower} takes items of shape (channels, height, width), not {shape}")


def channels_of(shape: tuple[int, ...], halvings: int) -> int:
    """The channels of an image shape (c, h, w) that can be halved so often; anything else is refused."""
    check_shape(shape, "convolutional tower")
    if (shortest := min(shape[1:])) < 2**halvings:
        raise EncoderError(f"{halvings} halvings need images of {2**halvings} pixels, not {shortest}")
    return shape[0]
