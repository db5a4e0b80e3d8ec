"""Training on made copies: every picture is a subject of its own, and no labels are needed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from encoders import preprocess
from encoders.copies import CopyMaker, nt_xent
from encoders.errors import TrainingError
from encoders.network import SiameseNetwork
from encoders.spec import Spec
from encoders.trainer import finite, learning_rate, update_average

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class CopySettings:
    """Everything that decides the weights, besides the pictures.

    A batch is `batch` pictures, two views of each, `untouched` of the first views being the picture itself.
    Every `mine_every` steps the nearest other pictures of each are looked up, and from then on a batch is
    made of groups of `group` neighbours: photographs that look alike and are not copies.
    """

    size: int = 64
    tower: str = "residual"
    tower_args: dict[str, Any] = field(default_factory=lambda: {"widths": [24, 48, 96, 160]})
    dim: int = 128
    batch: int = 96
    untouched: float = 0.5
    steps: int = 1200
    lr: float = 2e-3
    weight_decay: float = 0.01
    temperature: float = 0.1
    ema: float = 0.995
    mine_every: int = 200
    group: int = 4
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """The settings as plain JSON values."""
        return asdict(self)


def spec_of(settings: CopySettings, name: str) -> Spec:
    """The record of the encoder that these settings train; no threshold yet."""
    made = preprocess.settings_of(preprocess.RgbPreprocess(settings.size))
    return Spec(name, settings.tower, settings.tower_args, made, settings.dim)


def train_on_copies(
    pictures: Tensor, spec: Spec, settings: CopySettings, report: Callable[[int, float], None] | None = None
) -> SiameseNetwork:
    """The averaged network after `settings.steps` steps on uint8 pictures (n, 3, side, side), one seed.

    `report` is called with (steps done, loss). Raises TrainingError for fewer pictures than a batch, and
    when the loss is no longer a number.
    """
    if len(pictures) < settings.batch:
        raise TrainingError(f"{len(pictures)} pictures are fewer than one batch of {settings.batch}")
    trainer = CopyTrainer(pictures, spec, settings)
    for step in range(1, settings.steps + 1):
        loss = trainer.step()
        if report is not None:
            report(step, loss)
    return trainer.average


class CopyTrainer:
    """Everything that changes while training; `step()` advances it by one batch."""

    def __init__(self, pictures: Tensor, spec: Spec, settings: CopySettings) -> None:
        self.pictures, self.settings, self.done = pictures, settings, 0
        self.rng = np.random.default_rng(settings.seed)
        self.maker = CopyMaker(settings.size, torch.Generator().manual_seed(settings.seed))
        ready = preprocess.build(spec.preprocess)
        assert isinstance(ready, preprocess.RgbPreprocess)
        self._mean, self._std = (torch.tensor(v).view(1, 3, 1, 1) for v in (ready.mean, ready.std))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.network = SiameseNetwork(spec)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.network).eval()
        self._neighbours: Ints | None = None
        self._optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=settings.lr, weight_decay=settings.weight_decay
        )

    def step(self) -> float:
        """One batch: two views of each picture, loss, update; gives the loss."""
        settings = self.settings
        if self.done and self.done % settings.mine_every == 0:
            self._neighbours = self._mined()
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(self.done, settings.steps, settings.lr)
        chosen = self.pictures[torch.from_numpy(self._drawn())]
        views = torch.cat([self.maker(chosen, settings.untouched), self.maker(chosen)])
        left, right = self.network.train()(self._scaled(views)).chunk(2)
        loss = nt_xent(left, right, settings.temperature)
        value = finite(loss, self.done + 1)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self.done += 1
        update_average(self.average, self.network, self.settings.ema, self.done)
        return value

    def _scaled(self, views: Tensor) -> Tensor:
        return ((views - self._mean) / self._std).contiguous(memory_format=torch.channels_last)

    def _drawn(self) -> Ints:
        """Different pictures, in groups of neighbours once these are known."""
        n, batch = len(self.pictures), self.settings.batch
        if self._neighbours is None:
            return self.rng.choice(n, batch, replace=False)
        seeds = self.rng.choice(n, batch // self.settings.group, replace=False)
        columns = self.rng.random((len(seeds), self._neighbours.shape[1])).argsort(axis=1)
        near = np.take_along_axis(self._neighbours[seeds], columns[:, : self.settings.group - 1], axis=1)
        return np.unique(np.concatenate([seeds, near.ravel()]))

    @torch.inference_mode()
    def _mined(self, count: int = 12, chunk: int = 256) -> Ints:
        """The `count` nearest other pictures of each, (n, count), by the averaged network."""
        maker = CopyMaker(self.settings.size, torch.Generator(), overlays=1)
        parts = torch.split(self.pictures, chunk)
        rows = torch.cat([self.average(self._scaled(maker(part, 1.0))) for part in parts])
        blocks = torch.split(rows, chunk)
        near = [(block @ rows.t()).topk(count + 1).indices[:, 1:] for block in blocks]
        return torch.cat(near).numpy()
