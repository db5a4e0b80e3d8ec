"""Going on from an encoder that is there: its weights, centres where its embeddings are, and refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import encoders
from encoders import checkpoint, datasets, defaults, losses, preprocess, run, training
from encoders.datasets import from_arrays
from encoders.discriminant import discriminant, whitening
from encoders.errors import TrainingError
from encoders.losses import MINING
from encoders.settings import Settings
from encoders.starting import start_centres
from encoders.trainer import Trainer
from tests.encoders.made import encoder
from tests.encoders.shapes import labelled

GIVEN: dict[str, Any] = {"subjects": 8, "items": 3, "progress": False, "holdout": 0.2, "seed": 1}
TOWER: dict[str, Any] = {
    "tower_args": {"widths": [8, 16]}, "preprocess": {"kind": "ink", "size": 24}, "dim": 16,
}  # fmt: skip


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("base") / "base.encoder"
    encoders.train(labelled(30, 6), output=place, steps=40, lr=5e-3, metric="euclidean", **GIVEN, **TOWER)
    return place


def test_a_run_without_steps_is_the_base_with_a_threshold_of_its_own(tmp_path: Path, base: Path) -> None:
    """Nothing of the embedding is said again: it all comes from the base."""
    given = GIVEN | {"steps": 0, "fmr": 0.1, "holdout": 0.4}
    history = encoders.train(labelled(30, 6, seed=5), output=tmp_path / "on.encoder", base=str(base), **given)
    before, after = encoders.load(base), encoders.load(tmp_path / "on.encoder")
    assert (after.dim, after.metric, after.spec.tower_args) == (16, "euclidean", before.spec.tower_args)
    assert after.fingerprint == before.fingerprint
    assert [entry["step"] for entry in history.validations] == [0]
    assert history.settings["base"] == str(base) and history.threshold != before.threshold


def test_going_on_is_kept_only_where_it_helps_and_begins_nearer(tmp_path: Path, base: Path) -> None:
    items = labelled(40, 6, seed=3)
    on = encoders.train(
        items, output=tmp_path / "on.encoder", base=str(base), steps=8, validate_every=4, lr=1e-3, **GIVEN
    )
    new = encoders.train(items, output=tmp_path / "new.encoder", steps=8, validate_every=4, **GIVEN, **TOWER)
    assert [entry["step"] for entry in on.validations] == [0, 4, 8]
    assert on.best is not None
    assert on.best["eer"] <= on.validations[0]["eer"]
    begun, unknown = on.losses[0]["loss"], new.losses[0]["loss"]
    assert begun < unknown - 1, "with centres at random the first loss would be that of a guess"


def test_an_interrupted_run_goes_on_to_the_same_weights(tmp_path: Path, base: Path, monkeypatch: Any) -> None:
    def run(place: Path, **more: Any) -> Any:
        return encoders.train(
            labelled(20, 6, seed=3), output=place, base=str(base), steps=6, lr=1e-3, **GIVEN, **more
        )

    run(tmp_path / "whole.encoder")
    step, done = Trainer.step, []

    def interrupted(self: Trainer) -> float:
        done.append(self.done)
        if len(done) == 4:
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr("encoders.run.SAVE_SECONDS", 0.0)
    monkeypatch.setattr(Trainer, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut.encoder")
    monkeypatch.undo()
    run(tmp_path / "cut.encoder", resume=True)
    prints = [encoders.load(tmp_path / f"{name}.encoder").fingerprint for name in ("whole", "cut")]
    assert prints[0] == prints[1]


def test_centres_lie_where_the_items_of_each_quarter_turn_are() -> None:
    network = encoder(dim=8).network
    items, subjects = torch.rand(15, 1, 24, 24), torch.arange(15) % 5
    objective = losses.build("margin", dim=8, classes=20)
    start_centres(objective, network, items, subjects)
    with torch.no_grad():
        for quarter in range(4):
            rows = network(torch.rot90(items, quarter, (2, 3)))
            for subject in range(5):
                wanted = F.normalize(rows[subject::5].sum(0), dim=0)
                found = objective.get_parameter("centres")[quarter * 5 + subject]
                assert torch.allclose(found, wanted, atol=1e-5)


def test_training_goes_on_with_larger_pictures(base: Path, tmp_path: Path) -> None:
    """The weights of a convolution do not depend on the size; those of a head behind a fixed map do."""
    data, small = labelled(12, 6, seed=3), encoders.load(base, device="cpu")
    larger = small.spec.preprocess | {"size": 64}
    encoders.train(data, output=tmp_path / "l", base=base, preprocess=larger, steps=1, device="cpu", lr=1e-8)
    grown = encoders.load(tmp_path / "l", device="cpu")
    assert grown.preprocess.shape == (1, 64, 64) != small.preprocess.shape
    for key, value in small.network.head.state_dict().items():
        assert torch.allclose(grown.network.head.state_dict()[key], value, atol=1e-6), key
    fixed = {"tower": "gradients", "preprocess": {"kind": "ink", "size": 48}, "dim": 4, "start": "whitening"}
    encoders.train(data, output=tmp_path / "f", device="cpu", **fixed)
    with pytest.raises(TrainingError, match=r"made otherwise: preprocess is .*48.* there and .*64.* here"):
        more = {"preprocess": {"kind": "ink", "size": 64}, "steps": 1}
        encoders.train(data, output=tmp_path / "m", base=tmp_path / "f", device="cpu", **more)


def test_what_is_not_said_of_a_preprocessing_is_that_of_the_base(tmp_path: Path) -> None:
    """Its kind alone, or another size, says nothing about the rest."""
    data, given = labelled(6, 4), {"steps": 1, "device": "cpu", "holdout": 0.0, "progress": False}
    ink = {"kind": "ink", "size": 32, "margin": 0.2}
    encoders.train(data, output=tmp_path / "b", tower="conv", preprocess=ink, dim=4, **given)
    for more, size in (({"kind": "ink"}, 32), ({"size": 40}, 40), ({"kind": "ink", "size": 40}, 40)):
        place = tmp_path / f"{len(more)}-{size}"
        encoders.train(data, output=place, base=tmp_path / "b", preprocess=more, **given)
        read = encoders.load(place, device="cpu").spec.preprocess
        assert (read["kind"], read["size"], read["margin"]) == ("ink", size, 0.2)


def test_the_height_may_differ_and_what_else_does_is_told_as_it_is(tmp_path: Path) -> None:
    data, grey = labelled(6, 4), {"kind": "grey", "height": 32, "width": 32}
    given: dict[str, Any] = {"steps": 1, "device": "cpu", "holdout": 0.0, "progress": False}
    encoders.train(data, output=tmp_path / "g", tower="conv", preprocess=grey, dim=4, **given)
    higher = grey | {"height": 48}
    encoders.train(data, output=tmp_path / "h", base=tmp_path / "g", preprocess=higher, **given)
    assert encoders.load(tmp_path / "h", device="cpu").preprocess.shape == (1, 48, 32)
    with pytest.raises(TrainingError, match=r"'height': 32, 'width': 32} there and .*'ink'.*'size': 40"):
        ink = {"kind": "ink", "size": 40}
        encoders.train(data, output=tmp_path / "i", base=tmp_path / "g", preprocess=ink, **given)


def test_a_base_of_more_gaussians_than_there_are_patches(tmp_path: Path) -> None:
    """Its mixture is found already: few pictures are no reason to refuse it."""
    data, few = labelled(12, 6), labelled(2, 2)
    given: dict[str, Any] = {"device": "cpu", "holdout": 0.0, "progress": False, "dim": 4}
    given |= {"preprocess": {"kind": "ink", "size": 24}, "tower": "fisher"}
    given["tower_args"] = {"sizes": [1.0], "components": 4, "gaussians": 40}
    with pytest.raises(TrainingError, match="have 16 patches, give fewer"):
        encoders.train(few, output=tmp_path / "x", **given)
    encoders.train(data, output=tmp_path / "f", **given)
    on = {"device": "cpu", "holdout": 0.0, "progress": False, "steps": 0}
    encoders.train(few, output=tmp_path / "o", base=tmp_path / "f", **on)
    one, other = (encoders.load(tmp_path / name, device="cpu").fingerprint for name in "fo")
    assert one == other


@pytest.mark.parametrize("loss", MINING)
def test_every_loss_goes_on(base: Path, loss: str) -> None:
    """One with learnt centres has them where the embeddings are, and each begins with the base's weights."""
    raw = labelled(12, 6, seed=3)
    chosen = Settings(**defaults.found(raw, {"base": str(base), "loss": loss, "subjects": 8, "items": 3}))
    ready = training._prepared(raw, None, chosen, False)[0]
    made = encoders.load(base, device="cpu")
    spec = training.Run(ready, None, chosen, base, None, "cpu").spec
    trainer = Trainer(ready, spec, chosen, "cpu")
    weights = trainer.network.state_dict()
    assert all(torch.equal(weights[key], value) for key, value in made.network.state_dict().items())
    centres = getattr(trainer.objective, "centres", None)
    assert (centres is not None) == (loss in ("margin", "arcface", "proxy"))
    if centres is not None:
        rows = F.normalize(torch.from_numpy(made.encode_prepared(ready.items)))
        nearest = (rows @ F.normalize(centres.detach()).T).argmax(1).numpy()
        assert np.mean(nearest == np.unique(ready.labels, return_inverse=True)[1]) > 0.6


