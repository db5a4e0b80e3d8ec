"""The accuracy tasks, one file each: data, protocol, training settings, and how it is scored.

A task is a module with

    TITLE, PROTOCOL, UNIT      what is measured, how, and what never is in both training and test
    MEASURES                   {name: Measure}: direction, floor and aim, published figures
    SETTINGS                   of `encoders.train`; `folds` and these are all that decide an encoder
    MEMBERS, WEIGHTS           {name: settings of its own} of encoders that are trained on the same fold, with
                               these beside SETTINGS, and joined; what the distances of each count for
    SHIPPED                    the name of the encoder that ships, where it is measured and not trained anew
    folds() -> list[Fold]      training set and test of each fold
    baseline(fold)             the raw-feature encoder beside it: (embed, metric)
    score(embed, metric, fold) -> {measure: Trials}

and is taken up by `benchmarks.accuracy` when its name is in `NAMES`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

NAMES = (
    "omniglot",
    "faces",
    "lfw",
    "signatures",
    "banknotes",
    "digits",
    "speakers",
    "voices",
    "vowels",
    "names",
)


def task(name: str) -> Any:
    """The module of a task."""
    return import_module(f"benchmarks.tasks.{name}")
