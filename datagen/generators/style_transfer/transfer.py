"""An image with the content of one picture and the texture of another.

Source: Gatys, Ecker & Bethge 2016, "Image style transfer using convolutional neural networks"
(CVPR), equations 1 to 7, by L-BFGS as there. Other than there, both losses are relative to the size
of what they compare, the image starts as the content in the style's colours (each channel has the
style's mean and deviation), a pass at half of the size comes first (Gatys et al. 2017, arXiv
1611.07865, section 6), and pixels are the tanh of what is optimised: held to their range by
clamping, L-BFGS comes half as far in as many steps.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from datagen.generators.style_transfer.options import StyleOptions
from datagen.generators.style_transfer.trunk import (
    CONTENT_LAYER,
    STYLE_LAYERS,
    Features,
    VggTrunk,
    gram,
)

_HISTORY = 20
_MIN_SIDE_PX = 32  # of the coarse pass: below it the last layer sees next to nothing
_EPS = 1e-5
_LOOK_EVERY = 10  # steps; a look costs a third of one
_MOST = 0.98  # of a pixel at the start: beyond it the tanh hardly moves


def transferred(
    trunk: VggTrunk, content: torch.Tensor, style: torch.Tensor, options: StyleOptions
) -> torch.Tensor:
    """(1, 3, H, W) float32 in [-1, 1], like content and style. The same pixels give the same."""
    image = _in_colours_of(style, content)
    if options.coarse_steps and min(content.shape[2:]) >= 2 * _MIN_SIDE_PX:
        small = _halved(image)
        made = _optimised(
            trunk, small, _halved(content), _halved(style), options, options.coarse_steps
        )
        change = F.interpolate(
            made - small, size=image.shape[2:], mode="bilinear", align_corners=False
        )
        image = (image + change).clamp(-1, 1)
    return _optimised(trunk, image, content, style, options, options.num_steps)


def _in_colours_of(style: torch.Tensor, content: torch.Tensor) -> torch.Tensor:
    mean, deviation = content.mean((2, 3), keepdim=True), content.std((2, 3), keepdim=True)
    wanted = style.mean((2, 3), keepdim=True), style.std((2, 3), keepdim=True)
    return ((content - mean) / (deviation + _EPS) * wanted[1] + wanted[0]).clamp(-1, 1)


def _halved(image: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(image, 2)


def _optimised(
    trunk: VggTrunk,
    image: torch.Tensor,
    content: torch.Tensor,
    style: torch.Tensor,
    options: StyleOptions,
    num_steps: int,
) -> torch.Tensor:
    """num_steps: calls of the trunk, there and back, at most: it ends where the texture is as near
    as was asked for, since every further step takes some of the content."""
    with torch.no_grad():
        textures = {layer: gram(found) for layer, found in trunk(style).items()}
        shown = trunk(content)
    sizes = {layer: each.square().sum() + _EPS for layer, each in textures.items()}
    shapes = shown[CONTENT_LAYER]
    size = shapes.square().mean() + _EPS

    def squares(found: Features) -> torch.Tensor:
        """Of the distances of the Gram matrices, relative to the style's."""
        apart = ((gram(found[layer]) - textures[layer]).square().sum() for layer in STYLE_LAYERS)
        return torch.stack([a / sizes[n] for n, a in zip(STYLE_LAYERS, apart, strict=True)])

    # As a row: L-BFGS takes no gradient that lies in another order in memory.
    logits = torch.atanh(image.detach().clamp(-_MOST, _MOST)).reshape(-1).requires_grad_(True)
    optimizer = torch.optim.LBFGS(
        [logits],
        history_size=_HISTORY,
        tolerance_grad=0,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def evaluate() -> torch.Tensor:
        optimizer.zero_grad()
        found = trunk(torch.tanh(logits).view(image.shape))
        kept = (found[CONTENT_LAYER] - shapes).square().mean() / size
        total: torch.Tensor = squares(found).mean() + options.content_weight * kept
        total.backward()
        return total

    def drawn() -> torch.Tensor:
        return torch.tanh(logits.detach()).view(image.shape)

    enough = options.style_distance * float(squares(shown).mean())
    for done in range(0, num_steps, _LOOK_EVERY):
        num = min(_LOOK_EVERY, num_steps - done)
        optimizer.param_groups[0].update(max_iter=num, max_eval=num)
        with torch.enable_grad():
            optimizer.step(evaluate)
        with torch.no_grad():
            if float(squares(trunk(drawn())).mean()) <= enough:
                break
    return drawn()
