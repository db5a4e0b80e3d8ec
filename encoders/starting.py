"""Where training begins: a head that an analysis of the features finds, or the weights of an encoder."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from encoders import loading, preprocess, towers
from encoders.batches import CHUNK
from encoders.discriminant import directions, discriminant, whitening
from encoders.errors import EncoderError, TrainingError
from encoders.network import SiameseNetwork
from encoders.siamese import SiameseEncoder
from encoders.spec import Spec

ANALYSES = {"discriminant": discriminant, "whitening": whitening}
SIZES = ("size", "height", "width")


def base_encoder(name: str) -> SiameseEncoder:
    """The encoder that a run goes on from, by name, folder or file. TrainingError where it is not our own."""
    try:
        found = loading.load(name, device="cpu")
    except EncoderError as exc:
        raise TrainingError(f"base {name!r}: {exc}") from exc
    if not isinstance(found, SiameseEncoder):
        raise TrainingError(f"base {name!r} is of another library: its weights are not trained here")
    return found


def go_on_from(name: str, spec: Spec, network: SiameseNetwork) -> None:
    """Gives `network` the weights of the encoder `name`; TrainingError where the two are not made alike.

    The size of pictures may differ where the weights do not depend on it: what was learnt on small ones is
    where training on larger ones begins (Touvron et al., "Fixing the train-test resolution discrepancy",
    NeurIPS 2019).
    """
    base = base_encoder(name)
    mine, theirs = _whole(spec), _whole(base.spec)
    weights = base.network.state_dict()
    own = network.state_dict()
    fits = all(key not in weights or weights[key].shape == value.shape for key, value in own.items())
    compared = [_of_any_size(one) if fits else one for one in (mine, theirs)]
    other = [key for key in mine if key != "comparator" and compared[0][key] != compared[1].get(key)]
    if other:
        told = ", ".join(f"{key} is {theirs.get(key)!r} there and {mine[key]!r} here" for key in other)
        raise TrainingError(f"base {name!r} is made otherwise: {told}; leave it out, to take its own")
    network.load_state_dict({key: weights.get(key, own[key]) for key in own})


def _whole(spec: Spec) -> dict[str, Any]:
    """What embeddings depend on, as plain JSON values, with every default filled in."""
    read = preprocess.build(spec.preprocess)
    part = spec.embedding_part() | {
        "preprocess": preprocess.settings_of(read),
        "tower_args": towers.complete(spec.tower, spec.tower_args, read),
    }
    whole: dict[str, Any] = json.loads(json.dumps(part))
    return whole


def _of_any_size(whole: dict[str, Any]) -> dict[str, Any]:
    """The same without what tells the size of pictures."""
    kept = {key: value for key, value in whole["preprocess"].items() if key not in SIZES}
    return whole | {"preprocess": kept}


@torch.no_grad()
def start_head(
    analysis: str, network: SiameseNetwork, items: Tensor, labels: NDArray[np.int64], seed: int
) -> None:
    """Sets head and norm to what `analysis` finds in the tower's features of `items` (n, *shape)."""
    head = _head(analysis, network)
    features = _in_parts(network.tower, items)
    matrix, mean = ANALYSES[analysis](features, labels, head.out_features, seed)
    head.weight.copy_(matrix.T)
    network.norm.get_buffer("running_mean").copy_(mean @ matrix)


@torch.no_grad()
def refine_head(
    analysis: str, network: SiameseNetwork, items: Tensor, labels: NDArray[np.int64], seed: int
) -> None:
    """Puts what `analysis` finds in the embeddings of `items` (n, *shape) behind the head of `network`.

    Training to tell its subjects apart leaves directions in which one subject varies: these count for less
    now. Two linear maps in a row are one, so the network keeps its shape. Only directions are used, not the
    mean, which could not pass through the unit length: the cosine of mapped rows is that of mapped unit rows.
    TrainingError where rows are not of unit length, or the tower has no linear head.
    """
    head = _head(analysis, network)
    if not network.unit:
        raise TrainingError(
            f"start {analysis} after a base: it is for the cosine metric, and the base has another; "
            "leave out --start"
        )
    dim, most, spare = head.out_features, *directions(analysis, head.out_features, labels)
    if most < dim:
        raise TrainingError(
            f"start {analysis} after a base: {spare:,} items more than subjects decide {most:,} directions "
            f"at most, and the base has {dim:,}: give more items of each subject, or leave out --start"
        )
    matrix = ANALYSES[analysis](_in_parts(network, items), labels, dim, seed)[0].to(head.weight.device)
    norm, mean, variance, slope = _norm(network)
    shift = (norm.bias - mean * slope) @ matrix
    head.weight.copy_(matrix.T @ (slope[:, None] * head.weight))
    norm.weight.fill_(1.0)
    norm.bias.fill_(0.0)
    mean.copy_(-shift)
    variance.fill_(1.0 - norm.eps)  # of which the norm takes the root after adding eps


@torch.no_grad()
def settle_norm(network: SiameseNetwork, items: Tensor) -> None:
    """Gives the norm the mean and variance of `items` (n, *shape), and weights by which embeddings stay.

    A training step takes those of its batch, so what a direction counts for must lie in the norm's weights:
    else all of them would count alike from the first step on.
    """
    norm, mean, variance, slope = _norm(network)
    found = _in_parts(nn.Sequential(network.tower, network.head), items).to(mean.device)
    norm.bias.add_((found.mean(dim=0) - mean) * slope)
    mean.copy_(found.mean(dim=0))
    variance.copy_(found.var(dim=0))
    norm.weight.copy_(slope * torch.sqrt(variance + norm.eps))


def _norm(network: SiameseNetwork) -> tuple[nn.BatchNorm1d, Tensor, Tensor, Tensor]:
    """(the norm behind the head, its mean, its variance, what it multiplies each direction by)."""
    norm = network.norm
    assert isinstance(norm, nn.BatchNorm1d)
    mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
    return norm, mean, variance, norm.weight * torch.rsqrt(variance + norm.eps)


def _head(analysis: str, network: SiameseNetwork) -> nn.Linear:
    if not isinstance(network.head, nn.Linear):
        raise TrainingError(
            f"start {analysis}: the tower has no linear head to start, its row is the embedding; "
            "leave out --start (of a joined encoder: start from each member, then encoders join)"
        )
    return network.head


@torch.no_grad()
def start_centres(objective: nn.Module, network: SiameseNetwork, items: Tensor, subjects: Tensor) -> None:
    """Puts the learnt centre of each class where `network` has its items; a loss without centres is left.

    `items` (n, *shape) of `subjects` (n,) in each quarter turn that there are centres for, as
    `Trainer.batch` numbers them: quarter * subjects + subject.
    """
    centres = getattr(objective, "centres", None)
    if centres is None:
        return
    count = int(subjects.max()) + 1
    for quarter in range(len(centres) // count):
        turned = torch.rot90(items, quarter, (2, 3)) if quarter else items
        embeddings = _in_parts(network, turned)
        means = torch.zeros(count, embeddings.shape[1]).index_add_(0, subjects, embeddings)
        directions = F.normalize(means)
        centres[quarter * count : (quarter + 1) * count] = directions


def _in_parts(module: nn.Module, items: Tensor) -> Tensor:
    """What `module` makes of `items`, in eval mode, a part at a time where its weights are."""
    module.eval()
    device = next((one.device for one in module.parameters()), torch.device("cpu"))
    return torch.cat([module(part.to(device)).float().cpu() for part in torch.split(items, CHUNK)])
