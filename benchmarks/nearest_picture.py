"""The README's picture: synthetic images, the nearest training and the nearest held-out images.

    python benchmarks/nearest_picture.py NAME --home HOME --out docs/nearest.png

Three rows, one column for each class: the first image of the class in the data set, the image of
that class in fashion-mnist-sample's training part that is nearest in pixels, and the nearest of its
held-out part. Nothing is picked by eye.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datagen.catalog.catalog import Catalog
from datagen.evaluation.checks import match_sets
from datagen.evaluation.named_data import find_named
from datagen.evaluation.published import load_published
from datagen.images import contact_sheet, encode_png
from datagen.real_images import load_reference
from datagen.settings import load_settings
from datagen.store import open_store
from datagen.versions import open_version

SCALE = 3


def nearest(image: NDArray[np.uint8], images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """image: (H, W, C). images: (N, H, W, C). By the sum of squared differences."""
    differences = images.astype(np.float32) - image.astype(np.float32)
    found: NDArray[np.uint8] = images[(differences**2).sum(axis=(1, 2, 3)).argmin()]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    settings = load_settings({}, home=arguments.home)
    catalog, store = Catalog(settings.database_url), open_store(settings.store_url)
    opened = open_version(catalog, store, settings.tenant, arguments.name)
    data = find_named("fashion-mnist-sample", settings)
    train, held_out = load_reference(data.train_path, data.held_out_path)
    synthetic = load_published(opened.reader, max_images=1_000_000)
    sets = match_sets(synthetic, train, held_out, seed=0)
    first = [sets.synthetic.images[sets.synthetic.rows_of(c)[0]] for c in range(train.num_classes)]
    rows = [first]
    for real in (sets.train, sets.held_out):
        by_class = [real.images[real.rows_of(c)] for c in range(real.num_classes)]
        rows.append([nearest(image, known) for image, known in zip(first, by_class, strict=True)])
    sheet = contact_sheet([i for row in rows for i in row], columns=len(first), scale=SCALE)
    arguments.out.write_bytes(encode_png(sheet, text={"datagen": "synthetic and real"}))
    catalog.close()


if __name__ == "__main__":
    main()
