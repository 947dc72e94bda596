"""What of a pipeline is read, and what is refused before anything opens it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datagen.errors import ModelError
from datagen.generators.lora.options import LoraNetwork
from datagen.generators.lora.pipeline_files import PipelineFiles, open_pipeline
from tests.generators.tiny_pipeline import save_tiny_pipeline

REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_pipeline(tmp_path_factory.mktemp("pipelines") / "tiny")


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "pipeline"))


def opened(folder: Path, **network: Any) -> PipelineFiles:
    return open_pipeline(LoraNetwork(pipeline=str(folder), **network))


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_the_digest_is_of_the_contents_wherever_they_lie(original: Path, folder: Path) -> None:
    assert opened(folder).sha256 == opened(original).sha256
    (folder / "README.md").write_text("not used")
    (folder / "safety_checker").mkdir()
    assert opened(folder).sha256 == opened(original).sha256


@pytest.mark.parametrize(
    "name",
    [
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
        "tokenizer/tokenizer.json",
        "scheduler/scheduler_config.json",
    ],
)
def test_another_file_is_another_pipeline(original: Path, folder: Path, name: str) -> None:
    expected = opened(original).sha256
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data.replace(b" ", b"  ", 1) if name.endswith("json") else data[1:])
    assert opened(folder).sha256 != expected
    with pytest.raises(ModelError, match=f"expected {expected}: .* tuned on"):
        opened(folder, pipeline_sha256=expected)


def test_the_parts_that_matter_are_read(folder: Path) -> None:
    configs = opened(folder).configs
    assert configs.vae.factor == 2
    assert configs.latent_shape((8, 16)) == (4, 4, 8)
    assert configs.schedule.beta_schedule == "scaled_linear"


def add(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text("{}") and None


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def change(name: str, **changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder / name, **changes)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (add("unet/diffusion_pytorch_model.bin"), "unet/.*bin is a pickle"),
        (add("text_encoder/pytorch_model.bin"), "text_encoder/pytorch_model.bin is a pickle"),
        (add("text_encoder/adapter_config.json"), "adapter_config.json does not belong there"),
        (remove("vae/diffusion_pytorch_model.safetensors"), "vae/.* is missing"),
        (remove("tokenizer/tokenizer.json"), "tokenizer.json is missing"),
        (lambda folder: shutil.rmtree(folder / "unet"), "folder unet is missing"),
        (change("model_index.json", _class_name="MyPipeline"), "_class_name"),
        (change("model_index.json", _class_name="StableDiffusionXLPipeline"), "_2 is missing"),
        (change("model_index.json", unet=["my_code", "Net"]), "unet"),
        (change("model_index.json", text_encoder=["transformers", "AutoModel"]), "text_encoder"),
        (change("text_encoder/config.json", auto_map={"AutoModel": "x--y"}), "auto_map"),
        (change("text_encoder/config.json", attn_implementation="x/y"), "attn_implementation"),
        (change("unet/config.json", quantization_config={"a": 1}), "quantization_config"),
        (change("unet/config.json", layers_per_block=10**6), "layers_per_block"),
        (change("unet/config.json", block_out_channels=[8] * 1000), "block_out_channels"),
        (change("unet/config.json", in_channels=9), "in_channels 9; expected 4"),
        (change("unet/config.json", addition_embed_type="text_time"), "addition_embed_type"),
        (change("text_encoder/config.json", num_hidden_layers=10**6), "num_hidden_layers"),
        (change("scheduler/scheduler_config.json", prediction_type="flow"), "prediction_type"),
        (lambda folder: (folder / "vae/config.json").write_text("[" * 9999), "not JSON"),
    ],
)
def test_what_is_unsafe_or_of_another_kind_is_refused(
    folder: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(folder)
    with pytest.raises(ModelError, match=message):
        opened(folder)


def test_a_link_out_of_the_pipeline_is_refused(folder: Path, tmp_path: Path) -> None:
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(tmp_path / "elsewhere")
    weights.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match="regular file of the pipeline"):
        opened(folder)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not a folder; give the folder of a pipeline"):
        opened(tmp_path / "nowhere")


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_a_hub_id_is_found_in_the_cache(original: Path, hub_cache: Path) -> None:
    """Laid out as the hub's own client does it: a snapshot of links to the contents."""
    repository = hub_cache / "models--owner--tiny"
    (repository / "blobs").mkdir(parents=True)
    for index, path in enumerate(sorted(p for p in original.rglob("*") if p.is_file())):
        link = repository / "snapshots" / REVISION / path.relative_to(original)
        link.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, repository / "blobs" / str(index))
        link.symlink_to(os.path.relpath(repository / "blobs" / str(index), link.parent))
    found = open_pipeline(LoraNetwork(pipeline="owner/tiny", revision=REVISION))
    assert found.sha256 == opened(original).sha256


def test_a_hub_id_that_is_not_in_the_cache_is_told_with_the_command(hub_cache: Path) -> None:
    with pytest.raises(ModelError, match=f"run: hf download owner/tiny --revision {REVISION} --in"):
        open_pipeline(LoraNetwork(pipeline="owner/tiny", revision=REVISION))
    with pytest.raises(ModelError, match="expected a hub id such as owner/name"):
        open_pipeline(LoraNetwork(pipeline="../x", revision=REVISION))
