"""Joined encoders: their distance is the weighted mean of the members', whatever the members are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

import encoders
import gallery
from encoders import adapters, checkpoint, cli, datasets, export, joining, state, towers
from encoders.errors import CheckpointError, EncoderError, TrainingError
from encoders.evaluation import distances
from encoders.evidence import percent
from encoders.packages import versions
from encoders.settings import Settings
from encoders.siamese import SiameseEncoder
from encoders.validation import validate
from tests.encoders import made
from tests.encoders.samples import GOOD
from tests.encoders.shapes import labelled
from tests.encoders.test_towers import encoder

TWO = {
    "ink": ("conv", "residual"),
    "rgb": ("conv", "gradients"),
    "vector": ("dense", "dense"),
    "sequence": ("recurrent", "recurrent"),
    "audio": ("audio", "spectra"),
    "text": ("chars", "chars"),
}


def conv(seed: int, **changes: Any) -> SiameseEncoder:
    found = encoder("conv", "ink", seed)
    return SiameseEncoder(replace(found.spec, **changes), found.network, device="cpu")


def members(kind: str) -> list[SiameseEncoder]:
    return [encoder(tower, kind, seed=seed) for seed, tower in enumerate(TWO[kind])]


@pytest.mark.parametrize("kind", TWO)
@pytest.mark.parametrize("weights", [None, [1, 3]])
def test_the_distance_is_the_weighted_mean(kind: str, weights: list[float] | None) -> None:
    parts = members(kind)
    whole = encoders.join(parts, weights=weights, device="cpu")
    rows = whole.encode(GOOD[kind])
    assert rows.shape == (20, 16) and np.allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-6)
    shares = (0.5, 0.5) if weights is None else (0.25, 0.75)
    alone = [distances(r, r, "cosine") for r in (part.encode(GOOD[kind]) for part in parts)]
    mean = sum(share * apart for share, apart in zip(shares, alone, strict=True))
    assert np.abs(distances(rows, rows, "cosine") - mean).max() < 1e-5
    assert np.array_equal(rows, np.concatenate([whole.encode([item]) for item in GOOD[kind]]))


def test_zooms_give_the_mean_direction_of_what_is_seen_at_each() -> None:
    parts, zooms = [conv(0), conv(1)], [1.08, 0.5]
    whole = encoders.join(parts, zooms=zooms, device="cpu")
    items = np.stack([whole.preprocess(item) for item in GOOD["ink"]])
    expected = []
    for part in parts:
        seen = [part.encode_prepared(_zoomed(items, zoom)) for zoom in zooms]
        mean = np.mean(seen, axis=0)
        expected.append(mean / np.linalg.norm(mean, axis=1, keepdims=True) / np.sqrt(2))
    rows = whole.encode(GOOD["ink"])
    assert np.abs(rows - np.concatenate(expected, axis=1)).max() < 1e-5
    assert np.array_equal(rows, np.concatenate([whole.encode([item]) for item in GOOD["ink"]]))
    plain = encoders.join(parts, device="cpu")
    once = encoders.join(parts, zooms=[1], device="cpu")
    assert np.abs(once.encode(GOOD["ink"]) - plain.encode(GOOD["ink"])).max() < 1e-6
    assert len({one.fingerprint for one in (whole, plain, once)}) == 3
    assert whole.network.state_dict().keys() == plain.network.state_dict().keys()


def _zoomed(items: np.ndarray, zoom: float) -> np.ndarray:
    """The same by torch's own sampling."""
    matrix = torch.tensor([[1 / zoom, 0, 0], [0, 1 / zoom, 0]]).expand(len(items), -1, -1)
    grid = F.affine_grid(matrix, list(items.shape), align_corners=False)
    return F.grid_sample(torch.from_numpy(items), grid, align_corners=False).numpy()


