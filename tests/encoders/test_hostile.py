"""What a user or a damaged file may hand over: a refusal in words, before any training."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import encoders
from encoders import checkpoint, cli, datasets, evaluation, preprocess, validation
from encoders.datasets import LabelledSet, from_arrays
from encoders.errors import CheckpointError, DatasetError, EncoderError
from encoders.settings import Settings
from tests.encoders import made
from tests.encoders.shapes import labelled


def mostly_single(singles: int = 16, repeated: int = 4, groups: int = 0) -> LabelledSet:
    """`singles` subjects of one vector, then `repeated` subjects of three."""
    labels = np.concatenate([np.arange(singles), np.repeat(np.arange(singles, singles + repeated), 3)])
    vectors = np.random.default_rng(0).normal(size=(len(labels), 6)).astype(np.float32)
    return from_arrays(vectors, labels, labels % groups if groups else None)


def repeated(data: LabelledSet) -> int:
    return int((np.bincount(data.labels) >= 2).sum())


@pytest.mark.parametrize("seed", range(8))
def test_subjects_of_one_item_are_not_held_out(seed: int) -> None:
    train, held = datasets.split(mostly_single(), 0.15, np.random.default_rng(seed))
    assert (repeated(train), repeated(held), len(held), len(train)) == (2, 2, 6, 22)
    train, held = datasets.split(mostly_single(18, 12, groups=3), 0.15, np.random.default_rng(seed))
    assert (repeated(train), repeated(held)) == (8, 4)


def test_too_few_subjects_with_two_items_are_counted_before_training() -> None:
    for groups in (0, 2):
        with pytest.raises(DatasetError, match=r"19 subjects .*: those with 2 items or more are 3,"):
            datasets.split(mostly_single(16, 3, groups), 0.15, np.random.default_rng(0))


def test_the_split_of_a_set_without_single_items_has_not_moved() -> None:
    _, held = datasets.split(labelled(10, 3), 0.3, np.random.default_rng(3))
    units = np.random.default_rng(3).permutation(10)
    assert set(held.labels.tolist()) == set(units[:3].tolist())


@pytest.mark.parametrize(("metric", "size"), [("cosine", 1.0), ("euclidean", 1.0), ("euclidean", 1e4)])
def test_a_collapsed_encoder_has_no_threshold(metric: str, size: float) -> None:
    """All embeddings equal but for rounding: 4.5e-15 was the threshold of such a one; 0.01 apart is apart."""
    rng, labels = np.random.default_rng(0), np.arange(200) // 4
    rows = (size * (1 + 1e-7 * rng.normal(size=(200, 32)))).astype(np.float32)
    apart = (size * (1 + 1e-2 * rng.normal(size=(200, 32)))).astype(np.float32)
    for given, there in ((rows, False), (apart, True)):
        held = from_arrays(given, labels)
        assert (validation.validate(given, held, metric, 0.01).threshold is not None) is there
        model = SimpleNamespace(metric=metric, encode=np.stack, threshold=None)
        assert (encoders.evaluate(model, held, fmr=0.01).threshold is not None) is there


def test_no_threshold_is_negative() -> None:
    apart = np.array([0, 0, 0.5, 1], np.float32)
    assert evaluation.threshold_at_fmr(apart, 0.25) is None
    assert evaluation.threshold_at_fmr(apart, 0.5) == pytest.approx(0.5)
    one = np.tile(np.array([1, 0], np.float32), (8, 1))
    found = validation.validate(one, from_arrays(one, np.arange(8) // 2), "cosine", 0.01)
    assert (found.threshold, found.fmr, found.fnmr) == (None, 0.0, 1.0)


def test_rates_of_a_huge_set_of_pairs_are_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "MOST_ITEMS", 4)
    vectors = np.random.default_rng(0).normal(size=(600, 3)).astype(np.float32)
    labels = np.concatenate([np.arange(500), np.repeat(np.arange(500, 550), 2)])
    found = validation.validate(vectors, from_arrays(vectors, labels), "euclidean", 0.01)
    assert (found.mated, found.non_mated) == (2, 4) and 0.0 <= found.eer <= 1.0


@pytest.mark.parametrize(("fmr", "seed"), [(np.nan, 0), (0.0, 0), (2.0, 0), (-1.0, 0), (0.1, -1)])
def test_impossible_rates_and_seeds(fmr: float, seed: int) -> None:
    one = np.ones((8, 2), np.float32)
    with pytest.raises(EncoderError, match=f"{'seed' if seed else 'fmr'} is"):
        validation.validate(one, from_arrays(one, np.arange(8) // 2), "cosine", fmr, seed)


def test_embeddings_that_are_no_numbers_are_not_measured() -> None:
    bad = np.full((8, 2), np.nan, np.float32)
    with pytest.raises(DatasetError, match="NaN or infinity"):
        validation.validate(bad, from_arrays(bad, np.arange(8) // 2), "cosine", 0.01)


@pytest.mark.parametrize("labels", [np.zeros((6, 2), np.int64), np.int64(3)])
def test_labels_that_are_no_row(labels: np.ndarray, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", vectors=np.zeros((6, 4)), labels=labels)
    with pytest.raises(DatasetError, match="labels are one number or name an item"):
        datasets.load(tmp_path / "x.npz")


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    held = mostly_single(0, 8)
    np.savez(tmp_path / "v.npz", vectors=held.items, labels=held.labels)
    return tmp_path / "v.npz"


DENSE = ["--tower", "dense", "--preprocess", "vector", "--dim", "4", "--subjects", "3", "--items", "2"]
MISTAKES = [
    *[(["--minutes", v], f"minutes is {v}") for v in ("nan", "inf", "0", "-1")],
    *[(["--epochs", v], f"epochs is {v}") for v in ("nan", "inf", "0", "-3")],
    *[(["--threads", v], f"threads is {v}") for v in ("0", "-1")],
    *[(["--device", v], f"device '{v}' cannot be used") for v in ("foo", "tpu", "meta", "cpu:x", "")],
    (["--preprocess", '{"kind":[]}'], "no preprocessing is called []"),
    (["--preprocess", '{"kind":{}}'], "no preprocessing is called {}"),
    (["--plot", "/nonexistent/x.html"], "--plot '/nonexistent/x.html' cannot be written"),
    (["--plot", "/"], "--plot '/' cannot be written"),
    (["--output", "a\0b"], "cannot be the name"),
]


@pytest.mark.parametrize(("options", "words"), MISTAKES)
def test_train_refuses_before_training(
    options: list[str], words: str, vectors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "o.encoder"
    assert cli.main(["train", str(vectors), "--output", str(place), *DENSE, *options]) == 2
    told = capsys.readouterr()
    assert told.out == "" and words in told.err and told.err.count("\n") <= 2 and not place.exists()


def test_train_on_mostly_single_items(tmp_path: Path) -> None:
    held = mostly_single()
    np.savez(tmp_path / "v.npz", vectors=held.items, labels=held.labels)
    place = tmp_path / "o.encoder"
    train = ["train", str(tmp_path / "v.npz"), "--output", str(place), *DENSE, "--steps", "5", "--json"]
    assert cli.main(train) == 0
    history = json.loads((place / "history.json").read_text())
    assert history["evidence"] == {"subjects": 2, "mated": 6, "non_mated": 9}


def test_vectors_from_a_folder_of_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in (f"{subject}/{item}" for subject in "abcd" for item in "12"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert cli.main(["train", str(tmp_path), "--output", str(tmp_path / "o"), *DENSE]) == 2
    assert "for a folder of images take ink or rgb" in capsys.readouterr().err


@pytest.mark.parametrize("options", [["--fmr", "nan"], ["--fmr", "0"], ["--fmr", "2"], ["--seed", "-1"]])
def test_evaluate_refuses(options: list[str], vectors: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", "glyph", str(vectors), *options]) == 2
    told = capsys.readouterr()
    assert told.out == "" and f"{options[0][2:]} is {options[1]}" in told.err and told.err.count("\n") == 1


def _interrupted(vectors: Path, tmp_path: Path) -> tuple[list[str], Path]:
    """The command that resumes a run, and the state.json that it was stopped with."""
    from encoders.run import Run

    train, held = datasets.split(datasets.load(vectors), 0.15, np.random.default_rng(0))
    chosen = Settings(
        tower="dense",
        preprocess=preprocess.fitted({"kind": "vector"}, train.items),
        dim=4,
        subjects=3,
        items=2,
        steps=5,
        augment="noise",
    )
    train, held = datasets.prepared_parts(train, held, preprocess.build(chosen.preprocess), skip=False)
    run = Run(train, held, chosen, tmp_path / "o.encoder", None, "cpu")
    run.choose_steps(None, None, False)
    run.trainer.step()
    run.save_state()
    train = ["train", str(vectors), "--output", str(tmp_path / "o.encoder"), *DENSE, "--steps", "5"]
    return [*train, "--resume", "--device", "cpu"], tmp_path / "o.encoder.state" / "state.json"


def test_a_damaged_state_is_told_in_words(
    vectors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command, path = _interrupted(vectors, tmp_path)
    whole = json.loads(path.read_text())
    broken: list[Any] = [[], None, 3, "x", {}]
    needed = set(whole) - {"split"}  # which runs of older versions do not have
    broken += [{k: v for k, v in whole.items() if k != name} for name in needed]
    broken += [whole | {name: {"wings": 2}} for name in ("numpy", "history", "tensors")]
    broken += [whole | {"settings": whole["settings"] | {"wings": 2}}, whole | {"recent": ["x", None]}]
    for record in broken:
        path.write_text(json.dumps(record))
        assert cli.main(command) == 2, record
        told = capsys.readouterr().err
        assert "is damaged" in told and told.count("\n") <= 2, (record, told)
    path.write_text(json.dumps(whole))
    assert cli.main(command) == 0


WRONG = [
    *[("dim", v) for v in ("8", 8.0, True, None, 0, -3, 10**9)],
    *[("tower", v) for v in (None, 3, [], {})],
    *[("tower_args", v) for v in (None, [], "x", {"widths": "ab"}, {"widths": [-1, 2]})],
    *[("preprocess", v) for v in (None, [], "ink", {}, {"kind": []}, {"kind": {}}, {"kind": "smell"})],
    *[("preprocess", {"kind": "ink", "size": v}) for v in ("24", None, -1, 0, 1e9)],
    *[("preprocess", {"kind": "ink", "size": 24, "revision": v}) for v in (0, 99, "1", None)],
    *[("preprocess", {"kind": "rgb", "size": 24, "std": v}) for v in ([0, 1, 1], "x", [1, 1], [None])],
    ("preprocess", {"kind": "ink", "size": 24, "margin": float("nan")}),
    *[("name", v) for v in (None, 3, [])],
    *[("metric", v) for v in (None, [], {}, "manhattan")],
    *[("threshold", v) for v in ("0.2", -0.1, float("nan"), float("inf"), True, [])],
    *[("format", v) for v in (0, -1, True, 1.0, "1", None, 2)],
    *[("versions", None), ("facts", 3), ("threshold_fmr", "x")],
]


@pytest.mark.parametrize(("part", "value"), WRONG)
def test_a_hostile_record_is_a_checkpoint_error(part: str, value: Any, tmp_path: Path) -> None:
    place = checkpoint.save(made.encoder(), tmp_path / "made.encoder")
    record = json.loads((place / "encoder.json").read_text())
    (place / "encoder.json").write_text(json.dumps(record | {part: value}))
    with pytest.raises(CheckpointError):
        checkpoint.load(place, device="cpu")


def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    place = checkpoint.save(made.encoder(), tmp_path / "made.encoder")
    with pytest.raises(EncoderError, match="device 'tpu' cannot be used"):
        checkpoint.load(place, device="tpu")


def test_a_network_left_in_train_mode_embeds_the_same() -> None:
    encoder, items = made.encoder(), labelled(3, 2).items
    before = encoder.encode(items)
    encoder.network.tower.train()
    assert np.array_equal(encoder.encode(items), before)
    encoder.network.train()
    assert np.array_equal(encoder.encode(items[:1]), before[:1])


def test_one_bare_image_array_is_not_taken_for_a_list() -> None:
    encoder, items = made.encoder(), labelled(2, 2).items
    for one in (items[0], items[0][:, :, None], np.stack([items[0]] * 3, 2), np.stack([items[0]] * 4, 2)):
        with pytest.raises(TypeError, match=r"one image array of shape .* wrap it in a list"):
            encoder.encode(one)
    colours = np.stack([items] * 3, 3)
    assert encoder.encode(items).shape == encoder.encode(colours).shape == (4, 8)
