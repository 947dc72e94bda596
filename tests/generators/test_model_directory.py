"""Model directories may come from anyone: each unsafe or damaged one is refused with a reason."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from datagen.errors import ModelError
from datagen.generators import GENERATORS
from datagen.generators.model_directory import (
    UnknownModelError,
    find_model,
    load_model,
    model_names,
    save_model,
)
from datagen.safetensors_header import check_safetensors
from tests.generators.tiny_models import FACTS, TINY, random_weights, save_random_model

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pristine")
    return save_random_model(folder / "tiny", TINY["cgan"]).path


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(pristine, tmp_path / "tiny"))


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def write_weights(folder: Path, data: bytes) -> None:
    """With a config that vouches for them: their form alone must give them away."""
    (folder / "model.safetensors").write_bytes(data)
    edit_config(folder, weights_sha256=hashlib.sha256(data).hexdigest())


def safetensors_bytes(header: Any, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def tensor(begin: int, end: int, *, dtype: str = "F32", shape: Any = None) -> dict[str, Any]:
    shape = [(end - begin) // 4] if shape is None else shape
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def refused(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_model(folder)
    message = str(caught.value)
    assert str(folder) in message
    assert len(message) < 1000
    return message


# --- sound models ---------------------------------------------------------------------------------


def test_a_saved_model_reads_back(pristine: Path) -> None:
    model = load_model(pristine)
    config = TINY["cgan"]
    assert (model.name, model.config, model.facts) == ("tiny", config, FACTS)
    assert model.weights == pristine / "model.safetensors"
    assert model.spec is GENERATORS["cgan"]
    options = model.spec.options()
    sampler = model.spec.load(model.config, model.weights, options, batch_size=2)
    assert sampler.sample([1], [2]).shape == (1, 8, 12, 3)


def test_the_digest_covers_what_decides_an_image_alone(folder: Path) -> None:
    digest = load_model(folder).digest
    (folder / "README.md").write_text("other words\n")
    (folder / "samples.png").write_bytes(b"a picture")
    assert load_model(folder).digest == digest
    (folder / "README.md").unlink()
    assert load_model(folder).digest == digest
    edit_config(folder, licence="MIT")
    assert load_model(folder).digest == digest
    edit_config(folder, class_names=["a", "b", "other"])
    assert load_model(folder).digest != digest


def test_the_digest_does_not_depend_on_place_or_time(pristine: Path, tmp_path: Path) -> None:
    again = save_random_model(tmp_path / "elsewhere", TINY["cgan"])
    assert again.digest == load_model(pristine).digest
    assert save_random_model(tmp_path / "x", TINY["cgan"], seed=1).digest != again.digest


def test_saving_never_overwrites(folder: Path) -> None:
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with pytest.raises(ModelError, match="exists, and a model never changes"):
        save_random_model(folder, TINY["cgan"], seed=1)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_a_failed_save_leaves_nothing(tmp_path: Path) -> None:
    weights = random_weights(TINY["cgan"])
    assert weights is not None
    weights["x"] = torch.zeros(1, dtype=torch.int64)
    with pytest.raises(ModelError, match="dtype I64"):
        save_model(tmp_path / "broken", TINY["cgan"], weights, FACTS, card="")
    assert list(tmp_path.iterdir()) == []


def test_the_shipped_noise_model_takes_any_class_and_size() -> None:
    model = find_model("noise", [])
    assert (model.config.class_names, model.config.image_size) == ((), (0, 0))
    assert model.weights is None


def test_every_shipped_model_is_sound() -> None:
    for path in model_names([]).values():
        assert load_model(path).facts.licence


# --- names ----------------------------------------------------------------------------------------


def test_models_are_found_in_the_given_folders_first(folder: Path) -> None:
    os.rename(folder, folder.parent / "noise")
    assert find_model("noise", [folder.parent]).config.generator == "cgan"
    assert find_model("noise", [folder.parent / "absent"]).config.generator == "noise"


def test_an_unknown_name_brings_the_nearest_one(folder: Path) -> None:
    with pytest.raises(UnknownModelError, match="'tiney' does not exist; did you mean 'tiny'") as e:
        find_model("tiney", [folder.parent])
    assert "noise" in str(e.value)


@pytest.mark.parametrize("name", ["../tiny", "/etc", ".", "", "tiny/../tiny", "tiny\0"])
def test_names_are_no_paths(name: str, folder: Path) -> None:
    with pytest.raises(UnknownModelError):
        find_model(name, [folder.parent])


def test_half_written_models_are_not_listed(folder: Path) -> None:
    os.rename(folder, folder.parent / ".tiny.a1b2")
    (folder.parent / "empty").mkdir()
    assert set(model_names([folder.parent])) == set(model_names([]))


# --- files ----------------------------------------------------------------------------------------


class Bomb:
    """Unpickling it leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("name", ["model.pkl", "pytorch_model.bin", "weights.pt"])
