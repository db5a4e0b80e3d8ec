"""The Fisher tower and its mixture, against plain loops and scipy, and by what they must do."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch.nn import functional as F

import encoders
from encoders import mixture, towers
from encoders.errors import EncoderError, TrainingError
from encoders.towers._edges import sides_of
from encoders.towers.fisher import CLIPPED, PLACED, principal
from tests.encoders.test_discriminant import faces

RNG = np.random.default_rng(3)


def pictures(count: int, side: int = 32, channels: int = 1) -> torch.Tensor:
    """Blurred noise, (count, channels, side, side)."""
    rough = torch.from_numpy(RNG.normal(size=(count, channels, 9, 9)).astype(np.float32))
    return F.interpolate(rough, size=[side, side], mode="bicubic")


def tower(side: int = 32, channels: int = 1, seed: int = 0, **arguments: Any) -> Any:
    torch.manual_seed(seed)
    small = {"sizes": [1.0], "components": 10, "gaussians": 5, "cell": 3}
    return towers.build("fisher", (channels, side, side), **(small | arguments)).eval()


def patches_of(picture: np.ndarray, cell: int, step: int, directions: int) -> tuple[np.ndarray, np.ndarray]:
    """Descriptions (p, 16 * directions) and places (p, 2) by loops over patches, cells and pixels."""
    height, width = picture.shape
    found, places = [], []
    for top in range(0, height - 4 * cell - 1, step):
        for left in range(0, width - 4 * cell - 1, step):
            cells = np.zeros((4, 4, directions))
            for y in range(4 * cell):
                for x in range(4 * cell):
                    row, column = top + y + 1, left + x + 1
                    across = picture[row, column + 1] - picture[row, column - 1]
                    down = picture[row + 1, column] - picture[row - 1, column]
                    angle = np.arctan2(down, across) - 2 * np.pi * np.arange(directions) / directions
                    cells[y // cell, x // cell] += np.clip(np.cos(angle), 0, 1) ** 4 * np.hypot(across, down)
            whole = cells.reshape(-1) / np.linalg.norm(cells)
            clipped = np.minimum(whole, CLIPPED)
            found.append(np.sqrt(clipped / clipped.sum()))
            middle = np.array([top + 1 + 2 * cell, left + 1 + 2 * cell])
            places.append(middle / (height, width) - 0.5)
    return np.array(found), np.array(places)


def vector_of(rows: np.ndarray, means: Any, variances: Any, shares: Any) -> np.ndarray:
    """The Fisher vector of rows (p, d) by the formulas of Sanchez et al., equations 16 to 18."""
    by_mean, by_variance = np.zeros(means.shape), np.zeros(means.shape)
    for row in rows:
        parts = zip(shares, means, variances, strict=True)
        density = np.array([s * multivariate_normal.pdf(row, m, np.diag(v)) for s, m, v in parts])
        for k, belongs in enumerate(density / density.sum()):
            apart = (row - means[k]) / np.sqrt(variances[k])
            by_mean[k] += belongs * apart / np.sqrt(shares[k])
            by_variance[k] += belongs * (apart**2 - 1) / np.sqrt(2 * shares[k])
    both = np.concatenate([by_mean.reshape(-1), by_variance.reshape(-1)]) / len(rows)
    rooted = np.sign(both) * np.sqrt(np.abs(both))
    return rooted / np.linalg.norm(rooted)


def test_the_features_against_plain_loops() -> None:
    made = tower(side=20)
    made.look_at(pictures(12, 20))
    seen = pictures(1, 20)
    described, places = patches_of(seen[0, 0].double().numpy(), cell=3, step=2, directions=8)
    kept = (described - made.mean.numpy()) @ made.basis.numpy()
    rows = np.concatenate([kept, PLACED * places], axis=1)
    model = [part.double().numpy() for part in (made.means, made.variances, made.shares)]
    found = made(seen)[0].detach().numpy()
    assert made.features == len(found) == 2 * 5 * 12
    assert np.allclose(found, vector_of(rows, *model), atol=2e-3)
    assert np.median(np.abs(found - vector_of(rows, *model))) < 1e-5


def test_patches_of_all_sizes_count_alike() -> None:
    made = tower(sizes=[1.0, 0.7])
    seen = pictures(3)
    alone = [tower(sizes=[size]) for size in (1.0, 0.7)]
    assert [p.shape[1] for _, p in made._patches(seen)] == [100, 25] and made.patches == 125
    model = mixture.Mixture(made.means, made.variances, made.shares)
    for both, large, small in zip(*(each._statistics(seen, model) for each in (made, *alone)), strict=True):
        assert torch.allclose(both, (100 * large + 25 * small) / 125, atol=1e-5)


def test_large_pictures_are_read_strip_by_strip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patches of a picture of 512 x 512 would take a gigabyte a copy; strips of them give the same."""
    made, seen = tower(side=41, sizes=[1.0, 0.7]), pictures(20, 41)
    whole, patches = made(seen), [each for each, _ in made._patches(seen)]
    places = torch.cat([each for _, each in made._patches(seen)], dim=1)
    monkeypatch.setattr("encoders.towers.fisher.AT_ONCE", 40)
    strips = list(made._patches(seen))
    assert max(each.shape[2] for each, _ in strips) <= 40 and len(strips) > 5
    assert torch.equal(torch.cat([each for each, _ in strips], dim=2), torch.cat(patches, dim=2))
    assert torch.equal(torch.cat([each for _, each in strips], dim=1), places)
    assert torch.allclose(made(seen), whole, atol=1e-4)
    taken = []
    described = type(made)._patches
    monkeypatch.setattr(
        type(made), "_patches", lambda own, part: (taken.append(len(part)), described(own, part))[1]
    )
    made.look_at(seen)
    assert sum(taken) == 20 and max(taken) * made.patches <= 16 * 40


