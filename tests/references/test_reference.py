from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datagen.errors import InputError, ModelError
from datagen.references.fit import fit_reference, halve
from datagen.references.reference import (
    MAX_BYTES,
    Reference,
    load_reference,
    make_reference,
    save_reference,
)
from tests.tiny_reference import CLASS_NAMES, drawn, other_reference, tiny_reference

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    path = tmp_path / "reference.safetensors"
    save_reference(tiny_reference(), path)
    return path


def with_header(path: Path, change: Any) -> None:
    """change: given the header and the figures; both are written back."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    figures = json.loads(header["__metadata__"]["reference"])
    change(header, figures)
    if "__metadata__" in header:
        header["__metadata__"]["reference"] = json.dumps(figures)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def test_a_reference_read_back_is_the_one_saved(stored: Path) -> None:
    reference, back = tiny_reference(), load_reference(stored)
    assert (back.digest, back.facts) == (reference.digest, reference.facts)
    images = drawn(4, seed=9).images
    assert np.array_equal(back.look(images).logits, reference.look(images).logits)
    class_ids = np.arange(3).repeat(4)
    assert np.array_equal(back.distances(images, class_ids), reference.distances(images, class_ids))


@pytest.mark.soak
@pytest.mark.slow
def test_equal_images_give_an_equal_reference() -> None:
    again = fit_reference(drawn(20, seed=1), drawn(12, seed=2), seed=9)
    assert again.digest == other_reference().digest
    assert again.digest != tiny_reference().digest


def test_its_rates_are_of_images_that_calibrated_nothing() -> None:
    facts = tiny_reference().facts
    assert (facts.num_train, facts.num_calibration + facts.num_measured) == (150, 180)
    assert facts.labels.accuracy > 0.95
    assert facts.labels.mean_wrong_rejected >= 0.9
    assert facts.labels.mean_right_rejected <= 0.05


def test_neighbours_and_place_in_a_batch_change_nothing() -> None:
    reference, images = tiny_reference(), drawn(30, seed=5).images
    whole = reference.classifier.look(images)
    alone = [reference.classifier.look(image[None]) for image in images[::7]]
    assert np.array_equal(np.concatenate([a.logits for a in alone]), whole.logits[::7])
    turned = reference.classifier.look(images[::-1])
    assert np.array_equal(turned.features[::-1], whole.features)


def test_groups_stay_in_one_half() -> None:
    held_out = drawn(12, seed=2)
    groups = tuple(f"patient-{row // 3}" for row in range(36))
    first, second = halve(replace(held_out, groups=groups), seed=3)
    assert first.groups is not None
    assert second.groups is not None
    assert not set(first.groups) & set(second.groups)
    assert (len(first), len(second)) == (18, 18)
    assert {first.counts().min(), first.counts().max()} == {6}


def test_halves_of_images_without_groups_are_equal_and_seeded() -> None:
    held_out = drawn(11, seed=2)
    first, second = halve(held_out, seed=3)
    assert sorted(first.names + second.names) == sorted(held_out.names)
    assert abs(len(first) - len(second)) <= 3
    assert halve(held_out, seed=3)[0].names == first.names
    assert halve(held_out, seed=4)[0].names != first.names


@pytest.mark.parametrize(
    ("train", "held_out", "message"),
    [
        (drawn(3, seed=1), drawn(3, seed=2), "3 held-out images; expected at least 4"),
        (drawn(1, seed=1), drawn(9, seed=2), "1 training images; expected at least 2"),
        (
            drawn(5, seed=1),
            replace(drawn(5, seed=2), class_names=("a", "b", "c")),
            "expected .*'disc', 'ring', 'bar'",
        ),
    ],
)
def test_parts_that_cannot_serve_are_refused(train: Any, held_out: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit_reference(train, held_out, seed=0)


def _drop_metadata(header: Any, figures: Any) -> None:
    del header["__metadata__"]


def _one_class_too_many(header: Any, figures: Any) -> None:
    figures["class_names"].append("cube")


def _format_2(header: Any, figures: Any) -> None:
    figures["format"] = 2


def _not_a_share(header: Any, figures: Any) -> None:
    figures["labels"]["thresholds"][0] = 7


def _huge(header: Any, figures: Any) -> None:
    figures["image_size"] = [10**9, 10**9]


def _unknown(header: Any, figures: Any) -> None:
    figures["run"] = "rm"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_drop_metadata, "Invalid JSON"),
        (_one_class_too_many, "one entry for each class"),
        (_format_2, "format"),
        (_not_a_share, r"labels.thresholds.0"),
        (_huge, "image_size"),
        (_unknown, "run: Extra inputs"),
    ],
)
def test_figures_that_lie_are_refused(change: Any, message: str, stored: Path) -> None:
    with_header(stored, change)
    with pytest.raises(ModelError, match=message):
        load_reference(stored)


def test_a_file_that_is_cut_huge_or_a_link_is_refused(stored: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.safetensors"
    link.symlink_to(stored)
    with pytest.raises(ModelError, match="cannot be read"):
        load_reference(link)
    data = stored.read_bytes()
    stored.write_bytes(data[:-3])
    with pytest.raises(ModelError, match="not a sound safetensors file"):
        load_reference(stored)
    os.truncate(stored, MAX_BYTES + 1)
    with pytest.raises(ModelError, match="expected at most"):
        load_reference(stored)


def changed(**tensors: Any) -> Reference:
    reference = tiny_reference()
    kept = dict(reference.tensors)
    for name, change in tensors.items():
        key = name.replace("__", ".")
        kept[key] = change(kept[key])
    return make_reference(reference.facts, kept)


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    broken = changed(outliers__means=lambda array: array * np.float32("nan"))
    with pytest.raises(ModelError, match=r"outliers.means: not finite"):
        save_reference(broken, tmp_path / "reference.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "part", ["classifier__head.weight", "outliers__means", "outliers__bank", "outliers__scales"]
)
def test_a_tensor_of_another_shape_is_refused(part: str) -> None:
    with pytest.raises(ModelError, match="fit the reference again"):
        changed(**{part: lambda array: array[1:]}).checked()


def test_what_does_not_fit_a_recipe_is_told() -> None:
    reference = tiny_reference()
    assert reference.unfit_for(["ring"], image_size=(16, 16), channels=1) is None
    problem = reference.unfit_for(["ring", "cube"], image_size=(16, 16), channels=1)
    assert problem == "does not know class cube"
    assert "(16, 16, 1)" in str(reference.unfit_for(CLASS_NAMES, image_size=(16, 16), channels=3))


def test_loading_needs_no_torch(stored: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from datagen.references.reference import load_reference\n"
        f"load_reference(Path({str(stored)!r})).outliers\n"
        "print(sorted({'torch', 'scipy', 'safetensors'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
