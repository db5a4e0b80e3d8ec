"""A head that starts from discriminant analysis, against scipy and by what it must do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import eigh
from torch.nn import functional as F

import encoders
from encoders import towers
from encoders.datasets import from_arrays
from encoders.discriminant import SHRINKAGE, TRUSTED, discriminant, whitening
from encoders.errors import EncoderError, TrainingError
from encoders.towers.gradients import TINT

RNG = np.random.default_rng(11)


def made(subjects: int = 40, items: int = 6, width: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Rows of subjects that differ along 5 columns and vary most along 5 others."""
    of = np.repeat(np.arange(subjects), items)
    rows = RNG.normal(size=(len(of), width)).astype(np.float32)
    rows[:, :5] += 8 * RNG.normal(size=(subjects, 5))[of].astype(np.float32)
    rows[:, 5:10] *= 20
    return rows + 7, of


def apart(rows: Any, of: np.ndarray) -> float:
    """Share of rows whose nearest other row by cosine is of the same subject."""
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    near = unit @ unit.T - 9 * np.eye(len(unit))
    return float((of[near.argmax(axis=1)] == of).mean())


def test_against_a_plain_generalised_eigenproblem() -> None:
    rows, of = made()
    matrix, mean = discriminant(torch.from_numpy(rows), of, 8)
    assert np.allclose(mean, rows.mean(axis=0), atol=1e-5)
    # As many components as columns: then the whitened space is the whole one.
    total = np.cov(rows.T.astype(np.float64))
    within = sum(5 * np.cov(rows[of == s].T) * 6 / 5 for s in range(40)) / len(rows)
    root = np.linalg.inv(np.linalg.cholesky(total))
    white = root @ within @ root.T
    white = (1 - SHRINKAGE) * white + SHRINKAGE * np.trace(white) / 30 * np.eye(30)
    values, vectors = (part[..., :8] for part in eigh(white))
    expected = (rows - rows.mean(axis=0)) @ root.T @ vectors * np.sqrt((1 - values) / values)
    found = (rows - mean.numpy()) @ matrix.numpy()
    assert np.allclose(np.abs(found), np.abs(expected), atol=2e-3 * np.abs(expected).max())


def test_past_the_trusted_components_a_ridge_is_added_to_all() -> None:
    width = TRUSTED + 50
    rows, of = made(120, 7, width)
    matrix, mean = discriminant(torch.from_numpy(rows), of, 6)
    total = np.cov(rows.T.astype(np.float64))
    ridge = np.sort(np.linalg.eigvalsh(total))[::-1][TRUSTED]
    root = np.linalg.inv(np.linalg.cholesky(total))
    within = root @ (sum(7 * np.cov(rows[of == s].T) for s in range(120)) / len(rows)) @ root.T
    level = np.trace(within) / width
    within = (1 - SHRINKAGE) * within + SHRINKAGE * level * np.eye(width)
    back = np.linalg.inv(root)
    values, vectors = (
        part[..., :6]
        for part in eigh(
            back @ within @ back.T + level * ridge * np.eye(width), total + ridge * np.eye(width)
        )
    )
    expected = (rows - rows.mean(axis=0)) @ vectors * np.sqrt((1 - values) / values)
    found = (rows - mean.numpy()) @ matrix.numpy()
    assert np.allclose(np.abs(found), np.abs(expected), atol=5e-3 * np.abs(expected).max())


def test_subjects_come_apart() -> None:
    rows, of = made()
    matrix, mean = discriminant(torch.from_numpy(rows), of, 5)
    new, whose = made(30)
    assert apart(rows, of) < 0.5
    assert apart((rows - mean.numpy()) @ matrix.numpy(), of) > 0.9
    assert apart((new - mean.numpy()) @ matrix.numpy(), whose) > 0.9  # subjects that it never saw


def test_whitening_overlooks_what_varies_within_subjects_that_are_few() -> None:
    rows, of = made(4, 60)
    matrix, mean = whitening(torch.from_numpy(rows), of, 30)
    found = (rows - mean.numpy()) @ matrix.numpy()
    within = sum(60 * np.cov(found[of == s].T) for s in range(4)) / len(rows)
    # By construction along axes of the map; shrinkage alone makes less of those that tell subjects apart.
    assert np.abs(within - np.diag(np.diag(within))).max() < 1e-4
    assert np.sum(np.abs(np.diag(within) - 1) < 0.15) >= 25 and np.diag(within).max() < 1.15
    assert np.abs(np.cov(rows.T) - np.eye(30)).max() > 300, "which it was not"
    new, whose = made(30)
    assert apart((new - mean.numpy()) @ matrix.numpy(), whose) > max(0.9, apart(new, whose) + 0.3)
    fewer, _ = whitening(torch.from_numpy(rows), of, 8)
    assert fewer.shape == (30, 8)
    with pytest.raises(TrainingError, match=r"start whitening: 8 items more than subjects .* decide 4"):
        whitening(torch.from_numpy(rows[::20]), of[::20], 5)