def test_a_pickle_is_refused_and_not_loaded(name: str, folder: Path, tmp_path: Path) -> None:
    (folder / name).write_bytes(pickle.dumps(Bomb(tmp_path / "mark")))
    assert f"{name} does not belong there" in refused(folder)
    assert not (tmp_path / "mark").exists()


def test_a_pickle_named_as_safetensors_is_refused_and_not_loaded(
    folder: Path, tmp_path: Path
) -> None:
    write_weights(folder, pickle.dumps(Bomb(tmp_path / "mark")))
    assert "not a sound safetensors file" in refused(folder)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "README.md", "samples.png"])
def test_a_link_out_is_refused(name: str, folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "outside"
    target.write_bytes((folder / name).read_bytes() if (folder / name).exists() else b"x")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(target)
    assert f"{name}: expected a regular file" in refused(folder)


def test_a_folder_that_is_a_link_is_refused(folder: Path, tmp_path: Path) -> None:
    link = tmp_path / "models" / "linked"
    link.parent.mkdir()
    link.symlink_to(folder)
    assert "expected a folder, not a link" in refused(link)


def test_a_folder_in_place_of_a_file_is_refused(folder: Path) -> None:
    (folder / "README.md").unlink()
    (folder / "README.md").mkdir()
    assert "README.md: expected a regular file" in refused(folder)


def test_a_pipe_does_not_hang(folder: Path) -> None:
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    assert "config.json: expected a regular file" in refused(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(name: str, folder: Path) -> None:
    (folder / name).unlink()
    assert f"{name} is missing" in refused(folder)


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    assert "expected a folder" in refused(tmp_path / "absent")


def test_huge_files_are_refused_unread(folder: Path) -> None:
    with open(folder / "config.json", "r+b") as file:
        file.truncate(100 << 20)
    assert "config.json: 104857600 bytes; expected at most" in refused(folder)


def test_weights_where_none_belong_are_refused(folder: Path, tmp_path: Path) -> None:
    noise = save_random_model(tmp_path / "noise", TINY["noise"]).path
    shutil.copy(folder / "model.safetensors", noise)
    assert "model.safetensors is not expected" in refused(noise)


# --- config.json ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"not json",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"image_size": 1e999999}',
        b"1" * 5000,
        b'{"generator": NaN}',
    ],
    ids=range(8),
)
def test_a_config_that_is_not_one_is_refused(text: bytes, folder: Path) -> None:
    (folder / "config.json").write_bytes(text)
    assert "config.json" in refused(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"generator": "cgna"}, "generator 'cgna' is not known; did you mean 'cgan'?"),
        ({"generator": "os.system"}, "is not known; expected one of cgan, condition_set, ect, "),
        ({"generator": 7}, "generator: "),
        ({"class_names": ["a", "a", "b"]}, "class_names: expected no name twice"),
        ({"class_names": ["../a", "b", "c"]}, "class_names.0: "),
        ({"class_names": []}, "needs class_names"),
        ({"image_size": None}, "needs class_names, image_size"),
        ({"image_size": [10**6, 28]}, "image_size.0: "),
        ({"image_size": [30, 30]}, "expected multiples of 4"),
        ({"channels": 0}, "channels: "),
        ({"channels": True}, "channels: "),
        ({"network": {"widths": [10**9, 10**9]}}, "network.widths.0: "),
        ({"network": {"num_blocks": 10**6}}, "network.num_blocks: "),
        ({"network": {"target": "os.system"}}, "network.target: "),
        ({"extra": 1}, "extra: "),
        ({"weights_sha256": None}, "the file was swapped or damaged"),
        ({"weights_sha256": "0" * 64}, "the file was swapped or damaged"),
        ({"throughput": {"seconds_per_image": 0}}, "throughput."),
    ],
)
def test_a_wrong_field_is_named(changes: dict[str, Any], message: str, folder: Path) -> None:
    edit_config(folder, **changes)
    assert message in refused(folder)


# --- model.safetensors ----------------------------------------------------------------------------


def test_swapped_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    other = save_random_model(tmp_path / "other", TINY["cgan"], seed=1)
    shutil.copy(other.path / "model.safetensors", folder)
    assert "the file was swapped or damaged" in refused(folder)


