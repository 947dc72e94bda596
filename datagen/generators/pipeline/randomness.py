"""Every draw of a pipeline comes from the generator of the image that it is for.

Called by sample.py. diffusers takes a list of generators, but some pipelines do not hand it to
their scheduler or VAE, and torch would draw from the process then.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from datagen.errors import ModelError
from datagen.generators.seeded import seeded_rngs

# Of the state of torch's CPU generator, a Mersenne Twister of 624 words of 32 bits, each in 64.
_NUM_WORDS, _FIRST_BYTE = 624, 24


def seeded_generators(seeds: Sequence[int]) -> list[torch.Generator]:
    """One a seed, on the CPU.

    torch takes 32 bits of a seed, so that a million images would hold about a hundred pairs of
    equal ones: the whole state is drawn from the seed's Philox stream instead.
    """
    generators = []
    for rng in seeded_rngs(seeds):
        generator = torch.Generator().manual_seed(0)
        state = generator.get_state().numpy()
        words = rng.integers(0, 2**32, _NUM_WORDS, dtype=np.uint64)
        state[_FIRST_BYTE : _FIRST_BYTE + 8 * _NUM_WORDS] = words.view(np.uint8)
        generator.set_state(torch.from_numpy(state))
        generators.append(generator)
    return generators


class FreshSchedulers:
    """The schedulers of a pipeline, each as it was before its first call: they keep state."""

    def __init__(self, pipe: Any) -> None:
        self._kept = [(each, copy.deepcopy(each.__dict__)) for each in _schedulers(pipe)]

    def renew(self, generators: Sequence[torch.Generator]) -> None:
        """For one call, whose draws come from generators, one an image."""
        for scheduler, state in self._kept:
            scheduler.__dict__.clear()
            scheduler.__dict__.update(copy.deepcopy(state))
            if "generator" in inspect.signature(scheduler.step).parameters:
                scheduler.step = _drawing_from(scheduler.step, generators)


def _schedulers(pipe: Any) -> list[Any]:
    from diffusers import SchedulerMixin

    return [part for part in pipe.components.values() if isinstance(part, SchedulerMixin)]


def _drawing_from(step: Callable[..., Any], generators: Sequence[torch.Generator]) -> Any:
    @functools.wraps(step)  # pipelines look at its signature
    def seeded(model_output: Any, timestep: Any, sample: Any, *args: Any, **told: Any) -> Any:
        told["generator"] = _for_rows(len(sample), generators)
        return step(model_output, timestep, sample, *args, **told)

    return seeded


def _for_rows(num_rows: int, generators: Sequence[torch.Generator]) -> list[torch.Generator]:
    """Of a batch that holds every image once, or twice where it is guided."""
    return [generators[row % len(generators)] for row in range(num_rows)]


@contextmanager
def seeded_vae(pipe: Any, generators: Sequence[torch.Generator]) -> Iterator[None]:
    """What the VAE draws when it encodes, where the pipeline does not say from which generator."""
    vae = getattr(pipe, "vae", None)
    if vae is None or not hasattr(vae, "encode"):
        yield
        return
    encode = vae.encode

    @functools.wraps(encode)
    def seeded(images: torch.Tensor, *args: Any, **told: Any) -> Any:
        output = encode(images, *args, **told)
        distribution = getattr(output, "latent_dist", None)
        if distribution is not None:
            rows = _for_rows(len(images), generators)
            draw = distribution.sample
            distribution.sample = lambda generator=None: draw(generator or rows)
        return output

    vae.encode = seeded
    try:
        yield
    finally:
        del vae.encode


@contextmanager
def no_other_draws(what: str) -> Iterator[None]:
    """Raises ModelError if anything was drawn from the process's own generators: such an image
    would depend on what ran before. They are left as they were."""
    before = torch.get_rng_state()
    on_gpu = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
    try:
        yield
    finally:
        moved = not torch.equal(before, torch.get_rng_state())
        torch.set_rng_state(before)
        if on_gpu is not None and not torch.equal(on_gpu, torch.cuda.get_rng_state()):
            moved = True
            torch.cuda.set_rng_state(on_gpu)
    if moved:
        raise ModelError(
            f"{what} draws numbers that are not of the image's seed; it cannot be run: choose "
            "another scheduler or pipeline"
        )
