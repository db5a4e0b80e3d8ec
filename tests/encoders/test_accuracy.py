"""The accuracy benchmark: no unit of a test is trained on; rates and intervals are those of a plain loop."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import encoders
from benchmarks import accuracy, accuracy_page, report, tasks
from benchmarks.tasks import lfw, names, signatures, speakers
from benchmarks.tasks.base import RESAMPLED, Answers, Fold, Measure, Scores, draws, rate
from encoders import datasets, evaluation
from tests.data import needs

FOLDERS = {
    "omniglot": "omniglot",
    "faces": "att_faces",
    "lfw": "lfw3d_crop90",
    "signatures": "sigcomp2011_dutch",
    "banknotes": "tabular",
    "digits": "fsdd",
    "speakers": "fsdd",
    "voices": "fsdd",
    "vowels": "sequences",
    "names": "sequences",
}
# What the units of a training set are, read from the set itself and not from what the task says of it.
UNITS: dict[str, Callable[[Any], set[str]]] = {
    "omniglot": lambda data: set(data.group_names),
    "faces": lambda data: set(data.subjects),
    "lfw": lambda data: set(data.subjects),
    "signatures": lambda data: set(data.group_names) | {name[:3] for name in data.subjects},
    "digits": lambda data: set(data.group_names),
    "voices": lambda data: set(data.subjects),
    "vowels": lambda data: {item.tobytes().hex() for item in data.items},
}


LARGE = {"lfw", "omniglot", "signatures"}
"""Reading all of their pictures takes half a minute."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LARGE)) for name in tasks.NAMES]
)
def test_no_unit_and_no_item_is_in_training_and_test(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GALLERY_DATA", str(needs(FOLDERS[name]).parent))
    monkeypatch.setattr(speakers, "EACH", 2)  # recordings of a voice: more take long and prove no more
    made = tasks.task(name).folds()
    for fold in made:
        assert fold.train_units and fold.test_units and not fold.train_units & fold.test_units
        if name in UNITS:
            assert UNITS[name](fold.train) <= fold.train_units, fold.name
        accuracy.check_disjoint(fold)
        asked = _asked(name, fold)
        assert asked and not asked & {_bytes(item) for item in fold.train.items}, fold.name
    tested = Counter(unit for fold in made for unit in fold.test_units)
    # Each is asked in one fold; each of six voices alone and in ten of the twenty choices of three.
    assert set(tested.values()) == ({11} if name == "voices" else {1})


def _asked(name: str, fold: Fold) -> set[bytes]:
    if name == "omniglot":
        return {_bytes(item) for item in fold.test.data.images}
    if name == "speakers":
        held, _, asked = fold.test
        return {_bytes(held.wavs[k]) for k in np.flatnonzero(asked)}
    if name == "voices":
        _, held, _, asked = fold.test
        return {_bytes(held.wavs[k]) for k in asked}
    if name == "vowels":
        return {_bytes(item) for item in fold.test[2]}
    parts = fold.test[:2] if name == "names" else fold.test[:1]
    return {_bytes(item) for part in parts for item in part}


def _bytes(item: Any) -> bytes:
    if isinstance(item, str):
        return item.casefold().encode()
    return item if isinstance(item, bytes) else np.ascontiguousarray(item).tobytes()


def test_a_unit_in_both_is_noticed() -> None:
    fold = Fold("k", None, frozenset("abc"), frozenset("cd"), None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"fold k: 1 units are in training and test: \['c'\]"):
        accuracy.check_disjoint(fold)


def _answers(seed: int) -> Answers:
    rng = np.random.default_rng(seed)
    return Answers((rng.random(40) < 0.7).astype(np.float32), rng.integers(0, 6, 40))


def test_a_rate_is_the_mean_of_folds_and_its_interval_resamples_subjects() -> None:
    folds = [_answers(1), _answers(2)]
    found = rate(folds)
    assert found["value"] == pytest.approx(np.mean([fold.right.mean() for fold in folds]), abs=1e-7)
    rng, drawn = np.random.default_rng(2026), []
    for _ in range(RESAMPLED):
        means = []
        for fold in folds:
            known = np.unique(fold.subjects)
            chosen = known[rng.integers(0, len(known), len(known))]
            repeated = [r for c in chosen for r, s in zip(fold.right, fold.subjects, strict=True) if s == c]
            means.append(np.mean(repeated))
        drawn.append(np.mean(means))
    assert [found["low"], found["high"]] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=1e-6)
    assert found["trials"] == 80 and found["subjects"] == 12


