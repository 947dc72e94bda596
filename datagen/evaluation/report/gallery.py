"""The gallery: as many images as fit into the bytes that are left. Called by render.

script.js turns the lists into a place to mark images; without it they are plain pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from datagen.evaluation.report.components import (
    Section,
    details,
    muted,
    name,
    paragraph,
    picture,
    table,
)
from datagen.evaluation.report.markup import Child, Markup, clean, join, tag
from datagen.evaluation.report.numbers import count, percent, plural
from datagen.evaluation.report.pictures import GalleryItem, encode
from datagen.evaluation.report.review import HELP, TOOLBAR
from datagen.evaluation.results import Suspect

MAX_PER_CLASS = 60
MAX_IMAGES = 1200
FIRST_IMAGES = 24


@dataclass(frozen=True)
class Gallery:
    """keys: of the samples, in the order of the images on the page."""

    section: Section
    keys: tuple[str, ...]


@dataclass
class _Shelf:
    """One class's images that made it onto the page."""

    class_name: str
    images: list[Markup] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)


def gallery_section(
    gallery: Mapping[str, Sequence[GalleryItem]], *, counts: Mapping[str, int], max_bytes: int
) -> Gallery:
    """The first image of each class, then the second of each, until max_bytes are used."""
    shelves = _filled(gallery, max_bytes)
    if not shelves:
        content = paragraph("No images were given to this page.")
        return Gallery(Section("gallery", "Gallery", content), ())
    keys = tuple(key for shelf in shelves for key in shelf.keys)
    parts: list[Child] = [_intro(keys, counts, len(shelves)), TOOLBAR, HELP]
    parts += [_class_block(shelf, counts.get(shelf.class_name, 0)) for shelf in shelves]
    hidden = len(counts) - len(shelves)
    if hidden > 0:
        parts.append(
            muted(f"No room for images of {plural(hidden, 'more class', 'more classes')}.")
        )
    return Gallery(Section("gallery", "Gallery", join(parts)), keys)


def _filled(gallery: Mapping[str, Sequence[GalleryItem]], max_bytes: int) -> list[_Shelf]:
    shelves = [_Shelf(class_name) for class_name in gallery]
    num_images, left = 0, max_bytes
    layers = zip_longest(*[items[:MAX_PER_CLASS] for items in gallery.values()])
    for layer in layers:
        for shelf, item in zip(shelves, layer, strict=True):
            if item is None or num_images == MAX_IMAGES:
                continue
            image = _image(item, shelf.class_name, len(shelf.images) + 1)
            # A key takes at most six ASCII characters for one of its own in JSON.
            cost = len(image.encode()) + 6 * len(item.key) + 4
            if not shelf.images:
                cost += _frame_bytes(shelf.class_name)
            if cost > left:
                return [shelf for shelf in shelves if shelf.images]
            left -= cost
            num_images += 1
            shelf.images.append(image)
            shelf.keys.append(item.key)
    return [shelf for shelf in shelves if shelf.images]


def _frame_bytes(class_name: str) -> int:
    """What a class takes beside its images: its heading and two lists."""
    empty = _Shelf(class_name, [Markup("")] * (FIRST_IMAGES + 1))
    return len(_class_block(empty, 10**9).encode())


def _image(item: GalleryItem, class_name: str, number: int) -> Markup:
    shown = encode(item.image)
    says = [f"{clean(class_name, limit=60)}, image {number}"]
    if item.split:
        says.append(f"split {clean(item.split, limit=40)}")
    if item.suspicion:
        says.append(f"look twice: {clean(item.suspicion, limit=160)}")
    why = clean(item.suspicion, limit=160)
    return tag(
        "li",
        {"title": why or None},
        picture(shown, "; ".join(says)),
        tag("span", {"class": "why"}, "look twice") if item.suspicion else None,
    )


def _intro(keys: Sequence[str], counts: Mapping[str, int], num_classes: int) -> Markup:
    total = sum(counts.values())
    return paragraph(
        f"{count(len(keys))} of {plural(total, 'image')}, in "
        f"{plural(num_classes, 'class', 'classes')}. Images that a check doubts say “look twice”."
    )


def _class_block(shelf: _Shelf, num_images: int) -> Markup:
    total = f"{count(len(shelf.images))} of {count(max(num_images, len(shelf.images)))}"
    heading = tag("h3", None, name(shelf.class_name), " ", tag("span", {"class": "range"}, total))
    first, rest = shelf.images[:FIRST_IMAGES], shelf.images[FIRST_IMAGES:]
    label = clean(shelf.class_name, limit=60)
    more = _list(rest, f"More images of {label}") if rest else None
    return tag(
        "div",
        {"class": "shelf"},
        heading,
        _list(first, f"Images of {label}"),
        details(f"{count(len(rest))} more", more) if more else None,
    )


def _list(images: Sequence[Markup], label: str) -> Markup:
    return tag("ul", {"class": "images", "aria-label": label}, *images)


def suspects_block(suspects: Sequence[Suspect]) -> Markup | None:
    """For the gallery: labels that an independent classifier doubts."""
    if not suspects:
        return None
    rows: list[list[Child]] = [
        [name(s.name), name(s.class_name), name(s.predicted), percent(s.probability)]
        for s in suspects
    ]
    head = ("Image", "Label", "Classifier says", "Probability of the label")
    label = f"{plural(len(rows), 'image')} with a doubted label, by name"
    return details(label, table("Doubted labels", head, rows))