@pytest.mark.parametrize("analysis", [discriminant, whitening])
def test_features_that_tell_nothing_change_nothing(analysis: Any) -> None:
    rows, of = made()
    told, mean = analysis(torch.from_numpy(rows), of, 8)
    right = apart((rows - mean.numpy()) @ told.numpy(), of)
    for more in (np.full((len(rows), 6), 0.5, np.float32), np.repeat(rows[:, :1], 6, axis=1)):
        wide = np.concatenate([rows, more], axis=1)
        matrix, middle = analysis(torch.from_numpy(wide), of, 8)
        assert apart((wide - middle.numpy()) @ matrix.numpy(), of) > right - 0.05
        every, _ = analysis(torch.from_numpy(wide), of, 36)  # more than there are: the rest is empty
        assert torch.isfinite(every).all() and (every.abs().max(dim=0).values < 1e-2).sum() >= 6
    with pytest.raises(TrainingError, match="the features of all items are the same"):
        analysis(torch.ones(len(of), 30), of, 8)


def test_subjects_of_one_item_count_towards_the_components_only() -> None:
    rows, of = made()
    more = np.concatenate([rows, rows.mean(axis=0) + (rows - rows.mean(axis=0))[::-1]])
    alone = np.concatenate([of, 1000 + np.arange(len(of))])
    one, _ = discriminant(torch.from_numpy(rows), of, 5)
    two, _ = discriminant(torch.from_numpy(more), alone, 5)
    a, b = ((rows - rows.mean(axis=0)) @ m.numpy() for m in (one, two))
    assert np.allclose(np.abs(a), np.abs(b), rtol=0.02, atol=0.02 * np.abs(a).max())


def test_a_seed_decides_and_few_items_are_refused_with_the_number() -> None:
    rows, of = made()
    one, two = (discriminant(torch.from_numpy(rows), of, 5, seed=3)[0] for _ in range(2))
    assert torch.equal(one, two)
    with pytest.raises(
        TrainingError, match=r"200 items more than subjects and 30 features .* --dim 30 or less"
    ):
        discriminant(torch.from_numpy(rows), of, 31)
    with pytest.raises(TrainingError, match="2 items more than subjects are too few, 4 are the least"):
        discriminant(torch.from_numpy(rows[:4]), np.array([0, 0, 1, 1]), 2)


