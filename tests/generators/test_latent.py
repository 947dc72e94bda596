from __future__ import annotations

import math

import pytest
import torch

from datagen.errors import ModelError
from datagen.generators import GENERATORS
from datagen.generators.edm.options import EdmOptions
from datagen.generators.interface import ModelConfig, Update
from datagen.generators.latent.autoencoding import adaptive_weight, divergence, reconstruction
from datagen.generators.latent.networks import patch_discriminator
from datagen.generators.latent.options import LatentObjectiveOptions
from datagen.generators.latent.sample import LatentSampler
from datagen.generators.latent.train import LatentObjective
from tests.generators.tiny_models import TINY, random_weights

CONFIG = TINY["latent-edm"]
NUM = 8
# Two steps of the autoencoder, the second with the discriminator; one that measures; then edm.
OPTIONS = LatentObjectiveOptions(autoencoder_images=2 * NUM, statistics_images=NUM)


def real_batch() -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(1)
    return 0.5 * torch.randn(NUM, 3, 8, 12, generator=rng), torch.arange(NUM) % 3


def step(objective: LatentObjective, number: int) -> dict[str, float]:
    rng = torch.Generator().manual_seed(number)
    update = Update(number, number * NUM, learning_rate=1e-3, ema_decay=0.5, rng=rng)
    return objective.step(*real_batch(), update)


def new(options: LatentObjectiveOptions = OPTIONS, *, seed: int = 0) -> LatentObjective:
    return LatentObjective(CONFIG, options, seed=seed, device="cpu")


def weights_of(objective: LatentObjective, part: str) -> dict[str, torch.Tensor]:
    state = {**objective.model.state_dict(), **objective.discriminator.state_dict(prefix="d.")}
    return {k: v.clone() for k, v in state.items() if k.startswith(part)}


def test_each_phase_trains_its_own_networks() -> None:
    objective = new()
    parts = ("autoencoder.", "d.0.parametrizations.weight.original", "latent_std", "denoiser.")
    moved, losses = [], []
    for number in range(5):
        before = {part: weights_of(objective, part) for part in parts}
        losses.append(set(step(objective, number)))
        after = {part: weights_of(objective, part) for part in parts}
        moved.append(
            [any(not torch.equal(before[p][k], after[p][k]) for k in before[p]) for p in parts]
        )
    assert moved == [
        [True, False, False, False],
        [True, True, False, False],
        [False, False, True, False],
        [False, False, False, True],
        [False, False, False, True],
    ]
    assert losses[1] == {"reconstruction", "perceptual", "discrimination"}
    assert losses[4] == {"denoising", "gradient_norm"}


def test_without_an_adversary_there_is_no_discriminator() -> None:
    objective = new(OPTIONS.model_copy(update={"adversarial_weight": 0.0}))
    before = weights_of(objective, "d.")
    for number in range(2):
        assert set(step(objective, number)) == {"reconstruction", "perceptual"}
    assert all(torch.equal(before[k], v) for k, v in weights_of(objective, "d.").items())


def test_features_count_by_their_weight() -> None:
    """By the gradient that reaches the decoder; the first step has no adversary."""
    found = []
    for weight in (0.0, 0.5, 1.0):
        objective = new(OPTIONS.model_copy(update={"perceptual_weight": weight}))
        assert ("perceptual" in step(objective, 0)) == (weight > 0)
        gradient = objective.model.autoencoder.decoder.conv_out.weight.grad
        assert gradient is not None
        found.append(gradient)
    assert not torch.allclose(found[0], found[1], rtol=0.05)
    assert not torch.allclose(found[1], found[2], rtol=0.05)


def test_the_network_that_compares_is_neither_stored_nor_shipped() -> None:
    with_features, without = new(), new(OPTIONS.model_copy(update={"perceptual_weight": 0.0}))
    assert with_features.perceptual is not None
    assert with_features.state().keys() == without.state().keys()
    assert with_features.ema_weights().keys() == without.ema_weights().keys()


def test_the_denoiser_sees_latents_of_mean_0_and_its_own_deviation() -> None:
    objective = new(OPTIONS.model_copy(update={"statistics_images": 20 * NUM}))
    for number in range(22):
        step(objective, number)
    mean, log_variance = objective.ema.posterior(real_batch()[0])
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(9))
    latents = objective.ema.normalized(mean + (log_variance / 2).exp() * noise).detach()
    sigma = objective.ema.denoiser.sigma_data
    assert torch.allclose(latents.mean((0, 2, 3)), torch.zeros(4), atol=0.1 * sigma)
    assert torch.allclose(latents.std((0, 2, 3)), torch.full((4,), sigma), rtol=0.15)
    assert torch.allclose(objective.ema.restored(objective.ema.normalized(mean)), mean, atol=1e-4)


