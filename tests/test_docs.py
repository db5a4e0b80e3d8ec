"""Every block of the README and the docs is run as a reader would run it: in order, in an empty folder.

```python blocks share one namespace a page. ```console blocks run each `$` line; where output follows,
it is compared, digits after a decimal point left open.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # beside other test workers more threads take longer
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    namespace: dict[str, object] = {"__name__": "__docs__"}
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    assert blocks, f"{page.name} has no block that runs"
    for language, text in blocks:
        if language == "python":
            exec(compile(text, f"{page.name}:block", "exec"), namespace)
        else:
            _run_console(text)


def _run_console(text: str) -> None:
    for command, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", text, re.MULTILINE):
        done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode in (0, 1), f"{command}\n{done.stdout}{done.stderr}"
        if expected:
            assert _open_digits(done.stdout) == _open_digits(expected), command


def _open_digits(text: str) -> str:
    return re.sub(r"\.\d+", ".#", text).strip()


def test_a_wrong_block_would_be_noticed() -> None:
    with pytest.raises(AssertionError):
        _run_console("$ echo one\ntwo\n")
    with pytest.raises(AssertionError):
        _run_console("$ exit 3\n")


def test_every_command_is_in_the_readme() -> None:
    from encoders.cli import parser as encoders_parser
    from gallery.cli import parser as gallery_parser

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, top in (("gallery", gallery_parser()), ("encoders", encoders_parser())):
        verbs = next(action for action in top._actions if action.choices and action.metavar == "COMMAND")
        for verb, command in verbs.choices.items():
            assert command.description, f"{name} {verb} has no help"
            assert re.search(rf"\b{verb}\b", text), f"README does not mention `{name} {verb}`"
            for action in command._actions:
                assert action.help, f"{name} {verb} {action.dest} has no help"


def test_links_in_the_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_no_page_names_this_machine() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert "/work/" not in text and "../shared" not in text and "/root" not in text