@pytest.mark.parametrize(
    ("kind", "zooms", "words"),
    [
        ("ink", [], r"zooms are \[\]: 1 to 16 numbers from 0.25 to 4 are needed"),
        ("ink", [1, 0.2], "zooms are"),
        ("ink", [float("nan")], "zooms are"),
        ("ink", [4.5], "zooms are"),
        ("ink", [True], "zooms are"),
        ("ink", [1] * 17, "1 to 16 numbers"),
        ("ink", 1.08, "zooms are 1.08: 1 to 16 numbers"),
        ("ink", np.array(1.08), "zooms are 1.08: 1 to 16 numbers"),
        ("ink", [10**5000], "zooms are numbers too long to be shown: 1 to 16"),
        ("vector", [1.1], "zooms are for pictures, not for items of shape"),
    ],
)
def test_zooms_that_cannot_be_are_refused(kind: str, zooms: Any, words: str) -> None:
    with pytest.raises(EncoderError, match=words):
        encoders.join(members(kind), zooms=zooms, device="cpu")


def test_three_and_joined_ones_can_be_joined() -> None:
    one, two, three = (conv(seed) for seed in range(3))
    flat = encoders.join([one, two, three], device="cpu")
    nested = encoders.join([encoders.join([one, two], device="cpu"), three], weights=[2, 1], device="cpu")
    rows, others = (each.encode(GOOD["ink"]) for each in (flat, nested))
    assert np.allclose(rows, others, atol=1e-6) and flat.dim == nested.dim == 24
    assert flat.fingerprint != nested.fingerprint


def test_what_changes_embeddings_changes_the_fingerprint() -> None:
    parts = [conv(0), conv(1)]
    found = [
        encoders.join(parts, device="cpu"),
        encoders.join(parts[::-1], device="cpu"),
        encoders.join(parts, weights=[1, 2], device="cpu"),
        encoders.join([parts[0], conv(2)], device="cpu"),
    ]
    assert len({one.fingerprint for one in found}) == 4
    assert encoders.join(parts, device="cpu").fingerprint == found[0].fingerprint


def test_saved_exported_and_kept_in_a_gallery(tmp_path: Path) -> None:
    whole = encoders.join([conv(0), conv(1)], zooms=[1.1, 0.9], device="cpu")
    rows = whole.encode(GOOD["ink"])
    again = checkpoint.load(checkpoint.save(whole, tmp_path / "both.encoder"), device="cpu")
    export.to_safetensors(whole, tmp_path / "both.safetensors")
    file = encoders.load(tmp_path / "both.safetensors", device="cpu")
    for one in (again, file):
        assert one.fingerprint == whole.fingerprint and np.array_equal(one.encode(GOOD["ink"]), rows)
    with gallery.open(tmp_path / "people", encoder=again) as people:
        people.enroll("a", GOOD["ink"][:1])
        people.enroll("b", GOOD["ink"][1:2])
        found = people.identify(GOOD["ink"][1], threshold=0.0001)
        assert found.decision == "match" and found.candidates[0].id == "b"


@pytest.mark.skipif(len(versions("onnx", "onnxruntime", "onnxscript")) < 3, reason="no extra [onnx]")
def test_a_joined_encoder_in_onnx(tmp_path: Path) -> None:
    whole = encoders.join([conv(0), conv(1)], zooms=[1.1, 0.9], device="cpu")
    assert export.to_onnx(whole, tmp_path / "both.onnx") < 1e-5
    rows = encoders.load(tmp_path / "both.onnx").encode(GOOD["ink"])
    assert np.abs(rows - whole.encode(GOOD["ink"])).max() < 1e-5


