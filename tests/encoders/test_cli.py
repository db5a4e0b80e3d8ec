"""The command line: tables, --json, exit codes, and one line for a mistake."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from encoders import checkpoint, cli, shipped
from tests.encoders import made
from tests.encoders.shapes import labelled

TRAIN = [
    "--steps",
    "4",
    "--dim",
    "8",
    "--subjects",
    "4",
    "--items",
    "2",
    "--preprocess",
    '{"kind":"ink","size":24}',
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    held = labelled(8, 4, groups=4)
    np.savez(tmp_path / "set.npz", images=held.items, labels=held.labels, groups=held.groups)
    return tmp_path / "set.npz"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return checkpoint.save(made.encoder(threshold=0.25, threshold_fmr=0.001), tmp_path / "made.encoder")


def test_every_command_is_in_the_help_with_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ([], ["list"], ["info"], ["train"], ["evaluate"]):
        with pytest.raises(SystemExit) as stopped:
            cli.main([*command, "--help"])
        assert stopped.value.code == 0
        printed = capsys.readouterr().out
        assert "0 done; 2 a mistake" in " ".join(printed.split())
        assert command or all(name in printed for name in ("list", "info", "train", "evaluate"))


def test_help_loads_no_torch() -> None:
    code = "import sys; from encoders import cli\ntry: cli.main(['--help'])\nexcept SystemExit: pass\n"
    code += "assert not {'torch', 'numpy', 'PIL'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_list_names_what_ships(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows if "dim" in row] == shipped.names()
    others = {row["name"]: row["extra"] for row in rows if "dim" not in row}
    assert others["faces"] == "faces" and others["FILE.onnx"] == "onnx"
    assert "glyph" in shipped.names()
    assert cli.main(["list"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in shipped.names())
    rates = {line.split()[0]: line.split()[-1] for line in printed.splitlines()[1:] if line}
    assert (rates["glyph"], rates["photo"]) == ("1%", "0.005%")


def test_info_of_an_encoder_of_other_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info", "faces"]) == 0
    assert "King 2009" in capsys.readouterr().out
    assert cli.main(["info", "hf:some/where", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "hf:PATH"


def test_info(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info", str(folder)]) == 0
    assert "recommended threshold 0.2500 (set for FMR 0.1%)" in capsys.readouterr().out
    assert cli.main(["info", str(folder), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["dim"], record["tower"], record["weights_bytes"]) == (
        8,
        "conv",
        (folder / "weights.safetensors").stat().st_size,
    )


def test_info_of_a_file_that_was_exported(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "made.safetensors"
    assert cli.main(["export", str(folder), "--safetensors", str(file)]) == 0
    capsys.readouterr()
    assert cli.main(["info", str(file)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("# made\n\nconv tower, 8 numbers") and "made.safetensors has no card" in printed
    assert "recommended threshold 0.2500 (set for FMR 0.1%)" in printed
    assert cli.main(["info", str(file), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["name"], record["dim"], record["weights_bytes"]) == ("made", 8, file.stat().st_size)
    assert cli.main(["info", str(tmp_path / "none.safetensors")]) == 2
    assert "none.safetensors is not there" in capsys.readouterr().err


def test_train_then_evaluate(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place, page = tmp_path / "my.encoder", tmp_path / "page.html"
    assert cli.main(["train", str(data), "--output", str(place), "--plot", str(page), *TRAIN]) == 0
    told = capsys.readouterr()
    first, best, few, last = told.out.splitlines()
    assert first.startswith("my.encoder: 4 steps in ") and best.startswith("kept: step 4, EER ")
    assert few.startswith("2 held-out subjects are too few to tell it from step 1 (EER ")
    assert few.endswith("hold out more, or --holdout 0 to learn from all")
    assert last == (
        "no threshold recommended: FMR 0.1% needs at least 3,000 pairs of held-out subjects, 2 subjects make "
        "1; hold out 78, or measure one on items of your own: gallery calibrate"
    )
    said = told.err.splitlines()  # not a terminal: no bar, a line for each validation
    assert said[0] == (
        "8 subjects, 32 items (2 subjects held out); tower conv, loss margin, "
        "preprocess ink (grey, cropped to the ink; for photographs use --preprocess rgb)"
    )
    assert [line.partition(":")[0] for line in said[1:]] == [f"step {n} of 4" for n in (1, 2, 3, 4)]
    assert "\r" not in told.err
    assert "<svg" in page.read_text()
    assert cli.main(["evaluate", str(place), str(data), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["encoder"], found["subjects"], found["mated"]) == ("my", 8, 48)
    assert set(found["few_shot"]) == {"5-way 1-shot", "8-way 1-shot"} and len(found["cmc"]) == 8
    assert cli.main(["evaluate", str(place), str(data)]) == 0
    printed = capsys.readouterr().out
    assert f"EER {found['eer']['value']:.2%} [" in printed and "recall@10" in printed
    shown, plots = tmp_path / "e.html", tmp_path / "plots"
    assert cli.main(["evaluate", str(place), str(data), "--page", str(shown), "--plots", str(plots)]) == 0
    capsys.readouterr()
    assert shown.read_text().count("<svg") == 3
    assert sorted(p.name for p in plots.iterdir()) == ["cmc.svg", "det.svg", "roc.svg"]
    assert cli.main(["evaluate", str(place), str(data), "--page", str(tmp_path)]) == 2
    assert "--page" in capsys.readouterr().err
    for nowhere in (shown, shown / "below", "a\0b"):
        assert cli.main(["evaluate", str(place), str(data), "--plots", str(nowhere)]) == 2
        assert "--plots" in capsys.readouterr().err
    assert "FMR 0.1%, which needs at least 3,000: there are 448" in printed
    assert found["note"] in printed
    assert cli.main(["evaluate", str(place), str(data), "--fmr", "0.01"]) == 0
    assert "too few" not in capsys.readouterr().out
    assert cli.main(["info", str(place)]) == 0
    told = capsys.readouterr().out
    assert "no recommended threshold." in told and "Tower: conv, widths 32 64 96.\n" in told
    assert "Preprocessing: ink, size 24, " in told
    assert "Trained from random weights, 4 steps, loss margin, augment ink.\n" in told
    assert "<th>tower_args</th><td>{&quot;widths&quot;: [32, 64, 96]}</td>" in page.read_text()
    # A history that is gone or damaged is no reason to tell nothing.
    (place / "history.json").write_text("{")
    assert cli.main(["info", str(place)]) == 0
    assert "Trained" not in capsys.readouterr().out


def test_train_json_prints_only_the_history(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train", str(data), "--output", str(tmp_path / "j.encoder"), "--json", *TRAIN]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["settings"]["steps"] == 4 and told.err == ""


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["info", "glyhp"], "no encoder is called 'glyhp'"),
        (["evaluate", "nobody", "DATA"], "no encoder is called 'nobody'"),
        (["train", "nowhere", "--output", "OUT"], "nowhere does not exist"),
        (["train", "DATA", "--output", "OUT", "--loss", "hinge"], "no loss is called 'hinge'"),
        (["train", "DATA", "--output", "OUT", "--lr", "-1"], "lr is -1.0"),
        (["train", "DATA", "--output", "OUT", "--preprocess", "{x"], "is not JSON"),
        (["train", "DATA", "--output", "OUT", "--tower-args", "[1]"], "is not a JSON object"),
        (["train", "DATA", "--output", "OUT", "--tower-args", '{"wings": 2}'], "does not take"),
        (["train", "DATA", "--output", "OUT", "--resume"], "nothing to resume"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    command: list[str], words: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"DATA": str(data), "OUT": str(tmp_path / "o.encoder")}
    assert cli.main([places.get(word, word) for word in command]) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.startswith("encoders: ") and words in told.err
    assert told.err.count("\n") == 1 and "Traceback" not in told.err


def test_interruption_says_how_to_go_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from encoders import training

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt("step 3 is saved; --resume, with the same data and output, goes on from it")

    monkeypatch.setattr(training, "train", interrupted)
    assert cli.main(["train", str(data), "--output", str(tmp_path / "o")]) == 130
    assert capsys.readouterr().err.startswith(
        "encoders: interrupted; step 3 is saved; --resume, with the same"
    )


def test_a_finished_encoder_is_not_replaced_unasked(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = ["train", str(data), "--output", str(tmp_path / "o.encoder"), "--json", *TRAIN]
    assert cli.main(train) == 0
    capsys.readouterr()
    assert cli.main(train) == 2
    assert "choose another name, or --overwrite; galleries filled by it" in capsys.readouterr().err
    assert cli.main([*train, "--resume"]) == 2
    assert "is finished, its encoder is there" in capsys.readouterr().err
    assert cli.main([*train, "--overwrite", "--seed", "5"]) == 0
    assert json.loads((tmp_path / "o.encoder" / "history.json").read_text())["settings"]["seed"] == 5
