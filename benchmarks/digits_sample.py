"""Makes recipes/data/digits/: scikit-learn's handwritten digits, as IDX files.

    python benchmarks/digits_sample.py [--out recipes/data/digits]

train-*: the first 1,400 of the 1,797 images; t10k-*: the last 397, for tests alone. Grey levels
of 0 to 16 become 0 to 255.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from fashion_mnist_sample import write
from sklearn.datasets import load_digits

from datagen.resources import recipes_dir
from datagen.training.dataset import RealImages

NUM_TRAIN = 1400


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=recipes_dir() / "data/digits")
    arguments = parser.parse_args()
    digits = load_digits()
    levels = np.rint(digits.images * 255 / 16).astype(np.uint8)[..., None]
    images = RealImages(levels, digits.target.astype(np.int64))
    arguments.out.mkdir(parents=True, exist_ok=True)
    write(arguments.out, "train", images.take(np.arange(NUM_TRAIN)))
    write(arguments.out, "t10k", images.take(np.arange(NUM_TRAIN, len(levels))))
    (arguments.out / "classes.txt").write_text("".join(f"{digit}\n" for digit in range(10)))


if __name__ == "__main__":
    main()
