"""One training run in memory: network, averaged copy, objective, optimizer and random state, step by step."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from encoders import losses
from encoders.arguments import built
from encoders.augment import recipe
from encoders.datasets import LabelledSet
from encoders.errors import TrainingError
from encoders.network import SiameseNetwork, best_device
from encoders.sampling import PKSampler
from encoders.settings import Settings
from encoders.spec import Spec
from encoders.starting import go_on_from, refine_head, settle_norm, start_centres, start_head
from encoders.state import flatten_optimizer, unflatten_optimizer

WARM_UP = 0.05  # share of the steps in which the learning rate rises


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear rise over the first 5 % of the steps, then half a cosine down to a hundredth of the peak."""
    warm = max(1, int(WARM_UP * steps))
    if step < warm:
        return peak * (step + 1) / warm
    done = (step - warm) / max(1, steps - warm)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


def finite(loss: Tensor, step: int) -> float:
    """The loss as a number; TrainingError when it is NaN or infinite."""
    value = float(loss.detach())
    if not math.isfinite(value):
        raise TrainingError(f"the loss became {value} at step {step}: lower the learning rate (--lr)")
    return value


class Trainer:
    """Everything that changes while training, with one seed and no globals; `step()` is one batch."""

    def __init__(self, data: LabelledSet, spec: Spec, settings: Settings, device: str | None = None) -> None:
        self.settings, self.device, self.done = settings, best_device(device), 0
        self.rng = np.random.default_rng(settings.seed)
        # A core would augment for longer than a GPU trains; what MPS lacks for it is done on the CPU.
        self._augments_on = self.device if self.device.type == "cuda" else torch.device("cpu")
        self.generator = torch.Generator(self._augments_on).manual_seed(settings.seed)
        self._items = torch.from_numpy(np.ascontiguousarray(data.items))
        names, labels = np.unique(data.labels, return_inverse=True)
        turns = _turns(settings, tuple(self._items.shape[1:]))
        self._labels = np.concatenate([labels + len(names) * t for t in range(turns)])
        self._sampler = PKSampler(self._labels, settings.subjects, settings.items, self.rng)
        self._augment = recipe(settings.augment, str(spec.preprocess["kind"]))
        self._mixed = _mixed(settings.precision, self.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.network = built(spec, self._items, looks=settings.base is None)
            self.network.to(self.device)
            if settings.base is not None:
                go_on_from(settings.base, spec, self.network)
            if settings.start != "random":
                begin = start_head if settings.base is None else refine_head
                begin(settings.start, self.network, self._items, data.labels, settings.seed)
                if settings.base is not None and settings.steps > 0:
                    settle_norm(self.network, self._items)
            classes = len(names) * turns
            self.objective = losses.build(
                settings.loss,
                dim=spec.dim,
                classes=classes,
                mining=settings.mining,
                margin=settings.margin,
                arguments=settings.loss_args,
                comparator=self.network.comparator,
            )
            if settings.base is not None:
                start_centres(self.objective, self.network, self._items, torch.from_numpy(labels))
        self._place()

    def _place(self) -> None:
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.objective = self.objective.to(self.device)
        self.average = copy.deepcopy(self.network).eval()
        # A comparator is in both the network and the objective: each parameter once.
        parameters = list(dict.fromkeys([*self.network.parameters(), *self.objective.parameters()]))
        decay = [p for p in parameters if p.ndim > 1]
        plain = [p for p in parameters if p.ndim <= 1]
        groups = [{"params": decay, "weight_decay": self.settings.weight_decay}]
        self.optimizer = torch.optim.AdamW(
            [*groups, {"params": plain, "weight_decay": 0.0}], lr=self.settings.lr
        )

    def batch(self) -> tuple[Tensor, Tensor]:
        """The next augmented batch and its labels, on the device."""
        drawn = self._sampler.draw()
        images = self._items[torch.from_numpy(drawn % len(self._items))]
        quarters = torch.from_numpy(drawn // len(self._items))
        for quarter in range(1, int(quarters.max()) + 1):
            chosen = quarters == quarter
            images[chosen] = torch.rot90(images[chosen], quarter, (2, 3))
        with self._augments_on:  # where a recipe makes its random numbers
            images = self._augment(images.to(self._augments_on), self.generator)
        if images.ndim == 4:
            images = images.contiguous(memory_format=torch.channels_last)
        return images.to(self.device), torch.from_numpy(self._labels[drawn]).to(self.device)

    def step(self) -> float:
        """One batch: forward, loss, backward, update; gives the loss. TrainingError when it is no number."""
        rate = learning_rate(self.done, self.settings.steps, self.settings.lr)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        images, labels = self.batch()
        self.network.train()
        with self._chance():
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self._mixed):
                embeddings = self.network(images)
            loss = self.objective(embeddings.float(), labels)
        value = finite(loss, self.done + 1)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.done += 1
        update_average(self.average, self.network, self.settings.ema, self.done)
        return value

    @contextmanager
    def _chance(self) -> Iterator[None]:
        """Within it torch's own random numbers, as dropout takes them, depend on seed and step alone."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(self._seed_at(self.done))
            yield

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the run's state, by name."""
        parts = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "objective": self.objective.state_dict(),
            "optimizer": flatten_optimizer(self.optimizer.state_dict()),
        }
        flat = {f"{part}/{name}": value for part, held in parts.items() for name, value in held.items()}
        return flat | {"generator/state": self.generator.get_state()}

    def record(self) -> dict[str, Any]:
        """The rest of the state: the step and the numpy generator."""
        return {"step": self.done, "numpy": self.rng.bit_generator.state}

    def restore(self, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:
        """Puts the run back to where `tensors` and `record` were taken."""
        try:
            for part in ("network", "average", "objective"):
                getattr(self, part).load_state_dict(_part(tensors, part))
        except RuntimeError as exc:
            raise TrainingError(f"the saved state is of another network: {exc}") from exc
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict(unflatten_optimizer(_part(tensors, "optimizer"), groups))
        self._go_on_drawing(tensors["generator/state"], int(record["step"]))
        self.rng.bit_generator.state = record["numpy"]
        self.done = int(record["step"])

    def _go_on_drawing(self, kept: Tensor, step: int) -> None:
        """Puts the generator to the state `kept`; where another device kept it, to one of the step."""
        if kept.shape == self.generator.get_state().shape:
            self.generator.set_state(kept)
        else:
            self.generator.manual_seed(self._seed_at(step))

    def _seed_at(self, step: int) -> int:
        return (self.settings.seed * 1_000_003 + step) % 2**63


def _part(tensors: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    return {k.removeprefix(f"{part}/"): v for k, v in tensors.items() if k.startswith(f"{part}/")}


def _turns(settings: Settings, shape: tuple[int, ...]) -> int:
    if not settings.quarter_turns:
        return 1
    if len(shape) != 3 or shape[1] != shape[2]:
        raise TrainingError(f"quarter turns need square images, not items of shape {shape}")
    return 4


def _mixed(precision: str, device: torch.device) -> bool:
    """Whether the forward pass runs in bfloat16: weights, loss and update stay in float32."""
    if precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported()
    return precision == "bfloat16"


@torch.no_grad()
def update_average(average: SiameseNetwork, network: SiameseNetwork, ema: float, done: int) -> None:
    """Moves the averaged weights towards the network's, after `done` steps; `ema` is the decay per step.

    Early on the memory is shorter, so that the random start is soon forgotten.
    """
    keep = min(ema, (1 + done) / (10 + done))
    new = network.state_dict()
    for name, value in average.state_dict().items():
        if value.is_floating_point():
            value.lerp_(new[name], 1.0 - keep)
        else:
            value.copy_(new[name])
