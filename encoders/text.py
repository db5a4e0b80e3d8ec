"""Short texts, such as names, as rows of character numbers of one length."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from encoders import stored
from encoders.errors import EncoderError

Array = NDArray[np.float32]
PADDING, UNKNOWN, FIRST = 0, 1, 2  # the numbers that are no letter, and that of the first letter
RARE = 2  # letters seen less often than this are unknown: nothing could be learnt of them


@dataclass(frozen=True, slots=True)
class TextPreprocess:
    """Texts as numbers of their characters: (longest,), 0 for padding, 1 for a character not in `alphabet`.

    Case is folded, compatibility forms are unified, runs of white space become one space; with
    `strip_accents` an accented letter is its bare one. Empty and longer texts are refused.
    """

    kind: ClassVar[str] = "text"
    of_images: ClassVar[bool] = False
    suffixes: ClassVar[frozenset[str]] = stored.TEXTS
    alphabet: str
    longest: int = 64
    strip_accents: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.alphabet, str) or not self.alphabet:
            raise ValueError("alphabet must be a text of the letters that are known")

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.longest,)

    @property
    def letters(self) -> int:
        """How many different numbers there are, padding and unknown included."""
        return FIRST + len(self.alphabet)

    def number(self, letter: str) -> int:
        """The number of a letter; 0 when it is not in the alphabet."""
        return FIRST + self.alphabet.index(letter) if letter in self.alphabet else PADDING

    def __call__(self, item: Any) -> Array:
        text = folded(item, self.strip_accents)
        if len(text) > self.longest:
            raise ValueError(f"a text of {len(text):,} characters: this encoder takes {self.longest:,}")
        row = np.full(self.longest, PADDING, dtype=np.float32)
        places = (self.alphabet.find(letter) for letter in text)
        row[: len(text)] = [UNKNOWN if at < 0 else FIRST + at for at in places]
        return row

    def text(self, row: Array) -> str:
        """The text that a row stands for, with ? for what is unknown."""
        numbers = (int(n) for n in row if int(n) != PADDING)
        return "".join("?" if n == UNKNOWN else self.alphabet[n - FIRST] for n in numbers)

    @classmethod
    def fit(cls, settings: dict[str, Any], items: Sequence[Any]) -> dict[str, Any]:
        """The alphabet of the items, most frequent first; room for half as many characters again.

        Items that are no texts are passed over: they are told all together when the set is prepared.
        """
        strip = bool(settings.get("strip_accents", True))
        texts = [text for item in items if (text := _folded_or_none(item, strip)) is not None]
        if not texts:
            raise EncoderError(
                f"preprocess text needs texts to learn its alphabet from: none of {len(items):,} items is one"
            )
        counts = Counter("".join(texts))
        kept = [c for c, n in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])) if n >= RARE]
        longest = max(map(len, texts))
        return {"alphabet": "".join(kept), "longest": max(16, int(1.5 * longest))} | settings


def _folded_or_none(item: Any, strip_accents: bool) -> str | None:
    try:
        return folded(item, strip_accents)
    except ValueError:
        return None


def folded(item: Any, strip_accents: bool = True) -> str:
    """The text with its case folded, forms unified, white space collapsed; a path is that of a file of UTF-8.

    ValueError for none or no text.
    """
    if isinstance(item, os.PathLike):
        item = stored.text_in(item)
    if not isinstance(item, str):
        raise ValueError(f"a text is needed, not {type(item).__name__}")
    text = unicodedata.normalize("NFKD" if strip_accents else "NFKC", item).casefold()
    if strip_accents:
        text = "".join(c for c in text if not unicodedata.combining(c))
    text = " ".join(text.split())
    if not text:
        raise ValueError("the text is empty")
    return text
