"""The process that gets killed: changes a gallery at random and says what it begins and what is done.

    python child.py LOCATION SEED

Each line is JSON: ["begin", operation] before a verb is called, ["done", operation] after it has returned.
An operation is ["add", {id: how many}] or ["remove", id] or ["remove_templates", id, [numbers]].
"""

from __future__ import annotations

import json
import random
import sys
import zlib
from typing import Any

import numpy as np

import gallery

DIM = 16


def embedding(id: str) -> np.ndarray:
    """The vector that every template of `id` has."""
    return np.random.default_rng(zlib.crc32(id.encode())).standard_normal(DIM).astype(np.float32)


def main() -> None:
    """Goes on until it is killed."""
    location, seed = sys.argv[1], int(sys.argv[2])
    chance = random.Random(seed)
    with gallery.open(location, gallery.Precomputed(DIM)) as people:
        fresh = seed * 1_000_000
        while True:
            fresh += 1_000
            act(people, choose(people, chance, fresh))
            if chance.random() < 0.05:
                people.identify(embedding("anybody"))


def choose(people: gallery.Gallery, chance: random.Random, fresh: int) -> list[Any]:
    """What to do next."""
    ids = people.ids()
    what = chance.random()
    if len(ids) < 5 or what < 0.4:
        return ["add", {f"s{fresh}": chance.randint(1, 4)}]
    if what < 0.6:
        return ["add", {f"s{fresh + n}": chance.randint(1, 3) for n in range(chance.randint(10, 200))}]
    id = chance.choice(ids)
    if what < 0.65:
        return ["add", {id: 1}]
    if what < 0.9:
        return ["remove", id]
    numbers = [int(template) for template in people.templates(id)]
    return ["remove_templates", id, chance.sample(numbers, chance.randint(1, len(numbers)))]


def act(people: gallery.Gallery, operation: list[Any]) -> None:
    """Does it, and says so before and after."""
    print(json.dumps(["begin", operation]), flush=True)
    if operation[0] == "add":
        people.enroll_many((id, [embedding(id)] * count) for id, count in operation[1].items())
    elif operation[0] == "remove":
        people.remove(operation[1])
    else:
        people.remove_templates(operation[2])
    print(json.dumps(["done", operation]), flush=True)


if __name__ == "__main__":
    main()
