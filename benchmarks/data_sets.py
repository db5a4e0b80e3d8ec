"""Where the real data sets are."""

from __future__ import annotations

import os
from pathlib import Path


def folder(name: str) -> Path:
    """The folder of one data set, in $GALLERY_DATA or in the folder beside the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("GALLERY_DATA", beside)) / name
