"""The forges, and a folder for many small files."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash import shim
from tests.crash.forge import Forges


@pytest.fixture(scope="session")
def forges(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forges]:
    """Two processes with the file layer in them."""
    reason = shim.unavailable()
    if reason:
        pytest.skip(reason)
    scratch = tmp_path_factory.mktemp("forge")
    made = Forges(shim.build(scratch), scratch)
    yield made
    made.close()


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: no test here needs the disk to be real."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    folder = Path(tempfile.mkdtemp(prefix="gallery-crash-", dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder)
