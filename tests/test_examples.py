"""Every example runs, says what it promises, and stays short."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def run(name: str, folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / name, *arguments],
        cwd=folder,
        # One thread each: several test workers whose torch wants all cores wait for one another.
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_own_encoder(tmp_path: Path) -> None:
    said = run("own_encoder.py", tmp_path).splitlines()
    assert [line.split(":")[0].split()[-1] for line in said[:4]] == ["match", "match", "match", "unknown"]
    assert [line.split("nearest is ")[1][:7] for line in said[:3]] == ["badge 1", "badge 2", "badge 3"]
    assert "badge 1 accepted" in said[4]


def test_precomputed(tmp_path: Path) -> None:
    said = run("precomputed.py", tmp_path)
    assert "1,000 subjects (1,000 new), 3,000 templates enrolled" in said
    assert "match: nearest is subject-42" in said
    assert "a stranger: unknown" in said
    assert "subject-42 accepted" in said and "subject-42 rejected" in said
    assert "removed 3 templates; now: unknown" in said


def test_train_your_own(tmp_path: Path) -> None:
    said = run("train_your_own.py", tmp_path)
    right = int(said.split("enrolled once: ")[1].split(" of 20")[0])
    assert right >= 10, "four letters, one drawing each: chance is 5 of 20"


def test_few_shot(tmp_path: Path) -> None:
    lines = run("few_shot.py", tmp_path, "2").splitlines()
    found = [
        dict(part.strip().rsplit(" ", 1) for part in line[8:].replace("support set, ", "").split(","))
        for line in lines[:3]
    ]
    assert all(row["gallery"] == row["nearest"] for row in found), "a gallery answers by the nearest template"
    assert all(float(value) > 0.6 for row in found for value in row.values()), "chance is 0.1"
    assert float(found[0]["SVM"]) < float(found[1]["SVM"]) < float(found[2]["SVM"])
    assert lines[3].startswith("from pictures:")


def test_quickstart(tmp_path: Path) -> None:
    said = run("quickstart.py", tmp_path)
    assert "enrolled ONE image for each of 0, 1, 2, 3, 4, 5, 6, 7" in said
    right, raw = (
        float(text.split("%")[0])
        for text in (said.split("one image each: ")[1], said.split("raw pixels ")[1])
    )
    assert right > raw > 12.5, "chance is one in eight"
    assert "answers that still say 3: 0 of" in said
    assert "a 4 that claims to be 4:  4 accepted" in said
    assert "a 7 that claims to be 4:  4 rejected" in said
    assert "the same 40 answers, bit for bit: True" in said
    page = (tmp_path / "out" / "quickstart.html").read_text()
    assert page.count("<section") == 40 and "http" not in page.replace("http-equiv", "")


@pytest.mark.parametrize(
    "name", sorted(path.name for path in EXAMPLES.glob("*.py") if path.name != "quickstart.py")
)
def test_examples_are_short(name: str) -> None:
    assert len((EXAMPLES / name).read_text().splitlines()) < 60
