"""The settings of a training run, checked before anything is read."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from encoders.errors import TrainingError

PRECISIONS = ("auto", "float32", "bfloat16")
STARTS = ("random", "discriminant", "whitening")


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that decides the weights, besides the data.

    `steps` batches of `subjects` x `items`, a run having at most as many subjects in a batch as there are
    with two items to train on; `quarter_turns` makes each quarter turn of a subject a subject of
    its own; `holdout` is the share of groups (or subjects) held out; `ema` the decay of the averaged weights
    that are validated and kept; `validate_every` steps the run is validated, None about twenty times;
    `fmr` is the false match rate that the recommended threshold is set for. The run stops early, past the
    half of its steps, after `patience` validations that are worse than the best beyond chance (0: never; see
    `encoders.choosing`). `precision` is "float32", "bfloat16" (mixed), or
    "auto": bfloat16 on a GPU that has it.
    `start` says where the linear head starts: "random", or from the tower's features of the training items
    (`encoders.discriminant`), after which `steps` may be 0: "discriminant" by what tells subjects apart, for
    many of them, "whitening" by what varies within one, for few with many items each.
    `base` is an encoder to go on from, by name, folder or file: its tower, preprocessing, dim and metric are
    taken, and training begins with its weights, each class's centre where it has the class's items. With
    `start` as well, the head is the base's, its directions weighed anew by what is found in its embeddings.
    """

    tower: str = "conv"
    tower_args: dict[str, Any] = field(default_factory=dict)
    preprocess: dict[str, Any] = field(default_factory=lambda: {"kind": "ink"})
    dim: int = 128
    metric: str = "cosine"
    loss: str = "margin"
    mining: str | None = None
    margin: float | None = None
    loss_args: dict[str, Any] = field(default_factory=dict)
    augment: str = "ink"
    quarter_turns: bool = False
    subjects: int = 32
    items: int = 4
    steps: int = 2000
    lr: float = 2e-3
    weight_decay: float = 0.02
    ema: float = 0.998
    holdout: float = 0.15
    validate_every: int | None = None
    patience: int = 10
    precision: str = "auto"
    start: str = "random"
    base: str | None = None
    fmr: float = 0.001
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise TrainingError(f"{name} is {value}: it must lie between {low} and {high}")
        if self.precision not in PRECISIONS:
            raise TrainingError(f"precision is {self.precision!r}: it must be one of {', '.join(PRECISIONS)}")
        if self.start not in STARTS:
            raise TrainingError(f"start is {self.start!r}: it must be one of {', '.join(STARTS)}")
        if self.steps == 0 and self.start == "random" and self.base is None:
            raise TrainingError("steps is 0: random weights must be trained (or --start discriminant)")

    def to_json(self) -> dict[str, Any]:
        """The settings as plain JSON values: what reading them back from a file gives."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return values


_RANGES: tuple[tuple[str, float, float], ...] = (
    ("dim", 2, 4096),
    ("subjects", 2, 100_000),
    ("items", 2, 10_000),
    ("steps", 0, 100_000_000),
    ("lr", 1e-8, 10.0),
    ("weight_decay", 0.0, 10.0),
    ("ema", 0.0, 0.99999),
    ("holdout", 0.0, 0.9),
    ("validate_every", 1, 100_000_000),
    ("patience", 0, 1_000_000),
    ("fmr", 1e-6, 0.5),
    ("seed", 0, 2**63 - 1),
)
