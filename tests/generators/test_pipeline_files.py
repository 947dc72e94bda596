"""What of a pipeline is read, and what is refused before any library opens it."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datagen.errors import ModelError
from datagen.generators.pipeline.files import (
    check_controlnet,
    check_lora,
    check_task,
    check_textual_inversion,
    open_controlnet,
    open_lora,
    open_pipeline,
    open_textual_inversion,
    task_of,
)
from datagen.generators.pipeline.part_fit import check_has_controlnet
from tests.generators.pipeline_folders import (
    COMPONENTS,
    TEXT_WIDTH,
    UNET,
    WIDTH,
    edit_json,
    write_controlnet,
    write_inversion,
    write_json,
    write_lora,
    write_pipeline,
    write_safetensors,
)

Damage = Callable[[Path], object]
UNET_WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_pipeline(tmp_path / "pipeline")


def test_a_folder_is_told_by_its_index(folder: Path) -> None:
    opened = open_pipeline(str(folder))
    assert (opened.pipeline_class, opened.family) == ("StableDiffusionPipeline", "stable-diffusion")
    assert dict(opened.components) == COMPONENTS
    assert (opened.licence, opened.variant, opened.has_safety_checker) == (
        "apache-2.0",
        None,
        False,
    )
    weights = list(folder.rglob("*.safetensors"))
    assert opened.num_bytes == sum(path.stat().st_size for path in weights)
    assert UNET_WEIGHTS in opened.files
    assert "README.md" not in opened.files


def test_the_digest_is_of_the_contents_wherever_they_lie(folder: Path, tmp_path: Path) -> None:
    digest = open_pipeline(str(folder)).sha256
    moved = Path(shutil.copytree(folder, tmp_path / "moved"))
    (moved / "README.md").write_text("another card")
    (moved / "samples").mkdir()
    assert open_pipeline(str(moved), sha256=digest).sha256 == digest


@pytest.mark.parametrize("name", [UNET_WEIGHTS, "vae/config.json", "tokenizer/tokenizer.json"])
def test_a_byte_changed_after_registering_is_told_by_both_digests(folder: Path, name: str) -> None:
    """Also within one process, which remembers digests: size and time may stay as they were."""
    digest = open_pipeline(str(folder)).sha256
    path = folder / name
    status, data = path.stat(), path.read_bytes()
    path.write_bytes(data[:-1] + (b"\1" if name == UNET_WEIGHTS else b" }"[-1:] + b" "))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    changed = open_pipeline(str(folder)).sha256
    assert changed != digest
    with pytest.raises(ModelError, match=f"sha256 {changed}; expected {digest}"):
        open_pipeline(str(folder), sha256=digest)


def test_bytes_are_read_once_in_a_process(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_pipeline(str(folder))
    opened: list[str] = []
    active = True

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if active and event == "open":
            opened.append(str(arguments[0]))

    sys.addaudithook(note)
    open_pipeline(str(folder))
    active = False
    assert str(folder / "model_index.json") in opened
    assert not [name for name in opened if name.endswith(".safetensors")]


def add(name: str) -> Damage:
    return lambda folder: write_json(folder / name, {"a": 1})


def remove(name: str) -> Damage:
    return lambda folder: (folder / name).unlink()


def change(name: str, **changes: Any) -> Damage:
    return lambda folder: edit_json(folder / name, **changes)


def cut(folder: Path) -> None:
    path = folder / UNET_WEIGHTS
    path.write_bytes(path.read_bytes()[:-4])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (add("unet/diffusion_pytorch_model.bin"), r"unet/\S+\.bin is a pickle.*\.save_pretrained"),
        (add("v1-5-pruned.ckpt"), "v1-5-pruned.ckpt is a pickle"),
        (add("extra/deep/weights.PT"), "extra/deep/weights.PT is a pickle"),
        (add("text_encoder/flax_model.msgpack"), "flax_model.msgpack is a pickle"),
        (add("unet/modeling.py"), "unet/modeling.py is code"),
        (add("pipeline.py"), "pipeline.py is code"),
        (add("unet/stray.onnx"), "unet/stray.onnx does not belong there"),
        (add("text_encoder/adapter_config.json"), "adapter_config.json would load an adapter"),
        (remove("model_index.json"), "model_index.json is missing"),
        (remove(UNET_WEIGHTS), f"{UNET_WEIGHTS} is missing"),
        (remove("vae/config.json"), "vae/config.json is missing"),
        (remove("tokenizer/tokenizer.json"), "tokenizer/tokenizer.json is missing"),
        (remove("scheduler/scheduler_config.json"), "scheduler_config.json is missing"),
        (lambda folder: shutil.rmtree(folder / "unet"), "folder unet is missing"),
        (change("model_index.json", unet=[None, None]), "component unet is missing"),
        (change("model_index.json", _class_name="MyPipeline"), "'MyPipeline' is none of"),
        (change("model_index.json", _class_name=["pipeline", "Mine"]), "is none of the pipelines"),
        (change("model_index.json", _class_name="StableDiffusionPipelin"), "did you mean"),
        (change("model_index.json", _class_name="KandinskyV22Pipeline"), "combined pipeline"),
        (change("model_index.json", unet=["my_code", "Net"]), "my_code.Net is not allowed there"),
        (change("model_index.json", unet=["diffusers", "AutoencoderKL"]), "unet: .* not allowed"),
        (change("model_index.json", text_encoder=["transformers", "AutoModel"]), "AutoModel"),
        (change("model_index.json", hook=["diffusers", "DDIMScheduler"]), "component hook"),
        (change("model_index.json", custom_pipeline="x/y"), "custom_pipeline is not allowed"),
        (change("model_index.json", vae=["diffusers", "AutoencoderTiny"]), "expected AutoencoderT"),
        (change("text_encoder/config.json", auto_map={"A": "x--y"}), "auto_map is not allowed"),
        (change("text_encoder/config.json", inner={"auto_map": {"A": "b"}}), "auto_map"),
        (change("tokenizer/tokenizer_config.json", auto_map=["a", "b"]), "auto_map"),
        (change("text_encoder/config.json", attn_implementation="x/y"), "attn_implementation"),
        (change("unet/config.json", quantization_config={"a": 1}), "quantization_config"),
        (
            change("text_encoder/config.json", transformers_weights="x.safetensors"),
            "transformers_weights is not allowed",
        ),
        (
            change("tokenizer/tokenizer_config.json", fast_tokenizer_files=["tokenizer.4.json"]),
            "fast_tokenizer_files is not allowed",
        ),
        (add("text_encoder/x.safetensors"), "text_encoder/x.safetensors is none of the component"),
        (add("scheduler/x.safetensors"), "scheduler/x.safetensors is none of the component"),
        (change("unet/config.json", trust_remote_code=True), "trust_remote_code"),
        (change("unet/config.json", layers_per_block=10**6), "layers_per_block 1000000"),
        (change("unet/config.json", block_out_channels=[8] * 65), "65 values; expected"),
        (lambda folder: (folder / "vae/config.json").write_text("[" * 9999), "not JSON"),
        (lambda folder: (folder / "vae/config.json").write_text("[1]"), "JSON object"),
        (cut, "not a sound safetensors file"),
    ],
)
def test_what_is_unsafe_or_not_whole_is_refused_by_name(
    folder: Path, damage: Damage, message: str
) -> None:
    open_pipeline(str(folder))
    damage(folder)
    with pytest.raises(ModelError, match=message):
        open_pipeline(str(folder))


def test_links_out_of_the_folder_are_refused(folder: Path, tmp_path: Path) -> None:
    weights = folder / UNET_WEIGHTS
    weights.rename(tmp_path / "elsewhere")
    weights.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match=f"{UNET_WEIGHTS} is a link out of the folder"):
        open_pipeline(str(folder))
    (folder / "unet").rename(tmp_path / "unet")
    (folder / "unet").symlink_to(tmp_path / "unet")
    with pytest.raises(ModelError, match="unet is a link to a folder"):
        open_pipeline(str(folder))


def test_what_is_no_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"not a folder; .*save_pretrained"):
        open_pipeline(str(tmp_path / "missing"))
    with pytest.raises(ModelError, match=r"not a folder; .* hub id needs a revision"):
        open_pipeline("owner/name")


def test_weights_in_shards_are_read_and_a_missing_one_is_named(folder: Path) -> None:
    (folder / UNET_WEIGHTS).unlink()
    stem = "unet/diffusion_pytorch_model"
    shards = [f"{stem}-0000{number}-of-00002.safetensors" for number in (1, 2)]
    for shard, name in zip(shards, UNET, strict=False):
        write_safetensors(folder / shard, {name: UNET[name]})
    index = write_json(
        folder / f"{stem}.safetensors.index.json",
        {"weight_map": dict(zip(UNET, [Path(each).name for each in shards], strict=False))},
    )
    assert set(open_pipeline(str(folder)).files).issuperset(
        [*shards, f"{stem}.safetensors.index.json"]
    )
    (folder / shards[1]).unlink()
    with pytest.raises(ModelError, match=f"{shards[1]} is missing"):
        open_pipeline(str(folder))
    index.write_text(json.dumps({"weight_map": {"a": "../vae/x.safetensors"}}))
    with pytest.raises(ModelError, match="weight_map: expected names"):
        open_pipeline(str(folder))


def test_a_variant_is_chosen_where_plain_weights_are_missing(folder: Path) -> None:
    plain = open_pipeline(str(folder))
    half = folder / "unet/diffusion_pytorch_model.fp16.safetensors"
    write_safetensors(half, {"a.weight": (2, 2)})
    assert open_pipeline(str(folder)).sha256 == plain.sha256
    (folder / UNET_WEIGHTS).unlink()
    opened = open_pipeline(str(folder))
    assert opened.variant == "fp16"
    assert "unet/diffusion_pytorch_model.fp16.safetensors" in opened.files
    (folder / "vae/diffusion_pytorch_model.safetensors").rename(
        folder / "vae/diffusion_pytorch_model.bf16.safetensors"
    )
    with pytest.raises(ModelError, match="no variant is there for all"):
        open_pipeline(str(folder))


def test_a_task_is_of_the_class_and_of_the_network(folder: Path) -> None:
    opened = open_pipeline(str(folder))
    assert task_of(opened) == "text-to-image"
    assert check_task(opened, "image-to-image") == ("StableDiffusionImg2ImgPipeline")
    assert check_task(opened, "inpainting") == ("StableDiffusionInpaintPipeline")
    with pytest.raises(ModelError, match="does no upscaling; it does text-to-image"):
        check_task(opened, "upscaling")
    with pytest.raises(ModelError, match=r"does no inpaint; did you mean .inpainting"):
        check_task(opened, "inpaint")
    with pytest.raises(ModelError, match="needs a folder with a ControlNetModel"):
        check_has_controlnet(opened, "controlnet", named=False)
    with pytest.raises(ModelError, match="takes no controlnet"):
        check_has_controlnet(opened, "text-to-image", named=True)
    edit_json(folder / "unet/config.json", in_channels=9)
    assert check_task(opened, "inpainting")
    with pytest.raises(ModelError, match=r"in_channels 9; expected 4 .* inpainting alone"):
        check_task(opened, "text-to-image")


def test_a_stage_without_a_text_encoder_does_no_task(folder: Path) -> None:
    edit_json(
        folder / "model_index.json",
        _class_name="IFPipeline",
        **{name: [None, None] for name in ("text_encoder", "tokenizer", "vae")},
    )
    with pytest.raises(ModelError, match="no text encoder"):
        check_task(open_pipeline(str(folder)), "text-to-image")


def test_a_controlnet_of_another_base_is_refused(folder: Path, tmp_path: Path) -> None:
    pipeline = open_pipeline(str(folder))
    sound = open_controlnet(str(write_controlnet(tmp_path / "sound")))
    assert sound.licence == "apache-2.0"
    check_controlnet(sound, pipeline)
    other = write_controlnet(tmp_path / "other", cross_attention_dim=2048)
    with pytest.raises(ModelError, match=r"cross_attention_dim 2048; unet of .* has 12"):
        check_controlnet(open_controlnet(str(other)), pipeline)
    flux = write_controlnet(tmp_path / "flux", _class_name="FluxControlNetModel")
    with pytest.raises(ModelError, match="FluxControlNetModel does not fit"):
        check_controlnet(open_controlnet(str(flux)), pipeline)
    unknown = write_controlnet(tmp_path / "unknown", _class_name="UNet2DConditionModel")
    with pytest.raises(ModelError, match="expected one of ControlNetModel"):
        open_controlnet(str(unknown))
    write_json(tmp_path / "sound/diffusion_pytorch_model.bin", {})
    with pytest.raises(ModelError, match="is a pickle"):
        open_controlnet(str(tmp_path / "sound"))


@pytest.mark.parametrize("prefix", ["unet.", "", "diffusion_model."])
def test_a_lora_of_this_base_fits(folder: Path, tmp_path: Path, prefix: str) -> None:
    lora = open_lora(str(write_lora(tmp_path / "a.safetensors", prefix=prefix)))
    check_lora(lora, open_pipeline(str(folder)))
    assert open_lora(str(tmp_path), sha256=lora.sha256) == lora  # the folder, which holds one


def test_other_spellings_of_a_lora_fit(folder: Path, tmp_path: Path) -> None:
    block = "down_blocks.0.attentions.0.transformer_blocks.0"
    shapes = {
        f"unet.{block}.attn1.processor.to_out_lora.down.weight": (2, WIDTH),
        f"unet.{block}.attn1.to_q.lora.up.weight": (WIDTH, 2),
        f"lora_unet_{block.replace('.', '_')}_attn2_to_k.lora_down.weight": (2, TEXT_WIDTH),
        f"lora_unet_{block.replace('.', '_')}_attn2_to_k.alpha": (),
        "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_up.weight": (TEXT_WIDTH, 2),
        "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_linear_layer.up.weight": (
            TEXT_WIDTH,
            2,
        ),
        "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_down.weight": (
            2,
            TEXT_WIDTH,
        ),
    }
    path = write_safetensors(tmp_path / "a.safetensors", shapes)
    check_lora(open_lora(str(path)), open_pipeline(str(folder)))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (
            {
                "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_down.weight": (
                    2,
                    99,
                )
            },
            r"shape \[2, 99\]: unet of .* has weights of shape \[16, 12\] in such places",
        ),
        ({"transformer.blocks.0.attn.to_q.lora_A.weight": (2, 16)}, "has no such module"),
        ({"text_encoder_2.layers.0.q_proj.lora_A.weight": (2, 16)}, "for a text_encoder_2"),
        ({"unet.conv_in.weight": (16, 4, 3, 3)}, "no tensor is one of a LoRA"),
    ],
)
def test_a_lora_of_another_base_is_refused_by_tensor(
    folder: Path, tmp_path: Path, shapes: dict[str, tuple[int, ...]], message: str
) -> None:
    lora = open_lora(str(write_safetensors(tmp_path / "a.safetensors", shapes)))
    with pytest.raises(ModelError, match=message):
        check_lora(lora, open_pipeline(str(folder)))


def test_a_lora_of_another_width_is_refused_by_both_shapes(folder: Path, tmp_path: Path) -> None:
    lora = open_lora(str(write_lora(tmp_path / "xl.safetensors", width=2048)))
    expected = r"attn2.to_k.lora_A.weight of shape \[2, 2048\]: .* a weight of shape \[16, 12\]"
    with pytest.raises(ModelError, match=expected):
        check_lora(lora, open_pipeline(str(folder)))


def test_adapter_files_are_checked_as_weights_are(tmp_path: Path) -> None:
    write_json(tmp_path / "a.bin", {})
    with pytest.raises(ModelError, match=r"a.bin is a pickle"):
        open_lora(str(tmp_path / "a.bin"))
    with pytest.raises(ModelError, match=r"a.bin is a pickle"):
        open_textual_inversion(str(tmp_path))
    with pytest.raises(ModelError, match=r"b.safetensors is missing"):
        open_lora(str(tmp_path / "b.safetensors"))
    (tmp_path / "a.bin").unlink()
    for name in ("b", "c"):
        write_lora(tmp_path / f"{name}.safetensors")
    with pytest.raises(ModelError, match="2 safetensors files in the folder"):
        open_lora(str(tmp_path))
    digest = open_lora(str(tmp_path / "b.safetensors")).sha256
    write_lora(tmp_path / "b.safetensors", width=13)
    with pytest.raises(ModelError, match=f"expected {digest}"):
        open_lora(str(tmp_path / "b.safetensors"), sha256=digest)


def test_an_embedding_of_another_width_is_refused(folder: Path, tmp_path: Path) -> None:
    pipeline = open_pipeline(str(folder))
    path = write_inversion(tmp_path / "disc.safetensors")
    check_textual_inversion(open_textual_inversion(str(path)), pipeline)
    write_inversion(path, width=768)
    with pytest.raises(ModelError, match=r"<disc> has shape \[2, 768\]; expected \[vectors, 12\]"):
        check_textual_inversion(open_textual_inversion(str(path)), pipeline)
    write_inversion(path, name="clip_g")
    with pytest.raises(ModelError, match=r"of a text_encoder_2; .* has none"):
        check_textual_inversion(open_textual_inversion(str(path)), pipeline)
