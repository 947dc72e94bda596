"""Extractors, their cache, and what happens with files that are not what they should be."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_image
from torch import nn

from datagen.errors import InputError
from datagen.features import (
    Classifier,
    ClassifierFeatures,
    FeatureCache,
    FeatureExtractor,
    SmallClassifier,
    check_extractor,
    compute_features,
    load_extractor,
    resize_for_network,
)
from datagen.features.efficientnet import EfficientNetLite0Features, normalise
from datagen.features.user_modules import ModuleInput

Images = NDArray[np.uint8]


def some_images(num: int, *, side: int = 16, channels: int = 3) -> Images:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (num, side, side, channels), dtype=np.uint8)


def untrained(side: int, channels: int) -> Classifier:
    torch.manual_seed(0)
    network = SmallClassifier(channels=channels, image_size=(side, side), num_classes=3)
    return Classifier(network.eval())


class MeanColour:
    """A cheap extractor that counts its work."""

    name, dim, digest = "mean colour", 3, "0" * 64

    def __init__(self) -> None:
        self.num_extracted = 0

    def extract(self, images: Images) -> NDArray[np.float32]:
        self.num_extracted += len(images)
        return images.mean(axis=(1, 2)).astype(np.float32)


class Divided(MeanColour):
    """Not a number for a black image."""

    name = "divided by its sum"

    def extract(self, images: Images) -> NDArray[np.float32]:
        sums = images.sum(axis=(1, 2, 3), dtype=np.float64)
        with np.errstate(invalid="ignore"):
            return (images.mean(axis=(1, 2)) * (sums / sums)[:, None]).astype(np.float32)


@pytest.mark.parametrize("side", [100, 640])
def test_resizing_equals_pillows_bicubic(side: int) -> None:
    image = load_sample_image("china.jpg")[: side // 2, :side]
    expected = [
        Image.fromarray(image[..., c].astype(np.float32)).resize(
            (224, 224), Image.Resampling.BICUBIC
        )
        for c in range(3)
    ]
    resized = resize_for_network(image[None], 224)[0].numpy()
    assert np.abs(resized - np.stack(expected).clip(0, 255)).max() < 0.01


def test_grey_images_become_three_equal_channels() -> None:
    resized = resize_for_network(some_images(2, channels=1), 32)
    assert resized.shape == (2, 3, 32, 32)
    assert torch.equal(resized[:, 0], resized[:, 2])


def test_efficientnet_knows_a_daisy() -> None:
    """Class 985 of ImageNet: padding, normalisation or order of channels wrong, and it does not."""
    image = load_sample_image("flower.jpg")[None]
    network = EfficientNetLite0Features().network
    with torch.inference_mode():
        logits = network(normalise(resize_for_network(image, 224)))
    assert int(logits.argmax()) == 985


def test_efficientnet_features_are_those_before_its_last_layer() -> None:
    extractor = EfficientNetLite0Features()
    features = extractor.extract(load_sample_image("flower.jpg")[None])
    assert features.shape == (1, extractor.dim)
    logits = extractor.network._fc(torch.from_numpy(features))
    assert int(logits.argmax()) == 985


@pytest.mark.parametrize(
    ("side", "channels", "name"),
    [
        (64, 3, "efficientnet-lite0"),
        (63, 3, "small classifier of the reference"),
        (64, 1, "small classifier of the reference"),
    ],
)
def test_the_default_fits_size_and_colour(side: int, channels: int, name: str) -> None:
    assert load_extractor(None, untrained(side, channels)).name == name


def test_a_classifier_takes_images_of_any_size() -> None:
    for side in (8, 28, 64, 160):
        features = ClassifierFeatures(untrained(side, 3)).extract(some_images(2, side=side))
        assert features.shape == (2, 128)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("resnet", "expected efficientnet-lite0, classifier, torchscript:PATH"),
        ("onnx:", "expected efficientnet-lite0"),
        ("torchscript:nowhere.pt", "no such file"),
        ("onnx:x.onnx?size=0", "expected size=1 to 4096"),
        ("onnx:x.onnx?range=0..2", "range=0..1, 0..255, -1..1, imagenet"),
        ("onnx:x.onnx?colour=1", "joined by &"),
    ],
)
def test_a_wrong_extractor_is_refused(spec: str, reason: str) -> None:
    with pytest.raises(InputError, match=re.escape(reason)):
        load_extractor(spec, untrained(16, 3))


@pytest.mark.parametrize("kind", ["torchscript", "export", "onnx", "inception"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"not a network")
    with pytest.raises(InputError, match=rf"features .*{path}: (cannot be read|torch-fidelity)"):
        load_extractor(f"{kind}:{path}", untrained(16, 3))


class Probe(nn.Module):
    """(N, 3, 8, 8) => (N, 4, 4, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 2, stride=2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.layer(images))


