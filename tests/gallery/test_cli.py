"""The command line as a user meets it: what it prints, its exit codes, and never a traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

import encoders
import gallery
from gallery import Candidate, Identification, search_commands
from gallery.cli import main


def draw(letter: str, size: int = 64, slant: int = 0) -> Image.Image:
    image = Image.new("L", (96, 96), 255)
    font = ImageFont.load_default(size=size)
    ImageDraw.Draw(image).text((48, 48), letter, font=font, fill=0, anchor="mm")
    return image.rotate(slant, fillcolor=255)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """people/{A,K,S}/ with two drawings each, probes of A and K, and a broken file."""
    monkeypatch.chdir(tmp_path)
    for letter in "AKS":
        (tmp_path / "people" / letter).mkdir(parents=True)
        draw(letter).save(tmp_path / "people" / letter / "1.png")
        draw(letter, 50, 8).save(tmp_path / "people" / letter / "2.png")
    draw("A", 56, -6).save(tmp_path / "a.png")
    draw("K", 56, -6).save(tmp_path / "k.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG broken")
    return tmp_path


class Shell:
    """Runs commands in this process; `said` and `complained` are what they printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.said = self.complained = ""

    def __call__(self, *arguments: str) -> int:
        self._capsys.readouterr()
        try:
            code = main(arguments)
        except SystemExit as exit:
            code = int(exit.code or 0)
        self.said, self.complained = self._capsys.readouterr()
        assert "Traceback" not in self.said + self.complained
        return code

    def json(self, *arguments: str, code: int = 0) -> Any:
        assert self(*arguments, "--json") == code, self.complained
        return json.loads(self.said)


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


@pytest.fixture
def people(folder: Path, shell: Shell) -> str:
    assert shell("enroll", "g", "people", "--encoder", "glyph") == 0, shell.complained
    return "g"


@pytest.fixture
def many(folder: Path, shell: Shell) -> str:
    """As many as a rate can be measured of: three subjects against themselves say nothing."""
    for letter in "BEHMTX":
        (folder / "people" / letter).mkdir()
        draw(letter).save(folder / "people" / letter / "1.png")
        draw(letter, 50, 8).save(folder / "people" / letter / "2.png")
    assert shell("enroll", "g", "people", "--encoder", "glyph") == 0, shell.complained
    return "g"


def test_enroll_a_folder(folder: Path, shell: Shell) -> None:
    done = shell.json("enroll", "g", "people", "--encoder", "glyph")
    assert done == {"subjects": 3, "templates": 6, "created": 3, "refused": []}
    assert (
        shell("enroll", "g", "--id", "A", "a.png", "--metadata", "site=north", "--metadata", "shift=2") == 0
    )
    assert shell.said == "1 subject (0 new), 1 template enrolled\n"
    assert shell.json("list", "g") == [
        {"id": "A", "templates": 3, "metadata": {"site": "north", "shift": "2"}, "quarantined": 0},
        {"id": "K", "templates": 2, "metadata": {}, "quarantined": 0},
        {"id": "S", "templates": 2, "metadata": {}, "quarantined": 0},
    ]
    with gallery.open("g", read_only=True) as opened:
        assert [t.source for t in opened.templates("A")] == ["people/A/1.png", "people/A/2.png", "a.png"]


def test_a_folder_that_is_enrolled_twice_is_told(folder: Path, shell: Shell) -> None:
    assert shell("enroll", "g", "people") == 0 and "once more" not in shell.complained
    draw("S", 40, -8).save(folder / "people" / "S" / "3.png")
    (folder / "people" / "A").rename(folder / "people" / "Other")
    assert shell("enroll", "g", str(folder / "people")) == 0
    assert "4 of 7 images had been enrolled from the same path under the same id" in shell.complained
    assert "--on-conflict refuse" in shell.complained
    (folder / "people" / "K" / "1.png").write_bytes(b"broken now")
    assert shell("enroll", "g", "people/K", "--id", "K") == 2  # a folder is no image
    assert shell("enroll", "g", "--id", "K", "people/K/1.png", "people/K/2.png", "--on-error", "skip") == 0
    assert "1 of 2 images had been enrolled" in shell.complained
    counts = {one["id"]: one["templates"] for one in shell.json("list", "g")}
    assert counts == {"A": 2, "K": 5, "S": 5, "Other": 2}


