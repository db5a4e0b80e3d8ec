"""train(...): from a labelled set to a checkpoint, on one seed, resumable after a kill."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from encoders import apart, arguments, datasets, defaults, outputs, preprocess, record, state, towers
from encoders.datasets import LabelledSet
from encoders.errors import TrainingError
from encoders.history import History
from encoders.network import best_device
from encoders.numeric import plain
from encoders.run import Run
from encoders.settings import Settings


def train(
    data: LabelledSet | str | os.PathLike[str],
    *,
    output: str | os.PathLike[str],
    validation: LabelledSet | str | os.PathLike[str] | None = None,
    label: str | None = None,
    name: str | None = None,
    minutes: float | None = None,
    epochs: float | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    skip_unreadable: bool = False,
    device: str | None = None,
    **settings: Any,
) -> History:
    """Trains a Siamese encoder and writes it as the checkpoint folder `output` (`encoders.choosing`: which).

    `data` is a LabelledSet, a folder with one subfolder a subject, an .npz or a CSV whose column `label`
    names the subject (see `encoders.datasets`). `validation` is another such set, which takes the place of
    the subjects that are held out, and should share none with `data`. `settings` are the fields of
    `encoders.settings.Settings`: tower, loss, mining, steps, seed and so on; those not given are found from
    the data (`encoders.defaults`). `minutes` or `epochs` give the number of steps instead. What fits into
    `minutes`, validations included, is measured at the start, and a step that would not fit any more is not
    begun, but for the first; so only `steps` and `epochs` decide the weights alone. Reading is not counted.
    `resume` continues a run that was interrupted, on the same data with its settings (others are refused), to
    the same weights as if it had not been: one `seed` gives one result on one CPU with one number of threads.
    `overwrite` replaces an encoder or an interrupted run that is there, which is refused otherwise. Ctrl-C
    saves the run and raises KeyboardInterrupt; a second does not wait. Raises DatasetError, TrainingError.
    """
    if settings.get("base") is not None:
        settings["base"] = os.fspath(settings["base"])
    arguments.check_loss(_settings(settings := plain(settings)))  # told before anything is read
    _check_length(minutes, epochs)
    best_device(device)
    outputs.refuse_unusable(Path(output))
    refuse_to_lose(Path(output), resume, overwrite)
    settings = _taken_up(Path(output), settings) if resume else settings
    raw = _loaded(data, label)
    outside = None if validation is None else _loaded(validation, label)
    if outside is not None:
        apart.refuse_shared(raw, outside)
    chosen = _settings(defaults.found(raw, settings))
    arguments.check_tower(chosen)
    ready, held, prepare = _prepared(raw, outside, chosen, skip_unreadable)
    run = Run(
        ready, held, replace(chosen, preprocess=prepare), Path(output), name, device, outside is not None
    )
    run.choose_steps(minutes, epochs, resume)
    return run.go(progress)


def _loaded(data: LabelledSet | str | os.PathLike[str], label: str | None) -> LabelledSet:
    return data if isinstance(data, LabelledSet) else datasets.load(data, label)


def _prepared(
    raw: LabelledSet, outside: LabelledSet | None, chosen: Settings, skip: bool
) -> tuple[LabelledSet, LabelledSet | None, dict[str, Any]]:
    """(what is trained on, what is validated on, the preprocessing), whose scale is learnt from the first."""
    train, held = raw, outside
    if outside is None and chosen.holdout > 0.0:
        train, held = datasets.split(raw, chosen.holdout, np.random.default_rng(chosen.seed))
    settings = preprocess.fitted(chosen.preprocess, train.items)
    read = preprocess.build(settings)
    towers.check(chosen.tower, read.kind)
    if held is None:
        return datasets.prepared(train, read, skip=skip), None, settings
    train, held = datasets.prepared_parts(train, held, read, skip)
    if outside is not None:
        apart.refuse_copies(train, held)
    return train, held, settings


def refuse_to_lose(output: Path, resume: bool, overwrite: bool) -> None:
    """TrainingError when a run would replace a finished encoder or an interrupted run, and was not told to.

    A resumed run may replace the encoder: it was begun with leave to, or had written it when it was cut off.
    """
    folder = state.beside(output)
    step, finished = state.step_in(folder), (output / record.RECORD).is_file()
    if resume and step is None and finished:
        raise TrainingError(f"nothing to resume: the run of {output} is finished, its encoder is there")
    if resume or overwrite:
        return
    if step is not None:
        at = f"{step:,}" if isinstance(step, int) else step
        raise TrainingError(
            f"an interrupted run at step {at} is there: --resume goes on with it; "
            f"delete {folder}, or --overwrite, to start anew"
        )
    if finished:
        raise TrainingError(
            f"{output} is there, a finished encoder: choose another name, or --overwrite; "
            "galleries filled by it will not open with the new one"
        )


def _settings(given: dict[str, Any]) -> Settings:
    try:
        return Settings(**given)
    except TypeError as exc:
        unknown = sorted(set(given) - set(Settings.__dataclass_fields__))
        raise TrainingError(
            f"unknown settings {unknown}; there are {sorted(Settings.__dataclass_fields__)}"
        ) from exc


def _taken_up(output: Path, said: dict[str, Any]) -> dict[str, Any]:
    """The settings of the interrupted run, over them those that are said: a difference is refused later."""
    folder = state.beside(output)
    saved: dict[str, Any] = state.read_record(folder)["settings"]
    try:
        Settings(**saved)
    except (TypeError, TrainingError) as exc:
        raise state.damaged(folder, exc) from exc
    return saved | said


def _check_length(minutes: float | None, epochs: float | None) -> None:
    for name, value in (("minutes", minutes), ("epochs", epochs)):
        if value is not None and not 0.0 < value <= 1e7:  # false for NaN too
            raise TrainingError(f"{name} is {value:g}: it must be more than 0, and at most 10,000,000")


def threads(count: int | None) -> None:
    """Uses `count` CPU threads from here on (all of them when None). TrainingError for fewer than one."""
    if count is not None:
        if not 1 <= count <= 4096:
            raise TrainingError(f"threads is {count}: it must lie between 1 and 4096")
        torch.set_num_threads(count)
