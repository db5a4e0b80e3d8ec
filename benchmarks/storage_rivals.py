"""The contenders of the storage benchmark: ours, a bare SQLite table, raw FAISS, and four vector databases.

Every one is used as its own documentation says, with its defaults, cosine where it knows metrics, and always
with the embeddings given. To add one: one class here with the methods of `Contender`, its name in
`CONTENDERS`, its package in requirements-storage.txt. Packages are imported by `load`, so that a process pays
only for those it uses.
"""

from __future__ import annotations

import json
import sqlite3
from bisect import bisect_left
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.storage_contender import Contender, NotMeasuredError, files
from benchmarks.storage_data import DIM, Block, id_of, number_of


class Ours(Contender):
    """This project."""

    name = "ours"
    packages = ("siamese-gallery", "faiss-cpu")
    durable = "fsync of SQLite's WAL at every commit"
    search = "exact"

    def load(self) -> None:
        # FAISS is otherwise imported by the first search; what the others need is imported by now as well.
        import faiss  # noqa: F401

        import gallery
        import gallery.opening

        self._gallery = gallery

    def create(self, folder: Path) -> None:
        self.open(folder)

    def open(self, folder: Path) -> None:
        self._open = self._gallery.open(folder, self._gallery.Precomputed(DIM))

    def bulk(self, blocks: Iterable[Block]) -> None:
        self._open.enroll_many((id, [row], metadata) for block in blocks for id, row, metadata in block)

    def add_one(self, id: str, row: np.ndarray, metadata: dict[str, Any]) -> None:
        self._open.enroll(id, [row], metadata=metadata)

    def remove(self, id: str) -> None:
        self._open.remove(id)

    def ask(self, probe: np.ndarray) -> str:
        return self._open.identify(probe, k=1).candidates[0].id

    def close(self) -> None:
        self._open.close()

    def bytes(self, folder: Path) -> dict[str, int]:
        index = sum(file.stat().st_size for file in files(folder / "index"))
        return {"kept": sum(file.stat().st_size for file in files(folder)) - index, "index": index}