@pytest.fixture(scope="module")
def probe() -> Probe:
    torch.manual_seed(1)
    return Probe().eval()


def saved(probe: Probe, path: Path, kind: str) -> None:
    example = torch.zeros(2, 3, 8, 8)
    if kind == "torchscript":
        torch.jit.trace(probe, example).save(str(path))
    else:
        batch = torch.export.Dim("batch", min=1, max=64)
        exported = torch.export.export(probe, (example,), dynamic_shapes=({0: batch},))
        torch.export.save(exported, path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of TorchScript
@pytest.mark.parametrize("kind", ["torchscript", "export"])
def test_a_users_module_gives_the_features_that_it_gives(
    tmp_path: Path, probe: Probe, kind: str
) -> None:
    path = tmp_path / "probe.pt2"
    saved(probe, path, kind)
    extractor = load_extractor(f"{kind}:{path}?size=8&range=-1..1", untrained(16, 3))
    images = some_images(20, side=8)
    with torch.no_grad():
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
        expected = probe(pixels).mean(dim=(2, 3)).numpy()
    assert extractor.dim == 4
    assert extractor.extract(images) == pytest.approx(expected, abs=1e-5)
    other = load_extractor(f"{kind}:{path}?size=8", untrained(16, 3))
    assert other.digest != extractor.digest


def test_an_onnx_file_gives_the_features_that_it_gives(tmp_path: Path) -> None:
    path = tmp_path / "mean.onnx"
    path.write_bytes(onnx_mean_over_places())
    extractor = load_extractor(f"onnx:{path}?size=16&range=0..255", untrained(16, 3))
    images = some_images(20)
    assert extractor.dim == 3
    assert extractor.extract(images) == pytest.approx(images.mean(axis=(1, 2)), rel=1e-5)
    with pytest.raises(InputError, match="set size, channels and range"):
        load_extractor(f"onnx:{path}?channels=1", untrained(16, 3))


def onnx_mean_over_places() -> bytes:
    """GlobalAveragePool from (N, 3, H, W), in protocol buffers by hand: no onnx package is needed.

    Source: onnx.proto3 of ONNX 1.16, messages ModelProto, GraphProto, NodeProto, ValueInfoProto.
    """

    def field(number: int, content: bytes | int) -> bytes:
        if isinstance(content, int):
            return bytes([number << 3, content])
        return bytes([number << 3 | 2, len(content)]) + content

    def value(name: str, *sizes: int | str) -> bytes:
        axes = b"".join(
            field(1, field(1, size) if isinstance(size, int) else field(2, size.encode()))
            for size in sizes
        )
        tensor = field(1, 1) + field(2, axes)
        return field(1, name.encode()) + field(2, field(1, tensor))

    node = field(1, b"x") + field(2, b"y") + field(4, b"GlobalAveragePool")
    graph = (
        field(1, node)
        + field(2, b"mean")
        + field(11, value("x", "n", 3, "h", "w"))
        + field(12, value("y", "n", 3, 1, 1))
    )
    return field(1, 8) + field(7, graph) + field(8, field(2, 13))


@pytest.mark.parametrize(
    ("given", "black", "white"),
    [
        (ModuleInput(4, "0..1"), 0.0, 1.0),
        (ModuleInput(4, "0..255", 1), 0.0, 255.0),
        (ModuleInput(4, "-1..1"), -1.0, 1.0),
        (ModuleInput(4, "imagenet"), -0.485 / 0.229, (1 - 0.485) / 0.229),
    ],
)
def test_a_module_is_given_the_range_asked_for(
    given: ModuleInput, black: float, white: float
) -> None:
    images = np.stack([np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)])
    prepared = given.prepare(images)
    assert prepared.shape == (2, given.channels, 4, 4)
    assert prepared[:, 0, 0, 0].tolist() == pytest.approx([black, white])