@pytest.mark.parametrize(
    ("arguments", "command"),
    [(("list", "g", "--bogus"), "gallery list"), (("--bogus", "info", "g"), "gallery info")],
)
def test_an_unknown_option_is_refused_with_the_usage_of_its_command(
    shell: Shell, arguments: tuple[str, ...], command: str
) -> None:
    assert shell(*arguments) == 2
    assert shell.complained.startswith(f"usage: {command} [-h]")
    assert f"{command}: error: unrecognized arguments: --bogus" in shell.complained


def test_an_unreadable_image_enrols_nothing_unless_skipped(folder: Path, shell: Shell, people: str) -> None:
    (folder / "more" / "Z").mkdir(parents=True)
    draw("Z").save(folder / "more" / "Z" / "1.png")
    (folder / "more" / "Z" / "2.png").write_bytes(b"\x89PNG broken")
    assert shell("enroll", "g", "more") == 2
    assert "'Z': item 1 of 2" in shell.complained and "2.png" in shell.complained
    assert len(shell.json("list", "g")) == 3
    done = shell.json("enroll", "g", "more", "--on-error", "skip")
    assert (done["templates"], done["refused"][0]["path"]) == (1, "more/Z/2.png")


def test_identify(shell: Shell, people: str) -> None:
    found = shell.json("identify", "g", "a.png", "k.png", "-k", "2", "--threshold", "2")
    assert [one["path"] for one in found] == ["a.png", "k.png"]
    assert [one["decision"] for one in found] == ["match", "match"]
    assert [one["candidates"][0]["id"] for one in found] == ["A", "K"]
    for one in found:
        assert len(one["candidates"]) == 2
        assert set(one["candidates"][0]) == {"id", "distance", "template", "metadata"}
        assert 0 <= one["candidates"][0]["distance"] < one["candidates"][1]["distance"] <= 2
    assert shell.json("identify", "g", "a.png", "--threshold", "0") == [
        {"path": "a.png", "decision": "unknown", "candidates": []}
    ]
    assert shell("identify", "g", "a.png", "--threshold", "2") == 0
    assert "decision" in shell.said.splitlines()[0] and "threshold 2.0000" in shell.said


def test_the_command_line_and_python_give_the_same_answer(shell: Shell, people: str) -> None:
    import encoders

    printed = shell.json("identify", "g", "a.png", "--threshold", "2")[0]["candidates"]
    with gallery.open("g", encoders.load("glyph"), read_only=True) as opened:
        answer = opened.identify(Image.open("a.png"), threshold=2.0)
        assert [one.to_dict() for one in answer.candidates] == printed
        array = np.asarray(Image.open("a.png"))
        assert opened.identify(array, threshold=2.0) == answer


def test_verify_exits_0_or_1(shell: Shell, people: str) -> None:
    assert shell("verify", "g", "A", "people/A/1.png") == 0
    assert "A accepted: distance 0.0000" in shell.said
    assert shell("verify", "g", "K", "a.png", "--threshold", "0.001") == 1
    assert "K rejected" in shell.said
    one = shell.json("verify", "g", "K", "a.png", "--threshold", "0.001", code=1)
    assert (one["id"], one["accepted"], one["threshold"], one["path"]) == ("K", False, 0.001, "a.png")
    assert one["distance"] > 0.001


def test_remove(shell: Shell, people: str) -> None:
    assert shell.json("remove", "g", "A", "K") == {"removed": {"A": 2, "K": 2}}
    assert [one["id"] for one in shell.json("list", "g")] == ["S"]
    assert shell("remove", "g", "S", "nobody") == 2
    assert "no subject 'nobody' is enrolled" in shell.complained
    assert [one["id"] for one in shell.json("list", "g")] == ["S"], "one unknown id and nothing is removed"
    assert shell("remove", "g", "S", "--erase") == 0


