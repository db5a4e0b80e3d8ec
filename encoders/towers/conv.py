"""A plain convolutional tower: small, quick to train, for a first encoder on one's own images."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from encoders.errors import EncoderError

GRID = 3  # features keep a 3 x 3 map of where things are


class ConvTower(nn.Module):
    """Stages of convolution, batch norm, ReLU and 2 x 2 pooling: (n, c, h, w) -> (n, 9 * widths[-1])."""

    def __init__(self, shape: tuple[int, ...], widths: Sequence[int] = (32, 64, 96)) -> None:
        super().__init__()
        channels, shortest = image_shape(shape)
        if shortest < 2 ** len(widths):
            raise EncoderError(
                f"{len(widths)} halvings need images of {2 ** len(widths)} pixels, not {shortest}"
            )
        stages = [_stage(i, o) for i, o in zip([channels, *widths], widths, strict=False)]
        self.body = nn.Sequential(*stages, nn.AdaptiveAvgPool2d(GRID), nn.Flatten())
        self.features = GRID * GRID * widths[-1]

    def forward(self, batch: Tensor) -> Tensor:
        features: Tensor = self.body(batch)
        return features


def image_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """(channels, shortest side) of an image shape (c, h, w); anything else is refused."""
    if len(shape) != 3:
        raise EncoderError(
            f"a convolutional tower takes items of shape (channels, height, width), not {shape}"
        )
    return shape[0], min(shape[1:])


def _stage(inputs: int, outputs: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2))
