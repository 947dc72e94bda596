"""A set of label maps, from a folder to data sets conditioned on it, and to its withdrawal."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result

from datagen.catalog.schema import migrate
from datagen.cli import main
from datagen.conditions import ConditionConfig, ConditionKind
from datagen.embedded import run_recipe
from datagen.errors import RecipeError
from datagen.formats.version import StoredSample, VersionReader
from datagen.generators.condition_set.spec import ConditionSetSpec
from datagen.generators.interface import ModelConfig
from datagen.generators.model_directory import load_model, save_model
from datagen.image_set import ImageSet
from datagen.images import decode_png
from datagen.label_checks import check_labels
from datagen.manifest import Manifest
from datagen.recipe import RecipeDocument, canonical_json, parse_recipe
from datagen.registry import models_dirs, register_model
from datagen.remake import remake_sample
from datagen.resolve import resolve, resolve_stored
from datagen.settings import load_settings
from datagen.versions import version_prefix
from tests.generators.tiny_models import FACTS, TINY, save_random_model
from tests.published import open_home
from tests.training.tiny_pairs import NAMES, tiny_pairs, write_pairs

CLASSES = ("bones", "spots")
RECIPE: dict[str, Any] = {
    "version": 1,
    "name": "slices",
    "image_size": [8, 8],
    "classes": [{"name": "bones", "count": 24}, {"name": "spots", "count": 8}],
    "generator": {"model": "tiny"},
    "conditioning": {
        "mask": {
            "model": "maps",
            "deform": {"affine": {"translate": 0.1}},
            "edits": [{"add": "dot", "size_px": [1, 2], "region": "bar", "classes": ["spots"]}],
        }
    },
    "augmentations": [{"transform": "HorizontalFlip", "p": 0.5}],
    "splits": {"ratios": {"train": 0.75, "val": 0.25}},
    "output": {"shard_size": 8},
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("DATAGEN_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def datagen(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["--home", "home", *map(str, arguments)])


def parsed(*arguments: str | Path) -> dict[str, Any]:
    result = datagen(*arguments, "--json")
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert isinstance(content, dict)
    return content


def refused(*arguments: str | Path) -> str:
    result = datagen(*arguments)
    assert result.exit_code not in (0, 1), result.output
    return result.stderr


def write_set() -> Path:
    """48 label maps of 16 patients beside their images, registered as wards; a model recipe."""
    write_pairs(Path("pairs"))
    for folder in (Path("pairs/images"), Path("pairs/masks")):
        for index, path in enumerate(sorted(folder.glob("*.png"))):
            (folder / CLASSES[index % 2]).mkdir(exist_ok=True)
            path.rename(folder / CLASSES[index % 2] / path.name)
    names = [f"{CLASSES[index % 2]}/{index:03d}.png" for index in range(48)]
    rows = [f"{name},{name[:5]},p{i // 3}" for i, name in enumerate(names)]
    Path("pairs/images/metadata.csv").write_text("\n".join(["file_name,label,group", *rows]))
    terms = ("--licence", "CC-BY-4.0", "--permitted-use", "research on wards", "--use", "research")
    more = ("--consent", "broad consent", "--contact", "data@example.org")
    parsed("sources", "register", "pairs/images", "--name", "wards", *terms, *more)
    content = {
        "version": 1,
        "name": "maps",
        "generator": "condition_set",
        "seed": 3,
        "data": {
            "registered": "wards",
            "held_out": 12,
            "condition": {
                "kind": "mask",
                "path": str(Path("pairs/masks").resolve()),
                "names": NAMES,
            },
        },
    }
    Path("maps.yaml").write_text(yaml.safe_dump(content))
    return Path("maps.yaml")


def spade(names: tuple[str, ...]) -> ModelConfig:
    condition, size = ConditionConfig("mask", names), (8, 8)
    return replace(
        TINY["spade"], class_names=CLASSES, image_size=size, channels=1, condition=condition
    )


def samples(folder: Path = Path("home")) -> tuple[VersionReader, list[StoredSample]]:
    with open_home(folder) as home:
        version = home.version("slices")
        prefix = version_prefix("local", version.name, version.version)
        manifest = Manifest.from_bytes((home.folder("slices") / "manifest.json").read_bytes())
        reader = VersionReader(home.store, prefix, manifest)
        return reader, list(reader.iter_samples())


def test_from_a_folder_of_label_maps_to_a_withdrawn_data_set(tmp_path: Path) -> None:
    fitted = parsed("train", write_set())
    assert (fitted["training"]["num_train"], fitted["training"]["num_held_out"]) == (36, 12)
    # Not in the set's order.
    tiny = save_random_model(tmp_path / "made" / "tiny", spade(("background", "dot", "bar")))
    parsed("models", "import", tiny.path)
    Path("slices.json").write_text(json.dumps(RECIPE))
    assert datagen("validate", "slices.json").exit_code == 0
    parsed("run", "slices.json")

    reader, found = samples()
    assert (reader.names, len(found)) == (tuple(NAMES), 32)
    patients: dict[str, set[str]] = {"train": set(), "val": set()}
    for sample in found:
        check_labels(sample.labels, decode_png(sample.png).shape[:2], reader.names)
        assert sample.labels.source is not None
        patients[sample.record["split"]].add(f"p{int(Path(sample.labels.source).stem) // 3}")
    assert patients["train"]
    assert patients["val"]
    assert not patients["train"] & patients["val"]
    assert datagen("verify", "slices").exit_code == 0
    for key in ("bones-00000000", "spots-00000005"):
        assert "identical" in datagen("remake", "slices", key).output

    assert "slices@1 depend on it" in refused("models", "rm", "maps")
    shown = parsed("sources", "show", "wards")
    assert [m["name"] for m in shown["models"]] == ["maps"]
    assert [v["name"] for v in shown["versions"]] == ["slices"]
    done = parsed("sources", "withdraw", "wards", "--reason", "no consent", "--yes")
    assert done["objects_deleted"] > 0
    assert not Path("home/objects/local/datasets/slices/1/manifest.json").exists()
    assert "no consent" in refused("run", "slices.json")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """maps, backgrounds: sets. tiny, filler: of spade and edm, which take what they draw."""
    folder, spec = tmp_path_factory.mktemp("models"), ConditionSetSpec()
    images, masks = tiny_pairs(6)
    pairs = ImageSet(
        images[..., None],
        np.zeros(6, np.int64),
        CLASSES[:1],
        tuple("abcdef"),
        masks=masks,
        mask_names=tuple(NAMES),
    )
    kinds: dict[str, ConditionKind] = {"maps": "mask", "backgrounds": "inpaint"}
    for name, kind in kinds.items():
        fitted = spec.fitted(pairs, spec.network_options(), kind=kind, seed=0)
        config = ModelConfig("condition_set", CLASSES[:1], (8, 8), 1, fitted.network)
        save_model(folder / name, config, fitted.weights, FACTS, card="# a test\n")
    save_random_model(folder / "tiny", spade(tuple(NAMES)))
    filler = replace(
        TINY["edm"],
        class_names=CLASSES,
        image_size=(8, 8),
        channels=1,
        condition=ConditionConfig("inpaint", tuple(NAMES), 1),
    )
    save_random_model(folder / "filler", filler)
    return folder


@pytest.mark.parametrize(
    ("changes", "field", "told"),
    [
        ({"derive": "edges"}, "conditioning.mask", "derive is of kind image alone"),
        ({"edits": [{"add": "dot"}]}, "conditioning.mask.edits.0", "one of size_mm and size_px"),
        ({"edits": [{"remove": "bone"}]}, "conditioning.mask", "edits[0].remove: 'bone'"),
        (
            {"edits": [{"add": "dot", "size_mm": [1, 2]}]},
            "conditioning.mask",
            "edits[0].size_mm: the label maps have no spacing",
        ),
        ({"edits": [{"add": "bone", "size_px": [1, 2]}]}, "conditioning.mask.model", "have bone"),
        ({"deform": {"affine": {"rotate": 3}}}, "conditioning.mask.deform.affine.rotate", ""),
        ({"elastic": {}}, "conditioning.mask.elastic", "option of conditions by condition_set"),
        ({"region": {"form": "bar"}}, "conditioning.mask.region", ""),
        ({"same_class": "no"}, "conditioning.mask.same_class", ""),
    ],
)
def test_what_does_not_fit_is_told_before_anything_is_made(
    changes: dict[str, Any], field: str, told: str, models: Path
) -> None:
    with pytest.raises(RecipeError) as caught:
        resolve(recipe(changes), [models])
    assert field in str(caught.value)
    assert told in str(caught.value)


def test_more_splits_than_groups_are_refused(models: Path) -> None:
    ratios = {f"part{i}": 1 / 7 for i in range(7)}
    with pytest.raises(RecipeError, match=r"6 groups.*7 splits"):
        resolve(recipe({}, splits={"ratios": ratios}), [models])


def test_a_pinned_recipe_is_read_again(models: Path) -> None:
    resolved = resolve(recipe({"deform": {"elastic": {"alpha_px": 1, "sigma_px": 2}}}), [models])
    again = resolve_stored(resolved.body.decode(), [models])
    assert (again.digest, again.names) == (resolved.digest, tuple(NAMES))


def test_objects_are_painted_into_backgrounds_of_the_set(models: Path, tmp_path: Path) -> None:
    region = {"shape": "ellipse", "size_px": [2, 3], "inside": "bar", "margin_px": 1}
    options = {"model": "backgrounds", "region": region, "object": "dot"}
    document = recipe(
        {},
        generator={"model": "filler", "num_inference_steps": 2},
        conditioning={"inpaint": options},
    )
    resolved = resolve(document, [models])
    again = resolve_stored(resolved.body.decode(), [models])
    assert again.digest == resolved.digest
    settings = load_settings({}, home=tmp_path / "home")
    shutil.copytree(models, settings.models_dir)
    run_recipe(resolved, settings)
    with open_home(tmp_path / "home") as home:
        for key in ("bones-00000000", "spots-00000003"):
            version = home.version("slices")
            made = remake_sample(home.catalog, home.store, home.settings, version, key)
            assert made.identical
    reader, found = samples(tmp_path / "home")
    assert len(found) == 32
    for sample in found:
        check_labels(sample.labels, (8, 8), reader.names)
        assert sample.labels.objects
        assert sample.labels.objects[-1].class_name == "dot"


def test_where_an_image_is_made_anew_is_pinned(models: Path) -> None:
    options = {"model": "backgrounds", "region": {"from": "dot"}, "objects": ["dot"]}
    document = recipe({}, generator={"model": "filler"}, conditioning={"inpaint": options})
    resolved = resolve(document, [models])
    assert resolve_stored(resolved.body.decode(), [models]).digest == resolved.digest


def test_a_service_takes_a_set_as_any_model(models: Path, tmp_path: Path) -> None:
    settings = load_settings({}, home=tmp_path / "home")
    settings.home.mkdir()
    with open_home(settings.home) as home:
        migrate(home.catalog)
        registered = register_model(
            home.catalog, home.store, settings, models / "maps", created_by=None
        )
        elsewhere = replace(settings, home=tmp_path / "other-machine")
        [folder, *_] = models_dirs(home.catalog, home.store, elsewhere, ["maps"])
    found = load_model(folder / "maps")
    assert found.digest == registered.digest
    conditioner = resolve(recipe({}), [folder, models]).conditioner
    assert conditioner is not None
    assert conditioner.draw(1, "bones", "val").labels.source in set("abcdef")


def recipe(options: dict[str, Any], **changes: Any) -> RecipeDocument:
    conditioning = {"mask": {"model": "maps", **options}}
    content = RECIPE | {"conditioning": conditioning, "seed": 1} | changes
    return parse_recipe(canonical_json(content), source="slices.json")