def test_rounded_weights_take_half_the_room_and_come_back_exactly(tmp_path: Path) -> None:
    whole = encoder("residual", "ink")
    half = joining.halved(whole)
    sizes = [
        (checkpoint.save(one, tmp_path / name) / "weights.safetensors").stat().st_size
        for name, one in (("whole", whole), ("half", half))
    ]
    assert 0.49 < sizes[1] / sizes[0] < 0.52
    again = checkpoint.load(tmp_path / "half", device="cpu")
    assert again.fingerprint == half.fingerprint != whole.fingerprint
    assert all(value.dtype != torch.float16 for value in again.network.state_dict().values())
    assert np.array_equal(again.encode(GOOD["ink"]), half.encode(GOOD["ink"]))
    assert 0 < np.abs(half.encode(GOOD["ink"]) - whole.encode(GOOD["ink"])).max() < 0.01
    kept = load_file(tmp_path / "half" / "weights.safetensors")
    for name, value in whole.network.state_dict().items():
        expected = torch.float16 if value.is_floating_point() else value.dtype
        assert kept[name].dtype == expected, name
    with torch.no_grad():
        whole.network.norm.get_buffer("running_var").fill_(1e-7)
    again = joining.halved(whole)  # of which float16 keeps one digit
    assert float(again.network.norm.get_buffer("running_var")[0]) == pytest.approx(1e-7, rel=1e-6)


@pytest.mark.parametrize("scale", [1e7, 1e-6, float("nan")])
def test_weights_that_float16_has_no_digits_for_are_not_rounded(scale: float) -> None:
    """At 1e-6 embeddings moved by 0.5, at 1e-8 every weight became 0."""
    one = conv(0)
    with torch.no_grad():
        one.network.head.weight.mul_(scale)
        one.network.norm.get_buffer("running_mean").zero_()
    with pytest.raises(EncoderError, match=r"head.weight holds weights up to .*: float16 .*, without --half"):
        joining.halved(one)
    with torch.no_grad():
        one.network.head.weight.zero_()
    assert not joining.halved(one).network.head.weight.any()


def test_what_cannot_be_joined_is_refused() -> None:
    one, two = conv(0), conv(1)
    other = made.encoder()
    euclidean = conv(2, metric="euclidean", name="long")
    for parts, weights, words in (
        ([], None, "0 encoders: two or more"),
        ([one], None, "1 encoder: two or more"),
        ([one, two, one], None, "x is there twice"),
        ([one, euclidean], None, "long compares by euclidean distance"),
        ([one, other], None, r"made and x read items otherwise \(size 24 and 32\)"),
        ([one, two], [1], "^1 weight for 2 members: one each"),
        ([one, two], [1, 0], r"^weights are \[1, 0\]: each must be a number from 0.000001 to 1,000,000"),
        *(
            ([one, two], weights, "^weights are .* each must be a number")
            for weights in (
                [1, float("nan")],
                [1, "2"],
                [1, None],
                "12",
                [1e308] * 2,
                [1, 10**400],
                [1, 10**5000],
                2,
                [5e-324, 1],
            )
        ),
    ):
        with pytest.raises(EncoderError, match=words):
            encoders.join(parts, weights=weights, device="cpu")
    with pytest.raises(EncoderError, match="net is of another library"):
        joining.own(encoders.from_module(torch.nn.Flatten(), np.asarray, name="net", shape=(1, 4, 4)))  # type: ignore[arg-type]
    with pytest.raises(EncoderError, match="needs two members or more, each with dim, tower, tower_args"):
        towers.build("joined", (1, 24, 24), members=[{"tower": "conv"}, {"tower": "conv"}])
    assert "joined" not in towers.names() and adapters.home("joined") is None


def test_what_another_library_reads_is_refused_before_it_is_asked_for(tmp_path: Path) -> None:
    for name in ("faces", "hf:nowhere", tmp_path / "none.onnx"):
        with pytest.raises(EncoderError, match="is of another library: only encoders of this package"):
            encoders.join([name, conv(0)], device="cpu")


def test_settings_of_a_thousand_columns_do_not_hide_what_to_do() -> None:
    one, two = members("vector")
    other = replace(two.spec, preprocess=two.spec.preprocess | {"mean": [0.25] * 12})
    with pytest.raises(
        EncoderError, match=r"\(mean \(0.25, .* \.\.\. and \(0.5, .* \.\.\.\): train them"
    ) as raised:
        encoders.join([one, SiameseEncoder(other, two.network, device="cpu")])
    assert len(str(raised.value)) < 220