@pytest.mark.parametrize("name", ["glyph", "photo"])
def test_every_encoder_that_ships_is_a_base(tmp_path: Path, name: str) -> None:
    """Also one whose record is older than a default of its tower."""
    history = encoders.train(labelled(12, 4), output=tmp_path / "on.encoder", base=name, steps=0, **GIVEN)
    before, after = encoders.load(name), encoders.load(tmp_path / "on.encoder")
    items = list(labelled(2, 2).items)
    assert np.array_equal(before.encode(items), after.encode(items))
    assert history.best is not None and history.best["step"] == 0


def test_a_joined_encoder_is_gone_on_from(tmp_path: Path) -> None:
    """As `glyph` is: its two towers learn together; it has no head of its own to weigh anew."""
    items, whole = labelled(12, 6), tmp_path / "whole.encoder"
    for seed in (1, 2):
        given = GIVEN | {"seed": seed, "steps": 2} | TOWER
        encoders.train(items, output=tmp_path / f"{seed}.encoder", **given)
    joined = encoders.join([tmp_path / "1.encoder", tmp_path / "2.encoder"])
    checkpoint.save(joined, whole)
    given = GIVEN | {"base": str(whole)}
    history = encoders.train(items, output=tmp_path / "on.encoder", steps=4, validate_every=2, **given)
    assert [entry["step"] for entry in history.validations] == [0, 2, 4]
    assert encoders.load(tmp_path / "on.encoder").dim == joined.dim == 32
    with pytest.raises(TrainingError, match="of a joined encoder: start from each member"):
        encoders.train(items, output=tmp_path / "off.encoder", start="discriminant", **given)
    with pytest.raises(TrainingError, match="train its members, then encoders join"):
        encoders.train(items, output=tmp_path / "off.encoder", tower="joined", **GIVEN)