def test_info_check_compact(shell: Shell, people: str) -> None:
    info = shell.json("info", "g")
    assert (info["subjects"], info["templates"], info["encoder"], info["index"]) == (3, 6, "glyph", "exact")
    assert info["threshold_source"] == "encoder" and 0 < info["threshold"] < 2
    assert shell.json("check", "g") == {"problems": []}
    assert shell("compact", "g") == 0
    assert "bytes before" in shell.said


def test_check_finds_damage_and_exits_3(shell: Shell, people: str) -> None:
    import sqlite3

    db = sqlite3.connect("g/catalog.sqlite")
    db.execute("UPDATE templates_1 SET embedding = zeroblob(length(embedding)) WHERE template = 4")
    db.commit()
    db.close()
    found = shell.json("check", "g", code=3)["problems"]
    assert found == [{"where": "template 4", "what": "its embedding does not match its checksum"}]
    assert shell("identify", "g", "a.png") == 3
    assert "template 4" in shell.complained and f"gallery check {Path.cwd() / 'g'}" in shell.complained


def test_export_import(shell: Shell, people: str) -> None:
    assert shell.json("export", "g", "all.h5") == {"file": "all.h5", "templates": 6}
    assert shell("export", "g", "all.h5") == 2
    assert shell("import", "g", "all.h5") == 0
    assert shell.said == "3 subjects (0 new), 6 templates enrolled\n"


def test_searching(shell: Shell, people: str) -> None:
    (near,) = shell.json("within", "g", "a.png", "--radius", "2")
    assert near["path"] == "a.png"
    assert [one["id"] for one in near["candidates"]] == [
        one["id"] for one in shell.json("identify", "g", "a.png", "--threshold", "2")[0]["candidates"]
    ]
    assert shell("within", "g", "a.png", "--radius", "0") == 0
    assert "(nobody)" in shell.said
    assert shell.json("identify", "g", "a.png", "--where", "site=north")[0]["candidates"] == []
    assert shell("identify", "g", "a.png", "--where", "site=north") == 0
    assert "no subject that is enrolled has what --where asks for" in shell.complained
    assert shell("identify", "g", "a.png", "--where", "site") == 2
    assert "KEY=VALUE" in shell.complained
    assert shell.json("reindex", "g", "HNSW8")["index"] == "HNSW8"
    assert shell("reindex", "g", "nonsense") == 2
    assert shell.json("recall", "g", "--sample", "5")["value"] == 1.0
    assert shell("info", "g") == 0
    assert "HNSW8, asked for" in shell.said
    assert "recall@5 1.0000" in shell.said
    assert shell("reindex", "g") == 0
    assert shell.said.startswith("exact, chosen automatically")


def test_a_filter_knows_text_from_json_by_itself(shell: Shell, people: str) -> None:
    """The command line enrols texts, Python what it likes; KEY=VALUE means either."""
    assert shell("enroll", "g", "--id", "text", "--metadata", "badge=7", "a.png") == 0
    with gallery.open("g", encoders.load("glyph")) as opened:
        opened.enroll("number", ["a.png"], {"badge": 7})
        opened.enroll("list", ["a.png"], {"badge": [7, 8]})

    def who(*where: str) -> list[str]:
        arguments = [word for one in where for word in ("--where", one)]
        (near,) = shell.json("within", "g", "a.png", "--radius", "2", *arguments)
        return sorted(one["id"] for one in near["candidates"])

    assert who("badge=7") == ["number", "text"]
    assert who("badge=[7, 8]") == ["list"]
    assert who("badge=7", "badge=[7,8]") == ["list", "number", "text"]
    assert who("badge=7", "site=north") == []
    assert who("badge=NaN") == []