def test_an_equal_error_rate_of_resampled_subjects() -> None:
    rng = np.random.default_rng(5)
    mated, other = rng.random(30).astype(np.float32), (0.4 + rng.random(90)).astype(np.float32)
    about, rest = np.repeat(["a", "b", "c"], 10), np.repeat(["a", "b", "c"], 30)
    found = rate([Scores(mated, about, other, rest)])
    assert found["value"] == pytest.approx(evaluation.eer(mated, other)[0], abs=1e-7)
    again, drawn = np.random.default_rng(2026), []
    for _ in range(RESAMPLED):
        chosen = again.integers(0, 3, 3)
        parts = [
            np.concatenate([v[w == "abc"[c]] for c in chosen]) for v, w in ((mated, about), (other, rest))
        ]
        drawn.append(evaluation.eer(*parts)[0])
    assert [found["low"], found["high"]] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=1e-6)


def test_draws_enrol_so_many_of_each_and_ask_the_others() -> None:
    labels = np.repeat([3, 1, 2], [4, 6, 5])
    for enrolled, asked in draws(labels, 2, 5, seed=0):
        assert sorted(labels[enrolled]) == [1, 1, 2, 2, 3, 3]
        assert sorted([*enrolled, *asked]) == list(range(15))


def test_levenshtein_against_the_textbook() -> None:
    words = ["", "a", "kitten", "sitting", "saturday", "sunday", "aa"]
    table = names.levenshtein(words[1:], words[1:])
    for row, left in zip(table, words[1:], strict=True):
        for value, right in zip(row, words[1:], strict=True):
            assert value == pytest.approx(_edits(left, right) / max(len(left), len(right)), abs=1e-6)


def _edits(left: str, right: str) -> int:
    if not left or not right:
        return len(left) + len(right)
    same = _edits(left[1:], right[1:]) + (left[0] != right[0])
    return min(same, _edits(left[1:], right) + 1, _edits(left, right[1:]) + 1) if len(left + right) < 9 else (
        _table(left, right)
    )  # fmt: skip


def _table(left: str, right: str) -> int:
    rows = [[max(i, j) if not i * j else 0 for j in range(len(right) + 1)] for i in range(len(left) + 1)]
    for i in range(1, len(left) + 1):
        for j in range(1, len(right) + 1):
            swap = rows[i - 1][j - 1] + (left[i - 1] != right[j - 1])
            rows[i][j] = min(rows[i - 1][j] + 1, rows[i][j - 1] + 1, swap)
    return rows[-1][-1]


def test_ties_count_against_a_name() -> None:
    apart = np.array([[0.2, 0.2, 0.5], [0.9, 0.1, 0.5]], np.float32)
    found = names.ranked(apart, np.array([0, 1]))
    assert found["rank1"].right.tolist() == [0.0, 1.0] and found["rank5"].right.tolist() == [1.0, 1.0]  # type: ignore[union-attr]


def test_the_threshold_of_a_tenth_comes_from_the_other_nine() -> None:
    rng = np.random.default_rng(8)
    same = np.arange(60) < 30
    apart = np.where(same, rng.normal(0.4, 0.2, 60), rng.normal(0.7, 0.2, 60)).astype(np.float32)
    apart[5] = apart[40]  # a tie across the classes
    found = lfw.answers(apart, same)
    for k in range(60):
        others = np.flatnonzero(np.arange(60) % 10 != k % 10)
        rights = [np.sum((apart[others] <= at) == same[others]) for at in apart[others]]
        at = lfw.best_threshold(apart[others], same[others])
        assert np.sum((apart[others] <= at) == same[others]) == max(rights)
        assert found[k] == ((apart[k] <= at) == same[k])


