"""What a cgan may add to its training: each part alone, and that all of them resume exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from datagen.errors import ModelError
from datagen.generators import GENERATORS
from datagen.generators.cgan.adaptation import AdaptiveProbability
from datagen.generators.cgan.augmentation import augment, cut_out, recolor
from datagen.generators.cgan.layers import (
    SelfAttention,
    minibatch_deviation,
    normalize_spectrally,
)
from datagen.generators.cgan.networks import build_discriminator
from datagen.generators.cgan.options import CganNetwork, CganObjectiveOptions
from datagen.generators.cgan.sample import CganSampler
from datagen.generators.cgan.train import CganObjective, lipschitz_penalty
from datagen.generators.interface import ModelConfig, Update
from tests.generators.tiny_models import SHIPPED_SIZE, TINY, random_weights

CONFIG = TINY["cgan"]
ATTENTIVE = ModelConfig(
    "cgan", CONFIG.class_names, (8, 12), 3, {**CONFIG.network, "self_attention": True}
)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(num: int = 8, *, seed: int = 0) -> torch.Tensor:
    return torch.randn(num, 3, 8, 12, generator=rng(seed)).clamp(-1, 1)


def objective_of(config: ModelConfig = CONFIG, **options: Any) -> CganObjective:
    return CganObjective(config, CganObjectiveOptions(**options), seed=0)


def run(objective: CganObjective, steps: range) -> list[dict[str, float]]:
    return [
        objective.step(
            images(seed=number),
            torch.arange(8) % 3,
            Update(number, 8 * number, learning_rate=1e-3, ema_decay=0.5, rng=rng(number)),
        )
        for number in steps
    ]


# --- augmentation ---------------------------------------------------------------------------------


def test_options_that_are_off_change_nothing() -> None:
    options = CganObjectiveOptions(translation_px=0)
    assert torch.equal(augment(images(), options, probability=0.8, rng=rng()), images())
    on = CganObjectiveOptions(color=True, cutout_share=0.5)
    assert torch.equal(augment(images(), on, probability=0.0, rng=rng()), images())


def test_recolor_changes_the_asked_share_in_each_of_three_ways() -> None:
    original = images(1).expand(4000, -1, -1, -1)
    changed = (recolor(original, 0.5, rng()) - original).flatten(1).abs().amax(1) > 1e-6
    assert changed.float().mean().item() == pytest.approx(1 - 0.5**3, abs=0.03)
    assert torch.allclose(recolor(original, 0.0, rng()), original, atol=1e-6)


def test_recolor_is_one_affine_map_of_a_grey_image() -> None:
    """Saturation has nothing to change there: brightness and contrast alone."""
    grey = images(20)[:, :1]
    for before, after in zip(grey, recolor(grey, 1.0, rng(3)), strict=True):
        scale = (after - after.mean()) / (before - before.mean())
        assert torch.allclose(scale, scale.mean().expand_as(scale), atol=1e-3)
        assert 0.5 <= scale.mean() <= 1.5
        assert abs(after.mean() - before.mean()) <= 0.5


def test_cut_out_blanks_one_rectangle_of_the_asked_size_and_share_of_images() -> None:
    cut = cut_out(torch.ones(2000, 3, 8, 12), 0.5, 0.4, rng())
    assert torch.equal(cut[:, :1].expand_as(cut), cut), "all channels alike"
    holes = cut[:, 0] == 0
    num_rows, num_cols = holes.any(2).sum(1), holes.any(1).sum(1)
    assert torch.equal(holes.sum((1, 2)), num_rows * num_cols)
    assert (int(num_rows.max()), int(num_cols.max())) == (4, 6)
    assert (num_rows > 0).float().mean().item() == pytest.approx(0.4, abs=0.04)


@pytest.mark.parametrize("options", [{"color": True}, {"cutout_share": 0.5}])
def test_gradients_pass_through(options: dict[str, Any]) -> None:
    x = images().requires_grad_(True)
    chosen = CganObjectiveOptions(translation_px=0, **options)
    augment(x, chosen, probability=0.8, rng=rng()).square().sum().backward()
    assert x.grad is not None
    assert x.grad.flatten(1).abs().sum(1).min() > 0


def test_the_probability_follows_the_sign_of_the_pairs() -> None:
    adaptive = AdaptiveProbability(0.2, target=0.6, ramp_images=1000)
    real, fake = torch.full((10,), -3.0), torch.full((10,), -4.0)  # known, whatever their sign
    seen = []
    for _ in range(8):
        adaptive.observe(real, fake)
        seen.append(adaptive.value)
    assert seen == pytest.approx([0.2] * 3 + [0.24] * 4 + [0.28])
    for _ in range(4):
        adaptive.observe(real, real)
    assert adaptive.value == pytest.approx(0.24)


def test_the_probability_stays_where_augmentation_does_not_leak() -> None:
    ones, zeros = torch.ones(100), torch.zeros(100)
    rising = AdaptiveProbability(0.5, target=0.6, ramp_images=100)
    falling = AdaptiveProbability(0.5, target=0.6, ramp_images=100)
    for _ in range(4):
        rising.observe(ones, zeros)
        falling.observe(zeros, ones)
    assert (rising.value, falling.value) == (0.8, 0.0)


def test_the_sign_is_averaged_over_processes() -> None:
    def average(values: list[torch.Tensor]) -> None:
        values[0].mul_(0)  # another process saw the opposite

    adaptive = AdaptiveProbability(0.2, target=0.6, ramp_images=400)
    for _ in range(4):
        adaptive.observe(torch.ones(10), torch.zeros(10), average)
    assert adaptive.value == pytest.approx(0.1)


def test_training_adapts_and_tells_the_probability() -> None:
    objective = objective_of(augment_target=0.9, augment_ramp_images=320)
    told = [losses["augment_probability"] for losses in run(objective, range(9))]
    assert told[:4] == [0.2] * 4
    assert abs(told[4] - 0.2) == pytest.approx(0.1)
    assert "augment_probability" not in run(objective_of(), range(1))[0]


# --- layers ---------------------------------------------------------------------------------------


def test_every_layer_of_the_discriminator_is_normalized() -> None:
    options = CganObjectiveOptions(spectral_norm=True)
    network = CganNetwork.model_validate(ATTENTIVE.network)
    discriminator = build_discriminator(ATTENTIVE, network, options)
    state = discriminator.state_dict()
    plain = [name for name in state if name.endswith("weight") and state[name].dim() > 1]
    assert plain == []
    assert sum(name.endswith("._u") for name in state) == 13


def test_a_normalized_network_grows_no_faster_than_its_input() -> None:
    layers = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    for parameter in layers.parameters():
        torch.nn.init.normal_(parameter, std=3.0, generator=rng())
    normalize_spectrally(layers)
    for _ in range(50):
        layers(torch.zeros(1, 6))
    largest = torch.linalg.matrix_norm(layers[0].weight, 2)
    assert largest.item() == pytest.approx(1, abs=1e-3)
    a, b = torch.randn(2, 500, 6, generator=rng())
    assert bool(((layers(a) - layers(b)).norm(dim=1) <= (a - b).norm(dim=1) * 1.01).all())


def test_minibatch_deviation_is_that_of_the_group() -> None:
    features = torch.randn(10, 3, 2, 2, generator=rng())
    found = minibatch_deviation(features, 4)  # two groups of five
    expected = [part.std(0, correction=0).mean().item() for part in features.split(5)]
    assert found.flatten().tolist() == pytest.approx([expected[0]] * 5 + [expected[1]] * 5)
    alike = minibatch_deviation(features[:1].expand(4, -1, -1, -1), 4)
    assert alike.max().item() < 1e-3


def test_minibatch_deviation_never_mixes_real_and_generated_images() -> None:
    """The real logits do not change with the generated images of the same step."""
    objective = objective_of(minibatch_stddev=4)
    class_ids = torch.arange(6) % 3
    torch.nn.init.constant_(objective.discriminator.features.weight, 0.1)
    real = [objective._logits(images(6), images(6, seed=seed), class_ids)[0] for seed in (1, 2)]
    assert torch.equal(real[0], real[1])
    moved = images(6)
    moved[0] += 1.0
    neighbours = objective._logits(moved, images(6), class_ids)[0]
    assert not torch.allclose(neighbours[1:], real[0][1:]), "the group counts"


def test_attention_starts_as_the_identity() -> None:
    x = torch.randn(2, 8, 3, 4, generator=rng())
    assert torch.equal(SelfAttention(8)(x), x)


def test_attention_mixes_places_of_one_image_by_likeness() -> None:
    """With one place far louder than all others, each place gets that one's value."""
    attention = SelfAttention(8)
    for layer in (attention.query, attention.key):
        torch.nn.init.ones_(layer.weight)
    torch.nn.init.dirac_(attention.value.weight)
    torch.nn.init.ones_(attention.gamma)
    x = torch.rand(2, 8, 3, 4, generator=rng()) + 0.5
    x[0, :, 1, 2] = 20.0
    out = attention(x)
    assert torch.allclose(out[0], x[0] + 20.0, atol=1e-3)
    assert torch.equal(attention(x[1:])[0], attention(x[1:].clone())[0])
    assert out[1].max() < 4


