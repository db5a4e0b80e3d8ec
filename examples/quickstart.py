"""One-shot recognition of handwriting by an encoder that was never trained on it: `make demo` runs this.

Enrols ONE image of each of eight digits, identifies all others, then enrols the two missing digits without
retraining anything, removes one, verifies, closes, reopens, and writes a page with pictures.
"""

from __future__ import annotations

import base64
import html
import shutil
import time
from collections import Counter
from pathlib import Path

import numpy as np

import encoders
import gallery
from encoders.images import thumbnail

OUT = Path("out")
ANYTHING = 2.0  # the largest cosine distance: with it identify always names the nearest subject


def main() -> None:
    """The whole story, printed step by step."""
    images, labels = digits()
    encoder = encoders.load("glyph")
    print(
        f"encoder glyph: {encoder.dim}-d, {encoder.metric}, trained on Omniglot's background alphabets only"
    )
    print(f"threshold it recommends: {encoder.threshold:.3f}\n")

    OUT.mkdir(exist_ok=True)
    location = OUT / "digits.gallery"
    shutil.rmtree(location, ignore_errors=True)
    people = gallery.open(location, encoder)

    enrolled = [int(np.flatnonzero(labels == digit)[0]) for digit in range(10)]
    for digit in range(8):
        people.enroll(str(digit), [images[enrolled[digit]]], metadata={"enrolled_from": enrolled[digit]})
    print(f"enrolled ONE image for each of {', '.join(people.ids())}\n")

    probes = [row for row in range(len(images)) if row not in enrolled]
    known = [row for row in probes if labels[row] < 8]
    strangers = [row for row in probes if labels[row] >= 8]
    started = time.perf_counter()
    answers = people.identify_batch([images[row] for row in known], k=8, threshold=ANYTHING)
    seconds = time.perf_counter() - started
    print(confusion([labels[row] for row in known], [int(answer.best.id) for answer in answers]))
    right = accuracy(answers, labels[known])
    raw = raw_pixels(images, labels, enrolled[:8], known)
    print(f"\nthe nearest of 8, one image each: {right:.1%} right of {len(known)}; raw pixels {raw:.1%}")
    print("that hangs on which eight images were enrolled, so:")
    eight = labels < 8
    print(over_draws("glyph", encoder.encode(images[eight]), labels[eight]))
    print(over_draws("raw pixels", images[eight].reshape(eight.sum(), -1), labels[eight]))
    print(f"{len(known) / seconds:.0f} images a second, embedding included\n")

    open_set(people, images, labels, known[::4], strangers)  # as many as there are strangers

    for digit in (8, 9):
        print(people.enroll(str(digit), [images[enrolled[digit]]]))
    answers = people.identify_batch([images[row] for row in strangers], k=10, threshold=ANYTHING)
    print(
        f"no retraining: 8 and 9 are now named right {accuracy(answers, labels[strangers]):.1%} of the time\n"
    )

    print(f"removed 3: {people.remove('3')} template; '3' in gallery: {'3' in people}")
    threes = people.identify_batch([images[row] for row in known if labels[row] == 3], threshold=ANYTHING)
    print(f"answers that still say 3: {sum(answer.best.id == '3' for answer in threes)} of {len(threes)}\n")

    four, seven = (next(row for row in known if labels[row] == digit) for digit in (4, 7))
    print(f"a 4 that claims to be 4:  {people.verify('4', images[four])}")
    print(f"a 7 that claims to be 4:  {people.verify('4', images[seven])}\n")

    sample = [probes[at] for at in np.random.default_rng(0).choice(len(probes), 40, replace=False)]
    before = people.identify_batch([images[row] for row in sample], k=3)
    people.close()
    with gallery.open(location, encoder, read_only=True) as again:
        after = again.identify_batch([images[row] for row in sample], k=3)
    print(f"closed and reopened: the same {len(after)} answers, bit for bit: {before == after}")

    page = OUT / "quickstart.html"
    page.write_text(as_page(images, labels, enrolled, sample, after), encoding="utf-8")
    print(f"pictures of queries and answers: {page}")


def digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's 1,797 handwritten digits: (n, 8, 8) uint8, light on dark, and their labels."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise SystemExit("the demo needs scikit-learn: pip install 'siamese-gallery[cpu,demo]'") from error
    found = load_digits()
    return (found.images * (255 / 16)).astype(np.uint8), found.target


def accuracy(answers: list[gallery.Identification], truth: np.ndarray) -> float:
    """The share of answers whose best candidate is the truth."""
    pairs = zip(answers, truth, strict=True)
    return float(
        np.mean([answer.best is not None and answer.best.id == str(label) for answer, label in pairs])
    )


def raw_pixels(images: np.ndarray, labels: np.ndarray, enrolled: list[int], probes: list[int]) -> float:
    """The same task by the nearest image, pixel by pixel."""
    flat = images.reshape(len(images), -1).astype(float)
    distances = np.linalg.norm(flat[probes][:, None] - flat[enrolled][None], axis=2)
    return float((labels[enrolled][distances.argmin(axis=1)] == labels[probes]).mean())


