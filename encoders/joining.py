"""Several trained encoders as one: the distance of the whole is the weighted mean of theirs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from encoders import adapters, checkpoint, datasets, loading, packages, preprocess
from encoders.datasets import LabelledSet
from encoders.errors import EncoderError
from encoders.numeric import plain
from encoders.siamese import SiameseEncoder
from encoders.spec import Spec
from encoders.towers._zoom import check_zooms
from encoders.towers.joined import shares
from encoders.validation import Validation, measure

Member = SiameseEncoder | str | os.PathLike[str]
LOST = 0.001  # of the length of a matrix or vector, by rounding; ordinary ones lose 0.0002
SHOWN = 40  # letters of a setting in a message


def join(
    members: Sequence[Member],
    *,
    weights: Sequence[float] | None = None,
    zooms: Sequence[float] | None = None,
    name: str = "joined",
    device: str | None = None,
) -> SiameseEncoder:
    """One encoder of two or more: its embedding is theirs side by side, its distance the mean of theirs.

    `members` are encoders of this package, or their names or places; all read items alike (one preprocessing)
    and compare by cosine. `weights`, one each from 1e-6 to 1e6, are what their distances count for (equally
    when None). With `zooms`, up to 16 from 0.25 to 4, every picture is read at each of these magnifications,
    and a member's embedding is the mean direction of those it gives: that takes as many times as long. A
    comparator that a member learnt is left out; no threshold is recommended (`with_threshold`).
    The sum rule of Kittler et al., "On combining classifiers", PAMI 1998. Raises EncoderError.
    """
    loaded = [own(member, device) for member in members]
    _check_alike(loaded)
    given = None if weights is None else _listed(weights)
    shares(len(loaded), given)  # told before anything is built
    read = {} if zooms is None else {"zooms": check_zooms(_listed(zooms), loaded[0].preprocess.shape)}
    parts = [
        {key: one.spec.embedding_part()[key] for key in ("tower", "tower_args", "dim")} for one in loaded
    ]
    spec = Spec(
        name,
        "joined",
        {"members": parts, "weights": None if given is None else [float(one) for one in given]} | read,
        loaded[0].spec.preprocess,
        sum(one.dim for one in loaded),
        versions=packages.versions("numpy", "pillow", "torch"),
        facts={"members": [{"name": one.name, "fingerprint": one.fingerprint} for one in loaded]},
    )
    state = dict(_weights(loaded))
    return SiameseEncoder(spec, checkpoint.network_of(spec, state), device=device)


def _listed(given: Any) -> Any:
    """Numbers as a list of Python's own; what cannot be listed as it is, to be refused with words."""
    try:
        return plain(list(given))
    except TypeError:
        return given


def with_threshold(
    encoder: SiameseEncoder, data: LabelledSet, fmr: float, *, unsure: bool = True
) -> tuple[SiameseEncoder, Validation]:
    """The encoder with the threshold that `data` recommends for `fmr`, where it can, and what was found.

    `data` are items of subjects that no member was trained on, which only the caller knows: the card says so,
    but for one who is not `unsure`.
    """
    found = measure(encoder, datasets.prepared(data, encoder.preprocess), fmr)
    return recommending(encoder, found, fmr, unsure=unsure), found


def recommending(
    encoder: SiameseEncoder, found: Validation, fmr: float, *, unsure: bool = True
) -> SiameseEncoder:
    """The encoder with what was found of it on its record, and with the threshold where that is enough.

    unsure: perhaps the subjects are those that a member was trained on, which only the caller knows.
    """
    enough = not found.doubt_of_threshold(fmr)
    facts = encoder.spec.facts | found.facts(with_threshold=enough, unsure=unsure)
    at, rate = (found.threshold, fmr) if enough else (None, None)
    spec = replace(encoder.spec, threshold=at, threshold_fmr=rate, facts=facts)
    return SiameseEncoder(spec, encoder.network, encoder.card, str(encoder.device))


def halved(encoder: SiameseEncoder) -> SiameseEncoder:
    """The encoder with its weights rounded to float16, of which a file takes half the room.

    It computes in float32 as before, and is another encoder: embeddings move by about 0.001. Vectors, as of a
    batch norm, stay as they are where float16 would lose more than that. EncoderError for such a matrix.
    """
    state = {name: _rounded(name, value) for name, value in encoder.network.state_dict().items()}
    network = checkpoint.network_of(encoder.spec, state)
    return SiameseEncoder(encoder.spec, network, encoder.card, str(encoder.device))


def _rounded(name: str, value: Tensor) -> Tensor:
    value = value.detach().cpu()
    if value.ndim < 1 or not value.is_floating_point():
        return value
    half = value.half().float()
    lost, length = (torch.linalg.vector_norm(one.double()) for one in (half - value, value))
    if lost <= LOST * length:  # not for NaN and infinity
        return half
    if value.ndim == 1:
        return value
    raise EncoderError(
        f"{name} holds weights up to {float(value.abs().max()):g}: float16 has its digits "
        "from 0.00006 to 65,504; keep the encoder as it is, without --half"
    )


def own(member: Member, device: str | None = None) -> SiameseEncoder:
    """A member by its name or place. EncoderError where it is of another library."""
    found: object = member
    if isinstance(member, str | os.PathLike):
        if adapters.home(member) is not None:  # before anything of it is loaded, or found missing
            raise _foreign(os.fspath(member))
        found = loading.load(member, device=device)
    if not isinstance(found, SiameseEncoder):
        raise _foreign(getattr(found, "name", type(found).__name__))
    return found


def _foreign(name: str) -> EncoderError:
    return EncoderError(
        f"{name} is of another library: only encoders of this package can be joined, by the names that ship, "
        "checkpoint folders and .safetensors"
    )


def _check_alike(members: Sequence[SiameseEncoder]) -> None:
    """EncoderError for fewer than two, for the same one twice, for what reads or compares otherwise."""
    if len(members) < 2:
        raise EncoderError(f"{len(members)} encoder{'s' * (len(members) != 1)}: two or more can be joined")
    for one, other in combinations(members, 2):
        if one.fingerprint == other.fingerprint:
            raise EncoderError(
                f"{other.name} is there twice ({other.fingerprint[:12]}): it would only count double"
            )
    first = preprocess.settings_of(members[0].preprocess)
    for one in members:
        if one.metric != "cosine":
            raise EncoderError(
                f"{one.name} compares by {one.metric} distance: only cosine ones can be joined"
            )
        if (read := preprocess.settings_of(one.preprocess)) != first:
            keys = [key for key in {**first, **read} if read.get(key) != first.get(key)]
            told = "; ".join(f"{key} {_short(read.get(key))} and {_short(first.get(key))}" for key in keys)
            raise EncoderError(
                f"{one.name} and {members[0].name} read items otherwise ({told}): "
                "train them with the same --preprocess, on the same data"
            )


def _short(value: object) -> str:
    """A setting in a message: the means of a thousand columns would hide what is to be done."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} ..."


def _weights(members: Sequence[SiameseEncoder]) -> Iterator[tuple[str, Tensor]]:
    for place, one in enumerate(members):
        for name, value in one.network.state_dict().items():
            if not name.startswith("comparator."):
                yield f"tower.members.{place}.{name}", value.detach().cpu()
