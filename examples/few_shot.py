"""k digits a class: a gallery, a support set, and classifiers of scikit-learn on the same embeddings.

"glyph" was never trained on digits. Means of ten draws, or of as many as are named; 500 others are asked.
"""

import sys
from tempfile import TemporaryDirectory

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

import gallery
from encoders.sklearn import EncoderTransformer, SupportClassifier


def by_gallery(rows: np.ndarray, labels: np.ndarray, probes: np.ndarray) -> np.ndarray:
    """The nearest subject of a gallery of embeddings."""
    with TemporaryDirectory() as folder:
        with gallery.open(f"{folder}/digits.gallery", gallery.Precomputed(rows.shape[1])) as digits:
            digits.enroll_many([(name, rows[labels == name]) for name in np.unique(labels)])
            answers = digits.identify_batch(probes, 1, threshold=2.0)
        return np.array([answer.best.id for answer in answers if answer.best])


def drawn(labels: np.ndarray, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers: k of each label, and 500 of the others."""
    order = np.random.default_rng(seed).permutation(len(labels))
    known = np.concatenate([order[labels[order] == name][:k] for name in np.unique(labels)])
    return known, np.setdiff1d(order, known)[:500]


def main() -> None:
    """Prints the table, then one pipeline from pictures to names."""
    held, draws = load_digits(), int((*sys.argv, "10")[1])
    pictures, labels = list((held.images * (255 / 16)).astype(np.uint8)), held.target.astype(str)
    rows = EncoderTransformer("glyph").fit_transform(pictures)
    heads = {
        "support set, mean": SupportClassifier(rule="mean"),
        "support set, nearest": SupportClassifier(rule="nearest"),
        "logistic regression": LogisticRegression(max_iter=1000),
        "SVM": SVC(),
    }
    for k in (1, 5, 20):
        right: dict[str, list[float]] = {name: [] for name in ["gallery", *heads]}
        for known, asked in (drawn(labels, k, seed) for seed in range(draws)):
            answers = by_gallery(rows[known], labels[known], rows[asked])
            right["gallery"].append((answers == labels[asked]).mean())
            for name, head in heads.items():
                right[name].append(head.fit(rows[known], labels[known]).score(rows[asked], labels[asked]))
        print(f"k = {k:2}: " + ", ".join(f"{name} {np.mean(all):.3f}" for name, all in right.items()))
    pipeline = make_pipeline(EncoderTransformer("glyph"), SVC()).fit(pictures[:200], labels[:200])
    print("from pictures:", *pipeline.predict(pictures[200:205]), "is", *labels[200:205])


if __name__ == "__main__":
    main()
