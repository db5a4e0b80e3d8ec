"""The contract of every tower: a new file in `encoders/towers/` is taken up by itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from encoders import checkpoint, preprocess, towers
from encoders.errors import EncodeError, EncoderError
from encoders.network import SiameseNetwork
from encoders.siamese import SiameseEncoder
from encoders.spec import Spec
from tests.encoders.samples import BAD, GOOD, MADE

PAIRS = [(name, kind) for name in towers.names() for kind in towers.takes(name)]
SMALL: dict[str, dict[str, Any]] = {  # as they come some are slow to build a dozen times
    "deep": {"widths": [8, 8, 12, 12], "blocks": [1, 2, 1, 1]},
    "fisher": {"sizes": [1.0, 0.7], "components": 12, "gaussians": 8},
    "chars": {"buckets": 512, "width": 8},
}


@pytest.fixture(params=towers.names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def arguments(name: str, kind: str) -> dict[str, Any]:
    return towers.complete(name, SMALL.get(name, {}), MADE[kind])


def built(name: str, seed: int = 0) -> Any:
    kind = towers.takes(name)[0]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return towers.build(name, MADE[kind].shape, **arguments(name, kind))


def batch(name: str, n: int) -> torch.Tensor:
    kind = towers.takes(name)[0]
    return torch.from_numpy(np.stack([MADE[kind](item) for item in GOOD[kind][:n]]))


def encoder(name: str, kind: str, seed: int = 0, **changes: Any) -> SiameseEncoder:
    made = replace(MADE[kind], **changes)
    spec = Spec("x", name, arguments(name, kind), preprocess.settings_of(made), 8)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = SiameseNetwork(spec)
        for buffer in network.norm.buffers():
            if buffer.is_floating_point():
                buffer.uniform_(0.5, 1.5)
    return SiameseEncoder(spec, network, device="cpu")


def test_maps_a_batch_to_its_features(name: str) -> None:
    tower = built(name).eval()
    assert tower(batch(name, 5)).shape == (5, tower.features)
    assert tower(batch(name, 5)).dtype == torch.float32


def test_weights_come_from_the_seed(name: str) -> None:
    one, two, other = built(name), built(name), built(name, seed=1)
    items = batch(name, 2)
    assert torch.equal(one.eval()(items), two.eval()(items))
    if name not in ("gradients", "spectra"):  # nothing of these is random: their head alone is
        assert not torch.allclose(one(items), other.eval()(items))


def test_every_weight_gets_a_gradient(name: str) -> None:
    tower = built(name).train()
    tower(batch(name, 8)).square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in tower.parameters())


def test_training_mode_gives_nearly_what_eval_mode_gives(name: str) -> None:
    """With its batch norms in eval mode and without masks and dropout: packing changes nothing."""
    tower = built(name).eval()
    expected = tower(batch(name, 8))
    tower.training = True
    if hasattr(tower, "mask"):
        tower.mask = 0.0
    assert torch.allclose(tower(batch(name, 8)), expected, atol=1e-5)


def test_complete_arguments_build_the_same_tower(name: str) -> None:
    spelt = arguments(name, towers.takes(name)[0])
    assert spelt and towers.complete(name, spelt) == spelt


def test_an_unknown_argument_is_refused(name: str) -> None:
    with pytest.raises(EncoderError, match="does not take"):
        towers.build(name, MADE[towers.takes(name)[0]].shape, wings=2)


def test_items_of_another_shape_are_refused(name: str) -> None:
    if name == "dense":
        pytest.skip("the dense tower takes any shape")
    with pytest.raises(EncoderError, match=r"takes items of shape"):
        towers.build(name, (3, 4, 5, 6))


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_an_item_embeds_to_the_same_bits_in_any_company(name: str, kind: str) -> None:
    made, items = encoder(name, kind), GOOD[kind]
    together = made.encode(items)
    assert together.shape == (20, 8) and np.isfinite(together).all()
    assert np.array_equal(together, np.concatenate([made.encode([item]) for item in items]))
    assert np.array_equal(together, made.encode(items[::-1])[::-1])
    apart = np.linalg.norm(together[:, None] - together[None], axis=2)[np.triu_indices(20, 1)]
    assert np.median(apart) > 1e-4  # different items differ


@pytest.mark.parametrize(
    ("name", "kind", "changes"),
    [
        ("recurrent", "sequence", {"longest": 47}),
        ("chars", "text", {"longest": 71}),
        ("audio", "audio", {"seconds": 1.3}),
    ],
)
def test_padding_changes_nothing(name: str, kind: str, changes: dict[str, Any]) -> None:
    short, long = encoder(name, kind).encode(GOOD[kind]), encoder(name, kind, **changes).encode(GOOD[kind])
    assert np.allclose(short, long, atol=2e-5)


def test_the_fingerprint_changes_with_the_weights(name: str) -> None:
    kind = towers.takes(name)[0]
    one, two, other = encoder(name, kind), encoder(name, kind), encoder(name, kind, seed=1)
    assert one.fingerprint == two.fingerprint != other.fingerprint
    with torch.no_grad():
        next(iter(two.network.tower.parameters())).view(-1)[0] += 1e-6
    changed = SiameseEncoder(two.spec, two.network, device="cpu")
    assert changed.fingerprint != one.fingerprint


def test_save_and_load_are_exact(name: str, tmp_path: Path) -> None:
    kind = towers.takes(name)[0]
    one = encoder(name, kind)
    again = checkpoint.load(checkpoint.save(one, tmp_path / "x.encoder"), device="cpu")
    assert again.fingerprint == one.fingerprint and again.preprocess == one.preprocess
    assert np.array_equal(again.encode(GOOD[kind]), one.encode(GOOD[kind]))


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_a_bad_item_is_refused_with_its_reason(name: str, kind: str) -> None:
    made = encoder(name, kind)
    for item, words in BAD[kind]:
        with pytest.raises(EncodeError, match=words or None) as raised:
            made.encode([GOOD[kind][0], item])
        assert raised.value.index == 1 and raised.value.reason


def test_an_unknown_tower_names_those_there_are() -> None:
    with pytest.raises(
        EncoderError, match="audio, chars, conv, deep, dense, fisher, gradients, recurrent, residual, sp"
    ):
        towers.build("babel", (1, 32, 32))


def test_a_tower_says_which_items_it_takes() -> None:
    with pytest.raises(
        EncoderError, match=r"tower conv takes .*, not audio: --tower audio or spectra takes it"
    ):
        towers.check("conv", "audio")
    for name, kind in PAIRS:
        towers.check(name, kind)


@pytest.mark.parametrize("conv", ["conv", "deep", "residual"])
def test_convolutional_towers_refuse_tiny_images(conv: str) -> None:
    with pytest.raises(EncoderError, match="pixels, not 4"):
        towers.build(conv, (1, 4, 4))


def test_sizes_of_the_residual_towers() -> None:
    for name, count in (("residual", 1_046_432), ("deep", 10_228_352)):
        assert sum(p.numel() for p in towers.build(name, (1, 48, 48)).parameters()) == count


def test_a_recurrent_tower_reads_no_padding_and_both_ends() -> None:
    """Against a plain loop over single sequences, without padding, in both directions."""
    for cell in ("gru", "lstm"):
        torch.manual_seed(0)
        tower = towers.build("recurrent", (9, 4), cell=cell, width=5).eval()
        sequences = [torch.randn(n, 3) for n in (1, 4, 9)]
        padded = torch.zeros(3, 9, 4)
        for row, steps in zip(padded, sequences, strict=True):
            row[: len(steps), :3], row[: len(steps), 3] = steps, 1.0
        for row, steps in zip(tower(padded), sequences, strict=True):
            forth = tower.ahead[0](steps[None])[0][0]
            back = tower.back[0](steps.flip(0)[None])[0][0].flip(0)
            states = torch.cat([forth, back], dim=1)
            expected = torch.cat([states.mean(0), states.amax(0)])
            assert torch.allclose(row, expected, atol=1e-6)


def test_settings_that_a_tower_refuses() -> None:
    for name, shape, settings, words in (
        ("recurrent", (9, 4), {"cell": "rnn"}, "must be gru or lstm"),
        ("audio", (4000,), {"rate": 8000, "mels": 4}, "halvings need"),
        ("audio", (100,), {"rate": 8000}, "shorter than two windows"),
        ("residual", (1, 32, 32), {"blocks": [1]}, "one of each a stage"),
    ):
        with pytest.raises(EncoderError, match=words):
            towers.build(name, shape, **settings)
