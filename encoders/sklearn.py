"""Encoders in scikit-learn: embeddings as a transformer, and a support set as a classifier.

scikit-learn is an optional package (extra [demo]); without it this module raises MissingExtraError.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoders import few_shot
from encoders.errors import EncodeError, EncoderError
from encoders.loading import load
from encoders.packages import needed

needed("sklearn", "demo")

from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin  # noqa: E402
from sklearn.utils.validation import check_is_fitted  # noqa: E402


class EncoderTransformer(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Items -> embeddings (n, dim) float32, for a Pipeline with an SVM, a logistic regression, k-NN, ...

    encoder  what `encoders.load` takes (a name, a path), or an encoder. A clone copies an encoder and loads a
             name, so that a name is the better choice with cross-validation in several processes
    device   for `encoders.load`; not used with an encoder

    `fit` learns nothing, since an encoder is trained already: it loads it as `encoder_`.
    """

    def __init__(self, encoder: Any = "glyph", device: str | None = None) -> None:
        self.encoder = encoder
        self.device = device

    def fit(self, items: Iterable[Any], y: Any = None) -> EncoderTransformer:
        """Loads the encoder. EncoderError for what is none."""
        if isinstance(self.encoder, str | os.PathLike):
            self.encoder_ = load(os.fspath(self.encoder), self.device)
        elif hasattr(self.encoder, "encode"):
            self.encoder_ = self.encoder
        else:
            kind = type(self.encoder).__name__
            raise EncoderError(f"encoder is a {kind}: a name, a path or an encoder is needed")
        return self

    def transform(self, items: Iterable[Any]) -> NDArray[np.float32]:
        """The embeddings of the items. EncodeError names the first that has none."""
        check_is_fitted(self, "encoder_")
        rows: NDArray[np.float32] = self.encoder_.encode(items)
        if len(bad := np.flatnonzero(~np.isfinite(rows).all(axis=1))):
            raise EncodeError(
                int(bad[0]), f"its embedding holds NaN or infinity, as do {len(bad)} of {len(rows)}"
            )
        return rows

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """ "embedding0", "embedding1", ...: one for each number of an embedding."""
        check_is_fitted(self, "encoder_")
        return np.array([f"embedding{at}" for at in range(self.encoder_.dim)], dtype=object)


class SupportClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Names embeddings by a support set of k a class: what a gallery does, as a classifier to compare with.

    metric  that of the encoder, "cosine" or "euclidean"
    rule    "mean": the class whose mean embedding is nearest; "nearest": that of the nearest embedding
    """

    def __init__(self, metric: str = "cosine", rule: str = "mean") -> None:
        self.metric = metric
        self.rule = rule

    def fit(self, embeddings: NDArray[np.float32], y: Sequence[Any]) -> SupportClassifier:
        """Keeps the support set. ValueError for settings or numbers that do not fit."""
        self.rows_, self.names_ = few_shot.prototypes(embeddings, y, self.metric, self.rule)
        self.classes_ = np.unique(self.names_)
        return self

    def predict(self, embeddings: NDArray[np.float32]) -> Any:
        """The class of each embedding, (m,)."""
        check_is_fitted(self, "rows_")
        return few_shot.named(embeddings, self.rows_, self.names_, self.metric)[0]

    def distances(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """How far each embedding is from what it is named by, (m,): large for what is in no class."""
        check_is_fitted(self, "rows_")
        return few_shot.named(embeddings, self.rows_, self.names_, self.metric)[1]
