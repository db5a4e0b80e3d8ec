"""The losses of Siamese training, by name: modules from (embeddings (n, d), labels (n,)) to a scalar.

Most are put together from three parts: a distance (`distances`), a miner (`miners`), a reducer (`reducers`).
A new loss is a file of this folder, a line in `MINING` and one in `build`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from encoders.comparator import Comparator
from encoders.errors import TrainingError
from encoders.losses import distances, miners, reducers
from encoders.losses.bce import PairwiseBCE
from encoders.losses.contrastive import Contrastive
from encoders.losses.proxy import ProxyAnchor
from encoders.losses.softmax import ArcFace, MarginSoftmax
from encoders.losses.supcon import SupervisedContrastive
from encoders.losses.triplet import Triplet
from encoders.numeric import number

# The minings that each loss takes, the first being the default.
MINING = {
    "margin": ("none",),
    "arcface": ("none",),
    "triplet": ("semi-hard", "hard", "all"),
    "contrastive": ("hard", "all"),
    "bce": ("hard", "all"),
    "supcon": ("none",),
    "proxy": ("none",),
}
_MARGINS = {"margin": 0.3, "arcface": 0.3, "triplet": 0.2, "contrastive": 1.0, "proxy": 0.1}
LARGEST = 10_000.0  # of a margin, a scale or a temperature


def build(
    loss: str,
    *,
    dim: int,
    classes: int,
    mining: str | None = None,
    margin: float | None = None,
    arguments: dict[str, Any] | None = None,
    comparator: Comparator | None = None,
) -> nn.Module:
    """The loss called `loss`. None takes its usual mining and margin.

    `arguments` are what else it takes: "distance" and "reducer" by name, "scale" or "temperature".
    `comparator` is the network's own, which "bce" trains. TrainingError names what there is instead.
    """
    if loss not in MINING:
        raise TrainingError(f"no loss is called {loss!r}; there are {', '.join(MINING)}")
    how = mining or MINING[loss][0]
    if how not in MINING[loss]:
        raise TrainingError(f"{loss} has no mining {how!r}; it has {', '.join(MINING[loss])}")
    if margin is not None and loss not in _MARGINS:
        raise TrainingError(f"{loss} has no margin; leave it out")
    if margin is not None:
        _check("margin", margin, -LARGEST)
    within = margin if margin is not None else _MARGINS.get(loss, 0.0)
    given = _parts(arguments or {})
    makers: dict[str, Callable[..., nn.Module]] = {
        "margin": lambda **a: MarginSoftmax(dim, classes, within, **a),
        "arcface": lambda **a: ArcFace(dim, classes, within, **a),
        "proxy": lambda **a: ProxyAnchor(dim, classes, within, **a),
        "supcon": lambda **a: SupervisedContrastive(**a),
        "triplet": lambda **a: Triplet(within, miner=miners.of_triplets(how, within), **a),
        "contrastive": lambda **a: Contrastive(within, miner=miners.of_pairs(how), **a),
        "bce": lambda **a: PairwiseBCE(comparator or Comparator(dim), miner=miners.of_pairs(how), **a),
    }
    try:
        return makers[loss](**given)
    except TypeError as exc:
        raise TrainingError(f"{loss} does not take {arguments}: {exc}") from exc


def _check(name: str, value: Any, least: float) -> None:
    """TrainingError for what is no number between `least` and LARGEST; NaN is none.

    Beyond these the loss is no number at the first step, and no learning rate helps.
    """
    if not number(value) or not least <= value <= LARGEST:
        raise TrainingError(f"{name} is {value!r}: it must be a number from {least:g} to {LARGEST:g}")


def _parts(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments with distance and reducer found by their names."""
    made = dict(arguments)
    for name in ("scale", "temperature"):
        if name in made:
            _check(name, made[name], 1.0 / LARGEST)
    if "distance" in made:
        made["distance"] = distances.named(made["distance"])
    if "reducer" in made:
        made["reducer"] = reducers.named(made["reducer"])
    return made