@pytest.mark.parametrize("size", ["tiny", "shipped"])
def test_an_attentive_generator_makes_each_image_alone(size: str) -> None:
    plain = {"tiny": TINY, "shipped": SHIPPED_SIZE}[size]["cgan"]
    network = {**plain.network, "self_attention": True}
    config = ModelConfig("cgan", plain.class_names, plain.image_size, plain.channels, network)
    objective = objective_of(config)
    weights = random_weights(config)
    assert weights is not None
    objective.ema.load_state_dict(weights)
    sampler = CganSampler(objective.ema, batch_size=16)
    seeds, class_ids = list(range(16)), [i % 3 for i in range(16)]
    together = sampler.sample(seeds, class_ids)
    for row in (0, 7, 15):
        assert np.array_equal(sampler.sample([seeds[row]], [class_ids[row]])[0], together[row])
    assert objective.ema.attention is not None
    objective.ema.attention.gamma.data.zero_()
    assert not np.array_equal(sampler.sample(seeds, class_ids), together), "attention counts"


def test_a_config_without_attention_is_written_as_before_there_was_any() -> None:
    written = CganNetwork.model_validate(CONFIG.network).model_dump(mode="json")
    assert set(written) == {"latent_dim", "widths", "num_blocks"}
    assert CganNetwork(self_attention=True).model_dump()["self_attention"] is True


