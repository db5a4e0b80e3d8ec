"""How a gallery stands, for people and programs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gallery.engines.base import RECALL, Engine
from gallery.measures import Recall
from gallery.records import Generation
from gallery.searching import THRESHOLD, fusion_of, known_recall
from gallery.validity import void_because


@dataclass(frozen=True, slots=True)
class Adopted:
    """The adopted calibration, in short."""

    target: str
    """"fmr" or "fpir"."""
    requested: float
    margin: float | None
    """Below it an answer is "ambiguous"."""
    fusion: str
    subjects: int
    """How many there were."""
    measured: datetime
    void_because: tuple[str, ...]
    """Why it does not hold any more; empty while it does."""

    def to_dict(self) -> dict[str, Any]:
        """A plain dict for JSON."""
        return asdict(self) | {"measured": self.measured.isoformat()}

    def __str__(self) -> str:
        said = f"for {self.target.upper()} {self.requested:g}, {self.measured:%Y-%m-%d}, {self.fusion}"
        if self.margin is not None:
            said += f", margin {self.margin:.4f}"
        return f"{said}; void: {'; '.join(self.void_because)}" if self.void_because else said


@dataclass(frozen=True, slots=True)
class Info:
    """What a gallery is and how it stands at one revision."""

    location: str
    subjects: int
    templates: int
    dim: int
    metric: str
    encoder: str
    fingerprint: str
    created: datetime
    revision: int
    index: str
    """The kind in use."""
    index_wish: str
    """The kind asked for, "auto" or the same."""
    index_why: str
    """Why it is that kind."""
    recall: Recall | None
    """What was measured of it last (`Gallery.recall`); None for nothing that still holds."""
    threshold: float | None
    threshold_source: str
    """"gallery", "encoder" or "none"."""
    calibration: Adopted | None
    """What the gallery's own threshold comes from; None where it has none."""
    bytes: int
    """Of all files in the folder."""
    quarantined: int = 0
    """Templates that are kept and never matched."""
    different: int = 0
    """Pairs of subjects that are remembered as different."""
    generation: int = 1
    """Counts the encoders that the gallery was bound to."""
    staged: Generation | None = None
    """What a migration that is not finished has embedded so far."""
    previous: tuple[Generation, ...] = ()
    """What is kept for a rollback, the newest first."""

    def to_dict(self) -> dict[str, Any]:
        """A plain dict for JSON."""
        return asdict(self) | {
            "created": self.created.isoformat(),
            "calibration": None if self.calibration is None else self.calibration.to_dict(),
            "recall": None if self.recall is None else self.recall.to_dict(),
            "staged": None if self.staged is None else self.staged.to_dict(),
            "previous": [one.to_dict() for one in self.previous],
        }


def gathered(engine: Engine, folder: Path, threshold: float | None, threshold_source: str) -> Info:
    """What there is to say of a gallery in that folder."""
    # The state first: after it the header is that of the newest revision.
    state, header = engine.state(), engine.header
    with engine.generations() as generations:
        others = generations.listing()
    with engine.curation() as curation:
        quarantined, different = len(curation.in_quarantine()), len(curation.different_numbers())
    return Info(
        location=str(folder),
        subjects=state.subjects,
        templates=state.templates,
        dim=header.dim,
        metric=header.metric,
        encoder=header.encoder,
        fingerprint=header.fingerprint,
        created=header.created,
        revision=state.revision,
        index=state.index,
        index_wish=state.index_wish,
        index_why=state.index_why,
        recall=known_recall(engine.setting(RECALL), state),
        threshold=threshold,
        threshold_source=threshold_source,
        calibration=_adopted(engine.setting(THRESHOLD), state.subjects),
        bytes=_folder_bytes(folder),
        quarantined=quarantined,
        different=different,
        generation=header.generation,
        staged=next((one for one in others if one.state == "staged"), None),
        previous=tuple(one for one in reversed(others) if one.state == "previous"),
    )


def _adopted(stored: str | None, subjects: int) -> Adopted | None:
    plain = {} if stored is None else json.loads(stored)
    if "measured" not in plain:
        return None
    return Adopted(
        target=plain["target"],
        requested=plain["requested"],
        margin=plain.get("margin"),
        fusion=fusion_of(plain),
        subjects=plain["subjects"],
        measured=datetime.fromisoformat(plain["measured"]),
        void_because=tuple(void_because(plain, subjects, datetime.now(UTC))),
    )


def _folder_bytes(folder: Path) -> int:
    """The sizes of all files under a folder, added up; files that vanish meanwhile count as nothing."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total
