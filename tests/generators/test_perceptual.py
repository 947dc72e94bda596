from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from datagen.errors import TrainingError
from datagen.features.efficientnet import EfficientNetLite0Features
from datagen.generators.perceptual import PerceptualLoss


@pytest.fixture(scope="module")
def loss() -> PerceptualLoss:
    return PerceptualLoss()


def picture(channels: int = 3, side_px: int = 64) -> torch.Tensor:
    """(2, C, side, side) in [-1, 1]: discs on a slope."""
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, side_px)] * 2, indexing="ij")
    radii = torch.tensor([0.4, 0.6]).view(2, 1, 1, 1)
    disc = 0.7 * torch.tanh(20 * (radii - (x**2 + y**2).sqrt()))
    return (disc + 0.2 * y).repeat(1, channels, 1, 1)


def blurred(images: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(F.pad(images, [2] * 4, mode="replicate"), 5, stride=1)


def test_equal_images_are_at_zero_and_others_are_not(loss: PerceptualLoss) -> None:
    real = picture()
    assert loss(real, real) == 0
    assert 0.01 < float(loss(blurred(real), real)) < 4


def test_blur_counts_more_than_a_change_of_light_of_the_same_size(loss: PerceptualLoss) -> None:
    """What pixels cannot tell, and what this loss is for (arXiv 1801.03924, figure 1)."""
    real = picture()
    blur = blurred(real)
    brighter = real + (blur - real).square().mean().sqrt()
    assert loss(blur, real) > 2 * loss(brighter, real)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (28, 20), (65, 96), (256, 256)])
def test_grey_images_of_any_size_are_colour_ones_of_equal_channels(
    loss: PerceptualLoss, height: int, width: int
) -> None:
    rng = torch.Generator().manual_seed(0)
    grey, other = (2 * torch.rand(1, 1, height, width, generator=rng) - 1 for _ in range(2))
    found = loss(grey, other)
    assert found.shape == ()
    assert found > 0.01
    assert found == loss(grey.repeat(1, 3, 1, 1), other.repeat(1, 3, 1, 1))


def test_enlarging_is_bilinear(loss: PerceptualLoss) -> None:
    rng = torch.Generator().manual_seed(0)
    small, other = (torch.rand(1, 3, 22, 32, generator=rng) for _ in range(2))
    large = [F.interpolate(x, scale_factor=3, mode="bilinear") for x in (small, other)]
    assert float(loss(small, other)) == pytest.approx(float(loss(*large)), rel=1e-4)


def test_its_gradient_leads_to_the_target_and_to_nothing_else(loss: PerceptualLoss) -> None:
    real = picture(channels=1, side_px=16).requires_grad_()
    drawn = torch.zeros_like(real, requires_grad=True)
    optimizer = torch.optim.Adam([drawn], lr=0.1)
    first = loss(drawn, real)
    for _ in range(10):
        optimizer.zero_grad()
        loss(drawn, real).backward()
        optimizer.step()
    assert loss(drawn, real) < 0.6 * first
    assert real.grad is None
    assert all(p.grad is None and not p.requires_grad for p in loss.parameters())


def test_flat_images_have_finite_gradients(loss: PerceptualLoss) -> None:
    flat = torch.full((1, 3, 8, 8), -1.0, requires_grad=True)
    loss(flat, torch.zeros(1, 3, 8, 8)).backward()
    assert flat.grad is not None
    assert bool(flat.grad.isfinite().all())


def test_it_is_a_function(loss: PerceptualLoss) -> None:
    """Training mode, autocast, another instance, an earlier call: none changes a bit."""
    real, drawn = picture(), blurred(picture())
    expected = loss(drawn, real)
    assert PerceptualLoss().train()(drawn, real) == expected
    with torch.autocast("cpu", torch.bfloat16):
        assert loss(drawn, real) == expected


def test_the_features_of_others_are_left_alone() -> None:
    PerceptualLoss().to(torch.float64)
    network = EfficientNetLite0Features().network
    assert next(network.parameters()).dtype == torch.float32


@pytest.mark.parametrize("shape", [(2, 3, 64, 64), (1, 1, 64, 64), (3, 64, 64)])
def test_other_shapes_are_refused(loss: PerceptualLoss, shape: tuple[int, ...]) -> None:
    with pytest.raises(TrainingError, match=r"expected two of one shape \(N, C, H, W\)"):
        loss(torch.zeros(1, 3, 64, 64), torch.zeros(shape))
    with pytest.raises(TrainingError, match="1 or 3 channels"):
        loss(torch.zeros(1, 2, 64, 64), torch.zeros(1, 2, 64, 64))
