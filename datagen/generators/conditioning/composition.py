"""From what a family draws to a condition: moved, edited, and labelled. Called by the conditioners
of procedural, layout and condition_set."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from datagen.conditions import Condition, ConditionKind
from datagen.errors import ModelError
from datagen.generators.conditioning.deformation import LEAST_LEFT, draw_warp
from datagen.generators.conditioning.editing import check_edits, edit_map
from datagen.generators.conditioning.options import EditingOptions
from datagen.label_shapes import instance_boxes, split_mask
from datagen.labels import Instances, LabelledObject, Labels, Mask

MAX_TRIES = 32  # drafts, before one has room for what is added
_MAX_WARPS = 16  # before a draft is not moved at all


@dataclass(frozen=True)
class Draft:
    """What was drawn, before it is moved and edited.

    mask: (H, W), values into the conditioner's names. image: (H, W, C) uint8. instances: (H, W),
    k where the object of class instance_names[k - 1] is seen; None to count the connected parts of
    the finished mask. spacing_mm: (rows, columns). source: its name in a set. is_complete: whether
    there was room for the objects that edits add at least.
    """

    mask: Mask | None = None
    image: NDArray[np.uint8] | None = None
    instances: Instances | None = None
    instance_names: tuple[str, ...] = ()
    spacing_mm: tuple[float, float] | None = None
    source: str | None = None
    is_complete: bool = True


def check_editing(
    options: EditingOptions,
    names: Sequence[str],
    *,
    has_spacing: bool,
    size: tuple[int, int],
    spacing_mm: tuple[float, float] | None = None,
) -> tuple[str, ...]:
    """The names of the values of the edited maps: classes that edits add come last. size: (H, W).
    spacing_mm: of all maps, where it is one.

    Raises ModelError for a class that there is not, millimetres without a spacing, or an object
    that no image has room for.
    """
    return check_edits(
        options.edits,
        options.objects,
        names,
        has_spacing=has_spacing,
        size=size,
        spacing_mm=spacing_mm,
    )


def compose(
    draw: Callable[[], Draft],
    options: EditingOptions,
    *,
    rng: np.random.Generator,
    kind: ConditionKind,
    class_name: str,
    names: Sequence[str],
) -> Condition:
    """A condition of kind mask, layout or image, of the first draft that has room for what edits
    add: a class that stands for a lesion has one. names: of all values, edits included.

    Raises ModelError if none of many has.
    """
    changed = change_one(draw, options, rng=rng, class_name=class_name, names=names)
    return condition_of(changed, options, kind=kind, class_name=class_name, names=names)


def change_one(
    draw: Callable[[], Draft],
    options: EditingOptions,
    *,
    rng: np.random.Generator,
    class_name: str,
    names: Sequence[str],
) -> Draft:
    """The first changed draft that is complete. Raises ModelError if none of many is."""
    for _ in range(MAX_TRIES):
        changed = change(draw(), options, rng=rng, class_name=class_name, names=names)
        if changed.is_complete:
            return changed
    raise ModelError(
        f"edits: {MAX_TRIES} conditions drawn for class {class_name!r} have no room for the "
        "objects that are added; make them smaller, choose another region, or let num begin at 0"
    )


def condition_of(
    changed: Draft,
    options: EditingOptions,
    *,
    kind: ConditionKind,
    class_name: str,
    names: Sequence[str],
) -> Condition:
    """As compose, of what `change` gave."""
    shows = tuple(
        edit.add
        for edit in options.edits
        if edit.add is not None and edit.num[0] > 0 and class_name in (edit.classes or [class_name])
    )
    labels = label(
        changed, class_name=class_name, names=names, objects=options.objects, shows=shows
    )
    if kind == "layout":
        return Condition(replace(labels, mask=None, instances=None))
    return Condition(labels, mask=changed.mask, image=changed.image)


def change(
    draft: Draft,
    options: EditingOptions,
    *,
    rng: np.random.Generator,
    class_name: str,
    names: Sequence[str],
) -> Draft:
    """Moved, then edited."""
    draft = _moved(draft, options, rng=rng, class_name=class_name, names=names)
    if draft.mask is None or not options.edits:
        return draft
    edited = edit_map(
        draft.mask,
        options.edits,
        rng=rng,
        class_name=class_name,
        names=names,
        spacing_mm=draft.spacing_mm,
    )
    if draft.instances is None:
        return replace(draft, mask=edited.mask, is_complete=edited.is_complete)
    instances, instance_names = draft.instances.copy(), list(draft.instance_names)
    instances[edited.mask == 0] = 0
    for region, name in edited.added:
        instance_names.append(name)
        instances[region & (edited.mask == names.index(name))] = len(instance_names)
    return replace(
        draft,
        mask=edited.mask,
        instances=instances,
        instance_names=tuple(instance_names),
        is_complete=edited.is_complete,
    )


def _moved(
    draft: Draft,
    options: EditingOptions,
    *,
    rng: np.random.Generator,
    class_name: str,
    names: Sequence[str],
) -> Draft:
    """By the first drawn deformation that leaves the class what it is called after, where the label
    map shows that: an image called star has a star."""
    present = draft.mask if draft.mask is not None else draft.image
    assert present is not None
    shown = None
    if draft.mask is not None and class_name in names[1:]:
        shown = draft.mask == names.index(class_name)
    for _ in range(_MAX_WARPS):
        warp = draw_warp(rng, options.deform, present.shape[:2], spacing_mm=draft.spacing_mm)
        if warp is None:
            break
        if shown is not None and shown.any() and warp.share_left(shown) < LEAST_LEFT:
            continue
        return replace(
            draft,
            mask=None if draft.mask is None else warp.labels(draft.mask),
            instances=None if draft.instances is None else warp.labels(draft.instances),
            image=None if draft.image is None else warp.image(draft.image),
        )
    return draft


def label(
    draft: Draft,
    *,
    class_name: str,
    names: Sequence[str],
    objects: Collection[str] | None,
    shows: tuple[str, ...] = (),
) -> Labels:
    """objects: the classes that count as objects; all but the background where None. shows: see
    Labels."""
    labels = Labels(class_name, spacing_mm=draft.spacing_mm, source=draft.source, shows=shows)
    if draft.mask is None:
        return labels
    if draft.instances is None:
        instances, found = _parts(draft.mask, names, objects)
    else:
        instances, found = _seen(draft.instances, draft.instance_names, objects)
    return replace(labels, mask=draft.mask, instances=instances, objects=found)


def _parts(
    mask: Mask, names: Sequence[str], objects: Collection[str] | None
) -> tuple[Instances, tuple[LabelledObject, ...]]:
    if objects is not None:
        counted = np.array([name in objects for name in names])
        mask = np.where(counted[mask], mask, 0).astype(np.uint8)
    return split_mask(mask, names)


def _seen(
    instances: Instances, instance_names: Sequence[str], objects: Collection[str] | None
) -> tuple[Instances, tuple[LabelledObject, ...]]:
    """Numbered anew, without those of which nothing is left."""
    boxes = instance_boxes(instances)
    numbers = np.zeros(len(instance_names) + 1, np.uint16)
    found = []
    for value, box in boxes.items():
        name = instance_names[value - 1]
        if objects is None or name in objects:
            found.append(LabelledObject(name, box))
            numbers[value] = len(found)
    renumbered: Instances = numbers[instances]
    return renumbered, tuple(found)
