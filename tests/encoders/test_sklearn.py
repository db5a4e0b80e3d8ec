"""Embeddings in scikit-learn's pipelines, and support sets beside a plain double loop."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import encoders
from encoders import few_shot
from encoders.errors import EncodeError, EncoderError
from encoders.packages import versions
from tests.encoders import made
from tests.encoders.shapes import labelled

if not versions("scikit-learn"):
    pytest.skip("the extra [demo] is not installed", allow_module_level=True)

from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

from encoders.sklearn import EncoderTransformer, SupportClassifier

DRAWN = labelled(6, 9)
ITEMS, LABELS = list(DRAWN.items), np.asarray(DRAWN.labels)


def test_the_embeddings_are_those_of_the_encoder() -> None:
    step = EncoderTransformer("glyph", device="cpu")
    rows = step.fit_transform(ITEMS[:3], LABELS[:3])
    assert np.array_equal(rows, encoders.load("glyph", device="cpu").encode(ITEMS[:3]))
    assert step.get_feature_names_out()[[0, -1]].tolist() == ["embedding0", "embedding255"]


@pytest.mark.parametrize("head", [SVC(), LogisticRegression(), SupportClassifier()], ids=repr)
def test_in_a_pipeline_with_cross_validation(head: Any) -> None:
    pipeline = make_pipeline(EncoderTransformer("glyph", device="cpu"), head)
    assert cross_val_score(pipeline, ITEMS, LABELS, cv=3).mean() > 0.9, "by chance it is 0.17"


def test_parameters_and_clones() -> None:
    step = EncoderTransformer("glyph", "cpu")
    assert step.get_params() == {"encoder": "glyph", "device": "cpu"}
    assert clone(step).set_params(encoder="photo").encoder == "photo" and step.encoder == "glyph"
    own = EncoderTransformer(made.encoder()).fit(ITEMS)
    again = clone(own)
    assert not hasattr(again, "encoder_")
    assert np.array_equal(again.fit(ITEMS).transform(ITEMS[:2]), own.transform(ITEMS[:2]))
    head = SupportClassifier("euclidean", rule="nearest")
    assert clone(head).get_params() == {"metric": "euclidean", "rule": "nearest"}


def test_a_search_over_both_steps() -> None:
    pipeline = make_pipeline(EncoderTransformer("glyph", device="cpu"), SupportClassifier())
    grid = {"encodertransformer__encoder": ["glyph", "photo"], "supportclassifier__rule": ["mean", "nearest"]}
    found = GridSearchCV(pipeline, grid, cv=3).fit(ITEMS, LABELS)
    assert found.best_params_["encodertransformer__encoder"] == "glyph", "drawings are what it is made for"


def test_what_is_refused() -> None:
    with pytest.raises(NotFittedError):
        EncoderTransformer().transform(ITEMS)
    with pytest.raises(NotFittedError):
        SupportClassifier().predict(np.zeros((1, 2), np.float32))
    with pytest.raises(EncoderError, match="encoder is a int: a name, a path or an encoder is needed"):
        EncoderTransformer(3).fit(ITEMS)
    with pytest.raises(EncodeError, match="item 1: "):
        EncoderTransformer(made.encoder()).fit(ITEMS).transform([ITEMS[0], b"no picture"])
    given = SimpleNamespace(encode=lambda items: np.asarray(items, np.float32))
    with pytest.raises(EncodeError, match="item 2: its embedding holds NaN or infinity, as do 2 of 4"):
        EncoderTransformer(given).fit([]).transform([[0.0], [1.0], [np.nan], [np.inf]])


def test_without_scikit_learn_the_pip_line() -> None:
    code = "import sys; sys.modules['sklearn'] = None\nimport encoders.sklearn"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MissingExtraError" in done.stderr and "pip install 'siamese-gallery[demo]'" in done.stderr


def by_hand(probe: Any, rows: Any, names: list[str], metric: str, rule: str) -> tuple[str, float]:
    """One probe, one class after the other."""
    best = ("", np.inf)
    for name in sorted(set(names)):
        own = [row.astype(np.float64) for row, one in zip(rows, names, strict=True) if one == name]
        if metric == "cosine":
            own = [row / np.linalg.norm(row) for row in own]
        for row in [sum(own) / len(own)] if rule == "mean" else own:
            if metric == "cosine":
                apart = 1 - probe @ row / np.linalg.norm(probe) / np.linalg.norm(row)
            else:
                apart = np.sqrt(((probe - row) ** 2).sum())
            if apart < best[1]:
                best = (name, apart)
    return best


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("rule", few_shot.RULES)
def test_beside_a_plain_loop(metric: str, rule: str) -> None:
    random = np.random.default_rng(5)
    rows, probes = (random.standard_normal((n, 6)).astype(np.float32) for n in (17, 9))
    names = random.choice(["a", "b", "c"], 17).tolist()
    found = SupportClassifier(metric, rule).fit(rows, names)
    for at, probe in enumerate(probes):
        name, apart = by_hand(probe.astype(np.float64), rows, names, metric, rule)
        assert found.predict(probes)[at] == name
        assert found.distances(probes)[at] == pytest.approx(apart, abs=1e-5)
    assert found.predict(probes[:0]).shape == (0,)


@pytest.mark.parametrize("rule", few_shot.RULES)
def test_rows_of_any_length_and_numbers_far_from_zero(rule: str) -> None:
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(10), 6)
    rows = random.normal(size=(10, 8))[labels] + 0.2 * random.normal(size=(60, 8))
    half = np.arange(60) % 2 == 0
    scales = np.geomspace(0.001, 1000, 60)[:, None]
    for metric, moved in (("cosine", rows * scales), ("euclidean", rows + 1.7e9)):  # as of seconds of a clock
        found = SupportClassifier(metric, rule).fit(moved[half], labels[half])
        assert (found.predict(moved[~half]) == labels[~half]).mean() == 1.0, "by chance it is 0.1"


def test_a_class_of_opposites_is_nowhere() -> None:
    """The mean of v1, v2, v3, -v1, -v2, -v3 is rounding; its direction would be as good as any."""
    one = np.random.default_rng(0).normal(size=(20, 8))
    rows, _ = few_shot.prototypes(np.r_[one, -one, np.eye(8)[:1]], [0] * 40 + [1], "cosine", "mean")
    assert (rows[0] == 0).all() and (rows[1] == np.eye(8)[0]).all()


def test_probes_that_cannot_be_named() -> None:
    found = SupportClassifier().fit(np.eye(3), ["a", "b", "c"])
    for bad, said in ((np.nan, "row 2 holds NaN or infinity, as do 1 of 4"), (0.0, "row 2 is all zeros")):
        probes = np.ones((4, 3))
        probes[2] = bad
        for ask in (found.predict, found.distances):
            with pytest.raises(ValueError, match=said):
                ask(probes)
    far = SupportClassifier("euclidean").fit(np.eye(3), ["a", "b", "c"])
    with pytest.raises(ValueError, match=r"row 1 is longer than 1e\+18, as are 1 of 2"):
        far.predict(np.array([[1.0, 0, 0], [0, 0, 1e40]]))  # it was infinitely far from all: "a"
    with pytest.raises(ValueError, match=r"shape \(4, 2\): \(n, 3\) are needed, as in the fit"):
        found.predict(np.ones((4, 2)))


@pytest.mark.parametrize(
    ("rows", "labels", "settings", "said"),
    [
        (np.zeros((0, 3)), [], {}, r"n > 0"),
        (np.zeros((2, 3)), ["a"], {}, r"shape \(2, 3\) with labels of shape \(1,\)"),
        (np.zeros(3), ["a"], {}, r"shape \(3,\)"),
        (np.array([[0.0], [np.nan]]), ["a", "b"], {}, "row 1 holds NaN"),
        (np.array([[1.0], [0.0]]), ["a", "b"], {}, "row 1 is all zeros, .* no direction under cosine"),
        (np.ones((1, 3)), ["a"], {"rule": "best"}, "rule 'best' is none of mean, nearest"),
        (np.ones((1, 3)), ["a"], {"metric": "dot"}, "metric 'dot' is none of cosine, euclidean"),
    ],
)
def test_support_sets_that_cannot_be(rows: Any, labels: Any, settings: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SupportClassifier(**settings).fit(rows, labels)