@pytest.mark.parametrize(
    "asked", ["identify g a.png --threshold", "verify g A a.png --threshold", "within g a.png --radius"]
)
@pytest.mark.parametrize("number", ["inf", "nan", "1e999"])
def test_what_json_cannot_say_is_no_distance(shell: Shell, people: str, asked: str, number: str) -> None:
    assert shell(*asked.split(), number, "--json") == 2
    assert f"invalid finite value: '{number}'" in shell.complained
    assert shell.json(*asked.split(), "1e30")


def test_calibrating(shell: Shell, many: str) -> None:
    assert shell("calibrate", "g") == 2
    assert "needs about 3,000 independent" in shell.complained
    found = shell.json("calibrate", "g", "--target-fmr", "0.9")
    assert (found["target"], found["requested"], found["adopted"]) == ("fmr", 0.9, False)
    assert shell("calibrate", "g", "people", "--target-fmr", "0.9", "--adopt") == 0
    assert "adopted" in shell.said
    assert "FNMR" in shell.said
    info = shell.json("info", "g")
    assert info["threshold_source"] == "gallery"
    assert shell.json("log", "g")[-1]["verb"] == "adopt"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("--sample 0", "sample is a whole number of templates, 1 or more, not 0"),
        ("--seed -1", "seed is a whole number, 0 or more, not -1"),
        ("--valid-days 0 --adopt", "--valid-days is a whole number of days, 1 or more, or forever, not '0'"),
        ("--valid-days 1.5 --adopt", "or forever, not '1.5'"),
        ("--valid-days 0", "or forever, not '0'"),
        ("--valid-days 30", "--valid-days is of what is adopted: give --adopt too"),
        ("--compare-fusions --fusion mean2", "--compare-fusions takes no --fusion"),
        ("--compare-fusions --misnamed 0", "--compare-fusions takes no --misnamed"),
        ("--compare-fusions --valid-days 3", "--compare-fusions takes no --valid-days"),
        ("people --sample 9", "--sample is of enrolled templates"),
        ("--quality flag", "--quality looks at PROBES"),
    ],
)
def test_options_of_a_calibration_are_used_or_refused(
    shell: Shell, people: str, wrong: str, said: str
) -> None:
    assert shell("calibrate", "g", *wrong.split(), "--target-fmr", "0.9") == 2
    assert said in shell.complained and shell.said == ""
    assert shell.json("info", "g")["threshold_source"] == "encoder"


def test_how_long_a_calibration_holds(shell: Shell, many: str) -> None:
    for days, stored in ((None, 365), ("30", 30), ("forever", None)):
        wanted = [] if days is None else ["--valid-days", days]
        assert shell("calibrate", "g", "--target-fmr", "0.9", "--adopt", *wanted) == 0
        with gallery.open("g", read_only=True) as opened:
            assert json.loads(opened._engine.setting("threshold"))["valid_days"] == stored


def test_ways_of_fusing_are_compared_and_one_is_adopted(shell: Shell, many: str) -> None:
    target = ("--target-fmr", "0.9")
    assert shell("calibrate", "g", "people", *target, "--compare-fusions") == 0
    for said in ("nearest", "mean2", "mean3", "centroid", "--fusion auto takes nearest"):
        assert said in shell.said
    found = shell.json("calibrate", "g", *target, "--compare-fusions")
    assert [one["fusion"] for one in found if one["chosen"]] == ["nearest"]
    assert shell("calibrate", "g", *target, "--compare-fusions", "--adopt") == 2
    assert "--fusion auto --adopt" in shell.complained
    assert shell.json("calibrate", "g", *target, "--fusion", "mean2", "--adopt")["fusion"] == "mean2"
    nearest = shell.json("identify", "g", "a.png", "--threshold", "2")[0]["candidates"][0]
    assert nearest["id"] == "A"
    assert shell.json("verify", "g", "A", "a.png", "--threshold", "2")["distance"] == nearest["distance"]


