"""Training: images/s against a plain PyTorch loop, and what loading the images costs.

    python benchmarks/training.py [--side 28] [--widths 64 128] [--batch 128] [--rounds 5]

One network, diffusers' UNet2DModel, and one batch size, in turns in one process:

- ours: datagen's loop with the objective edm: draws rows, converts, trains, keeps an average (EMA);
- plain: what a short script does: random batches of a tensor in memory, noise, the network, mean
  squared error, backward, clipping, Adam; no EMA;
- in memory: the objective's step on one batch that was converted before.

"ours / plain" is a ratio of images/s (above 1: faster than the plain loop); "ours / in memory" is
one of times (1.05: 5% goes into loading). Medians over a round's steps; the median round.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from torch.nn import functional as F

from datagen.generators.edm.options import EdmNetwork, EdmObjectiveOptions
from datagen.generators.edm.train import EdmObjective
from datagen.generators.interface import ModelConfig, Update
from datagen.generators.weights import from_uint8_nhwc
from datagen.training.dataset import RealImages
from datagen.training.loop import train
from datagen.training.model_recipe import DataSource, ModelRecipe, Schedule
from datagen.training.processes import Processes
from datagen.training.session import device_name

NUM_CLASSES, NUM_IMAGES = 10, 2000
CLASS_NAMES = tuple(f"class-{number}" for number in range(NUM_CLASSES))


def objective_of(arguments: argparse.Namespace) -> EdmObjective:
    network = EdmNetwork(widths=tuple(arguments.widths), patch_px=arguments.patch)
    sides = (arguments.side, arguments.side)
    config = ModelConfig(
        "edm", CLASS_NAMES, sides, arguments.channels, network.model_dump(mode="json")
    )
    options = EdmObjectiveOptions(precision=arguments.precision)
    return EdmObjective(config, options, seed=0, device=arguments.device)


def ours(arguments: argparse.Namespace, real: RealImages) -> Callable[[], list[float]]:
    """Each call trains some more steps, and returns the seconds of each but the first."""
    objective = objective_of(arguments)
    folder = Path(tempfile.mkdtemp(prefix="training-benchmark-"))
    source = DataSource(path=Path("nowhere"), licence="none", source="made up")

    def steps() -> list[float]:
        times: list[float] = []
        recipe = ModelRecipe(
            version=1, name="benchmark", generator="edm", data=source,
            schedule=Schedule(
                num_images=arguments.batch * (arguments.steps + 1),
                batch_size=arguments.batch, learning_rate=1e-4, warmup_images=0,
                evaluate_every_images=10**12, checkpoint_every_images=10**12,
            ),
        )  # fmt: skip
        for file in folder.glob("*.safetensors"):
            file.unlink()
        train(
            recipe, objective, train_part=real, judge=None, folder=folder,
            processes=Processes(1, 0, arguments.device),
            report=lambda progress, losses: times.append(time.perf_counter()),
        )  # fmt: skip
        return list(np.diff(times))

    return steps


def plain(arguments: argparse.Namespace, real: RealImages) -> Callable[[], list[float]]:
    """The same network, built by the same call, in a script's loop."""
    unet: UNet2DModel = objective_of(arguments).network.unet
    unet = unet.to(memory_format=torch.contiguous_format)  # as a script has it
    folded = torch.nn.functional.pixel_unshuffle(from_uint8_nhwc(real.images), arguments.patch)
    images, class_ids = folded.contiguous(), torch.from_numpy(real.class_ids)
    optimizer = torch.optim.Adam(unet.parameters(), lr=1e-4)

    def one_step() -> None:
        rows = torch.randint(len(images), (arguments.batch,))
        clean, labels = images[rows].to(arguments.device), class_ids[rows].to(arguments.device)
        noise = torch.randn_like(clean)
        timesteps = torch.randint(1000, (len(clean),), device=clean.device)
        level = (timesteps / 1000).view(-1, 1, 1, 1)
        with torch.autocast(
            clean.device.type, torch.bfloat16, enabled=arguments.precision == "bfloat16"
        ):
            found = unet((1 - level) * clean + level * noise, timesteps, labels).sample
        loss = F.mse_loss(found.float(), noise)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        loss.item()

    return lambda: [timed(one_step) for _ in range(arguments.steps)]


def in_memory(arguments: argparse.Namespace, real: RealImages) -> Callable[[], list[float]]:
    objective = objective_of(arguments)
    batch = real.take(np.arange(arguments.batch))
    images = from_uint8_nhwc(batch.images, arguments.device)
    class_ids = torch.from_numpy(batch.class_ids).to(arguments.device)
    update = Update(0, 0, learning_rate=1e-4, ema_decay=0.99, rng=torch.Generator())

    def one_step() -> None:
        objective.step(images, class_ids, update)

    return lambda: [timed(one_step) for _ in range(arguments.steps)]


def timed(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=28, help="pixels")
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--patch", type=int, default=2)
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=8, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    shape = (NUM_IMAGES, arguments.side, arguments.side, arguments.channels)
    real = RealImages(
        rng.integers(0, 256, shape, dtype=np.uint8), np.arange(NUM_IMAGES) % NUM_CLASSES
    )
    ways = {"ours": ours, "plain": plain, "in memory": in_memory}
    rounds = {name: way(arguments, real) for name, way in ways.items()}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(arguments.rounds + 1):
        for name, one_round in rounds.items():
            median = statistics.median(one_round())
            if number > 0:  # the first warms up
                seconds[name].append(median)
    print(f"{device_name(arguments.device)}, one thread; {vars(arguments)}")
    for name, values in seconds.items():
        print(f"{name:10} {arguments.batch / statistics.median(values):8.1f} images/s")
    faster = [b / a for a, b in zip(seconds["ours"], seconds["plain"], strict=True)]
    loading = [a / b for a, b in zip(seconds["ours"], seconds["in memory"], strict=True)]
    for name, values in {"ours / plain": faster, "ours / in memory": loading}.items():
        print(f"{name:17} {statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})")


if __name__ == "__main__":
    main()