class BareSqlite(Contender):
    """The same bytes in one table without an index: what any store on SQLite is measured by."""

    name = "bare SQLite"
    packages = ()
    durable = "fsync of SQLite's WAL at every commit"
    search = "exact: reads every row, numpy"

    def load(self) -> None:
        pass

    def create(self, folder: Path) -> None:
        folder.mkdir()
        self.open(folder)
        self._db.execute("CREATE TABLE embeddings (id TEXT, metadata TEXT, embedding BLOB)")

    def open(self, folder: Path) -> None:
        self._db = sqlite3.connect(folder / "bare.sqlite", isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")

    def bulk(self, blocks: Iterable[Block]) -> None:
        self._db.execute("BEGIN")
        self._db.executemany(
            "INSERT INTO embeddings VALUES (?, ?, ?)",
            ((id, json.dumps(about), row.tobytes()) for block in blocks for id, row, about in block),
        )
        self._db.execute("COMMIT")

    def add_one(self, id: str, row: np.ndarray, metadata: dict[str, Any]) -> None:
        about = json.dumps(metadata)
        self._db.execute("INSERT INTO embeddings VALUES (?, ?, ?)", (id, about, row.tobytes()))

    def remove(self, id: str) -> None:
        raise NotMeasuredError("the bare table has no index on id")

    def ask(self, probe: np.ndarray) -> str:
        ids, held = [], bytearray()
        for id, embedding in self._db.execute("SELECT id, embedding FROM embeddings"):
            ids.append(id)
            held += embedding
        return ids[int(np.argmax(np.frombuffer(held, np.float32).reshape(-1, DIM) @ probe))]

    def close(self) -> None:
        self._db.close()


class RawFaiss(Contender):
    """A flat FAISS index in memory, written whole; no metadata, and ids in a list beside it."""

    name = "raw FAISS"
    packages = ("faiss-cpu",)
    durable = "nothing until the whole file is written, and no fsync then"
    search = "exact"

    def load(self) -> None:
        import faiss

        self._faiss = faiss

    def create(self, folder: Path) -> None:
        folder.mkdir()
        self._folder, self._ids, self._changed = folder, [], True
        self._index = self._faiss.IndexFlatIP(DIM)

    def open(self, folder: Path) -> None:
        self._folder, self._changed = folder, False
        self._index = self._faiss.read_index(str(folder / "flat.faiss"))
        self._ids = (folder / "ids.txt").read_text(encoding="utf-8").splitlines()

    def bulk(self, blocks: Iterable[Block]) -> None:
        for block in blocks:
            self._index.add(block.rows)
            self._ids += block.ids
        self._save()

    def add_one(self, id: str, row: np.ndarray, metadata: dict[str, Any]) -> None:
        raise NotMeasuredError("one addition is on the disk only after the whole file was written")

    def remove(self, id: str) -> None:
        # Later rows move up by one, in the index as in the list, which stays sorted.
        at = bisect_left(self._ids, id)
        self._index.remove_ids(np.array([at], np.int64))
        del self._ids[at]

    def ask(self, probe: np.ndarray) -> str:
        return self._ids[int(self._index.search(probe[None], 1)[1][0, 0])]

    def close(self) -> None:
        pass

    def _save(self) -> None:
        self._faiss.write_index(self._index, str(self._folder / "flat.faiss"))
        (self._folder / "ids.txt").write_text("\n".join(self._ids), encoding="utf-8")


class SqliteVec(Contender):
    """The sqlite-vec extension: a vec0 table, in a SQLite that may load extensions."""

    name = "sqlite-vec"
    packages = ("sqlite-vec", "pysqlite3-binary")
    durable = "fsync of SQLite's WAL at every commit"
    search = "exact"

    def load(self) -> None:
        import sqlite_vec

        try:
            from pysqlite3 import dbapi2
        except ImportError:
            dbapi2 = sqlite3
            if not hasattr(sqlite3.Connection, "enable_load_extension"):
                raise
        self._sqlite, self._extension = dbapi2, sqlite_vec

    def create(self, folder: Path) -> None:
        folder.mkdir()
        self.open(folder)
        self._db.execute(
            "CREATE VIRTUAL TABLE embeddings USING vec0(id TEXT PRIMARY KEY, "
            f"embedding float[{DIM}] distance_metric=cosine, +metadata TEXT)"
        )

    def open(self, folder: Path) -> None:
        self._db = self._sqlite.connect(str(folder / "vec.sqlite"), isolation_level=None)
        self._db.enable_load_extension(True)
        self._extension.load(self._db)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")

    def bulk(self, blocks: Iterable[Block]) -> None:
        self._db.execute("BEGIN")
        self._db.executemany(
            "INSERT INTO embeddings(id, embedding, metadata) VALUES (?, ?, ?)",
            ((id, row.tobytes(), json.dumps(about)) for block in blocks for id, row, about in block),
        )
        self._db.execute("COMMIT")

    def add_one(self, id: str, row: np.ndarray, metadata: dict[str, Any]) -> None:
        self._db.execute(
            "INSERT INTO embeddings(id, embedding, metadata) VALUES (?, ?, ?)",
            (id, row.tobytes(), json.dumps(metadata)),
        )

    def remove(self, id: str) -> None:
        self._db.execute("DELETE FROM embeddings WHERE id = ?", (id,))

    def ask(self, probe: np.ndarray) -> str:
        return self._db.execute(
            "SELECT id FROM embeddings WHERE embedding MATCH ? AND k = 1", (probe.tobytes(),)
        ).fetchone()[0]

    def close(self) -> None:
        self._db.close()


class Chroma(Contender):
    """chromadb's PersistentClient."""

    name = "chromadb"
    packages = ("chromadb",)
    durable = "fsync of SQLite's rollback journal and database at every commit"
    search = "approximate: HNSW"

    def load(self) -> None:
        import chromadb
        from chromadb.config import Settings

        self._chromadb, self._settings = chromadb, Settings(anonymized_telemetry=False)

    def create(self, folder: Path) -> None:
        self._connect(folder)
        self._collection = self._client.create_collection(
            "gallery", embedding_function=None, configuration={"hnsw": {"space": "cosine"}}
        )

    def open(self, folder: Path) -> None:
        self._connect(folder)
        self._collection = self._client.get_collection("gallery", embedding_function=None)

    def _connect(self, folder: Path) -> None:
        self._client = self._chromadb.PersistentClient(path=str(folder), settings=self._settings)

    def bulk(self, blocks: Iterable[Block]) -> None:
        for block in blocks:
            self._collection.add(ids=block.ids, embeddings=block.rows, metadatas=block.metadata)

    def add_one(self, id: str, row: np.ndarray, metadata: dict[str, Any]) -> None:
        self._collection.add(ids=[id], embeddings=row[None], metadatas=[metadata])

    def remove(self, id: str) -> None:
        self._collection.delete(ids=[id])

    def ask(self, probe: np.ndarray) -> str:
        found = self._collection.query(query_embeddings=probe[None], n_results=1, include=["distances"])
        return found["ids"][0][0]

    def close(self) -> None:
        self._client.close()


class Lance(Contender):
    """A lancedb table without a vector index, which is its default."""

    name = "lancedb"
    packages = ("lancedb", "pyarrow")
    durable = "no fsync: in the page cache, lost in a power cut"
    search = "exact"

    def load(self) -> None:
        import lancedb
        import pyarrow

        self._lancedb, self._arrow = lancedb, pyarrow
        vector = pyarrow.list_(pyarrow.float32(), DIM)
        columns = [("id", pyarrow.string()), ("metadata", pyarrow.string()), ("vector", vector)]
        self._schema = pyarrow.schema(columns)

    def create(self, folder: Path) -> None:
        self._table = self._lancedb.connect(folder).create_table("gallery", schema=self._schema)

    def open(self, folder: Path) -> None:
        self._table = self._lancedb.connect(folder).open_table("gallery")

    def bulk(self, blocks: Iterable[Block]) -> None:
        batches = map(self._batch, blocks)
        self._table.add(self._arrow.RecordBatchReader.from_batches(self._schema, batches))

    def _batch(self, block: Block) -> Any:
        arrow = self._arrow
        vectors = arrow.FixedSizeListArray.from_arrays(arrow.array(block.rows.ravel()), DIM)
        columns = [arrow.array(block.ids), arrow.array([json.dumps(m) for m in block.metadata]), vectors]
        return arrow.RecordBatch.from_arrays(columns, schema=self._schema)

    def add_one(self, id: str, row: np.ndarray, metadata: dict[str, Any]) -> None:
        self._table.add([{"id": id, "metadata": json.dumps(metadata), "vector": row}])

    def remove(self, id: str) -> None:
        self._table.delete(f"id = '{id}'")

    def ask(self, probe: np.ndarray) -> str:
        nearest = self._table.search(probe).distance_type("cosine").select(["id", "_distance"])
        return nearest.limit(1).to_list()[0]["id"]

    def close(self) -> None:
        del self._table


class Qdrant(Contender):
    """qdrant-client's local mode. Its points have numbers for ids, so ours goes into the payload."""

    name = "qdrant local"
    packages = ("qdrant-client",)
    durable = "fsync of SQLite's rollback journal and database at every point"
    search = "exact: numpy, everything in memory"

    def load(self) -> None:
        import qdrant_client
        from qdrant_client import models

        self._module, self._models = qdrant_client, models

    def create(self, folder: Path) -> None:
        self.open(folder)
        models = self._models
        self._client.create_collection(
            "gallery", vectors_config=models.VectorParams(size=DIM, distance=models.Distance.COSINE)
        )

    def open(self, folder: Path) -> None:
        self._client = self._module.QdrantClient(path=str(folder))

    def bulk(self, blocks: Iterable[Block]) -> None:
        for block in blocks:
            self._client.upload_collection(
                "gallery",
                vectors=block.rows,
                payload=[{"id": id} | about for id, _, about in block],
                ids=[number_of(id) for id in block.ids],
            )

    def add_one(self, id: str, row: np.ndarray, metadata: dict[str, Any]) -> None:
        point = self._models.PointStruct(id=number_of(id), vector=row.tolist(), payload={"id": id} | metadata)
        self._client.upsert("gallery", points=[point])

    def remove(self, id: str) -> None:
        self._client.delete("gallery", points_selector=[number_of(id)])

    def ask(self, probe: np.ndarray) -> str:
        return id_of(self._client.query_points("gallery", query=probe.tolist(), limit=1).points[0].id)

    def close(self) -> None:
        self._client.close()


CONTENDERS: dict[str, type[Contender]] = {
    contender.name: contender for contender in (Ours, BareSqlite, RawFaiss, SqliteVec, Chroma, Lance, Qdrant)
}