def test_a_prior_takes_a_calibration(shell: Shell, people: str) -> None:
    assert shell("identify", "g", "a.png", "--prior", "0.5") == 2
    assert "no calibration was adopted" in shell.complained
    assert set(shell.json("identify", "g", "a.png")[0]) == {"path", "decision", "candidates"}


def test_import_makes_a_gallery_of_the_encoder_that_the_file_names(shell: Shell, people: str) -> None:
    asked = shell.json("identify", "g", "a.png")
    assert shell("export", "g", "all.h5") == 0
    assert shell("import", "new", "all.h5") == 0
    assert shell.said == "3 subjects (3 new), 6 templates enrolled\n"
    assert [one["decision"] for one in shell.json("identify", "new", "a.png")] == [
        one["decision"] for one in asked
    ]
    assert [
        [(found["id"], found["distance"]) for found in one["candidates"]]
        for one in shell.json("identify", "new", "a.png")
    ] == [[(found["id"], found["distance"]) for found in one["candidates"]] for one in asked]
    Path("broken.h5").write_bytes(b"nothing")
    assert shell("import", "another", "broken.h5") == 3
    assert not Path("another").exists()


def test_dedupe(folder: Path, shell: Shell) -> None:
    (folder / "people" / "copy.png").write_bytes((folder / "people" / "A" / "1.png").read_bytes())
    (folder / "people" / "torn.png").write_bytes(b"\x89PNG broken")
    found = shell.json("dedupe", "people", "--report", "dupes.html", "--threshold", "0")
    group = found["groups"][0]
    assert {group["keeper"], group["members"][0]["path"]} == {"people/A/1.png", "people/copy.png"}
    assert group["members"][0]["distance"] == 0.0
    assert [one["path"] for one in found["unreadable"]] == ["people/torn.png"]
    page = (folder / "dupes.html").read_text()
    assert "data:image/" in page and "torn.png" in page
    assert shell("dedupe", "people") == 0
    assert "people/torn.png" in shell.said


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["identify", "nowhere", "a.png"], 2, "there is no gallery at nowhere"),
        (["enroll", "g", "nowhere"], 2, "nowhere: no such folder"),
        (["enroll", "g", "a.png"], 2, "is a file"),
        (["enroll", "g", "people", "people"], 2, "give one FOLDER"),
        (["enroll", "g", "people", "--encoder", "nonsense"], 2, "no encoder is called 'nonsense'"),
        (["enroll", "g", "--id", "B", "nowhere.png"], 2, "nowhere.png"),
        (["enroll", "g", "--id", "B", "a.png", "--metadata", "north"], 2, "KEY=VALUE"),
        (["enroll", "g", "people", "--metadata", "site=north"], 2, "--id"),
        (["identify", "g", "k.png", "broken.png"], 2, "broken.png"),
        (["identify", "g", "a.png", "-k", "0"], 2, "k must be"),
        (["identify", "g", "a.png", "--threshold", "-1"], 2, "threshold"),
        (["identify", "g", "a.png", "--threshold", "nan"], 2, "threshold"),
        (["verify", "g", "nobody", "a.png"], 2, "no subject 'nobody'"),
        (["dedupe", "nowhere"], 2, "nowhere"),
        (["dedupe", "a.png"], 2, "a.png"),
        (["import", "g", "nowhere.h5"], 2, "nowhere.h5"),
        (["frobnicate"], 2, "invalid choice"),
        ([], 2, "required"),
    ],
)
def test_mistakes_are_a_line_or_two_and_exit_2(
    shell: Shell, people: str, arguments: list[str], code: int, words: str
) -> None:
    assert shell(*arguments) == code
    assert words in shell.complained and shell.said == ""


def test_a_gallery_of_vectors_says_what_the_command_line_cannot_do(folder: Path, shell: Shell) -> None:
    gallery.create("v", gallery.Precomputed(4, name="my-model")).close()
    assert shell("identify", "v", "a.png") == 2
    assert "'my-model'" in shell.complained and "--encoder" in shell.complained
    assert shell("list", "v") == 0


