"""Damage is noticed, never answered from: thousands of random mutations of a gallery's files.

The galleries, the mutations and what may come of them are in `tests.gallery.damage`, which runs in processes
of its own, so that one that dies or hangs is seen with its seed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.gallery import damage

ROOT = Path(__file__).resolve().parents[2]
WORKERS = 2


@pytest.fixture(scope="module")
def galleries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `damage.build` makes, in a process of its own: it changes when index files are written."""
    folder = tmp_path_factory.mktemp("damage")
    code = "import sys, pathlib; from tests.gallery import damage; damage.build(pathlib.Path(sys.argv[1]))"
    subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(folder)], cwd=ROOT, check=True, timeout=120
    )
    return folder


def mutated(galleries: Path, first: int, count: int) -> list[dict[str, Any]]:
    """What came of `count` mutations, by seed; the seed of one that killed its process is said."""
    share = count // WORKERS
    firsts = [first + share * at for at in range(WORKERS)]
    workers = []
    for start in firsts:
        out = (galleries / f"{start}.out").open("w+")
        err = (galleries / f"{start}.err").open("w+")
        command = [sys.executable, "-W", "error", "-m", "tests.gallery.damage", str(galleries)]
        process = subprocess.Popen([*command, str(start), str(share)], stdout=out, stderr=err, cwd=ROOT)
        workers.append((process, out, err))
    results = []
    for process, out, err in workers:
        code = process.wait(timeout=damage.SECONDS + 10 * share)
        out.seek(0)
        err.seek(0)
        lines = [json.loads(line) for line in out]
        assert code == 0, f"the process ended with {code} after {lines[-1:]}: {err.read()}"
        done = [one for one in lines if "outcome" in one]
        assert len(done) == share
        results += done
        out.close()
        err.close()
    failed = [one for one in results if one["outcome"] == "failed"]
    assert not failed, f"{len(failed)} of {len(results)}: seed {failed[0]['seed']}: {failed[0]['why']}"
    return results


def check_figures(results: list[dict[str, Any]]) -> None:
    """That the mutations reached what they should: else the test would test nothing."""
    outcomes = Counter(one["outcome"] for one in results)
    mended = Counter(one["mended"] for one in results)
    print(f"\n{len(results)} mutations: {dict(outcomes)}; {dict(mended)}")
    assert outcomes["noticed"] > len(results) / 2
    assert outcomes["harmless"] > len(results) / 20
    assert mended["repaired"] > len(results) / 5
    assert mended["repaired with losses"] > len(results) / 10
    # Nothing is left of a catalog that was deleted, cut to nothing or replaced by another file.
    assert mended["not repaired"] < len(results) / 4
    for one in results:
        if one["outcome"] == "harmless":
            assert set(one["asked"]) <= {"right", "errors"}
            assert not one["asked"]["errors"]


def test_damage_is_noticed_and_never_answered_from(galleries: Path) -> None:
    first = int(os.environ.get("DAMAGE_SEED", "0"))
    check_figures(mutated(galleries, first, int(os.environ.get("DAMAGE_COUNT", "150"))))


@pytest.mark.slow
def test_damage_is_noticed_and_never_answered_from_2000_times(galleries: Path) -> None:
    check_figures(mutated(galleries, 10_000, 2000))