def over_draws(name: str, rows: np.ndarray, labels: np.ndarray, draws: int = 200) -> str:
    """The same task over random choices of the eight enrolled images: how much depends on them."""
    rng = np.random.default_rng(0)
    rows = rows.astype(float)
    right = []
    for _ in range(draws):
        enrolled = [rng.choice(np.flatnonzero(labels == digit)) for digit in range(8)]
        distances = ((rows[:, None] - rows[enrolled][None]) ** 2).sum(axis=2)
        others = np.setdiff1d(np.arange(len(rows)), enrolled)
        right.append((distances[others].argmin(axis=1) == labels[others]).mean())
    low, high = np.quantile(right, [0.025, 0.975])
    spread = f"95 % of them {low:.1%} to {high:.1%}"
    return f"  {draws} random choices of the eight, {name}: {np.mean(right):.1%} ({spread})"


def open_set(
    people: gallery.Gallery, images: np.ndarray, labels: np.ndarray, known: list[int], strangers: list[int]
) -> None:
    """With the recommended threshold: who is let in, who is unknown."""
    mated = people.identify_batch([images[row] for row in known])
    foreign = people.identify_batch([images[row] for row in strangers])
    unknown = np.mean([answer.decision == "unknown" for answer in foreign])
    print(f"with the recommended threshold {people.threshold:.3f}:")
    right, refused = accuracy(mated, labels[known]), np.mean([one.decision == "unknown" for one in mated])
    print(f"  {len(known)} images of enrolled digits: {right:.1%} named right, {refused:.1%} unknown")
    print(f"  {len(strangers)} of an 8 or 9, not enrolled: {unknown:.1%} unknown")
    print(f"  for instance: {foreign[0]}\n")


def confusion(truth: list[int], named: list[int]) -> str:
    """A table: a row for each true digit, a column for each answer."""
    counts = np.zeros((8, 8), int)
    np.add.at(counts, (truth, named), 1)
    lines = ["true \\ named " + "".join(f"{digit:5d}" for digit in range(8))]
    lines += [f"{digit:12d} " + "".join(f"{count:5d}" for count in row) for digit, row in enumerate(counts)]
    return "\n".join(lines)


def as_page(
    images: np.ndarray,
    labels: np.ndarray,
    enrolled: list[int],
    sample: list[int],
    answers: list[gallery.Identification],
) -> str:
    """One self-contained page: each query, what it was taken for, and how far away the candidates are."""
    cards, kinds = [], Counter()
    for row, answer in zip(sample, answers, strict=True):
        named = answer.best.id if answer.best else "unknown"
        shown = answer.candidates or (() if answer.nearest is None else (answer.nearest,))
        near = "".join(
            f"<figure>{picture(images[enrolled[int(one.id)]])}<figcaption>{html.escape(one.id)}<br>{one.distance:.3f}"
            "</figcaption></figure>"
            for one in shown
        )
        truth = str(labels[row])
        # 3 was removed: to say that it is unknown is right.
        right = named == truth or (answer.best is None and truth == "3")
        kind = "right" if right else "unknown" if answer.best is None else "wrong"
        kinds[kind] += 1
        cards.append(
            f'<section class="{kind}"><figure>{picture(images[row])}'
            f"<figcaption>a {labels[row]}</figcaption></figure>"
            f"<b>{html.escape(named)}</b>{near}</section>"
        )
    counts = f"{kinds['right']} right, {kinds['wrong']} wrong, {kinds['unknown']} unknown though enrolled"
    page = PAGE.replace("CARDS", "\n".join(cards)).replace("COUNTS", counts)
    return page.replace("THRESHOLD", f"{answers[0].threshold:.3f}")


def picture(image: np.ndarray) -> str:
    """The image, enlarged, as an <img> that needs no file."""
    content = thumbnail(np.kron(image, np.ones((8, 8), np.uint8)), 64)
    kind = "png" if content.startswith(b"\x89PNG") else "jpeg"
    return f'<img src="data:image/{kind};base64,{base64.b64encode(content).decode()}" alt="">'


PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>One-shot digits</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root { color-scheme: light dark; font: 15px/1.4 system-ui, sans-serif; }
body { margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(21rem, 1fr)); gap: .8rem; }
section { display: flex; align-items: center; gap: .7rem; padding: .6rem; border-radius: .5rem;
  border: 1px solid #8884; border-left: .4rem solid #888; }
.right { border-left-color: #2a9d5c; } .wrong { border-left-color: #d1495b; }
figure { margin: 0; text-align: center; font-size: .8rem; }
img { width: 3rem; height: 3rem; image-rendering: pixelated; border-radius: .2rem;
  display: block; margin: auto; }
b { flex: 0 0 6.5rem; text-align: center; font-size: 1.2rem; }
</style>
<h1>One-shot digits</h1>
<p>Each card: the query with its true digit, the answer, the nearest enrolled image and its cosine distance.
One image was enrolled for each digit; 3 was removed again, so a 3 is rightly unknown. Accepted up to
a distance of THRESHOLD. Green is right, red is wrong, grey is unknown though it is enrolled.</p>
<p><strong>COUNTS</strong></p>
<main>
CARDS
</main></html>
"""

if __name__ == "__main__":
    main()
