"""Images between two ends: of their noise, their words or class, or their pictures' latents.

Called by sample.py. Weight 0 and 1 give the ends bit for bit.

Source: Shoemake 1985, "Animating rotation with quaternion curves", section 3.3; of Gaussian noise
the arc keeps the norm, which a straight line would not (White 2016, arXiv 1609.04468, section 2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from datagen.conditions import Mix
from datagen.generators.pipeline.randomness import seeded_generators
from datagen.generators.pipeline.words import Encoding
from datagen.generators.text_edm.sample import slerp

Mixes = Sequence[Mix | None]


def mix_rows(start: torch.Tensor, end: torch.Tensor, mixes: Mixes) -> torch.Tensor:
    """(N, ...): row i on the arc from start to end; start's where there is no mix."""
    rows = [
        a if mix is None else slerp(a.cpu().float(), b.cpu().float(), mix.weight).to(a)
        for a, b, mix in zip(start, end, mixes, strict=True)
    ]
    return torch.stack(rows)


def _between(own: torch.Tensor, ends: Sequence[torch.Tensor], mixes: Mixes) -> torch.Tensor:
    """own: of the streams that images draw from, which at weight 0 and 1 are those of the ends."""
    mixed = mix_rows(ends[0], ends[1], mixes)
    for row, mix in enumerate(mixes):
        if mix is None or mix.weight in (0.0, 1.0):
            mixed[row] = own[row]
    return mixed


def mix_encodings(start: Encoding, end: Encoding, weight: float) -> Encoding:
    """Straight between two encodings; a token that either shows is shown."""
    if weight in (0.0, 1.0):
        return end if weight else start
    return {
        name: torch.lerp(a.float(), end[name].float(), weight).to(a.dtype)
        if a.is_floating_point() and not name.endswith("mask")
        else torch.maximum(a, end[name])
        for name, a in start.items()
    }


def seeds_of_draws(seeds: Sequence[int], mixes: Mixes) -> list[int]:
    """The seed that each image's later draws come from: its own, or at weight 1 the other's."""
    return [
        mix.seed if mix is not None and mix.kind == "seeds" and mix.weight == 1 else seed
        for seed, mix in zip(seeds, mixes, strict=True)
    ]


@contextmanager
def mixed_noise(pipe: Any, seeds: Sequence[int], mixes: Mixes) -> Iterator[None]:
    """The first noise of a call, between that of seeds and that of the mixes' seeds."""
    if all(mix is None or mix.kind != "seeds" for mix in mixes):
        yield
        return
    prepare = pipe.prepare_latents
    others = [seed if mix is None else mix.seed for seed, mix in zip(seeds, mixes, strict=True)]
    # Drawn on from one part to the next, as of the image: unCLIP draws noise three times.
    streams = seeded_generators(seeds), seeded_generators(others)

    def mixed(*args: Any, **told: Any) -> Any:
        own = prepare(*args, **told)  # moves the image's stream on, as without a mix
        ends = [prepare(*_with(args, stream), **_told(told, stream)) for stream in streams]
        if isinstance(own, tuple):  # Flux gives the places of the latents as well
            return _between(own[0], [end[0] for end in ends], mixes), *own[1:]
        return _between(own, ends, mixes)

    pipe.prepare_latents = mixed
    try:
        yield
    finally:
        del pipe.prepare_latents


def _with(args: tuple[Any, ...], generators: list[torch.Generator]) -> tuple[Any, ...]:
    """The arguments, the list of generators among them put in another's place."""
    return tuple(generators if _is_generators(each) else each for each in args)


def _told(told: dict[str, Any], generators: list[torch.Generator]) -> dict[str, Any]:
    return {k: generators if _is_generators(v) else v for k, v in told.items()}


def _is_generators(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], torch.Generator)


@contextmanager
def mixed_classes(pipe: Any, others: Sequence[int], mixes: Mixes) -> Iterator[None]:
    """The class embeddings of a call, straight between those of its classes and of `others`."""
    if all(mix is None or mix.kind != "classes" for mix in mixes):
        yield
        return
    from diffusers.models.embeddings import LabelEmbedding

    with ExitStack() as hooks:
        for module in pipe.transformer.modules():
            if isinstance(module, LabelEmbedding):
                hook = _class_hook(others, mixes)
                hooks.callback(module.register_forward_hook(hook).remove)
        yield


def _class_hook(others: Sequence[int], mixes: Mixes) -> Callable[..., torch.Tensor]:
    def mixed(module: Any, inputs: Any, own: torch.Tensor) -> torch.Tensor:
        out = own.clone()  # the rows after the images' are of the null class
        for row, (other, mix) in enumerate(zip(others, mixes, strict=True)):
            if mix is None or mix.weight == 0:
                continue
            end = module.embedding_table.weight[other].to(own)
            out[row] = end if mix.weight == 1 else torch.lerp(own[row], end, mix.weight)
        return out

    return mixed
