"""How a gallery stands, for people and programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any


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
    threshold: float | None
    threshold_source: str
    """"gallery", "encoder" or "none"."""
    bytes: int
    """Of all files in the folder."""

    def to_dict(self) -> dict[str, Any]:
        """A plain dict for JSON."""
        return asdict(self) | {"created": self.created.isoformat()}


def folder_bytes(folder: Path) -> int:
    """The sizes of all files under a folder, added up; files that vanish meanwhile count as nothing."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total