def test_light_changes_nothing_and_mirrored_is_as_it_says() -> None:
    seen = pictures(2, channels=3)
    made = tower(channels=3)
    assert torch.allclose(made(seen), made(seen * 3 + 5), atol=1e-3)
    assert torch.allclose(made(seen), made(seen.mean(1, keepdim=True).expand(-1, 3, -1, -1)), atol=1e-3)
    assert (made(seen) - made(seen.flip(3))).abs().max() > 0.01
    alike = tower(channels=3, mirrored=True)
    assert torch.equal(alike(seen), alike(seen.flip(3)))
    assert torch.allclose(alike(seen), made(seen) + made(seen.flip(3)))


def test_a_blank_picture_has_numbers() -> None:
    blank = torch.zeros(2, 1, 32, 32)
    made = tower()
    assert torch.isfinite(made(blank)).all()
    made.look_at(blank)
    assert torch.isfinite(made(blank)).all() and torch.isfinite(made(pictures(2))).all()


def test_what_it_looks_at_decides_and_the_seed_draws() -> None:
    items, seen = pictures(30), pictures(2)

    def after(seed: int, looked_at: torch.Tensor) -> torch.Tensor:
        made = tower()
        torch.manual_seed(seed)
        made.look_at(looked_at)
        found: torch.Tensor = made(seen)
        return found

    assert torch.equal(after(1, items), after(1, items))
    assert not torch.allclose(after(1, items), after(2, items), atol=1e-3)
    assert not torch.allclose(after(1, items), after(1, pictures(30)), atol=1e-3)


def test_principal_components_against_numpy() -> None:
    rows = RNG.normal(size=(200, 6)) * [9, 7, 5, 1, 0.5, 0.1] + 3
    mean, basis = principal(torch.from_numpy(rows.astype(np.float32)), 3)
    kept = (rows - mean.numpy()) @ basis.numpy()
    assert kept.std(axis=0).mean() == pytest.approx(1.0, abs=1e-4)
    assert np.allclose(np.corrcoef(kept.T), np.eye(3), atol=1e-4)
    lengths = np.linalg.svd(rows - rows.mean(axis=0))[1][:3]
    assert np.allclose(kept.std(axis=0) / kept.std(axis=0)[0], lengths / lengths[0], atol=1e-4)


def test_a_mixture_is_found_again() -> None:
    torch.manual_seed(0)
    centres = np.array([[0, 0, 0], [9, 0, 0], [0, 9, 0], [0, 0, 9]])
    of = np.repeat(np.arange(4), [4000, 3000, 2000, 1000])
    deviations = np.array([1.0, 0.5, 2.0])
    rows = torch.from_numpy((centres[of] + deviations * RNG.normal(size=(len(of), 3))).astype(np.float32))
    found = mixture.fitted(rows, 4)
    order = torch.argsort(found.shares, descending=True)
    assert torch.allclose(found.shares[order], torch.tensor([0.4, 0.3, 0.2, 0.1]), atol=0.01)
    assert torch.allclose(found.means[order], torch.from_numpy(centres).float(), atol=0.2)
    assert torch.allclose(found.variances[order].sqrt(), torch.tensor([1.0, 0.5, 2.0]), atol=0.1)


