"""Scenes by rules: what is painted is what is labelled, of the same seed, whatever the options."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from datagen.conditions import Conditioner
from datagen.errors import ModelError
from datagen.generators.interface import ModelConfig, Sampler
from datagen.generators.procedural.options import (
    SHAPES,
    ProceduralConditionOptions,
    ProceduralOptions,
)
from datagen.generators.procedural.spec import ProceduralSpec
from datagen.label_checks import check_labels

SPEC = ProceduralSpec()
CLASSES = ("star", "circle", "mixed")
PLAIN: dict[str, Any] = {"background": ["flat"], "texture": ["flat"], "texture_contrast": 0.0}


def made(size: tuple[int, int] = (48, 64), **changes: Any) -> tuple[Sampler, Conditioner]:
    options = ProceduralOptions.model_validate({"channels": 1, **changes})
    bare = ModelConfig("procedural", (), (0, 0), 0, {})
    config = SPEC.fit(bare, options, class_names=CLASSES, image_size=size)
    sampler = SPEC.load(config, None, options, batch_size=32)
    return sampler, SPEC.conditioner(config, None, options, kind=None, image_size=size, splits={})


def test_every_pixel_of_an_object_is_painted_and_no_other() -> None:
    """On flat ground of one grey, objects are just what is not of its colour."""
    sampler, labels_of = made(**PLAIN)
    images = sampler.sample(list(range(32)), [i % 3 for i in range(32)])
    for seed, image in enumerate(images):
        labels = labels_of.draw(seed, CLASSES[seed % 3], "train").labels
        assert labels.instances is not None
        ground = image[..., 0][labels.instances == 0]
        assert len(np.unique(ground)) == 1
        inside = image[..., 0][labels.instances > 0].astype(int)
        assert (np.abs(inside - int(ground[0])) > 60).all()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**63 - 1),
    size=st.tuples(st.integers(16, 80), st.integers(16, 80)),
    num=st.integers(0, 12),
    occlusion=st.floats(0, 0.9),
    truncation=st.booleans(),
)
def test_labels_are_sound_for_any_scene(
    seed: int, size: tuple[int, int], num: int, occlusion: float, truncation: bool
) -> None:
    _, labels_of = made(size, num_objects=[0, num], max_occlusion=occlusion, truncation=truncation)
    labels = labels_of.draw(seed, "mixed", "train").labels
    check_labels(labels, size, labels_of.names)
    assert labels.objects is not None
    assert len(labels.objects) <= num


def test_an_image_depends_on_its_seed_and_class_alone() -> None:
    sampler, _ = made()
    alone = sampler.sample([7], [1])[0]
    assert (sampler.sample([3, 7, 9], [0, 1, 2])[1] == alone).all()
    assert (sampler.sample([8], [1])[0] != alone).any()
    assert (sampler.sample([7], [0])[0] != alone).any()


def test_a_class_named_like_a_shape_shows_it_alone() -> None:
    _, labels_of = made(num_objects=[1, 4])
    assert labels_of.names == ("background", *SHAPES)
    for seed in range(20):
        objects = labels_of.draw(seed, "star", "train").labels.objects
        assert objects
        assert {each.class_name for each in objects} == {"star"}
        assert all(each.keypoints for each in objects)


def test_paint_moves_no_object() -> None:
    """Colours, textures, blur and noise come after the geometry in the stream."""
    _, plain = made(**PLAIN)
    _, busy = made(blur_px=1.0, noise=0.1, channels=3, background=["checks", "blobs"])
    for seed in range(10):
        a, b = (each.draw(seed, "mixed", "train").labels for each in (plain, busy))
        assert a.objects == b.objects
        assert (a.mask == b.mask).all()  # type: ignore[union-attr]


def test_shapes_are_conditions_of_another_model_by_its_names() -> None:
    options = ProceduralConditionOptions.model_validate(
        {"shapes": ["ellipse", "star"], "names": {"star": "lesion", "ellipse": "organ"}}
    )
    bare = ModelConfig("procedural", (), (0, 0), 0, {})
    drawn = {
        kind: SPEC.conditioner(
            bare, None, options, kind=kind, image_size=(40, 40), splits={"train": 1.0}
        )
        for kind in ("mask", "layout")
    }
    assert drawn["mask"].names == ("background", "organ", "lesion")
    assert drawn["mask"].label_kinds == {"mask", "instances"}
    assert drawn["layout"].label_kinds == {"boxes"}
    condition = drawn["mask"].draw(5, "any", "train")
    assert condition.mask is not None
    assert (condition.mask == condition.labels.mask).all()
    boxes = drawn["layout"].draw(5, "any", "train").labels
    assert boxes.mask is None
    assert boxes.objects == condition.labels.objects
    with pytest.raises(ModelError, match="not image"):
        SPEC.conditioner(
            bare, None, options, kind="image", image_size=(40, 40), splits={"train": 1.0}
        )


def test_a_scene_without_room_for_what_is_added_is_drawn_again() -> None:
    """A class that stands for a lesion always has one."""
    options = ProceduralConditionOptions.model_validate(
        {
            "shapes": ["circle"],
            "num_objects": [0, 1],
            "size": [0.1, 0.9],
            "edits": [{"add": "lesion", "region": "circle", "size_px": [8, 9]}],
        }
    )
    bare = ModelConfig("procedural", (), (0, 0), 0, {})
    drawn = SPEC.conditioner(
        bare, None, options, kind="mask", image_size=(40, 40), splits={"train": 1.0}
    )
    for seed in range(20):
        objects = drawn.draw(seed, "sick", "train").labels.objects
        assert objects is not None
        assert "lesion" in {each.class_name for each in objects}
    never = options.model_copy(update={"num_objects": (0, 0)})
    empty = SPEC.conditioner(
        bare, None, never, kind="mask", image_size=(40, 40), splits={"train": 1.0}
    )
    with pytest.raises(ModelError, match="no room"):
        empty.draw(0, "sick", "train")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("shapes", []),
        ("shapes", ["star", "star"]),
        ("shapes", ["square"]),
        ("num_objects", [3, 1]),
        ("num_objects", [0, 65]),
        ("size", [0.5, float("nan")]),
        ("channels", True),
        ("max_occlusion", 1.0),
        ("colour", "red"),
    ],
)
def test_bad_options_are_refused(field: str, value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        ProceduralOptions.model_validate({field: value})
    assert {error["loc"][0] for error in caught.value.errors()} == {field}


def test_no_shape_of_a_condition_is_called_background() -> None:
    from pydantic import ValidationError

    ProceduralConditionOptions.model_validate({"names": {"circle": "lesion"}})
    with pytest.raises(ValidationError, match="not 'background'"):
        ProceduralConditionOptions.model_validate({"names": {"circle": "background"}})