def test_inception_needs_its_package(tmp_path: Path) -> None:
    """Where torch-fidelity is installed the file itself is refused instead."""
    (tmp_path / "x.pth").write_bytes(b"")
    with pytest.raises(InputError, match=r"torch-fidelity|cannot be read as the state"):
        load_extractor(f"inception:{tmp_path / 'x.pth'}", untrained(16, 3))


def test_features_that_are_no_number_name_extractor_and_image(tmp_path: Path) -> None:
    images = some_images(700)
    images[[620, 640]] = 0
    names = [f"{i}.png" for i in range(700)]
    for cache in (None, FeatureCache(tmp_path)):
        with pytest.raises(InputError, match=r"divided by its sum: image '620.png'"):
            compute_features(Divided(), images, names=names, cache=cache)


def test_cached_features_are_not_extracted_again(tmp_path: Path) -> None:
    extractor, images = MeanColour(), some_images(30)
    first = compute_features(extractor, images, cache=FeatureCache(tmp_path))
    again = compute_features(extractor, images[::-1], cache=FeatureCache(tmp_path))
    assert extractor.num_extracted == 30
    assert np.array_equal(first, again[::-1])
    assert np.array_equal(first, compute_features(MeanColour(), images))


def test_the_cache_tells_extractors_and_shapes_apart(tmp_path: Path) -> None:
    cache, images = FeatureCache(tmp_path), some_images(4)
    extractor, other = MeanColour(), MeanColour()
    other.digest = "1" * 64
    reshaped = images.reshape(4, 32, 8, 3)
    for each, rows in ((extractor, images), (other, images), (extractor, reshaped)):
        compute_features(each, rows, cache=cache)
    assert (extractor.num_extracted, other.num_extracted) == (8, 4)


@pytest.mark.parametrize("damage", [b"", b"x" * 44, None])
def test_damaged_entries_are_made_again(tmp_path: Path, damage: bytes | None) -> None:
    extractor, images = MeanColour(), some_images(5)
    sound = compute_features(extractor, images, cache=FeatureCache(tmp_path))
    victim = sorted(tmp_path.rglob("*.f32"))[2]
    content = bytearray(victim.read_bytes())
    content[-1] ^= 1
    victim.write_bytes(bytes(content) if damage is None else damage)
    assert np.array_equal(compute_features(extractor, images, cache=FeatureCache(tmp_path)), sound)
    assert extractor.num_extracted == 6


def test_the_cache_stays_within_its_bound(tmp_path: Path) -> None:
    images = some_images(2000, side=4)
    entry = 32 + 4 * 3
    for first in range(0, 2000, 500):
        cache = FeatureCache(tmp_path, max_bytes=300 * entry)
        compute_features(MeanColour(), images[first : first + 500], cache=cache)
    kept = list(tmp_path.rglob("*.*"))
    assert 0 < len(kept) <= 300
    assert not list(tmp_path.rglob("*.tmp"))


def test_extractors_keep_their_promise() -> None:
    """Equal digests, equal features; another classifier has another digest."""
    extractors: list[FeatureExtractor] = [ClassifierFeatures(untrained(16, 3)) for _ in range(2)]
    assert extractors[0].digest == extractors[1].digest
    with torch.no_grad():
        other = untrained(16, 3)
        other.network.hidden.bias += 1
    assert ClassifierFeatures(other).digest != extractors[0].digest


def test_what_cannot_be_an_extractor_is_refused_before_any_work(tmp_path: Path) -> None:
    check_extractor("classifier")
    (tmp_path / "net.onnx").touch()
    check_extractor(f"onnx:{tmp_path / 'net.onnx'}?size=32")
    for spec, told in (
        ("", "expected efficientnet-lite0, classifier, torchscript:PATH"),
        ("onnx:", "expected efficientnet-lite0"),
        (f"inception:{tmp_path / 'net.onnx'}?size=2", "expected efficientnet-lite0"),
        (f"onnx:{tmp_path / 'net.onnx'}?size=none", "size=1 to 4096"),
        (f"export:{tmp_path}", "is not a file"),
        (f"torchscript:{tmp_path / 'gone'}", "does not exist"),
    ):
        with pytest.raises(InputError, match=told):
            check_extractor(spec)
