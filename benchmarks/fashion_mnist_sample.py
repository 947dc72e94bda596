"""Makes recipes/data/fashion-mnist-sample/: the real images that ship with datagen.

    python benchmarks/fashion_mnist_sample.py --data DIR [--out recipes/data/fashion-mnist-sample]

DIR holds Fashion-MNIST's four IDX files. train-*: 500 images of each class out of the 55,000 that
the shipped models learned from. t10k-*: 200 of each class out of the 5,000 that were held out of
their training, none of them equal to an image of the 55,000. The 10,000 test images stay unused.
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datagen.resources import recipes_dir
from datagen.training.dataset import RealImages, load_real_images, split_held_out
from datagen.training.model_recipe import load_model_recipe

SEED = 1
NUM_TRAIN, NUM_HELD_OUT = 500, 200  # per class


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=recipes_dir() / "data/fashion-mnist-sample")
    arguments = parser.parse_args()
    recipe = load_model_recipe(recipes_dir() / "models" / "fashion-mnist-edm.yaml")
    source = recipe.data.model_copy(update={"path": arguments.data})
    train, held_out = split_held_out(
        load_real_images(source), held_out=recipe.data.held_out, seed=recipe.seed
    )
    known = {image.tobytes() for image in train.images}
    new = [row for row, image in enumerate(held_out.images) if image.tobytes() not in known]
    arguments.out.mkdir(parents=True, exist_ok=True)
    write(arguments.out, "train", draw(train, NUM_TRAIN))
    write(arguments.out, "t10k", draw(held_out.take(np.array(new)), NUM_HELD_OUT))
    (arguments.out / "classes.txt").write_text("\n".join(recipe.data.class_names) + "\n")


def draw(images: RealImages, num: int) -> RealImages:
    """num images of each class, in their original order."""
    rng = np.random.default_rng(SEED)
    rows: list[NDArray[np.int64]] = []
    for class_id in range(int(images.class_ids.max()) + 1):
        rows.append(rng.permutation(np.flatnonzero(images.class_ids == class_id))[:num])
    return images.take(np.sort(np.concatenate(rows)))


def write(folder: Path, prefix: str, images: RealImages) -> None:
    write_idx(folder / f"{prefix}-images-idx3-ubyte.gz", images.images[..., 0])
    write_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", images.class_ids.astype(np.uint8))


def write_idx(path: Path, array: NDArray[np.uint8]) -> None:
    header = np.array([0x800 + array.ndim, *array.shape], dtype=">i4").tobytes()
    path.write_bytes(gzip.compress(header + array.tobytes(), compresslevel=9, mtime=0))


if __name__ == "__main__":
    main()