def test_a_locked_gallery_exits_3(shell: Shell, people: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from gallery import gallery as module

    def locked(*_: object, **__: object) -> None:
        raise gallery.GalleryLockedError("another writer has held g")

    monkeypatch.setattr(module.Gallery, "remove_many", locked)
    assert shell("remove", "g", "A") == 3
    assert "another writer" in shell.complained


def test_ids_cannot_drive_the_terminal(folder: Path, shell: Shell, people: str) -> None:
    shell("enroll", "g", "--id", "red\x1b[31m", "a.png")
    assert shell("list", "g") == 0
    assert "\x1b" not in shell.said and "red\\x1b[31m" in shell.said


def test_help_loads_nothing_heavy() -> None:
    probe = (
        "import sys\nfrom gallery.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print({'torch', 'faiss', 'h5py', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("set()\n")
    assert "exit codes" in done.stdout


def test_a_failed_first_enrolment_leaves_no_gallery_behind(folder: Path, shell: Shell) -> None:
    assert shell("enroll", "new", "--id", "x", "nofile.png") == 2
    assert not (folder / "new").exists()
    assert shell("enroll", "new", "--id", "x", "a.png", "--encoder", "photo") == 0
    assert shell.json("info", "new")["encoder"] == "photo"


def test_a_new_gallery_without_an_encoder_says_which_it_took(folder: Path, shell: Shell) -> None:
    assert shell("enroll", "new", "people") == 0
    assert "glyph" in shell.complained and "handwritten" in shell.complained
    assert shell("enroll", "new", "--id", "x", "a.png") == 0
    assert shell.complained == ""


def test_a_folder_called_like_a_shipped_encoder_is_not_recorded(folder: Path, shell: Shell) -> None:
    (folder / "glyph").mkdir()
    assert shell("enroll", "new", "people", "--encoder", "glyph") == 0
    assert shell.json("info", "new")["encoder"] == "glyph"
    assert shell("identify", "new", "a.png") == 0


def test_a_report_never_replaces_a_picture(folder: Path, shell: Shell) -> None:
    content = (folder / "a.png").read_bytes()
    assert shell("dedupe", "people", "--report", "a.png") == 2
    assert "never replaces" in shell.complained and (folder / "a.png").read_bytes() == content
    assert shell("dedupe", "people", "--report", "nowhere/a.html") == 2


def test_json_is_json_whatever_the_names(folder: Path, shell: Shell) -> None:
    odd = bytes(folder / "people") + b"/\xff.png"
    Path(odd.decode("utf-8", "surrogateescape")).write_bytes((folder / "people/A/1.png").read_bytes())
    found = shell.json("dedupe", "people", "--threshold", "0")
    paths = [one["path"] for group in found["groups"] for one in group["members"]]
    paths += [group["keeper"] for group in found["groups"]]
    assert any(path.encode("utf-8", "surrogateescape").endswith(b"\xff.png") for path in paths)


def test_images_beside_the_subfolders_are_mentioned(folder: Path, shell: Shell) -> None:
    draw("Z").save(folder / "people" / "loose.png")
    assert shell("enroll", "new", "people", "--encoder", "glyph") == 0
    assert "1 image beside the subfolders passed over, people/loose.png the first" in shell.complained


def test_version(shell: Shell) -> None:
    assert shell("--version") == 0
    assert shell.said == f"siamese-gallery {gallery.__version__}\n"


def test_a_probability_stands_beside_the_nearest() -> None:
    near, far = Candidate("a", 0.1, 1), Candidate("b", 0.2, 2)
    match = Identification("match", (near, far), 0.3, near, probability=0.9, prior=0.5)
    assert [row[-1] for row in search_commands._identified("p", match)] == [0.9, None]
    unknown = Identification("unknown", (), 0.05, near, probability=0.2, prior=0.5)
    assert search_commands._identified("p", unknown) == [["p", "unknown", "(nearest: a)", 0.1, 1, 0.2]]
