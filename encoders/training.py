"""train(...): from a labelled set to a checkpoint, on one seed, resumable after a kill."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from encoders import checkpoint, datasets, preprocess
from encoders.datasets import LabelledSet
from encoders.errors import TrainingError
from encoders.history import History
from encoders.run import Run
from encoders.settings import Settings


def train(
    data: LabelledSet | str | os.PathLike[str],
    *,
    output: str | os.PathLike[str],
    name: str | None = None,
    minutes: float | None = None,
    epochs: float | None = None,
    resume: bool = False,
    progress: bool = True,
    skip_unreadable: bool = False,
    device: str | None = None,
    **settings: Any,
) -> History:
    """Trains a Siamese encoder and writes the best one of the run as the checkpoint folder `output`.

    `data` is a LabelledSet, a folder with one subfolder a subject, or an .npz (see `encoders.datasets`).
    `settings` are the fields of `encoders.settings.Settings`: tower, loss ("margin", "triplet", "contrastive"
    or "bce"), mining, steps, seed and so on. `minutes` or `epochs` give the number of steps instead;
    `minutes` is measured once at the start, so only `steps` and `epochs` decide the weights alone.
    `resume` continues a run that was interrupted, to the same weights as if it had not been.
    Raises DatasetError, TrainingError.
    """
    chosen = _settings(settings)
    checkpoint.refuse_foreign(Path(output))
    raw = data if isinstance(data, LabelledSet) else datasets.load(data)
    chosen = replace(chosen, preprocess=preprocess.fitted(chosen.preprocess, raw.items))
    ready = datasets.prepared(raw, preprocess.build(chosen.preprocess), skip=skip_unreadable)
    run = Run(ready, chosen, Path(output), name, device)
    run.choose_steps(minutes, epochs, resume)
    return run.go(progress)


def _settings(given: dict[str, Any]) -> Settings:
    try:
        return Settings(**given)
    except TypeError as exc:
        unknown = sorted(set(given) - set(Settings.__dataclass_fields__))
        raise TrainingError(
            f"unknown settings {unknown}; there are {sorted(Settings.__dataclass_fields__)}"
        ) from exc


def threads(count: int | None) -> None:
    """Uses `count` CPU threads from here on (all of them when None)."""
    if count is not None:
        torch.set_num_threads(count)
