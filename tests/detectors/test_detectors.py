"""What detectors find, and what becomes of it. The networks are tiny and know nothing: what counts
is that their outputs are read as their library reads them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from pydantic import ValidationError

from datagen.cli import main
from datagen.detector_schema import DetectorRequest
from datagen.detectors import Detector, labels_from, open_detector
from datagen.detectors.boxes import chosen, filled
from datagen.detectors.findings import Detection, to_text
from datagen.detectors.regions import parts
from datagen.embedded import run_recipe
from datagen.errors import JobError, LabelError, ModelError, RecipeError
from datagen.label_checks import check_labels
from datagen.labels import Labels
from datagen.resolve import resolve, resolve_stored
from datagen.settings import load_settings
from tests.pretrained.tiny_networks import (
    pictures,
    save_clip,
    save_detr,
    save_mask2former,
    save_maskformer,
    save_owl,
    save_owlvit,
    save_rt_detr,
    save_segformer,
    save_yolos,
)
from tests.recipes import noise_recipe
from tests.schema import lay_tables

LABELS = ["wall", "a cat", "a dog"]
CLASSES = {"dog": "a dog", "cat": "a cat"}
IMAGES = pictures(6, height=40, width=56)
NAMES = ["cat", "dog"] * 3
KINDS = (
    *("owl", "owlvit", "detr", "rt_detr", "yolos"),
    *("segformer", "maskformer", "mask2former"),
)
BOXES, MAPS = frozenset({"boxes"}), frozenset({"mask", "instances"})


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("detectors")
    save_owl(root / "owl")
    save_owlvit(root / "owlvit")
    save_clip(root / "clip")
    for save in (save_detr, save_rt_detr, save_yolos, save_segformer, save_maskformer):
        save(root / save.__name__.removeprefix("save_"), LABELS)
    save_mask2former(root / "mask2former", LABELS)
    return root


def opened(path: Path, **changes: Any) -> Detector:
    content = {"directory": str(path), "classes": CLASSES, "threshold": 0.3} | changes
    return open_detector(DetectorRequest.model_validate(content))


def found(detector: Detector, images: Any = IMAGES) -> list[dict[str, Any]]:
    return [json.loads(text) for text in detector.detect(images, NAMES[: len(images)])]


@pytest.mark.parametrize("name", KINDS)
def test_an_image_alone_gives_what_it_gives_among_others(folders: Path, name: str) -> None:
    detector = opened(folders / name, threshold=0.1)
    texts = detector.detect(IMAGES, NAMES)
    assert [detector.detect(i[None], [n])[0] for i, n in zip(IMAGES, NAMES, strict=True)] == texts
    assert detector.detect(IMAGES[::-1], NAMES[::-1]) == texts[::-1]
    assert len(set(texts)) > 1


@pytest.mark.parametrize(
    ("name", "changes", "kinds"),
    [
        ("owl", {}, BOXES),
        ("owl", {"masks": "box"}, MAPS),
        ("yolos", {}, BOXES),
        ("yolos", {"masks": "box"}, MAPS),
        ("segformer", {}, MAPS),
        ("maskformer", {}, MAPS),
        ("owlvit", {}, BOXES),
        ("detr", {"threshold": 0.1}, BOXES),
        ("rt_detr", {"threshold": 0.2}, BOXES),
        ("mask2former", {"threshold": 0.0}, MAPS),
    ],
)
def test_labels_are_sound_and_machine_made(
    folders: Path, name: str, changes: dict[str, Any], kinds: frozenset[str]
) -> None:
    detector = opened(folders / name, **changes)
    assert (detector.names, detector.label_kinds) == (("background", "dog", "cat"), kinds)
    num_objects = 0
    for text in detector.detect(IMAGES, NAMES):
        objects, mask, instances = labels_from(text, detector.names)
        assert (mask is None, instances is None) == (kinds == BOXES, kinds == BOXES)
        labels = Labels("cat", objects=objects, mask=mask, instances=instances)
        check_labels(labels, IMAGES.shape[1:3], detector.names)
        for each in objects:
            assert each.confidence is not None
            assert detector.request.threshold <= each.confidence <= 1
            assert each.to_json()["machine_made"] is True
            num_objects += 1
    assert num_objects > 1


def test_zero_shot_boxes_are_those_of_the_network(folders: Path) -> None:
    """OWLv2 pads to a square on the right and below: its boxes are shares of the longer side."""
    from transformers import CLIPTokenizer, Owlv2ForObjectDetection, Owlv2ImageProcessorPil

    folder = folders / "owl"
    network = Owlv2ForObjectDetection.from_pretrained(folder).eval()
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    texts = tokenizer(list(CLASSES.values()), padding="max_length", max_length=16)
    processor = Owlv2ImageProcessorPil.from_pretrained(folder)
    told = found(opened(folder, max_overlap=1.0))
    for image, each in zip(IMAGES, told, strict=True):
        with torch.no_grad():
            outputs = network(
                **{name: torch.tensor(value) for name, value in texts.items()},
                pixel_values=processor(image, return_tensors="pt").pixel_values,
            )
        shares, labels = outputs.logits[0].sigmoid().max(-1)
        x, y, w, h = (outputs.pred_boxes[0] * 56).T
        expected = []
        for index in torch.nonzero(shares > 0.3)[:, 0].tolist():
            ends = [x[index] - w[index] / 2, y[index] - h[index] / 2]
            ends += [x[index] + w[index] / 2, y[index] + h[index] / 2]
            limits = zip(ends, (56, 40, 56, 40), strict=True)
            box = [min(max(round(float(end), 2), 0.0), float(limit)) for end, limit in limits]
            if min(box[2] - box[0], box[3] - box[1]) >= 1:
                name = list(CLASSES)[int(labels[index])]
                expected.append((name, [round(b, 2) for b in box], float(shares[index])))
        got = [(o["class"], o["box"], o["confidence"]) for o in each["objects"]]
        assert sorted(g[:2] for g in got) == sorted(e[:2] for e in expected)
        assert sorted(g[2] for g in got) == pytest.approx(sorted(e[2] for e in expected), abs=1e-4)


def test_other_labels_of_a_network_are_not_asked_for(folders: Path) -> None:
    both = found(opened(folders / "yolos"))
    cats = found(opened(folders / "yolos", classes={"tiger": "a cat"}))
    for all_of, some in zip(both, cats, strict=True):
        wanted = [o | {"class": "tiger"} for o in all_of["objects"] if o["class"] == "cat"]
        assert some["objects"] == wanted
    assert any(each["objects"] for each in cats)


def test_a_label_map_is_what_the_library_makes_of_it(folders: Path) -> None:
    from transformers import SegformerForSemanticSegmentation, SegformerImageProcessorPil

    folder = folders / "segformer"
    network = SegformerForSemanticSegmentation.from_pretrained(folder).eval()
    processor = SegformerImageProcessorPil.from_pretrained(folder)
    detector = opened(folder, threshold=0.0, min_pixels=1, max_objects=1000)
    for image, text in zip(IMAGES, detector.detect(IMAGES, NAMES), strict=True):
        with torch.no_grad():
            outputs = network(**processor(image, return_tensors="pt"))
        [named] = processor.post_process_semantic_segmentation(outputs, target_sizes=[(40, 56)])
        expected = np.array([0, 2, 1])[named.numpy()]  # wall, a cat, a dog
        assert (labels_from(text, detector.names).mask == expected).all()


def test_an_image_may_be_searched_for_its_own_class_alone(folders: Path) -> None:
    for name in ("owl", "segformer"):
        everything = found(opened(folders / name))
        own = found(opened(folders / name, own_class=True))
        for class_name, some, each in zip(NAMES, own, everything, strict=True):
            assert {o["class"] for o in some["objects"]} <= {class_name}
            if name == "segformer":
                kept = [o for o in each["objects"] if o["class"] == class_name]
                assert some["objects"] == kept


def test_the_digest_is_of_files_and_question_not_of_the_place(folders: Path) -> None:
    asked = [
        opened(folders / "owl"),
        opened(folders / "owl", threshold=0.4),
        opened(folders / "owl", classes={"dog": "a dog"}),
        opened(folders / "owl", masks="box"),
        opened(folders / "yolos"),
    ]
    assert len({each.digest for each in asked}) == len(asked)
    assert opened(folders / "owl" / ".." / "owl").digest == asked[0].digest


def test_files_that_change_before_they_are_read_are_refused(folders: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(folders / "yolos", tmp_path / "yolos"))
    detector = opened(folder)
    with (folder / "config.json").open("a") as file:
        file.write(" ")
    with pytest.raises(ModelError, match="others than when they were pinned"):
        found(detector)


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("nowhere", {}, "does not exist; expected the folder of a detector"),
        ("clip", {}, "architecture 'CLIPModel'; expected a detector or a segmentation network of"),
        ("yolos", {"classes": {"dog": "dogs"}}, "has no label 'dogs'; it has wall, a cat, a dog"),
        ("owl", {"classes": {"background": "a wall"}}, "is what no object covers"),
        ("owl", {"classes": {"dog": "a dog", "cat": "a dog"}}, "two are looked for alike"),
        ("segformer", {"masks": "box"}, "gives true label maps: leave masks out"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    folders: Path, name: str, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ModelError, match=re.escape(reason)):
        opened(folders / name, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"threshold": 1.5},
        {"threshold": "high"},
        {"classes": {}},
        {"classes": {"a b": "x"}},
        {"max_objects": 0},
        {"masks": "sam"},
        {"unknown": 1},
    ],
)
def test_a_request_is_closed(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DetectorRequest.model_validate({"directory": "x", "classes": CLASSES} | changes)


# --- boxes and regions ----------------------------------------------------------------------------


def detection(name: str, box: tuple[float, float, float, float], share: float) -> Detection:
    return Detection(name, box, share)


def test_boxes_are_clipped_and_doubles_dropped() -> None:
    given = [
        detection("cat", (1, 1, 11, 11), 0.5),
        detection("cat", (-5, -5, 10.004, 10), 0.9),
        detection("dog", (1, 1, 11, 11), 0.4),
        detection("cat", (15, 2, 40, 8), 0.3),
        detection("cat", (30, 2, 40, 8), 0.8),
        detection("cat", (3, 3, 3.5, 9), 0.8),
        detection("cat", (float("nan"), 3, 9, 9), 0.8),
    ]
    kept = chosen(given, (12, 20), max_overlap=0.5, max_objects=9)
    assert [(each.class_name, each.box_xyxy) for each in kept] == [
        ("cat", (0.0, 0.0, 10.0, 10.0)),
        ("dog", (1, 1, 11, 11)),
        ("cat", (15, 2, 20.0, 8)),
    ]
    assert len(chosen(given, (12, 20), max_overlap=1.0, max_objects=9)) == 4
    assert chosen(given, (12, 20), max_overlap=0.5, max_objects=1) == kept[:1]


def test_a_surer_box_lies_above_and_a_hidden_one_is_gone() -> None:
    given = [
        detection("cat", (2, 2, 6, 6), 0.9),
        detection("dog", (0, 0, 6, 4), 0.8),
        detection("dog", (3, 3, 5, 5), 0.7),
    ]
    regions = filled(given, (8, 8))
    assert [each.box_xyxy for each in regions] == [(2, 2, 6, 6), (0, 0, 6, 4)]
    text = to_text(regions, (8, 8))
    objects, mask, instances = labels_from(text, ("background", "cat", "dog"))
    assert mask is not None
    assert instances is not None
    assert [int((instances == k).sum()) for k in (1, 2)] == [16, 16]
    assert mask[3, 3] == 1
    assert mask[0, 0] == 2
    assert [each.class_name for each in objects] == ["cat", "dog"]


def test_parts_of_a_class_are_objects_with_their_own_confidence() -> None:
    shares = np.zeros((3, 6, 8), np.float32)
    shares[0] = 0.5
    shares[2, :2, :2], shares[2, 4:, 5:], shares[2, 3, 0], shares[1, 4:, :2] = 0.9, 0.6, 0.9, 0.8
    asked = {"names": ("background", "cat"), "min_pixels": 2, "max_objects": 5}
    objects = parts(shares, {"cat": 2}, threshold=0.5, **asked)  # type: ignore[arg-type]
    assert [(o.box_xyxy, round(o.confidence, 3)) for o in objects] == [
        ((0, 0, 2, 2), 0.9),
        ((5, 4, 8, 6), 0.6),
    ]
    [sure] = parts(shares, {"cat": 2}, threshold=0.7, **asked)  # type: ignore[arg-type]
    [first] = parts(shares, {"cat": 2}, threshold=0.5, **(asked | {"max_objects": 1}))  # type: ignore[arg-type]
    assert sure.box_xyxy == first.box_xyxy == (0, 0, 2, 2)


def test_stored_text_that_is_no_labels_is_refused() -> None:
    text = to_text([detection("cat", (0, 0, 4, 4), 0.5)], None)
    with pytest.raises(LabelError, match="object of 'cat'; expected dog"):
        labels_from(text, ("background", "dog"))
    two = filled([detection("cat", (0, 0, 4, 4), 0.5)], (8, 8)) * 2
    with pytest.raises(LabelError, match="overlap"):
        labels_from(to_text(two, (8, 8)), ("background", "cat"))


# --- in a recipe ----------------------------------------------------------------------------------


def detected(folder: Path, **changes: Any) -> dict[str, Any]:
    """10 noise images whose labels a detector gives."""
    return {
        "image_size": [40, 56],
        "generator": {"model": "noise", "channels": 3},
        "classes": [{"name": "cat", "count": 6}, {"name": "dog", "count": 4}],
        "labels": {"detector": {"directory": str(folder), "classes": CLASSES} | changes},
        "output": {"formats": ["coco"]},
    }


@pytest.mark.parametrize("name", ["yolos", "segformer"])
def test_a_job_ships_what_was_found_with_its_confidence(
    folders: Path, tmp_path: Path, name: str
) -> None:
    settings = load_settings({}, home=tmp_path / "home")
    settings.home.mkdir()
    lay_tables(settings.database_url)
    resolved = resolve(noise_recipe(detected(folders / name)), [settings.models_dir])
    run_recipe(resolved, settings)
    for layout in ("webdataset", "coco"):
        arguments = ["pull", "small", str(tmp_path / layout), "--format", layout]
        pulled = CliRunner().invoke(main, [*arguments, "--home", str(settings.home)])
        assert pulled.exit_code == 0, pulled.output
    records = [json.loads(p.read_text()) for p in sorted(unpacked(tmp_path / "webdataset"))]
    objects = [each for record in records for each in record["labels"]["objects"]]
    assert len(records) == 10
    assert len(objects) > 5
    assert all(each["machine_made"] and 0.3 <= each["confidence"] <= 1 for each in objects)
    files = (tmp_path / "coco" / "annotations").glob("instances_*.json")
    entries = [e for file in files for e in json.loads(file.read_text())["annotations"]]
    assert sorted(e["score"] for e in entries) == sorted(each["confidence"] for each in objects)
    assert all(("segmentation" in entry) == (name == "segformer") for entry in entries)


def unpacked(folder: Path) -> list[Path]:
    import tarfile

    for path in folder.rglob("*.tar"):
        with tarfile.open(path) as tar:
            tar.extractall(folder / "unpacked", filter="data")
    return list((folder / "unpacked").glob("*.json"))


def test_a_recipe_pins_its_detector(folders: Path, tmp_path: Path) -> None:
    shutil.copytree(folders / "yolos", tmp_path / "yolos")
    models = [load_settings({}, home=tmp_path).models_dir]
    resolved = resolve(noise_recipe(detected(tmp_path / "yolos")), models)
    other = resolve(noise_recipe(detected(tmp_path / "yolos", threshold=0.5)), models)
    assert resolved.digest != other.digest
    assert resolve_stored(resolved.body.decode(), models).body == resolved.body
    save_yolos(tmp_path / "yolos", [*LABELS, "a fox"])
    with pytest.raises(JobError, match="detector"):
        resolve_stored(resolved.body.decode(), models)
    with pytest.raises(RecipeError, match=r"labels\.detector.*does not exist"):
        resolve(noise_recipe(detected(tmp_path / "gone")), models)