def test_signature_scores_of_one_writer() -> None:
    writers, genuine = np.array(["7"] * 8 + ["8"] * 3), np.array([True] * 6 + [False] * 2 + [True] * 3)
    apart = np.abs(np.subtract.outer(np.arange(11.0), np.arange(11.0))).astype(np.float32)
    mated, skilled, random = signatures._asked(apart, writers, genuine, "7", 5)
    assert [len(mated), len(skilled), len(random)] == [20 * 1, 20 * 2, 20 * 3]
    rng = np.random.default_rng(7)
    enrolled = rng.choice(np.arange(6), 5, replace=False)
    asked = (set(range(6)) - set(enrolled)).pop()
    among = [abs(a - b) for k, a in enumerate(enrolled) for b in enrolled[:k]]
    expected = np.mean([abs(asked - e) for e in enrolled]) - np.mean(among)
    assert mated[0] == pytest.approx(expected) and len(among) == 10
    assert signatures.spread(apart, np.array([4])) == 0.0


def test_a_quicker_voice_is_shorter_and_higher() -> None:
    tone = np.sin(2 * np.pi * 500 * np.arange(4000) / 8000).astype(np.float32)
    quick = speakers.played(tone, 1.25, np.zeros(8))
    assert len(quick) == 3200 and np.abs(np.fft.rfft(quick)).argmax() / 3200 * 8000 == pytest.approx(625)
    assert np.abs(speakers.played(tone, 1.0, np.full(8, np.log(2.0))) - 2 * tone).max() < 1e-4


def _toy(value: float = 1.0) -> Any:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(6, 4)) * 4
    labels = np.repeat(np.arange(6), 8)
    vectors = (centres[labels] + rng.normal(size=(48, 4))).astype(np.float32)

    def folds() -> list[Fold]:
        train = datasets.from_arrays(vectors[:24], labels[:24])
        return [Fold("one", train, frozenset("012"), frozenset("345"), (vectors[24:], labels[24:]))]

    def score(embed: Any, metric: str, fold: Fold) -> dict[str, Answers]:
        rows = embed(fold.test[0])
        assert rows.shape[0] == 24 and metric in ("cosine", "euclidean")
        return {"rank": Answers(np.full(24, value, np.float32), fold.test[1])}

    def baseline(fold: Fold) -> Any:
        """Numbers as they are."""
        return (lambda items: np.asarray(items)), "euclidean"

    settings = {"tower": "dense", "preprocess": {"kind": "vector"}, "augment": "none", "steps": 3, "dim": 4}
    return SimpleNamespace(
        TITLE="toy", PROTOCOL="p", UNIT="u", SETTINGS=settings | {"subjects": 2, "items": 4, "holdout": 0.0},
        MEASURES={"rank": Measure("rank-1", 0.9, published={"them": 0.8})}, folds=folds, score=score,
        baseline=baseline,
    )  # fmt: skip


def test_a_task_is_trained_measured_and_merged_into_the_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    toys = {"toy": _toy(), "low": _toy(0.5)}
    monkeypatch.setattr(tasks, "NAMES", ("toy", "low"))
    monkeypatch.setattr(tasks, "task", toys.__getitem__)
    keep = ["--results", str(tmp_path), "--encoders", str(tmp_path / "kept")]
    assert accuracy.main(["toy", *keep]) == 0
    assert accuracy.main(["low", *keep]) == 1  # below its floor
    held = json.loads((tmp_path / "accuracy.json").read_text())["tasks"]
    assert list(held) == ["toy", "low"] and held["toy"]["training_cpu_seconds"] >= 0
    one = held["low"]["measures"]["rank"]
    assert one["ours"]["value"] == 0.5 and not one["floor_reached"] and one["published"] == {"them": 0.8}
    before = (tmp_path / "kept" / "toy-one.encoder" / "weights.safetensors").stat().st_mtime_ns
    assert accuracy.main(["toy", *keep]) == 0  # the encoder that was kept is measured again
    assert (tmp_path / "kept" / "toy-one.encoder" / "weights.safetensors").stat().st_mtime_ns == before
    assert "toy" in capsys.readouterr().out


def _joined() -> Any:
    """The toy task with two members that differ by their seed."""
    toy = _toy()
    toy.MEMBERS, toy.WEIGHTS = {"one": {"seed": 1}, "two": {"seed": 2, "steps": 4}}, (1, 3)
    return toy


