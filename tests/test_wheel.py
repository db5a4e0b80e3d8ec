"""A wheel built from the tree carries the weights and runs the demo in an empty environment."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run(*command: str | Path, cwd: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=1200
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.mark.slow
def test_wheel_in_an_empty_environment(tmp_path: Path) -> None:
    run(sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path, ROOT, cwd=tmp_path)
    (wheel,) = tmp_path.glob("siamese_gallery-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for name in ("glyph", "photo"):
        for part in ("weights.safetensors", "encoder.json", "card.md"):
            assert f"encoders/pretrained/{name}/{part}" in names
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "examples"))]
    run(sys.executable, "-m", "venv", "empty", cwd=tmp_path)
    python = tmp_path / "empty" / "bin" / "python"
    constraints = ROOT / "constraints.txt"
    run(python, "-m", "pip", "install", "-q", "-c", constraints, f"{wheel}[cpu,demo]", cwd=tmp_path)
    said = run(python, ROOT / "examples" / "quickstart.py", cwd=tmp_path)
    assert "bit for bit: True" in said
    assert "glyph" in run(python.with_name("encoders"), "list", cwd=tmp_path)
    assert "exit codes" in run(python.with_name("gallery"), "--help", cwd=tmp_path)