# --- penalties ------------------------------------------------------------------------------------


def test_the_lipschitz_penalty_of_a_linear_discriminator_is_its_norm_off_one() -> None:
    weight = torch.randn(3, 8, 12, generator=rng(1))
    penalty = lipschitz_penalty(lambda x: (x * weight).sum((1, 2, 3)), images())
    assert penalty.item() == pytest.approx((weight.norm().item() - 1) ** 2, rel=1e-4)


def test_each_penalty_has_its_own_value() -> None:
    """r1 leaves out the generated images; r1r2 adds them."""
    found = {}
    for penalty in ("r1r2", "r1", "wgan-gp"):
        objective = objective_of(penalty=penalty)
        found[penalty] = objective._penalty(
            images(), images(seed=1), torch.arange(8) % 3, rng()
        ).item()
    fake = objective_of(penalty="r1")._penalty(images(seed=1), images(), torch.arange(8) % 3, rng())
    assert found["r1r2"] == pytest.approx(found["r1"] + fake.item())
    assert found["wgan-gp"] < 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"augment_target": 0.6, "translation_px": 0}, "augment_target 0.6: .*set translation_px"),
        ({"minibatch_stddev": 1}, "minibatch_stddev 1: .* 4 is usual"),
    ],
)
def test_options_that_would_do_nothing_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        GENERATORS["cgan"].objective(CONFIG, CganObjectiveOptions(**options), seed=0)


# --- together -------------------------------------------------------------------------------------

EVERYTHING = [
    {"augment_target": 0.3, "augment_ramp_images": 100, "color": True, "cutout_share": 0.4},
    {"spectral_norm": True, "minibatch_stddev": 3, "penalty": "wgan-gp", "penalty_every": 2},
]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("options", EVERYTHING, ids=["augmentation", "layers"])
def test_every_option_resumes_bit_for_bit(options: dict[str, Any], precision: str) -> None:
    options = {**options, "precision": precision}
    objective = GENERATORS["cgan"].objective(ATTENTIVE, CganObjectiveOptions(**options), seed=0)
    assert isinstance(objective, CganObjective)
    resumed = CganObjective(ATTENTIVE, CganObjectiveOptions(**options), seed=9)
    run(objective, range(6))
    resumed.load_state({k: v.detach().clone() for k, v in objective.state().items()})
    run(objective, range(6, 12))
    run(resumed, range(6, 12))
    expected, found = objective.state(), resumed.state()
    assert expected.keys() == found.keys()
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []
    assert all(bool(value.isfinite().all()) for value in found.values())
