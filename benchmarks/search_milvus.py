"""milvus-lite, beside the contenders of `benchmarks.storage_rivals`, for the search benchmark alone."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.storage_contender import Contender
from benchmarks.storage_data import DIM, Block


class Milvus(Contender):
    """A collection of milvus-lite with the quick set-up of its documentation."""

    name = "milvus-lite"
    packages = ("milvus-lite", "pymilvus")
    durable = "not looked at"
    search = "its AUTOINDEX"

    def load(self) -> None:
        import milvus_lite  # noqa: F401
        from pymilvus import MilvusClient

        self._class = MilvusClient

    def create(self, folder: Path) -> None:
        folder.mkdir()
        self.open(folder)
        self._client.create_collection(
            "gallery", dimension=DIM, metric_type="COSINE", id_type="string", max_length=64
        )

    def open(self, folder: Path) -> None:
        self._client = self._class(str(folder / "milvus.db"))
        if self._client.has_collection("gallery"):
            self._client.load_collection("gallery")

    def bulk(self, blocks: Iterable[Block]) -> None:
        for block in blocks:
            self._client.insert(
                "gallery", [{"id": id, "vector": row} | metadata for id, row, metadata in block]
            )

    def add_one(self, id: str, row: np.ndarray, metadata: dict[str, Any]) -> None:
        self._client.insert("gallery", [{"id": id, "vector": row} | metadata])

    def remove(self, id: str) -> None:
        self._client.delete("gallery", ids=[id])

    def ask(self, probe: np.ndarray) -> str:
        return str(self._client.search("gallery", data=[probe], limit=1, output_fields=["id"])[0][0]["id"])

    def close(self) -> None:
        self._client.close()
