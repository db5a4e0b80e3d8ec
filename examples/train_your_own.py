"""Train a Siamese encoder on a folder of your own (one subfolder per subject), then enrol what it never saw.

    python examples/train_your_own.py [FOLDER [STEPS]]

Without a folder it draws one: letters in changing sizes and slants.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import encoders
import gallery


def draw(letter: str, rng: np.random.Generator) -> Image.Image:
    """One letter, dark on light, of changing size and slant."""
    image = Image.new("L", (96, 96), 255)
    font = ImageFont.load_default(size=int(rng.integers(40, 64)))
    ImageDraw.Draw(image).text((48, 48), letter, font=font, fill=0, anchor="mm")
    return image.rotate(rng.uniform(-25, 25), fillcolor=255)


def drawn(folder: Path, letters: str, rng: np.random.Generator) -> Path:
    """A folder with a subfolder per letter, eight drawings in each."""
    for letter in letters:
        (folder / letter).mkdir(parents=True)
        for number in range(8):
            draw(letter, rng).save(folder / letter / f"{number}.png")
    return folder


def main() -> None:
    """Trains, enrols one drawing of each of four letters that were not trained on, identifies others."""
    rng = np.random.default_rng(0)
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else 30
    with tempfile.TemporaryDirectory() as place:
        folder = (
            Path(sys.argv[1])
            if len(sys.argv) > 1
            else drawn(Path(place) / "letters", "ABCDEFGHJKLMNPQRS", rng)
        )
        output = Path(place) / "my.encoder"
        print(encoders.train(folder, output=output, steps=steps, subjects=8, items=4, validate_every=steps))
        with gallery.open(Path(place) / "new.gallery", encoders.load(output)) as unseen:
            for letter in "TVXZ":
                unseen.enroll(letter, [draw(letter, rng)])
            probes = [(letter, draw(letter, rng)) for letter in "TVXZ" for _ in range(5)]
            answers = unseen.identify_batch([image for _, image in probes], threshold=2.0)
            right = sum(answer.best.id == truth for answer, (truth, _) in zip(answers, probes, strict=True))
            print(f"letters it was never trained on, enrolled once: {right} of {len(probes)} named right")


if __name__ == "__main__":
    main()