def _members(part: dict[str, Any]) -> dict[str, Any]:
    whole = {"tower": "conv", "tower_args": {"widths": [4]}, "dim": 8}
    return {"members": [whole | part, whole]}


WRONG = [
    *[(_members({"dim": dim}), "each with dim") for dim in ("8", 8.0, True, None)],
    *[
        (_members({"dim": dim}), f"member 0 .* has dim {dim}: an embedding has 1 to")
        for dim in (0, -3, 10**8)
    ],
    *[(_members({"tower": tower}), "each with dim") for tower in (None, 3, [])],
    *[(_members({"tower_args": made}), "each with dim") for made in (None, [], "x")],
    (_members({"tower": "../conv"}), "no tower is called '../conv'"),
    (_members({"tower": "dense", "tower_args": {"widths": []}}), "do not fit"),
    *[({"members": found}, "two members or more") for found in (None, 5, "ab", {"a": 1, "b": 2}, [None, {}])],
    *[
        (_members({}) | {"weights": w}, "weights are")
        for w in (5, "12", {"a": 1, "b": 2}, [1, True], [9e307] * 2)
    ],
    *[(_members({}) | {"zooms": z}, "zooms are") for z in (5, True, "12", {"a": 1}, [], [1, "2"], [9e307])],
    ({}, "two members or more"),
]


