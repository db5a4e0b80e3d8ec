"""Bring embeddings: the gallery keeps, searches and removes vectors that something else has computed."""

import tempfile
from pathlib import Path

import numpy as np

import gallery


def main() -> None:
    """1,000 subjects with three vectors each: enrol in bulk, identify, verify, remove."""
    rng = np.random.default_rng(7)
    centers = rng.standard_normal((1001, 256)).astype(np.float32)

    def seen(subject: int, times: int) -> np.ndarray:
        return centers[subject] + 0.3 * rng.standard_normal((times, 256)).astype(np.float32)

    with tempfile.TemporaryDirectory() as folder:
        encoder = gallery.Precomputed(256, "cosine", "my-model-v3", threshold=0.3)
        with gallery.create(Path(folder) / "people", encoder) as people:
            print(people.enroll_many((f"subject-{n}", seen(n, 3)) for n in range(1000)))
            answer = people.identify(seen(42, 1)[0], k=3)
            print(answer, [f"{one.id} {one.distance:.3f}" for one in answer.candidates])
            print("a stranger:", people.identify(seen(1000, 1)[0]))
            print(people.verify("subject-42", seen(42, 1)[0]))
            print(people.verify("subject-42", seen(43, 1)[0]))
            print("removed", people.remove("subject-42"), "templates; now:", people.identify(seen(42, 1)[0]))


if __name__ == "__main__":
    main()
