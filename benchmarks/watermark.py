"""How often the watermark is found again, by size and by what was done to the image.

    python benchmarks/watermark.py [--data DIR]

Pictures: pieces of the two photographs of scikit-learn, and garments where DIR holds the IDX files
of Fashion-MNIST. Prints the tables of docs/safety.md. Takes about two minutes on one core.
"""

from __future__ import annotations

import argparse
import gzip
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_sample_images

from datagen.watermark import THRESHOLD, detect, detect_together, embed

Image = NDArray[np.uint8]
SIZES = (28, 64, 128, 256)
PICTURES = 200
KEYS = 50


def jpeg(quality: int) -> Callable[[Image], Image]:
    def change(image: Image) -> Image:
        ends = image[:, :, ::-1] if image.shape[2] == 3 else image
        data = cv2.imencode(".jpg", ends, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        back = cv2.imdecode(data, cv2.IMREAD_UNCHANGED).reshape(image.shape)
        return back[:, :, ::-1] if image.shape[2] == 3 else back

    return change


def scaled(factor: float, offset: float) -> Callable[[Image], Image]:
    return lambda image: np.clip(np.rint(image * factor + offset), 0, 255).astype(np.uint8)


def shrunk(image: Image) -> Image:
    height, width = image.shape[:2]
    small = cv2.resize(image, (width * 9 // 10, height * 9 // 10), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC).reshape(image.shape)


CHANGES: dict[str, Callable[[Image], Image]] = {
    "as stored": lambda image: image,
    "JPEG 95": jpeg(95),
    "JPEG 80": jpeg(80),
    "JPEG 60": jpeg(60),
    "brightness +10": scaled(1, 10),
    "contrast x 0.9": scaled(0.9, 12),
    "blurred, 3 x 3": lambda image: cv2.blur(image, (3, 3)).reshape(image.shape),
    "shrunk to 90% and back": shrunk,
    "cut by 1 px": lambda image: image[1:, 1:],
}


def photographs(side: int, rng: np.random.Generator) -> Iterator[Image]:
    """Pieces of 256 to 427 px, made smaller to the side."""
    pictures = load_sample_images().images
    for index in range(PICTURES):
        whole = pictures[index % 2]
        piece = int(rng.integers(256, min(whole.shape[:2]) + 1))
        y, x = (int(rng.integers(0, n - piece + 1)) for n in whole.shape[:2])
        cut = whole[y : y + piece, x : x + piece]
        yield cv2.resize(cut, (side, side), interpolation=cv2.INTER_AREA)


def garments(folder: Path, num: int = PICTURES) -> Iterator[Image]:
    data = gzip.decompress((folder / "t10k-images-idx3-ubyte.gz").read_bytes())
    images = np.frombuffer(data, np.uint8, offset=16).reshape(-1, 28, 28, 1)
    yield from images[:num]


def report(name: str, images: list[Image]) -> None:
    marked = [embed(image) for image in images]
    cells = []
    for change in CHANGES.values():
        scores = np.array([detect(change(image)).score for image in marked])
        cells.append(f"{(scores > THRESHOLD).mean():.1%} ({np.median(scores):.1f})")
    false = [detect(image, key=str(key)).score for image in images for key in range(KEYS)]
    other = [detect(image, key=str(key)).score for image in marked for key in range(KEYS)]
    moved = np.mean(
        [((a.astype(float) - b) ** 2).mean() for a, b in zip(images, marked, strict=True)]
    )
    told = [f"{(np.array(each) > THRESHOLD).mean():.3%}" for each in (false, other)]
    print("|", " | ".join([name, *cells, *told, f"{10 * np.log10(255**2 / moved):.1f} dB"]), "|")


def report_together(images: list[Image]) -> None:
    marked = [embed(image) for image in images]
    for num in (1, 3, 5, 10):
        groups = [marked[at : at + num] for at in range(0, len(marked) - num + 1, num)]
        scores = np.array([detect_together(group).score for group in groups])
        share = (scores > THRESHOLD).mean()
        print(f"{num} together: found {share:.1%}, median score {np.median(scores):.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    data = parser.parse_args().data
    columns = ["images", *CHANGES, "no mark", "another key's mark", "PSNR"]
    print("|", " | ".join(columns), "|")
    print("|" + "---|" * len(columns))
    if data is not None:
        report("garments, 28 px", list(garments(data)))
    rng = np.random.default_rng(0)
    for side in SIZES:
        report(f"photographs, {side} px", list(photographs(side, rng)))
    if data is not None:
        report_together(list(garments(data)))
        found = sum(detect(image).present for image in garments(data, 10_000))
        print(f"of 10,000 garments without a mark, under the public key: {found} found")


if __name__ == "__main__":
    main()