@pytest.mark.parametrize("cut", [1, 3, 4])
def test_a_resumed_training_equals_an_undisturbed_one(cut: int) -> None:
    undisturbed = new()
    for number in range(cut):
        step(undisturbed, number)
    resumed = new(seed=1)
    resumed.load_state({name: tensor.clone() for name, tensor in undisturbed.state().items()})
    for number in range(cut, 6):
        assert step(undisturbed, number) == step(resumed, number)
    states = [objective.state() for objective in (undisturbed, resumed)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_start_from_another_model_keeps_its_autoencoder() -> None:
    weights = random_weights(CONFIG)
    assert weights is not None
    objective = new(OPTIONS.model_copy(update={"autoencoder_images": 0}))
    objective.init_from(weights, [2, None, 0])
    for number in range(3):
        step(objective, number)
    found = objective.ema_weights()
    for name, tensor in weights.items():
        if name.startswith("autoencoder."):
            assert torch.equal(found[name], tensor)
    assert not torch.equal(found["latent_std"], weights["latent_std"]), "measured anew"


def test_the_first_denoisers_leave_the_average() -> None:
    """By the loop's decay alone, which counts the autoencoder's images, they would stay."""
    objective = new()
    for number in range(12):
        rng = torch.Generator().manual_seed(number)
        update = Update(number, number * NUM, learning_rate=1e-2, ema_decay=0.9999, rng=rng)
        objective.step(*real_batch(), update)
    trained, average = objective.model.denoiser, objective.ema.denoiser
    first = new().model.denoiser.unet.conv_in.weight
    moved = (trained.unet.conv_in.weight - first).norm()
    assert float((average.unet.conv_in.weight - trained.unet.conv_in.weight).norm().detach()) < (
        0.5 * float(moved.detach())
    )


def test_sampling_decodes_what_edm_draws() -> None:
    objective = new()
    sampler = LatentSampler(objective.ema, batch_size=2, options=EdmOptions(num_inference_steps=2))
    latents = sampler.latents.draw([1, 2], [0, 1])
    assert latents.shape == (2, 4, 4, 6)
    images = sampler.sample([1, 2], [0, 1])
    objective.ema.latent_mean += 1
    assert (sampler.sample([1, 2], [0, 1]) != images).any(), "latents are restored before"


def test_details_count_beside_pixels() -> None:
    """A sharp error costs more than a smooth one of the same mean absolute difference."""
    real = torch.zeros(1, 1, 32, 32)
    smooth = torch.full_like(real, 0.1)
    sharp = smooth * (1 - 2 * (torch.arange(32) % 2)).view(1, 1, 1, 32)
    assert float(reconstruction(smooth, real)) == pytest.approx(0.1, rel=1e-4)
    assert float(reconstruction(sharp, real)) > 0.19


def test_divergence_is_that_of_two_normals() -> None:
    mean, log_variance = torch.full((2, 3), 1.5), torch.full((2, 3), math.log(0.25))
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(1.5, 0.5), torch.distributions.Normal(0.0, 1.0)
    )
    assert float(divergence(mean, log_variance)) == pytest.approx(float(expected), rel=1e-5)


def test_the_adversary_is_weighed_by_its_gradient() -> None:
    layer = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    assert float(adaptive_weight(3 * layer.sum(), 0.5 * layer.sum(), layer)) == pytest.approx(
        6, rel=1e-3
    )


def test_a_discriminator_scores_patches() -> None:
    torch.manual_seed(0)
    discriminator = patch_discriminator(3)
    images = torch.zeros(1, 3, 64, 64)
    images.requires_grad_()
    scores = discriminator(images)
    assert scores.shape == (1, 1, 8, 8)
    scores[0, 0, 0, 0].backward()
    assert images.grad is not None
    assert bool((images.grad[..., 48:, 48:] == 0).all()), "it sees a patch alone"


def test_augmentation_needs_a_network_that_is_told() -> None:
    spec = GENERATORS["latent-edm"]
    options = spec.objective_options.model_validate({"augment_probability": 0.1})
    with pytest.raises(ModelError, match="generator latent-edm: network"):
        spec.objective(CONFIG, options, seed=0)


def picture_batch(num: int, seed: int) -> torch.Tensor:
    """(num, 1, 32, 32): one bright disc each, anywhere."""
    rng = torch.Generator().manual_seed(seed)
    centre = 8 + 16 * torch.rand(num, 2, 1, 1, generator=rng)
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    distance = ((y - centre[:, 0]) ** 2 + (x - centre[:, 1]) ** 2).sqrt()
    return (2 * (6 - distance).sigmoid() - 1).unsqueeze(1)


@pytest.mark.soak
def test_it_learns_to_draw_discs() -> None:
    network = {
        "widths": [24, 48],
        "attention": False,
        "norm_num_groups": 8,
        "autoencoder_widths": [8, 16, 32],
    }
    config = ModelConfig("latent-edm", ("disc", "other"), (32, 32), 1, network)
    options = LatentObjectiveOptions(autoencoder_images=100 * 16, statistics_images=10 * 16)
    objective = LatentObjective(config, options, seed=0, device="cpu")
    for number in range(280):
        rng = torch.Generator().manual_seed(number)
        update = Update(number, number * 16, 4e-3, min(0.98, number / 20), rng)
        ids = torch.zeros(16, dtype=torch.long)
        losses = objective.step(picture_batch(16, number), ids, update)
        if number == 99:
            assert losses["reconstruction"] < 0.25, "of 1.2 at first"
    sampler = objective.ema_sampler(32)
    bright = torch.from_numpy(sampler.sample(list(range(32)), [0] * 32))[..., 0] > 127
    areas = bright.sum((1, 2)).float()
    assert float(areas.mean()) == pytest.approx(113, rel=0.25)
    assert float(areas.std()) < 25
    assert (
        len({tuple(picture.nonzero().float().mean(0).round().tolist()) for picture in bright}) > 15
    )