def test_one_flipped_bit_of_the_weights_is_refused(folder: Path) -> None:
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-100] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    assert "the file was swapped or damaged" in refused(folder)


@pytest.mark.parametrize("num_bytes", [0, 4, 8, 100, -1])
def test_truncated_weights_are_refused(num_bytes: int, folder: Path) -> None:
    write_weights(folder, (folder / "model.safetensors").read_bytes()[:num_bytes])
    assert "not a sound safetensors file" in refused(folder)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (struct.pack("<Q", 2**63) + b"{}", "a header of 9223372036854775808 bytes"),
        (struct.pack("<Q", 100) + b"{}", "a header of 100 bytes"),
        (safetensors_bytes(b"{"), "not a sound"),
        (safetensors_bytes(b"[" * 100_000), "not a sound"),
        (safetensors_bytes([]), "no JSON object"),
        (safetensors_bytes({}), "0 tensors"),
        (safetensors_bytes({"__metadata__": {"a": "b"}}), "0 tensors"),
        (safetensors_bytes({"a": [1]}), "expected dtype, shape and data_offsets"),
        (safetensors_bytes({"a": tensor(0, 4) | {"x": 1}}, b"1234"), "expected dtype, shape"),
        (safetensors_bytes({"a": tensor(0, 4, dtype="OBJ")}, b"1234"), "dtype OBJ; expected F32"),
        (safetensors_bytes({"a": tensor(0, 8, dtype="I64", shape=[1])}, b"12345678"), "dtype I64"),
        (safetensors_bytes({"a": tensor(0, 4) | {"dtype": ["F32"]}}, b"1234"), "dtype"),
        (safetensors_bytes({"a": tensor(0, 8)}, b"1234"), "truncated or padded"),
        (safetensors_bytes({"a": tensor(0, 4)}, b"12345678"), "truncated or padded"),
        (safetensors_bytes({"a": tensor(4, 8)}, b"12345678"), "begins at 4; expected 0"),
        (
            safetensors_bytes({"a": tensor(0, 8), "b": tensor(4, 8)}, b"12345678"),
            "tensor b begins at 4; expected 8",
        ),
        (safetensors_bytes({"a": tensor(0, 4, shape=[2])}, b"1234"), "4 bytes for F32 of shape"),
        (safetensors_bytes({"a": tensor(0, 4, shape=[-1])}, b"1234"), "is not one"),
        (safetensors_bytes({"a": tensor(0, 4, shape=[True])}, b"1234"), "is not one"),
        (safetensors_bytes({"a": tensor(0, 4, shape=[1] * 9)}, b"1234"), "is not one"),
        (safetensors_bytes({"a": tensor(0, 4, shape=[1e0])}, b"1234"), "is not one"),
        (safetensors_bytes({"a": tensor(0, 4, shape=[10**30])}, b"1234"), "is not one"),
        (
            safetensors_bytes({"a": tensor(0, 4) | {"data_offsets": [-4, 0]}}, b"1234"),
            "data_offsets",
        ),
        (safetensors_bytes({"a": tensor(0, 4) | {"data_offsets": [4, 0]}}, b"1234"), "-4 bytes"),
        (
            safetensors_bytes(b'{"a": %b, "a": %b}' % ((json.dumps(tensor(0, 4)).encode(),) * 2)),
            "a name occurs twice",
        ),
    ],
    ids=range(25),
)
def test_a_header_that_lies_is_refused(data: bytes, message: str, folder: Path) -> None:
    write_weights(folder, data)
    assert message in refused(folder)


def test_a_header_of_many_megabytes_is_refused_unread(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", 900 << 20))
    with open(path, "r+b") as file:
        file.truncate(901 << 20)
    assert "a header of 943718400 bytes" in refused(folder)


def test_sound_headers_list_their_tensors_in_order(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    header = {"b": tensor(0, 8, shape=[2, 1]), "a": tensor(8, 10, dtype="F16", shape=[1])}
    path.write_bytes(safetensors_bytes(header, bytes(10)))
    assert [(e.name, e.shape) for e in check_safetensors(path)] == [("b", (2, 1)), ("a", (1,))]


def test_a_damaged_reference_file_is_refused(folder: Path) -> None:
    (folder / "reference.safetensors").write_bytes(pickle.dumps([1]))
    assert "reference.safetensors" in refused(folder)


def test_checking_a_model_needs_no_torch(pristine: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from datagen.generators.model_directory import load_model\n"
        f"load_model(Path({str(pristine)!r}))\n"
        "print(sorted({'torch', 'diffusers', 'safetensors'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