def plain(picture: np.ndarray, cell: int, step: int, directions: int) -> np.ndarray:
    """The descriptor at one size by loops over places."""
    height, width = picture.shape
    hists = {}
    for top in range(0, height - 2 - cell + 1, step):
        for left in range(0, width - 2 - cell + 1, step):
            hist = np.zeros(directions)
            for y in range(top + 1, top + 1 + cell):
                for x in range(left + 1, left + 1 + cell):
                    across, down = (
                        picture[y, x + 1] - picture[y, x - 1],
                        picture[y + 1, x] - picture[y - 1, x],
                    )
                    strength = np.hypot(across, down)
                    for d in range(directions):
                        turn = np.cos(np.arctan2(down, across) - 2 * np.pi * d / directions)
                        hist[d] += strength * max(0.0, turn) ** 4 / cell**2
            hists[top // step, left // step] = hist
    far, found = max(1, round(cell / step)), []
    for row, column in sorted(hists):
        corners = [(row, column), (row, column + far), (row + far, column), (row + far, column + far)]
        if all(corner in hists for corner in corners):
            block = np.concatenate([hists[corner] for corner in corners])
            block = np.minimum(block / np.linalg.norm(block), 0.2)
            found.append(block / np.linalg.norm(block))
    return np.stack(found, axis=1).reshape(-1)


def test_the_descriptor_against_plain_loops() -> None:
    picture = RNG.normal(size=(20, 23))
    tower = towers.build("gradients", (1, 20, 23), sizes=[1.0], directions=6)
    found = tower(torch.from_numpy(picture[None, None].astype(np.float32)))[0].detach().numpy()
    expected = plain(picture, 6, 3, 6)
    assert tower.features == len(expected) == len(found)
    assert np.allclose(found, expected, atol=1e-4)


def test_the_other_sizes_are_resized_pictures() -> None:
    pictures = torch.from_numpy(RNG.normal(size=(3, 1, 40, 50)).astype(np.float32))
    both, half = (towers.build("gradients", (1, 40, 50), sizes=sizes) for sizes in ([1.0, 0.5], [1.0]))
    small = F.interpolate(pictures, size=[20, 25], mode="bilinear", antialias=True)
    alone = towers.build("gradients", (1, 20, 25), sizes=[1.0])
    assert torch.allclose(both(pictures), torch.cat([half(pictures), alone(small)], dim=1), atol=1e-3)


def test_light_changes_nothing_and_mirrored_is_as_it_says() -> None:
    picture = torch.from_numpy(RNG.normal(size=(1, 1, 32, 32)).astype(np.float32))
    tower = towers.build("gradients", (1, 32, 32), sizes=[1.0])
    assert torch.allclose(tower(picture), tower(picture * 3 + 5), atol=1e-4)
    assert (tower(picture) - tower(picture.flip(3))).abs().max() > 0.05
    alike = towers.build("gradients", (1, 32, 32), sizes=[1.0], mirrored=True)
    assert torch.equal(alike(picture), alike(picture.flip(3)))


def test_colours_are_differences_of_channels_by_place() -> None:
    pictures = RNG.normal(size=(2, 3, 32, 40)).astype(np.float32)
    plain_one, tower = (
        towers.build("gradients", (3, 32, 40), sizes=[1.0], colours=colours) for colours in (0, 4)
    )
    found = tower(torch.from_numpy(pictures)).detach()
    edges = plain_one(torch.from_numpy(pictures)).detach()
    assert torch.equal(found[:, : plain_one.features], edges)
    tints = found[:, plain_one.features :].numpy().reshape(2, 2, 4, 4)
    means = pictures.reshape(2, 3, 4, 8, 4, 10).mean(axis=(3, 5))
    red, green, blue = means.transpose(1, 0, 2, 3)
    assert np.allclose(tints[:, 0], TINT * (red - green), atol=1e-5)
    assert np.allclose(tints[:, 1], TINT * (blue - (red + green) / 2), atol=1e-5)
    grey = torch.from_numpy(pictures[:, :1]).expand(-1, 3, -1, -1)
    assert tower(grey)[:, plain_one.features :].abs().max() < 1e-6, "a grey picture has none"


def test_settings_that_the_tower_refuses() -> None:
    for shape, colours in (((1, 32, 32), 4), ((3, 32, 32), 33), ((3, 32, 32), -1)):
        with pytest.raises(EncoderError, match=f"colours {colours}: rgb pictures and at most 32"):
            towers.build("gradients", shape, colours=colours)
    for sizes, words in (
        ([], "must be positive"),
        ([1.0, -1.0], "must be positive"),
        ([0.2], "need images of"),
    ):
        with pytest.raises(EncoderError, match=words):
            towers.build("gradients", (1, 32, 32), sizes=sizes)


def faces(seed: int, people: int = 24, each: int = 5) -> Any:
    """Blurred noise a person, with some noise of its own a picture; (n, 36, 36) uint8 and labels."""
    rng = np.random.default_rng(seed)

    def blurred(n: int) -> Any:
        rough = torch.from_numpy(rng.normal(size=(n, 1, 9, 9)).astype(np.float32))
        return F.interpolate(rough, size=[36, 36], mode="bicubic")[:, 0].numpy()

    of = np.repeat(np.arange(people), each)
    mixed = blurred(people)[of] + 0.6 * blurred(len(of))
    return from_arrays(np.clip(mixed * 40 + 128, 0, 255).astype(np.uint8), [f"p{seed}-{k}" for k in of])


GIVEN: dict[str, Any] = {
    "tower": "gradients", "tower_args": {"sizes": [1.0]}, "dim": 16,
    "preprocess": {"kind": "grey", "height": 36, "width": 36}, "progress": False, "validation": faces(2),
}  # fmt: skip


def test_training_without_a_step(tmp_path: Path) -> None:
    history = encoders.train(faces(1), output=tmp_path / "f.encoder", **GIVEN)
    assert history.settings["start"] == "discriminant" and history.settings["steps"] == 0
    assert history.best is not None and history.best["step"] == 0 and history.best["eer"] < 0.2
    made = encoders.load(tmp_path / "f.encoder")
    rows = made.encode(list(faces(2).items))
    assert rows.shape == (120, 16) and apart(rows, np.repeat(np.arange(24), 5)) > 0.9
    again = encoders.train(faces(1), output=tmp_path / "g.encoder", **GIVEN)
    assert encoders.load(tmp_path / "g.encoder").fingerprint == made.fingerprint
    again.save_plot(tmp_path / "page.html")
    assert "step 0, EER" in (tmp_path / "page.html").read_text()


def test_steps_from_there_are_kept_only_where_they_help(tmp_path: Path) -> None:
    start = encoders.train(faces(1), output=tmp_path / "f.encoder", **GIVEN)
    on = encoders.train(faces(1), output=tmp_path / "g.encoder", steps=6, validate_every=2, lr=1e-3, **GIVEN)
    assert [entry["step"] for entry in on.validations] == [0, 2, 4, 6]
    assert on.best is not None and start.best is not None and on.best["eer"] <= start.best["eer"]


def test_starts_that_are_refused(tmp_path: Path) -> None:
    for changed, words in (
        ({"start": "warm"}, "must be one of random, discriminant"),
        ({"start": "random", "steps": 0}, "random weights must be trained"),
        ({"dim": 100}, "--dim 48 or less"),
    ):
        with pytest.raises(TrainingError, match=words):
            encoders.train(faces(1), output=tmp_path / "f.encoder", **(GIVEN | changed))
        assert not (tmp_path / "f.encoder").exists()
    texts = from_arrays([f"name {k}" for k in range(40)], [str(k // 4) for k in range(40)])
    with pytest.raises(TrainingError, match="start discriminant: the tower has no linear head"):
        encoders.train(
            texts, output=tmp_path / "t.encoder", tower="chars", start="discriminant", progress=False
        )