@pytest.mark.parametrize(("arguments", "words"), WRONG)
def test_a_record_edited_by_hand_is_a_checkpoint_error(
    arguments: dict[str, Any], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = checkpoint.save(made.encoder(), tmp_path / "made.encoder")
    record = json.loads((place / "encoder.json").read_text()) | {"tower": "joined", "tower_args": arguments}
    (place / "encoder.json").write_text(json.dumps(record | {"facts": {"members": arguments.get("members")}}))
    with pytest.raises(CheckpointError, match=words) as raised:
        checkpoint.load(place, device="cpu")
    assert len(str(raised.value)) < 250
    assert cli.main(["info", str(place)]) == 0 and "Tower: joined" in capsys.readouterr().out


def test_a_joined_tower_is_not_trained_as_a_whole(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"train its members, then encoders join A B --output C"):
        encoders.train(labelled(4, 4), output=tmp_path / "x.encoder", tower="joined", progress=False)
    assert not (tmp_path / "x.encoder").exists() and Settings(tower="joined").tower == "joined"


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held_out = labelled(30, 6)
    np.savez(tmp_path / "held.npz", images=held_out.items, labels=held_out.labels)
    for seed in (0, 1):
        checkpoint.save(conv(seed, name=f"m{seed}"), tmp_path / f"m{seed}")
    say = ["join", str(tmp_path / "m0"), str(tmp_path / "m1"), "--output", str(tmp_path / "both.encoder")]
    assert cli.main([*say, "--half"]) == 0
    assert "16 numbers" in (said := capsys.readouterr().out) and "no threshold recommended" in said
    assert cli.main(say) == 2 and "is there, a finished encoder" in capsys.readouterr().err
    held = ["--validation", str(tmp_path / "held.npz"), "--fmr", "0.05", "--overwrite", "--weights", "2", "1"]
    assert cli.main([*say, *held, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    whole = encoders.load(tmp_path / "both.encoder", device="cpu")
    data = datasets.prepared(held_out, whole.preprocess)
    found = validate(whole.encode_prepared(data.items), data, "cosine", 0.05)
    # A GPU, where there is one, set it: its sums end in other digits.
    assert (whole.threshold, whole.spec.threshold_fmr) == (pytest.approx(found.threshold, rel=1e-4), 0.05)
    assert [Path(one["encoder"]).name for one in told["rates"]] == ["m0", "m1", "both.encoder"]
    assert told["rates"][-1]["eer"] == found.eer
    assert told["threshold"] == found.threshold and told["fingerprint"] == whole.fingerprint
    assert cli.main([*say, *held]) == 0
    said = capsys.readouterr().out
    assert f"recommended threshold {found.threshold:.4f} for FMR 5%" in said and "m1: EER" in said
    assert cli.main(["info", str(tmp_path / "both.encoder")]) == 0
    said = capsys.readouterr().out
    assert "validation subjects" in said and "Tower: joined, members conv conv, weights 2.0 1.0.\n" in said
    parts = [encoders.load(tmp_path / name, device="cpu").fingerprint[:12] for name in ("m0", "m1")]
    assert f"Joined of m0 ({parts[0]}), m1 ({parts[1]})." in said
    assert cli.main([*say, *held, "--fmr", "0.00001"]) == 0
    assert "FMR 0.001% needs at least 300,000 pairs" in capsys.readouterr().out
    assert encoders.load(tmp_path / "both.encoder", device="cpu").threshold is None
    assert cli.main(["join", "glyph", "photo", "--output", str(tmp_path / "gp")]) == 2
    assert "read items otherwise" in capsys.readouterr().err and not (tmp_path / "gp").exists()


def test_encoders_of_one_name_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A member called as the whole took its place: the FNMR told was that of the other member."""
    held_out = labelled(12, 4)
    np.savez(tmp_path / "held.npz", images=held_out.items, labels=held_out.labels)
    for seed in (0, 1):
        checkpoint.save(conv(seed, name="x"), tmp_path / f"m{seed}")
    say = ["join", str(tmp_path / "m0"), str(tmp_path / "m1"), "--output", str(tmp_path / "x")]
    say += ["--validation", str(tmp_path / "held.npz"), "--fmr", "0.1", "--overwrite"]
    assert cli.main([*say, "--json"]) == 0
    rates = json.loads(capsys.readouterr().out)["rates"]
    whole = encoders.load(tmp_path / "x", device="cpu")
    _, found = joining.with_threshold(whole, held_out, 0.1)
    assert len(rates) == 3 and rates[2] == {"encoder": say[4]} | {
        name: getattr(found, name) for name in ("eer", "one_shot_error", "fnmr")
    }
    assert cli.main(say) == 0
    said = capsys.readouterr().out
    assert said.count("EER") == 3 and f"(FNMR {percent(found.fnmr)})" in said


def test_the_command_reads_each_item_once_and_may_leave_some_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    held_out = labelled(6, 3)
    held_out.items[4] = 255  # blank
    np.savez(tmp_path / "held.npz", images=held_out.items, labels=held_out.labels)
    for seed in (0, 1):
        checkpoint.save(conv(seed), tmp_path / f"m{seed}")
    say = ["join", str(tmp_path / "m0"), str(tmp_path / "m1"), "--output", str(tmp_path / "x")]
    say += ["--validation", str(tmp_path / "held.npz"), "--fmr", "0.1"]
    assert cli.main(say) == 2
    assert "leave them out with skip_unreadable=True, --skip-unreadable" in capsys.readouterr().err
    read: list[int] = []
    monkeypatch.setattr(
        datasets, "prepared", lambda *a, f=datasets.prepared, **k: read.append(1) or f(*a, **k)
    )
    assert cli.main([*say, "--skip-unreadable"]) == 0 and len(read) == 1
    assert "6 subjects make 15" in capsys.readouterr().out


def test_members_and_interrupted_runs_are_not_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in (0, 1):
        checkpoint.save(conv(seed), tmp_path / f"m{seed}")
    say = ["join", str(tmp_path / "m0"), str(tmp_path / "m1"), "--overwrite", "--output"]
    assert cli.main([*say, str(tmp_path / "m1")]) == 2
    assert "m1 is one of the members: choose another name" in capsys.readouterr().err
    state.write(tmp_path / "x.state", {}, {"step": 7})
    assert cli.main([*say, str(tmp_path / "x")]) == 2
    assert (
        "an interrupted run at step 7 is kept in" in (said := capsys.readouterr().err)
        and "--resume" not in said
    )
    assert (tmp_path / "x.state" / "state.json").is_file() and not (tmp_path / "x").exists()
    assert encoders.load(tmp_path / "m1", device="cpu").fingerprint == conv(1).fingerprint
