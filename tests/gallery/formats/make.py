"""Makes the gallery that the format in use is remembered by: `python -m tests.gallery.formats.make`.

Run it once for each format, when that is final, and never again: what it wrote has to open for ever after.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

import gallery
from gallery.stores.catalog import FORMAT
from gallery.stores.sqlite import SqliteStore

HERE = Path(__file__).parent


def rows() -> np.ndarray:
    """(40, 8) float32, the same for every format."""
    return np.random.default_rng(1).standard_normal((40, 8)).astype("f4")


def fill(people: gallery.Gallery) -> None:
    """What every format's gallery holds: s3 to s39 without s5, two of alice's three, and another."""
    made = rows()
    people.enroll("alice", made[:3], metadata={"badge": 7, "ä": [1, None]})
    people.enroll_many([(f"s{at}", made[at : at + 1]) for at in range(3, 40)])
    people.remove("s5")
    people.remove_templates([2])
    people.enroll("bøb 中", made[5:6])


def second_encoder(place: Path) -> None:
    """Binds the gallery to another encoder, which negates embeddings, and keeps the first ones."""
    name = f"format-{FORMAT}-second"
    store = SqliteStore(place / "catalog.sqlite", actor="maker")
    with store.snapshot():
        stored = list(store.scan())
    with store.commit("stage"):
        fingerprint = gallery.Precomputed(8, "cosine", name).fingerprint
        header = store.generations.begin(replace(store.header, encoder=name, fingerprint=fingerprint))
        for block in stored:
            store.generations.stage(header.generation, block.numbers.tolist(), -block.rows)
    with store.commit("switch"):
        store.generations.switch(header.generation)
    store.close()


def main() -> None:
    """Writes formats/N/gallery and formats/N/export.h5."""
    folder = HERE / str(FORMAT)
    folder.mkdir()
    place = folder / "gallery"
    encoder = gallery.Precomputed(8, "cosine", f"format-{FORMAT}")
    with gallery.create(place, encoder, keep_items=True, actor="maker") as people:
        fill(people)
        people._engine.set_setting("threshold", json.dumps({"threshold": 0.25}))
        people.export(folder / "export.h5")
    second_encoder(place)
    with gallery.open(place, gallery.Precomputed(8, "cosine", f"format-{FORMAT}-second")) as people:
        assert people.check() == []
    shutil.rmtree(place / "index", ignore_errors=True)


if __name__ == "__main__":
    main()
