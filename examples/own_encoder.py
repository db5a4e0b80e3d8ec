"""Bring your own encoder: anything with dim, metric, fingerprint and encode(items) will do.

This one embeds names by their letter triples, so that misspellings land near each other.
"""

import tempfile
import zlib
from pathlib import Path

import numpy as np

import gallery


class Trigrams:
    """Counts of hashed letter triples."""

    dim, metric, fingerprint, name, threshold = 512, "cosine", "trigrams-v1", "trigrams", 0.6

    def encode(self, items):
        rows = np.zeros((len(items), self.dim), np.float32)
        for row, text in zip(rows, items, strict=True):
            padded = f"  {text.lower()} "
            for at in range(len(padded) - 2):
                row[zlib.crc32(padded[at : at + 3].encode()) % self.dim] += 1
        return rows


def main() -> None:
    """Enrols three people by name and identifies misspellings of theirs."""
    with tempfile.TemporaryDirectory() as folder, gallery.open(Path(folder) / "names", Trigrams()) as people:
        people.enroll("badge 1", ["Katherine Johnson"], metadata={"team": "orbits"})
        people.enroll("badge 2", ["Dorothy Vaughan"])
        people.enroll("badge 3", ["Mary Jackson", "Mary W. Jackson"])
        for asked in ("Catherine Jonson", "dorothy vaugan", "Mary Jakson", "Isaac Newton"):
            print(f"{asked:18s}", people.identify(asked))
        print(people.verify("badge 1", "Katherine Jonson"))


if __name__ == "__main__":
    main()
