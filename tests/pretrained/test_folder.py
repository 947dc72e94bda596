"""Folders that are not what they should be are refused before any library reads them."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import save_file

from datagen.errors import ModelError
from datagen.pretrained.folder import check_kind, open_folder
from tests.pretrained.tiny_networks import numbers

CONFIG = {
    "model_type": "vit",
    "architectures": ["ViTForImageClassification"],
    "id2label": {"10": "last", "2": "second", "0": "first"},
    "num_hidden_layers": 2,
}
PREPROCESSOR = {"image_processor_type": "ViTImageProcessor", "size": {"height": 16, "width": 16}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "network"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    save_file({"weight": numbers(4)}, folder / "model.safetensors")
    return folder


def opened(folder: Path) -> Any:
    return open_folder(folder, purpose="an image classifier")


def test_labels_are_in_the_order_of_their_numbers(folder: Path) -> None:
    found = opened(folder)
    assert found.labels == ("first", "second", "last")
    assert (found.model_type, found.architecture) == ("vit", "ViTForImageClassification")


def test_the_digest_is_of_what_decides(folder: Path, tmp_path: Path) -> None:
    first = opened(folder).sha256
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / "README.md").write_text("to people")
    assert opened(tmp_path / "copy").sha256 == first
    save_file({"weight": numbers(4) + 1}, folder / "model.safetensors")
    assert opened(folder).sha256 != first


def changed(name: str, content: dict[str, Any]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_text(json.dumps(content))

    return change


def sharded(parts: dict[str, str]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "model-1.safetensors")
        index = {"weight_map": parts}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    return change


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no folder": (shutil.rmtree, "does not exist; expected the folder of an image classifier"),
    "a pickle": (lambda f: (f / "pytorch_model.bin").touch(), "save the network with safetensors"),
    "code": (lambda f: (f / "modeling.py").touch(), "modeling.py: a file that can run code"),
    "a link": (lambda f: (f / "x.json").symlink_to("/etc/passwd"), "cp -rL"),
    "no config": (lambda f: (f / "config.json").unlink(), "it has no config.json"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "it has no model.safetensors"),
    "no JSON": (lambda f: (f / "config.json").write_text("{"), "config.json: not readable"),
    "a list": (lambda f: (f / "config.json").write_text("[]"), "no JSON object"),
    "remote code": (changed("config.json", CONFIG | {"auto_map": {}}), "code of its own"),
    "nested remote code": (
        changed("tokenizer_config.json", {"a": [{"auto_map": {}}]}),
        "tokenizer_config.json: it asks for code",
    ),
    "weights under another name": (
        changed("config.json", CONFIG | {"transformers_weights": "other.safetensors"}),
        "config.json: transformers_weights is not allowed",
    ),
    "nested kernels": (
        changed("config.json", CONFIG | {"vision_config": {"_attn_implementation": "x/y"}}),
        "_attn_implementation is not allowed",
    ),
    "quantized": (
        changed("config.json", CONFIG | {"quantization_config": {"a": 1}}),
        "quantization_config is not allowed",
    ),
    "another configuration": (
        changed("config.json", CONFIG | {"configuration_files": ["config.5.0.json"]}),
        "configuration_files is not allowed",
    ),
    "a tokenizer elsewhere": (
        changed("tokenizer_config.json", {"vocab_file": "/elsewhere/vocab.json"}),
        "vocab_file is not allowed",
    ),
    "a backbone of the hub": (
        changed("config.json", CONFIG | {"backbone": "somebody/else", "use_timm_backbone": True}),
        "backbone 'somebody/else' is looked up elsewhere",
    ),
    "stray weights": (
        lambda f: shutil.copy(f / "model.safetensors", f / "other.safetensors"),
        "other.safetensors: none of the network's own weights",
    ),
    "an adapter": (changed("adapter_config.json", {}), "merge it into its network"),
    "endless layers": (
        changed("config.json", CONFIG | {"num_hidden_layers": 10**6}),
        "num_hidden_layers is 1000000; expected at most 1000",
    ),
    "endless width": (changed("config.json", CONFIG | {"hidden_size": 10**9}), "hidden_size"),
    "no number": (changed("config.json", CONFIG | {"eps": float("nan")}), "eps is nan"),
    "no preprocessor": (
        lambda f: (f / "preprocessor_config.json").unlink(),
        "it has no preprocessor_config.json, which says how images are prepared",
    ),
    "large images": (
        changed("preprocessor_config.json", {"size": {"height": 10**5, "width": 8}}),
        "expected whole numbers up to 4096",
    ),
    "no weights in the file": (
        lambda f: (f / "model.safetensors").write_bytes(b"x" * 100),
        "not a sound safetensors file",
    ),
    "a lost shard": (sharded({"a": "model-2.safetensors"}), "files that are not here"),
    "a shard elsewhere": (sharded({"a": "../model-1.safetensors"}), "files that are not here"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused(folder: Path, case: str) -> None:
    change, told = REFUSED[case]
    opened(folder)
    change(folder)
    with pytest.raises(ModelError, match=re.escape(told)):
        opened(folder)


def test_variants_beside_the_weights_are_let_be(folder: Path) -> None:
    shutil.copy(folder / "model.safetensors", folder / "model.fp16.safetensors")
    assert opened(folder).labels[0] == "first"


def test_a_time_of_writing_set_back_hides_no_change(folder: Path) -> None:
    path = folder / "model.safetensors"
    first, status, data = opened(folder).sha256, path.stat(), path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert opened(folder).sha256 != first


def test_shards_are_read(folder: Path) -> None:
    sharded({"weight": "model-1.safetensors"})(folder)
    assert opened(folder).labels[0] == "first"


def test_another_kind_of_network_is_refused(folder: Path) -> None:
    found = opened(folder)
    for model_types, ending in (({"clip"}, "Model"), ({"vit"}, "ForObjectDetection")):
        with pytest.raises(ModelError, match="expected a test"):
            check_kind(found, model_types, ending=ending, purpose="a test")


def test_a_tokenizer_is_asked_for_where_it_is_needed(folder: Path) -> None:
    with pytest.raises(ModelError, match="it has no tokenizer"):
        open_folder(folder, purpose="a test", has_tokenizer=True)