@pytest.mark.parametrize("kind", ["vector", "sequence"])
def test_a_base_from_before_takes_the_mean_off_as_it_did(tmp_path: Path, kind: str) -> None:
    """Its record has no `wide`. It was refused as made otherwise, though nothing of it was said anew."""
    rng, labels = np.random.default_rng(0), np.repeat(np.arange(20), 6)
    rows = 1e6 + rng.normal(size=(20, 8))[labels] + 0.3 * rng.normal(size=(120, 8))
    data = from_arrays(rows if kind == "vector" else list(np.stack([rows, rows + 1], axis=1)), labels)
    old, on = tmp_path / "old.encoder", tmp_path / "on.encoder"
    encoders.train(data, output=old, steps=2, progress=False)
    record = json.loads((old / "encoder.json").read_text())
    assert record["preprocess"].pop("wide") is True
    (old / "encoder.json").write_text(json.dumps(record))
    encoders.train(data, output=on, base=old, steps=0, progress=False)
    before, after = encoders.load(old), encoders.load(on)
    assert np.array_equal(before.encode(list(data.items)), after.encode(list(data.items)))
    assert "wide" not in after.spec.preprocess and after.fingerprint == before.fingerprint
    encoders.train(data, output=on, base=old, steps=2, progress=False, overwrite=True)
    assert encoders.load(on).spec.preprocess["mean"] == before.spec.preprocess["mean"]


