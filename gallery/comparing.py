"""Ways of fusing a subject's templates, compared at the threshold that each has for the same target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from gallery import calibration as pure
from gallery.decisions import accepted
from gallery.engines.base import Compared
from gallery.fusion import BUCKETS, FUSIONS, NEAREST, surely_better
from gallery.measures import FusionErrors, TemplateErrors


def fusion_errors(found: Mapping[str, tuple[Compared, float]]) -> tuple[FusionErrors, ...]:
    """found: {fusion: (the comparisons by it, its threshold)}, of the same probes."""
    rates = {fusion: pure.rates(one.scores, threshold) for fusion, (one, threshold) in found.items()}
    plain, limit = found[NEAREST]
    better = [
        fusion
        for fusion in FUSIONS
        if fusion != NEAREST and surely_better(found[fusion][0].scores, found[fusion][1], plain.scores, limit)
    ]
    chosen = min(better, key=lambda fusion: rates[fusion]["fnmr"].value, default=NEAREST)
    return tuple(
        FusionErrors(
            fusion=fusion,
            threshold=threshold,
            **rates[fusion],
            by_templates=_by_templates(one, threshold),
            chosen=fusion == chosen,
        )
        for fusion, (one, threshold) in found.items()
    )


def chosen_fusion(compared: Sequence[FusionErrors]) -> str:
    """The one that was chosen."""
    return next(one.fusion for one in compared if one.chosen)


def _by_templates(found: Compared, threshold: float) -> tuple[TemplateErrors, ...]:
    scores = found.scores
    tried = np.isfinite(scores.mated)
    missed = tried & ~accepted(scores.mated, threshold)
    errors = []
    for low, high in BUCKETS:
        most = np.inf if high is None else high
        mine = (found.own_templates >= low) & (found.own_templates <= most)
        columns = (found.templates >= low) & (found.templates <= most)
        if not (tried & mine).any() and not columns.any():
            continue
        others = replace(scores, distances=np.where(columns[None, :], scores.distances, np.float32(np.inf)))
        errors.append(
            TemplateErrors(
                low,
                high,
                pure.of_probes(scores, missed & mine, tried & mine),
                pure.false_matches(others, threshold),
            )
        )
    return tuple(errors)
