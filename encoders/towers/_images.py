"""What the convolutional towers share: the shape of an image, and the small map that they end in."""

from __future__ import annotations

from encoders.errors import EncoderError

GRID = 3  # features keep a 3 x 3 map of where things are
KINDS = ("ink", "strokes", "grey", "rgb")


def channels_of(shape: tuple[int, ...], halvings: int) -> int:
    """The channels of an image shape (c, h, w) that can be halved so often; anything else is refused."""
    if len(shape) != 3:
        raise EncoderError(
            f"a convolutional tower takes items of shape (channels, height, width), not {shape}"
        )
    if (shortest := min(shape[1:])) < 2**halvings:
        raise EncoderError(f"{halvings} halvings need images of {2**halvings} pixels, not {shortest}")
    return shape[0]
