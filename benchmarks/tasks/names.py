"""Person names: which of all held-out people an alias belongs to."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import data_sets
from benchmarks.tasks.base import Answers, Embed, Floats, Fold, Measure, Trials
from encoders import evaluation
from encoders.datasets import from_arrays
from encoders.text import folded

TITLE = "person names, which person an alias is of"
PROTOCOL = (
    "one fifth of the people held out: their names enrolled, every alias of theirs asked among all of them; "
    "a tie is an error; edit distance and TF-IDF of 2- to 4-grams in the same run; interval from resampling "
    "people"
)
UNIT = "people"
MEASURES = {"rank1": Measure("rank-1", 0.45), "rank5": Measure("rank-5", None)}
SETTINGS: dict[str, Any] = {
    "tower": "chars", "tower_args": {"bag": 1024, "dropout": 0.25}, "dim": 1024,
    "preprocess": {"kind": "text"}, "augment": "none", "loss": "supcon", "loss_args": {"temperature": 0.05},
    "lr": 0.01, "steps": 200, "subjects": 256, "items": 2, "holdout": 0.0,
}  # fmt: skip


def people() -> list[tuple[str, list[str]]]:
    """(name, aliases) of each person; lines that share a name or an alias to the letter are one person's."""
    path = data_sets.folder("sequences") / "person_names" / "person_match.train2"
    found: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        name, alias, _ = line.split("\t")
        if name.strip() and alias.strip():
            found.setdefault(name.strip(), []).append(alias.strip())
    return sorted(found.items())


def folds() -> list[Fold]:
    """One split of the people, those who share a name or an alias being kept together."""
    names, aliases = zip(*people(), strict=True)
    part = _held_out([[name, *theirs] for name, theirs in zip(names, aliases, strict=True)])
    train, test = [np.flatnonzero(part == side) for side in (False, True)]
    texts = [text for p in train for text in (names[p], *aliases[p])]
    owners = [int(p) for p in train for _ in (0, *aliases[p])]
    asked = [(alias, k) for k, p in enumerate(test) for alias in aliases[p]]
    return [
        Fold(
            "held out",
            from_arrays(texts, owners),
            frozenset(names[p] for p in train),
            frozenset(names[p] for p in test),
            ([names[p] for p in test], [a for a, _ in asked], np.array([k for _, k in asked])),
        )
    ]


def _held_out(texts: list[list[str]]) -> Any:
    """Whether each person is tested: one in five, where people who share a name or alias share their fate."""
    group = list(range(len(texts)))

    def root(k: int) -> int:
        while group[k] != k:
            group[k] = group[group[k]]
            k = group[k]
        return k

    first: dict[str, int] = {}
    for k, theirs in enumerate(texts):
        for text in theirs:
            group[root(k)] = root(first.setdefault(text.casefold(), k))
    roots = np.array([root(k) for k in range(len(texts))])
    chosen = np.random.default_rng(0).permutation(np.unique(roots))
    return np.isin(roots, chosen[: len(chosen) // 5])


def baseline(fold: Fold) -> tuple[Embed, str]:
    """TF-IDF of character 2- to 4-grams, word ends marked, learnt from the training names."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    known = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), dtype=np.float32).fit(fold.train.items)
    return (lambda items: known.transform(items)), "cosine"


def score(embed: Embed, metric: str, fold: Fold) -> dict[str, Trials]:
    """Right or wrong at rank 1 and at rank 5, for every alias."""
    names, aliases, owners = fold.test
    left, right = embed(aliases), embed(names)
    if not isinstance(left, np.ndarray):  # sparse rows, of unit length
        return ranked(1.0 - np.asarray((left @ right.T).todense(), dtype=np.float32), owners)
    return ranked(evaluation.distances(left, right, metric), owners)


def ranked(apart: Floats, owners: Any) -> dict[str, Trials]:
    """Answers at rank 1 and 5 from the distances (aliases, names); ties count against."""
    own = apart[np.arange(len(owners)), owners][:, None]
    place = (apart <= own).sum(axis=1)  # 1 is the first
    return {
        "rank1": Answers((place <= 1).astype(np.float32), owners),
        "rank5": Answers((place <= 5).astype(np.float32), owners),
    }


def edit_distances(fold: Fold) -> dict[str, Trials]:
    """The other baseline: Levenshtein's distance of the folded texts, by their longer length."""
    names, aliases, owners = fold.test
    return ranked(levenshtein([folded(a) for a in aliases], [folded(n) for n in names]), owners)


def levenshtein(left: list[str], right: list[str]) -> Floats:
    """Edit distances of every left to every right text, by the longer one's length; (n, m) in [0, 1]."""
    width = max(map(len, right))
    letters = np.zeros((len(right), width), np.int32)
    for row, text in zip(letters, right, strict=True):
        row[: len(text)] = [ord(c) for c in text]
    lengths = np.array(list(map(len, right)))
    apart = np.empty((len(left), len(right)), np.float32)
    steps = np.arange(width + 1, dtype=np.int32)
    for row, text in zip(apart, left, strict=True):
        before = np.tile(steps, (len(right), 1))
        for place, letter in enumerate(text, 1):
            now = np.minimum(before[:, 1:] + 1, before[:, :-1] + (letters != ord(letter)))
            now = np.concatenate([np.full((len(right), 1), place, np.int32), now], axis=1)
            # Insertions: the least of what is to the left, one more for each step.
            before = np.minimum.accumulate(now - steps, axis=1) + steps
        row[:] = before[np.arange(len(right)), lengths] / np.maximum(lengths, len(text))
    return apart


MORE = {"edit distance": edit_distances}
