"""Where the real data sets are, and a visible skip where they are not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_FALLBACK = Path(__file__).resolve().parents[2] / "shared" / "data"


def data_folder() -> Path:
    """The folder of real data sets: $GALLERY_DATA, or the one beside the checkout."""
    return Path(os.environ.get("GALLERY_DATA", _FALLBACK))


def needs(*parts: str) -> Path:
    """The path of one data file; the test that asks for it is skipped where it is absent."""
    path = data_folder().joinpath(*parts)
    if not path.exists():
        pytest.skip(f"real data absent: {path} (set GALLERY_DATA)")
    return path
