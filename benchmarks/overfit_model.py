"""An overfit model must be flagged: a diffusion model of 200 images, trained far too long.

    python benchmarks/overfit_model.py --data DIR [--steps 6000]

A multilayer perceptron learns to denoise (Karras et al. 2022, arXiv 2206.00364, table 1, column
"ours": preconditioning, noise levels, Heun's sampler) 200 training images until it knows them by
heart, and is judged like any data set. So is the same model trained on a hundred times the images.
"""

from __future__ import annotations

import argparse
import itertools
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from planted_copies import read_images
from torch import nn

from datagen.evaluation.privacy import measure_privacy
from datagen.image_set import ImageSet

SIGMA_DATA, SIGMA_MIN, SIGMA_MAX, RHO = 0.6, 0.01, 20.0, 7
NUM_IMAGES, NUM_SAMPLES, NUM_LEVELS, WIDTH = 200, 500, 24, 768


class Denoiser(nn.Module):
    """x + sigma * noise, (N, 784), and sigma, (N, 1) => x."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Linear(784 + 16, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH), nn.SiLU()),
            *(nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, 784)),
        )

    def forward(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        total = (sigma**2 + SIGMA_DATA**2).sqrt()
        waves = sigma.log() / 4 * 2.0 ** torch.arange(-2, 6)
        given = torch.cat([x / total, waves.sin(), waves.cos()], 1)
        skip = x * SIGMA_DATA**2 / total**2
        return skip + self.layers(given) * sigma * SIGMA_DATA / total


def train(images: torch.Tensor, steps: int) -> Denoiser:
    torch.manual_seed(1)
    model = Denoiser()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        x = images[torch.randint(len(images), (128,))]
        sigma = (torch.randn(len(x), 1) * 1.4 - 0.8).exp()
        guess = model(x + sigma * torch.randn_like(x), sigma)
        weight = (sigma**2 + SIGMA_DATA**2) / (sigma * SIGMA_DATA) ** 2
        loss = (weight * (guess - x) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model


@torch.inference_mode()
def draw(model: Denoiser, num: int) -> NDArray[np.uint8]:
    """Algorithm 1 of the paper, deterministic."""
    places = torch.linspace(0, 1, NUM_LEVELS)
    ends = SIGMA_MAX ** (1 / RHO), SIGMA_MIN ** (1 / RHO)
    sigmas = torch.cat([(ends[0] + places * (ends[1] - ends[0])) ** RHO, torch.zeros(1)])
    x = torch.randn(num, 784) * sigmas[0]
    for now, then in itertools.pairwise(sigmas):
        slope = (x - model(x, now.expand(num, 1))) / now
        ahead = x + (then - now) * slope
        if then > 0:
            slope = (slope + (ahead - model(ahead, then.expand(num, 1))) / then) / 2
            ahead = x + (then - now) * slope
        x = ahead
    return ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy().reshape(-1, 28, 28, 1)


def image_set(images: NDArray[np.uint8], prefix: str) -> ImageSet:
    names = tuple(f"{prefix}{row}" for row in range(len(images)))
    return ImageSet(images, np.zeros(len(images), np.int64), ("all",), names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=6_000)
    arguments = parser.parse_args()
    rng = np.random.default_rng(1)
    images = read_images(arguments.data / "train-images-idx3-ubyte.gz")
    images = images[rng.permutation(len(images))]
    held_out = image_set(read_images(arguments.data / "t10k-images-idx3-ubyte.gz")[:2000], "held")
    for num in (NUM_IMAGES, 100 * NUM_IMAGES):
        started = time.process_time()
        known = torch.from_numpy(images[:num].reshape(num, 784).copy()).float() / 127.5 - 1
        samples = draw(train(known, arguments.steps), NUM_SAMPLES)
        print(f"model of {num} images: {time.process_time() - started:.0f} CPU-seconds", flush=True)
        found = measure_privacy(
            image_set(samples, "sample"),
            image_set(images[:num], "train"),
            held_out,
            quick=True,
            seed=1,
        )
        print(found.sentence)
        print(f"  excess {found.excess.to_json()}\n  membership {found.membership.to_json()}")


if __name__ == "__main__":
    main()
