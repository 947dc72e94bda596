"""Trains the small text-to-image model. Used by benchmarks/text_to_image.py."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from fashion_captions import (
    CLASS_NAMES,
    HELD_OUT,
    SHADES,
    UNSAID,
    WIDTHS,
    caption_images,
    texts_of,
)
from numpy.typing import NDArray

from datagen.generators.edm.options import EdmObjectiveOptions
from datagen.generators.interface import ModelConfig, Update
from datagen.generators.text_edm.encoder import TEXT_DIM, encode_texts, encoder_sha256, find_encoder
from datagen.generators.text_edm.train import TextEdmObjective
from datagen.generators.weights import from_uint8_nhwc
from datagen.image_files import read_idx
from datagen.recipe import canonical_json
from datagen.training.checkpoint import Checkpoint, Progress, load_checkpoint, save_checkpoint

SEED = 1
BATCH_SIZE = 64
LEARNING_RATE = 1e-3
WARMUP_IMAGES = 10_000
DECAY_AFTER_IMAGES = 100_000  # then with the inverse of the square root
COOL_AFTER_IMAGES = 155_000  # then along a line to 0 at the end, beside that
NUM_IMAGES = 235_000
EMA_HALFLIFE_IMAGES = 20_000
EMA_RAMPUP = 0.05
CHECKPOINT_S = 120
OBJECTIVE = EdmObjectiveOptions(precision="bfloat16", class_dropout=0.1)
CHECKPOINT_FILE, CHECKPOINT_NAME = "checkpoint.safetensors", "benchmarks/text_to_image.py"

# Whether a caption says the shade, the width; and how often.
SAYS = ((True, True), (True, False), (False, True), (False, False))
SAYS_SHARES = (0.7, 0.12, 0.12, 0.06)


def load_part(data: Path, part: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """part: train or t10k. Returns (N, 28, 28), (N,)."""
    images = read_idx(data / f"{part}-images-idx3-ubyte.gz", ndim=3, max_bytes=1 << 28)
    labels = read_idx(data / f"{part}-labels-idx1-ubyte.gz", ndim=1, max_bytes=1 << 28)
    return images, labels.astype(np.int64)


def every_text() -> tuple[dict[tuple[int, int, int], range], list[str]]:
    """Every caption, those of held-out combinations too: few enough to encode them all. And the
    rows of those that say one thing."""
    rows: dict[tuple[int, int, int], range] = {}
    texts: list[str] = []
    for c in range(len(CLASS_NAMES)):
        for s in (UNSAID, *range(len(SHADES))):
            for w in (UNSAID, *range(len(WIDTHS))):
                found = texts_of(c, s, w)
                rows[c, s, w] = range(len(texts), len(texts) + len(found))
                texts += found
    return rows, texts


class Captions:
    """Every caption of the training and its vector, once."""

    def __init__(self) -> None:
        self.rows, texts = every_text()
        self.vectors = encode_texts(find_encoder(), texts)

    def draw(self, class_id: int, said: NDArray[np.int64], rng: np.random.Generator) -> int:
        """The row of one caption that is true of an image. said: (2,), of Captioned."""
        shade, width = said.tolist()
        says_shade, says_width = SAYS[rng.choice(len(SAYS), p=SAYS_SHARES)]
        key = class_id, shade if says_shade else UNSAID, width if says_width else UNSAID
        return int(rng.choice(self.rows[key]))


@dataclass(frozen=True)
class Chosen:
    """The images that train. images: (N, 28, 28); class_ids: (N,); said: (N, 2), of Captioned.
    num_held_out: how many more there are, of the combinations held out. sha256: of all of them."""

    images: NDArray[np.uint8]
    class_ids: NDArray[np.int64]
    said: NDArray[np.int64]
    num_held_out: int
    sha256: str
    config: ModelConfig


def load_chosen(data: Path) -> Chosen:
    images, class_ids = load_part(data, "train")
    captioned = caption_images(images, class_ids)
    kept = captioned.kept
    return Chosen(
        images=images[kept],
        class_ids=class_ids[kept],
        said=captioned.said[kept],
        num_held_out=int((~kept).sum()),
        sha256=hashlib.sha256(images.tobytes() + class_ids.tobytes()).hexdigest(),
        config=_model_config(images[kept]),
    )


def _model_config(images: NDArray[np.uint8]) -> ModelConfig:
    sigma_data = float((images / np.float32(127.5) - 1).std())
    network = {
        "widths": [64, 128],
        "sigma_data": round(sigma_data, 3),
        "text_dim": TEXT_DIM,
        "encoder_sha256": list(encoder_sha256(find_encoder())),
    }
    return ModelConfig("text-edm", (), (28, 28), 1, network)


def settings_digest() -> str:
    """Of all that decides the weights beside the images."""
    settings = {
        "seed": SEED,
        "batch_size": BATCH_SIZE,
        "rates": [LEARNING_RATE, WARMUP_IMAGES, DECAY_AFTER_IMAGES],
        "num_images": [COOL_AFTER_IMAGES, NUM_IMAGES],
        "ema": [EMA_HALFLIFE_IMAGES, EMA_RAMPUP],
        "objective": OBJECTIVE.model_dump(mode="json"),
        "says": [list(says) for says in SAYS] + list(SAYS_SHARES),
        "held_out": sorted(HELD_OUT),
        "texts": every_text()[1],
    }
    return hashlib.sha256(canonical_json(settings)).hexdigest()


def train(data: Path, out: Path, *, max_seconds: float) -> None:
    """To the end of the schedule, or until so many seconds are spent; it may be gone on with."""
    out.mkdir(parents=True, exist_ok=True)
    chosen = load_chosen(data)
    captions = Captions()
    objective = TextEdmObjective(chosen.config, OBJECTIVE, seed=SEED)
    objective.set_text_statistics(captions.vectors)
    progress = Progress()
    found = load_checkpoint(out / CHECKPOINT_FILE, recipe_digest=CHECKPOINT_NAME)
    if found is not None:
        objective.load_state(found.state)
        progress = found.progress
    saved, before = time.monotonic(), progress.seconds
    start = saved
    while progress.images_seen < NUM_IMAGES and progress.seconds < max_seconds:
        losses = _step(objective, progress, chosen, captions)
        progress.step += 1
        progress.images_seen += BATCH_SIZE
        progress.seconds = before + time.monotonic() - start
        for name, value in losses.items():
            last = progress.recent_losses.get(name, value)
            progress.recent_losses[name] = last + 0.01 * (value - last)
        if time.monotonic() - saved > CHECKPOINT_S:
            _save(out, progress, objective)
            saved = time.monotonic()
    _save(out, progress, objective)


def _step(
    objective: TextEdmObjective, progress: Progress, chosen: Chosen, captions: Captions
) -> dict[str, float]:
    """Every draw follows from the seed and the step."""
    rng = np.random.default_rng([SEED, progress.step])
    picks = rng.choice(len(chosen.images), BATCH_SIZE, replace=False)
    rows = [captions.draw(int(chosen.class_ids[i]), chosen.said[i], rng) for i in picks]
    real = from_uint8_nhwc(chosen.images[picks, :, :, None])
    class_ids = torch.from_numpy(chosen.class_ids[picks])
    return objective.step(real, class_ids, update_of(progress, captions.vectors[rows]))


def _save(out: Path, progress: Progress, objective: TextEdmObjective) -> None:
    checkpoint = Checkpoint(progress, objective.state())
    save_checkpoint(out / CHECKPOINT_FILE, checkpoint, recipe_digest=CHECKPOINT_NAME)
    losses = {name: round(value, 4) for name, value in progress.recent_losses.items()}
    print(f"{progress.images_seen} images, {progress.seconds:.0f} s", losses, flush=True)


def averaged_weights(out: Path, chosen: Chosen) -> tuple[Progress, dict[str, torch.Tensor]]:
    """Of the checkpoint, in half precision."""
    found = load_checkpoint(out / CHECKPOINT_FILE, recipe_digest=CHECKPOINT_NAME)
    assert found is not None, f"no checkpoint in {out}: train first"
    objective = TextEdmObjective(chosen.config, OBJECTIVE, seed=SEED)
    objective.load_state(found.state)
    return found.progress, {name: t.half() for name, t in objective.ema_weights().items()}


def update_of(progress: Progress, vectors: torch.Tensor) -> Update:
    seen = progress.images_seen
    rate = LEARNING_RATE * min(1.0, (seen + BATCH_SIZE) / WARMUP_IMAGES)
    rate *= min(1.0, (NUM_IMAGES - seen) / (NUM_IMAGES - COOL_AFTER_IMAGES))
    halflife = min(EMA_HALFLIFE_IMAGES, seen * EMA_RAMPUP)
    return Update(
        step=progress.step,
        images_seen=seen,
        learning_rate=rate / max(1.0, seen / DECAY_AFTER_IMAGES) ** 0.5,
        ema_decay=0.5 ** (BATCH_SIZE / max(halflife, 1e-8)),
        rng=torch.Generator().manual_seed(SEED * 1_000_003 + progress.step),
        condition=vectors,
    )
