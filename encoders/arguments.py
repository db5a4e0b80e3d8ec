"""The arguments of towers and losses, as --tower-args and --loss-args give them, checked before the work."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor

from encoders import losses, towers
from encoders.errors import EncoderError, TrainingError
from encoders.network import SiameseNetwork
from encoders.numeric import number, whole
from encoders.settings import Settings
from encoders.spec import Spec

MOST = 2**24  # of any number: far beyond what is of use, and short of what ends the process


def check_loss(settings: Settings) -> None:
    """TrainingError for a loss, mining, margin or argument that `losses.build` does not take."""
    with torch.random.fork_rng(devices=[]):  # the caller's random state is not moved
        losses.build(
            settings.loss,
            dim=2,
            classes=2,
            mining=settings.mining,
            margin=settings.margin,
            arguments=settings.loss_args,
        )


def check_tower(settings: Settings) -> None:
    """TrainingError for arguments that the tower does not have, or of another type than its defaults."""
    if settings.tower in towers.ASSEMBLED:
        if settings.base is not None:
            return  # which must be made alike, and was built: its arguments are fit
        raise TrainingError(
            f"a {settings.tower} encoder is not trained as a whole: train its members, "
            "then encoders join A B --output C"
        )
    usual = towers.complete(settings.tower, {})
    if unknown := sorted(set(settings.tower_args) - set(usual)):
        those = ", ".join(usual) or "nothing"
        raise TrainingError(f"tower {settings.tower} does not take {', '.join(unknown)}; it takes {those}")
    for name, value in settings.tower_args.items():
        if wanted := _unlike(value, usual[name]):
            raise TrainingError(
                f"tower {settings.tower}: {name} is {json.dumps(value, default=str)}: it must be {wanted}, "
                f"{json.dumps(usual[name])} for example"
            )


def _unlike(value: Any, usual: Any) -> str:
    """What a value must be that stands for `usual`; "" when it is."""
    if isinstance(usual, list):
        wanted = f"a list of one or more, each {_unlike(None, usual[0])}"
        fits = isinstance(value, list | tuple) and len(value) and not any(_unlike(v, usual[0]) for v in value)
    elif isinstance(usual, bool):
        wanted, fits = "true or false", isinstance(value, bool)
    elif isinstance(usual, str):
        wanted, fits = "a word", isinstance(value, str)
    else:
        kind, low = ("a number", 0) if isinstance(usual, float) else ("a whole number", min(1, usual))
        wanted = f"{kind} from {low} to {MOST:,}"
        fits = (number if isinstance(usual, float) else whole)(value) and low <= value <= MOST
    return "" if fits else wanted


def built(spec: Spec, items: Tensor, *, looks: bool = True) -> SiameseNetwork:
    """The network with random weights, which was seen to take two of the items (n, *shape).

    looks: weights that a tower finds in the items start from there; a base has found its own.
    TrainingError where the tower cannot be built with its arguments, or not for items of this shape.
    """
    try:
        network = SiameseNetwork(spec)
        if looks and hasattr(network.tower, "look_at"):
            network.tower.look_at(items)
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            network.eval()(items[:2])
    except EncoderError:
        raise
    except (RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, MemoryError) as exc:
        said = " ".join(str(exc).split())[:300]
        raise TrainingError(
            f"tower {spec.tower} does not work with {json.dumps(spec.tower_args)} on items of shape "
            f"{tuple(items.shape[1:])}: {said}; choose other --tower-args"
        ) from exc
    return network.train()
