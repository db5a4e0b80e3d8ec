"""Writes scikit-learn's handwritten digits as PNG files, to have something to try the commands on.

    python examples/digits_as_folder.py digits

digits/enrolled/<digit>/  one picture of each digit;  digits/probes/  thirty others, named <digit>-<n>.png
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits


def main() -> None:
    """Writes both folders under the one that is named on the command line."""
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "digits")
    found = load_digits()
    for digit in range(10):
        first, *others = np.flatnonzero(found.target == digit)[:4]
        save(found.images[first], target / "enrolled" / str(digit) / "1.png")
        for number, row in enumerate(others, 1):
            save(found.images[row], target / "probes" / f"{digit}-{number}.png")
    print(f"10 pictures in {target / 'enrolled'}, 30 in {target / 'probes'}")


def save(pixels: np.ndarray, path: Path) -> None:
    """One 8 x 8 digit, light on dark, as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((pixels * (255 / 16)).astype(np.uint8)).save(path)


if __name__ == "__main__":
    main()