def test_the_base_stays_where_nothing_is_better(tmp_path: Path, base: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("encoders.choosing.rank", lambda entry: (0.0, 0.0))
    on = encoders.train(
        labelled(20, 6), output=tmp_path / "on.encoder", base=str(base), steps=4, validate_every=2, **GIVEN
    )
    assert on.best is not None and on.best["step"] == 0
    assert f"the weights of {base} as they are, since training brought nothing better" in str(on)
    assert encoders.load(tmp_path / "on.encoder").fingerprint == encoders.load(base).fingerprint


@pytest.mark.parametrize("analysis", [discriminant, whitening])
def test_the_head_of_a_base_is_weighed_anew(tmp_path: Path, analysis: Any) -> None:
    """Cosines are those of the base's unit rows, mapped by what is found in them; nothing else changes."""
    items, place = labelled(30, 6), tmp_path / "base.encoder"
    encoders.train(items, output=place, steps=40, lr=5e-3, **(GIVEN | {"holdout": 0.0}), **TOWER)
    given = GIVEN | {"holdout": 0.0, "base": str(place), "start": analysis.__name__}
    history = encoders.train(items, output=tmp_path / "on.encoder", **given)
    before, after = (encoders.load(one, device="cpu") for one in (place, tmp_path / "on.encoder"))
    assert history.settings["steps"] == 0 and after.fingerprint != before.fingerprint
    rows = torch.from_numpy(before.encode(items.items))
    expected = F.normalize(rows @ analysis(rows, items.labels, 16, 1)[0])
    found = after.encode(items.items)  # compared by cosines: the signs of directions are anybody's
    assert np.abs(found @ found.T - (expected @ expected.T).numpy()).max() < 1e-4
    assert {k: v.shape for k, v in after.network.state_dict().items()} == {
        k: v.shape for k, v in before.network.state_dict().items()
    }


def test_a_head_weighed_anew_is_gone_on_from(tmp_path: Path) -> None:
    place = tmp_path / "base.encoder"
    encoders.train(labelled(30, 6), output=place, steps=20, **GIVEN, **TOWER)
    given = GIVEN | {"base": str(place), "start": "discriminant", "steps": 4, "validate_every": 2}
    history = encoders.train(labelled(30, 6), output=tmp_path / "on.encoder", **given)
    assert [entry["step"] for entry in history.validations] == [0, 2, 4]
    assert np.isfinite([entry["eer"] for entry in history.validations]).all()


def test_steps_begin_with_what_the_directions_count_for(tmp_path: Path) -> None:
    """A step normalises by its batch: a scale kept in the running variance would be lost with the first."""
    items, place = labelled(30, 6), tmp_path / "base.encoder"
    encoders.train(items, output=place, steps=20, **(GIVEN | {"holdout": 0.0}), **TOWER)
    chosen = {"base": str(place), "start": "discriminant", **GIVEN, "holdout": 0.0}
    found = {}
    for steps in (0, 1):
        given = {k: v for k, v in (chosen | {"steps": steps}).items() if k != "progress"}
        settings = Settings(**defaults.found(items, given))
        ready = datasets.prepared(items, preprocess.build(settings.preprocess))
        network = Trainer(ready, run._spec("on", settings), settings, "cpu").network
        pictures = torch.from_numpy(ready.items)
        with torch.no_grad():
            rows, batch = network.eval()(pictures), network.train()(pictures)
        found[steps] = rows, float((rows @ rows.T - batch @ batch.T).abs().max())
    assert torch.allclose(found[0][0], found[1][0], atol=1e-4)
    assert found[1][1] < 0.5 * found[0][1]


@pytest.mark.parametrize("based", [False, True])
def test_no_comparator_is_kept_that_learnt_nothing_of_the_head(tmp_path: Path, based: bool) -> None:
    given: dict[str, Any] = GIVEN | {"loss": "bce"}
    place = tmp_path / "base.encoder"
    encoders.train(labelled(12, 6), output=place, steps=2, **given, **TOWER)
    begun = {"base": str(place)} if based else TOWER
    with pytest.raises(TrainingError, match="bce with start whitening and steps 0: its comparator"):
        encoders.train(labelled(12, 6), output=tmp_path / "on.encoder", start="whitening", **begun, **given)


def test_too_few_items_for_the_directions_of_a_base_are_told_without_dim(tmp_path: Path) -> None:
    """Another --dim than the base's is refused: it is no remedy here."""
    place, given = tmp_path / "base.encoder", GIVEN | {"holdout": 0.0}
    encoders.train(labelled(12, 6), output=place, steps=2, **given, **TOWER)
    words = "8 items more than subjects decide 4 directions at most, and the base has 16: give more items"
    for start in ("discriminant", "whitening"):
        with pytest.raises(TrainingError, match=words):
            encoders.train(
                labelled(4, 3), output=tmp_path / "on.encoder", base=str(place), start=start, **given
            )


def test_bases_that_are_refused(tmp_path: Path, base: Path) -> None:
    for changed, words in (
        ({"base": "nobody"}, "base 'nobody': no encoder is called 'nobody'"),
        ({"base": str(base), "dim": 12}, r"made otherwise: dim is 16 there and 12 here; leave it out"),
        ({"base": str(base), "metric": "cosine"}, "metric is 'euclidean' there and 'cosine' here"),
        ({"base": str(base), "tower": "residual", "tower_args": {}}, "tower is 'conv' there"),
        ({"base": str(base), "start": "discriminant"}, "after a base: it is for the cosine metric"),
    ):
        with pytest.raises(TrainingError, match=words):
            encoders.train(labelled(12, 6), output=tmp_path / "f.encoder", **(GIVEN | {"steps": 2} | changed))
        assert not (tmp_path / "f.encoder").exists()