def test_members_are_trained_apart_kept_and_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = _joined()
    monkeypatch.setattr(tasks, "task", {"toy": toy}.__getitem__)
    found = accuracy.measure("toy", tmp_path)
    assert found["steps"] == 7 and found["settings"]["weights"] == [1, 3]
    assert found["settings"]["members"] == toy.MEMBERS and found["settings"]["dim"] == 4
    places = [tmp_path / f"toy-one-{member}.encoder" for member in toy.MEMBERS]
    told = [json.loads(place.with_suffix(".json").read_text())["cpu_seconds"] for place in places]
    assert found["training_cpu_seconds"] == round(sum(told), 1)
    before = [(place / "weights.safetensors").stat().st_mtime_ns for place in places]
    whole, took = accuracy.trained(toy, "toy", toy.folds()[0], tmp_path)
    assert [(place / "weights.safetensors").stat().st_mtime_ns for place in places] == before
    same = encoders.join(places, weights=[1, 3], device="cpu")
    assert whole.fingerprint == same.fingerprint and whole.dim == 8
    history = [json.loads((place / "history.json").read_text()) for place in places]
    assert took["seconds"] == sum(one["seconds"] for one in history)


def test_what_is_exported_of_members_joins_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import shlex

    from encoders.cli import main

    toy = _joined()
    monkeypatch.setattr(tasks, "task", {"toy": toy}.__getitem__)
    assert accuracy.main(["toy", "--export", str(tmp_path)]) == 0
    lines = [shlex.split(line) for line in capsys.readouterr().out.splitlines()]
    assert [line[:2] for line in lines] == [["encoders", "train"]] * 2 + [["encoders", "join"]]
    monkeypatch.chdir(tmp_path)
    assert all(main([*line[1:], "--json"]) == 0 for line in lines)
    whole, _ = accuracy.trained(toy, "toy", toy.folds()[0], None)
    rows = toy.folds()[0].test[0]
    assert np.allclose(
        encoders.load(tmp_path / "toy-one.encoder").encode(rows), whole.encode(rows), atol=1e-5
    )


def test_the_exported_set_trains_with_the_command_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import shlex

    from encoders.cli import main

    monkeypatch.setattr(tasks, "task", {"toy": _toy()}.__getitem__)
    assert accuracy.main(["toy", "--export", str(tmp_path)]) == 0
    told = shlex.split(capsys.readouterr().out)
    monkeypatch.chdir(tmp_path)
    assert told[:2] == ["encoders", "train"] and main([*told[1:], "--json"]) == 0
    assert (tmp_path / "toy-one.encoder" / "encoder.json").is_file()


def test_recordings_and_sequences_are_exported_as_they_are_read(tmp_path: Path) -> None:
    for items in ([np.arange(k, dtype=np.float32) + 1 for k in (300, 400, 500)],
                  [np.ones((k, 3), np.float32) * k for k in (4, 5, 6)]):  # fmt: skip
        data = datasets.from_arrays(items, ["a", "a", "b"])
        np.savez(tmp_path / "x.npz", **accuracy.arrays(data))
        read = datasets.load(tmp_path / "x.npz")
        assert all(np.array_equal(a, b) for a, b in zip(read.items, items, strict=True))


def test_the_docs_say_what_was_measured() -> None:
    page = accuracy_page.PAGE.read_text(encoding="utf-8")
    assert accuracy_page.inserted(page, report.read("accuracy")) == page


def test_the_tables_tell_figures_floors_and_cost() -> None:
    ours = {"value": 0.031, "low": 0.02, "high": 0.0456}
    one = {
        "words": "EER", "ours": ours, "raw": {"value": 0.2}, "others": {"edit": {"value": 0.1}},
        "published": {"them": 0.0333}, "floor": 0.05, "floor_reached": True, "higher_is_better": False,
    }  # fmt: skip
    found = {
        "title": "toys", "protocol": "as it is", "disjoint": "people", "folds": 4, "steps": 1500,
        "training_cpu_seconds": 90.0, "training_seconds": 200.0, "measures": {"eer": one},
    }  # fmt: skip
    told = accuracy_page.tables({"toys": found, "old": found | {"training_cpu_seconds": None}})
    assert "| toys | EER | 3.10 [2.00, 4.56] | 20.00 | edit 10.00 | them 3.33 | at most 5: reached |" in told
    assert "| toys | people | 4 | 1,500 | 1.5 CPU min |" in told and "3 min of wall clock" in told
    assert "- **toys**: as it is." in told
