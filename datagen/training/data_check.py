"""What is known of the images before they are trained on, and what would be better. Torch-free.

Called by training/session.py and by `datagen train --check`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from datagen.faults import plural
from datagen.filters.duplicate import DuplicateFilter, DuplicateJudge, DuplicateOptions
from datagen.image_set import ImageSet
from datagen.real_images.listing import some
from datagen.real_images.reading import Reading
from datagen.real_images.resizing import size_text

# Rules of thumb. That few images need augmentation: Karras et al. 2020, arXiv 2006.06676; Zhao et
# al. 2020, arXiv 2006.10738.
_FEW_IMAGES, _SOME_IMAGES = 100, 1000
_IMBALANCED = 10.0
_LARGE_GROUP = 0.2
_MAX_NAMED = 20
_MAX_CLASSES_TOLD = 5
_AUGMENTATION = "differentiable augmentation (objective.augment_probability of cgan)"


class GroupCheck(BaseModel):
    """Of what belongs together, such as the images of a patient."""

    model_config = ConfigDict(frozen=True)

    num: int
    largest: str
    num_of_largest: int


class DuplicateCheck(BaseModel):
    """num: images that have an earlier one like them. names: of the first of these."""

    model_config = ConfigDict(frozen=True)

    num: int
    names: tuple[str, ...]


class DataCheck(BaseModel):
    """data_check.json. sizes: "width x height" of the files -> images. other_class: exact
    duplicates whose earlier image has another class. imbalance: the largest class over the
    smallest. notes: what was left out or changed on reading."""

    model_config = ConfigDict(frozen=True)

    num_images: int
    image_size: tuple[int, int]
    channels: int
    counts: dict[str, int]
    imbalance: float
    sizes: dict[str, int]
    broken: tuple[str, ...]
    num_broken: int
    exact_duplicates: DuplicateCheck
    other_class: DuplicateCheck
    near_duplicates: DuplicateCheck
    groups: GroupCheck | None
    notes: tuple[str, ...]
    suggestions: tuple[str, ...]


def check_data(reading: Reading) -> DataCheck:
    images = reading.images
    counts = dict(zip(images.class_names, images.counts().tolist(), strict=True))
    exact, other_class, distinct = _exact_duplicates(images)
    sizes = sorted(reading.sizes.items(), key=lambda item: (-item[1], item[0]))
    check = DataCheck(
        num_images=len(images),
        image_size=images.image_shape[:2],
        channels=images.image_shape[2],
        counts=counts,
        imbalance=round(max(counts.values()) / min(counts.values()), 2),
        sizes={size_text(size): num for size, num in sizes[:_MAX_NAMED]},
        broken=reading.broken[:_MAX_NAMED],
        num_broken=len(reading.broken),
        exact_duplicates=_duplicates(images, exact),
        other_class=_duplicates(images, other_class),
        near_duplicates=_duplicates(images, _near_duplicates(images, distinct)),
        groups=_groups(images),
        notes=images.notes,
        suggestions=(),
    )
    return check.model_copy(update={"suggestions": tuple(_suggestions(check))})


def check_text(check: DataCheck) -> str:
    """For people, without a last newline."""
    counts = [f"{name} {num:,}" for name, num in check.counts.items()]
    sizes = [f"{num:,} of {size}" for size, num in check.sizes.items()]
    colours = "grey" if check.channels == 1 else "RGB"
    lines = [
        f"images         {check.num_images:,}, {size_text(check.image_size)} {colours}",
        f"classes        {some(counts, most=_MAX_NAMED)}",
        f"imbalance      {check.imbalance:,.4g} times as many images in the largest class",
        f"sizes in files {some(sizes)}",
        f"broken         {_told(check.num_broken, check.broken)}",
        f"duplicates     {_told(check.exact_duplicates.num, check.exact_duplicates.names)}",
        f"  other class  {_told(check.other_class.num, check.other_class.names)}",
        f"near ones      {_told(check.near_duplicates.num, check.near_duplicates.names)}",
        f"groups         {_groups_text(check.groups)}",
        *(f"note           {note}" for note in check.notes),
        *(f"suggestion     {suggestion}" for suggestion in check.suggestions),
    ]
    return "\n".join(lines)


def _told(num: int, names: Sequence[str]) -> str:
    if not num:
        return "none"
    rest = f" and {num - 3:,} more" if num > 3 else ""
    return f"{num:,}: {some(names[:3])}{rest}"


def _groups_text(groups: GroupCheck | None) -> str:
    if groups is None:
        return "not known"
    return f"{groups.num:,}, the largest of {plural(groups.num_of_largest, 'image')}"


def _exact_duplicates(images: ImageSet) -> tuple[list[int], list[int], list[int]]:
    """Returns the rows of images that an earlier one equals, of those that one of another class
    equals, and of the rest."""
    first: dict[str, int] = {}
    exact, other_class, distinct = [], [], []
    for row, digest in enumerate(images.pixel_digests()):
        earlier = first.setdefault(digest, row)
        if earlier == row:
            distinct.append(row)
            continue
        exact.append(row)
        if images.class_ids[earlier] != images.class_ids[row]:
            other_class.append(row)
    return exact, other_class, distinct


def _near_duplicates(images: ImageSet, rows: Sequence[int]) -> list[int]:
    """Of these rows, those that the filter `duplicate` would refuse by its default, all classes
    together. Even images are left out: their hash is the same whatever their grey."""
    judge = DuplicateJudge(DuplicateOptions().max_distance)
    chosen: NDArray[np.int64] = np.asarray(rows, np.int64)
    scores = DuplicateFilter().score(images.images[chosen], images.class_names, None)
    near = []
    for row, score in zip(rows, scores, strict=True):
        if not int(str(score), 16):
            continue
        if judge.reject(score):
            near.append(row)
        else:
            judge.accept(score)
    return near


def _duplicates(images: ImageSet, rows: Sequence[int]) -> DuplicateCheck:
    return DuplicateCheck(num=len(rows), names=tuple(images.names[r] for r in rows[:_MAX_NAMED]))


def _groups(images: ImageSet) -> GroupCheck | None:
    if images.groups is None:
        return None
    counts = Counter(images.groups)
    largest, num = counts.most_common(1)[0]
    return GroupCheck(num=len(counts), largest=largest, num_of_largest=num)


def _suggestions(check: DataCheck) -> list[str]:
    """Without names of files and groups: they go into the card, and may name people."""
    told = [*_class_suggestions(check.counts)]
    if check.imbalance >= _IMBALANCED:
        most, fewest = (pick(check.counts, key=check.counts.__getitem__) for pick in (max, min))
        told.append(
            f"{most} has {check.imbalance:,.3g} times as many images as {fewest}: the model sees "
            f"{fewest} as rarely; collect more of it, or take some of {most} out"
        )
    if check.other_class.num:
        told.append(
            f"{plural(check.other_class.num, 'image equals', 'images equal')} one of another "
            "class: correct the labels"
        )
    num_alike = check.exact_duplicates.num + check.near_duplicates.num
    if num_alike:
        told.append(
            f"{plural(num_alike, 'image is', 'images are')} like another: take them out, or name "
            "what belongs together in a column `group`, so that none is both trained on and held "
            "out"
        )
    if check.groups and check.groups.num_of_largest > _LARGE_GROUP * check.num_images:
        told.append(
            f"one group holds {check.groups.num_of_largest:,} of {check.num_images:,} images: "
            "expect samples like them; collect other groups"
        )
    return told


def _class_suggestions(counts: dict[str, int]) -> list[str]:
    """One for each class of few images, or one for many such classes."""
    advice = f"expect copies; use {_AUGMENTATION}, or a pretrained pipeline"
    few = {name: num for name, num in counts.items() if num < _FEW_IMAGES}
    if len(few) > _MAX_CLASSES_TOLD:
        return [f"{len(few):,} classes have fewer than {_FEW_IMAGES} images each: {advice}"]
    told = [f"class {name} has {plural(num, 'image')}: {advice}" for name, num in few.items()]
    thin = [name for name, num in counts.items() if _FEW_IMAGES <= num < _SOME_IMAGES]
    if thin:
        told.append(
            f"fewer than {_SOME_IMAGES:,} images in {some(thin)}: use {_AUGMENTATION}, "
            "and measure how close samples come (`datagen evaluate`)"
        )
    return told
