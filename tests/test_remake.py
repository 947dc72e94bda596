"""One image, made again alone, has the bytes that were published: for every generator."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from datagen.errors import InputError, JobError, NotFoundError
from datagen.remake import FingerprintChange, Remade, parse_sample_key, remake_sample
from datagen.settings import load_settings
from tests.generators.tiny_models import CLASS_NAMES, TINY, save_random_model
from tests.published import Home, copied_home, flip_byte, open_home, publish

AUGMENTATIONS = [
    {"transform": "HorizontalFlip", "p": 0.5},
    {"transform": "Affine", "p": 0.5, "params": {"rotate": [-20, 20]}},
    {"transform": "GaussNoise", "p": 0.5, "params": {"std_range": [0.1, 0.2]}},
]
# Of models that take conditions: tests/test_conditioned_jobs.py.
UNCONDITIONED = {name: config for name, config in TINY.items() if config.condition is None}
PROMPT = {
    "template": "a {shade} {class}",
    "attributes": {"shade": {"weights": {"dark": 0.5, "pale": 0.5}}},
}
# A filter that rejects some, so that later attempts are made again too.
SHARED: dict[str, Any] = {
    "augmentations": AUGMENTATIONS,
    "splits": {"ratios": {"train": 0.8, "val": 0.2}},
}
RECIPES: dict[str, dict[str, Any]] = {
    "noise": {
        "generator": {"model": "noise", "channels": 1},
        "filters": [{"filter": "blank", "min_contrast": 0.288}],
    },
    **{
        name: {
            "generator": {"model": f"tiny-{name}"}
            | ({"num_inference_steps": 2} if name == "lora" else {}),
            "classes": [{"name": c, "count": 7} for c in CLASS_NAMES],
        }
        | ({"conditioning": {"prompt": PROMPT}} if name == "text-edm" else {})
        for name in UNCONDITIONED
        if name != "noise"
    },
}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("remake") / "home"
    settings = load_settings({}, home=folder)
    for name, config in UNCONDITIONED.items():
        if name != "noise":
            save_random_model(settings.models_dir / f"tiny-{name}", config)
        publish(settings, {"name": f"small-{name}"} | SHARED | RECIPES[name])
    return folder


@pytest.fixture
def home(published: Path, tmp_path: Path) -> Iterator[Home]:
    with copied_home(published, tmp_path / "home") as home:
        yield home


def remake(home: Home, version: str, key: str) -> Remade:
    return remake_sample(home.catalog, home.store, home.settings, home.version(version), key)


@pytest.mark.parametrize("generator", UNCONDITIONED)
def test_an_image_made_alone_is_identical(published: Path, generator: str) -> None:
    class_names = ("cat", "dog") if generator == "noise" else CLASS_NAMES
    with open_home(published) as home:
        for class_name in class_names:
            for ordinal in (0, 3, 6):
                made = remake(home, f"small-{generator}", f"{class_name}-{ordinal:08d}")
                assert made.identical
                assert made.raw_identical
                assert made.num_pixels_changed == 0
                assert made.fingerprint_changes == []


def test_a_later_attempt_is_identical_too(published: Path) -> None:
    with open_home(published) as home:
        job_id = home.version("small-noise").job_id
        assert job_id == list(TINY).index("noise") + 1
        rows = [row for row in rows_of(home, job_id) if row.attempt >= 2]
        assert rows
        for row in rows[:3]:
            assert remake(home, "small-noise", f"cat-{row.ordinal}").identical


def rows_of(home: Home, job_id: int) -> list[Any]:
    from datagen.catalog.samples import iterate_samples

    return list(iterate_samples(home.catalog, job_id, "cat"))


def test_a_damaged_image_differs_under_the_same_fingerprint(home: Home) -> None:
    version = home.version("small-noise")
    row = rows_of(home, version.job_id)[4]
    folder = home.folder("small-noise")
    shard = sorted((folder / "shards").glob(f"{row.shard:05d}-*.tar"))[0]
    flip_byte(shard, row.offset + row.size // 2)
    made = remake(home, "small-noise", "cat-00000004")
    assert not made.identical
    assert made.raw_identical
    assert made.fingerprint_changes == []
    assert made.num_pixels_changed is None
    assert made.image_sha256 == row.image_sha256
    assert made.stored_sha256 != row.image_sha256


def test_another_fingerprint_is_told(home: Home) -> None:
    version = home.version("small-noise")
    changed = json.loads(home.version_fingerprint("small-noise"))
    numpy_now = changed["generation"]["numpy"]
    changed["generation"]["numpy"] = "1.0"
    home.execute(
        "UPDATE jobs SET fingerprint = ? WHERE id = ?", json.dumps(changed), version.job_id
    )
    made = remake(home, "small-noise", "cat-00000004")
    assert made.fingerprint_changes == [FingerprintChange("generation.numpy", "1.0", numpy_now)]
    assert made.identical


def test_a_changed_model_is_refused(home: Home) -> None:
    folder = home.settings.models_dir / "tiny-cgan"
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    save_random_model(folder, TINY["cgan"], seed=1)
    with pytest.raises(JobError, match="model tiny-cgan has changed"):
        remake(home, "small-cgan", "disc-00000000")


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("cot-00000001", "no class 'cot'; did you mean 'cat'"),
        ("cat-00000060", "the ordinals of cat go from 0 to 59"),
    ],
)
def test_an_unknown_sample_is_named_with_what_there_is(
    published: Path, key: str, message: str
) -> None:
    with open_home(published) as home, pytest.raises(NotFoundError, match=message):
        remake(home, "small-noise", key)


@pytest.mark.parametrize("text", ["cat", "cat-", "cat-1x", "-00000001", "../cat-1", "cat-1\n"])
def test_a_malformed_key_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="expected CLASS-ORDINAL"):
        parse_sample_key(text)


def test_the_class_of_a_key_may_hold_dashes_and_digits() -> None:
    assert parse_sample_key("ankle-boot-2-00000012") == ("ankle-boot-2", 12)