def test_log_densities_against_scipy() -> None:
    found = mixture.Mixture(
        *(torch.from_numpy(part.astype(np.float32))
          for part in (RNG.normal(size=(4, 3)), RNG.uniform(0.5, 2, (4, 3)), np.array([0.1, 0.2, 0.3, 0.4]))),
    )  # fmt: skip
    rows = torch.from_numpy(RNG.normal(size=(7, 3)).astype(np.float32))
    matrix, constant = mixture.logits_of(found)
    told = torch.cat([rows, rows * rows], dim=1) @ matrix.T + constant
    parts = zip(*(part.numpy() for part in found), strict=True)
    densities = [s * multivariate_normal.pdf(rows.numpy(), m, np.diag(v)) for m, v, s in parts]
    away = told.numpy() - np.log(np.stack(densities, axis=1))
    assert np.allclose(away, away[0, 0], atol=1e-4)


def test_more_gaussians_than_kinds_of_rows_stay_numbers() -> None:
    torch.manual_seed(0)
    found = mixture.fitted(torch.tensor([[0.0, 1.0], [2.0, 1.0]]).repeat(10, 1), 8)
    assert all(torch.isfinite(part).all() for part in found) and (found.variances > 0).all()
    assert found.shares.sum() == pytest.approx(1.0, abs=1e-4)
    with pytest.raises(ValueError, match="3 rows are too few for a mixture of 4"):
        mixture.fitted(torch.zeros(3, 2), 4)


def test_settings_that_the_tower_refuses() -> None:
    for arguments, words in (
        ({"sizes": []}, "must be positive"),
        ({"gaussians": 0}, "must be positive"),
        ({"components": 200}, "components 200: patches of 8 directions have 128 numbers"),
        ({"sizes": [1.0, 0.25]}, "need images of 54 pixels, not 32"),
    ):
        with pytest.raises(EncoderError, match=words):
            tower(**arguments)
    with pytest.raises(EncoderError, match=r"Fisher tower takes items of shape .*, not \(32, 32\)"):
        towers.build("fisher", (32, 32))
    with pytest.raises(TrainingError, match="gaussians 500: the training items have 200 patches"):
        tower(gaussians=500).look_at(pictures(2))


def test_pictures_of_the_size_that_is_asked_for_are_large_enough() -> None:
    for least, share in itertools.product(range(4, 30), (0.3, 0.5, 0.63, 0.75, 1.0, 1.5, 1e-6, 1e-30)):
        with pytest.raises(EncoderError, match="need images of") as raised:
            sides_of((1, 1, 1), [share], least)
        side = int(str(raised.value).split()[-4])
        assert min(sides_of((1, side, side), [share], least)[0]) >= least


def test_training_without_a_step(tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "tower": "fisher", "tower_args": {"sizes": [1.0], "components": 16, "gaussians": 8}, "dim": 16,
        "preprocess": {"kind": "grey", "height": 36, "width": 36}, "progress": False, "validation": faces(2),
    }  # fmt: skip
    before = torch.random.get_rng_state()
    history = encoders.train(faces(1), output=tmp_path / "f.encoder", **given)
    assert torch.equal(before, torch.random.get_rng_state()), "the caller's random state is not moved"
    assert history.settings["start"] == "discriminant" and history.settings["steps"] == 0
    assert history.best is not None and history.best["eer"] < 0.25
    encoders.train(faces(1), output=tmp_path / "g.encoder", **given)
    encoders.train(faces(1), output=tmp_path / "h.encoder", **given, seed=1)
    one, two, other = (encoders.load(tmp_path / f"{name}.encoder", device="cpu") for name in "fgh")
    assert one.fingerprint == two.fingerprint != other.fingerprint
    assert not torch.equal(one.network.tower.means, other.network.tower.means)
    on = encoders.train(faces(1), output=tmp_path / "i.encoder", base=tmp_path / "f.encoder", steps=0, **{
        name: given[name] for name in ("progress", "validation")
    })  # fmt: skip
    assert on.best is not None and on.best["eer"] == history.best["eer"]
