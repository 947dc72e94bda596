"""Whether prompts and mixes fit the classes of their recipe. Called by recipe.py."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from datagen.faults import MAX_PROBLEMS, Place, suggest
from datagen.prompt_schema import MixRequest, PromptRequest
from datagen.prompt_templates import CLASS, longest, placeholders
from datagen.schema_faults import Fault

MAX_PROMPTS = 100_000  # different ones in a recipe: each may be checked before the first image
MAX_LISTED = 50_000  # a recipe with all of its prompts stays one that the reader takes
MAX_LENGTH = 2000  # of a prompt with its values; no text encoder takes as much
MAX_CROSSED = 4096

Attribute = str | bool | int | float


@dataclass(frozen=True)
class Prompted:
    """What prompts need of a class. attributes: its own, as the recipe states them."""

    name: str
    count: int
    attributes: Mapping[str, Attribute]


def conditioning_faults(
    prompt: PromptRequest | None, mix: MixRequest | None, classes: Sequence[Prompted]
) -> Iterator[Fault]:
    """At most MAX_PROBLEMS of each. Places are below the conditioning."""
    if prompt is not None:
        for place, value, expected in islice(_prompt_faults(prompt, classes), MAX_PROBLEMS):
            yield ("prompt", *place), value, expected
    if mix is not None:
        names = [each.name for each in classes]
        for place, value, expected in islice(_mix_faults(mix, names), MAX_PROBLEMS):
            yield ("mix", *place), value, expected


def own_text(value: Attribute) -> str:
    """A class's own attribute as a prompt reads it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _prompt_faults(request: PromptRequest, classes: Sequence[Prompted]) -> Iterator[Fault]:
    """Faults of the values come only once the names are right."""
    found = list(islice(_unknown_classes(request, classes), MAX_PROBLEMS))
    found += _left_out(request, classes)
    found += _list_faults(request.lists or {})
    found += islice(_name_faults(request, classes), MAX_PROBLEMS)
    if not found:
        found += _count_faults(request, classes)
    yield from found or _size_faults(request, classes)


def _mix_faults(request: MixRequest, class_names: Sequence[str]) -> Iterator[Fault]:
    known = set(class_names)
    if request.between == "classes" and len(class_names) < 2:
        yield ("between",), request.between, "seeds or images, or a recipe of two classes or more"
    for name, ends in request.classes.items():
        places: list[tuple[Place, str]] = [(("classes", name), name)]
        places += [(("classes", name, i), end) for i, end in enumerate(ends)]
        for place, each in places:
            if each not in known:
                yield place, each, _a_class(each, class_names)


def _a_class(name: str, known: Sequence[str]) -> str:
    return f"a class of the recipe ({', '.join(known[:20])}){suggest(name, known[:1000])}"


def _unknown_classes(request: PromptRequest, classes: Sequence[Prompted]) -> Iterator[Fault]:
    names = [c.name for c in classes]
    known = set(names)
    given: list[tuple[Place, Mapping[str, object]]] = [
        ((field,), value)
        for field in ("template", "lists", "words", "negative")
        if isinstance(value := getattr(request, field), Mapping)
    ]
    given += [
        (("attributes", name, "counts"), attribute.counts or {})
        for name, attribute in request.attributes.items()
        if attribute.is_by_class
    ]
    for place, value in given:
        for name in value:
            if name not in known:
                yield (*place, name), name, _a_class(name, names)


def _left_out(request: PromptRequest, classes: Sequence[Prompted]) -> Iterator[Fault]:
    for field in ("template", "lists"):
        given = getattr(request, field)
        missing = [c.name for c in classes if isinstance(given, dict) and c.name not in given]
        if missing:
            shown = ", ".join(missing[:8])
            yield (field,), given, f"one for each class of the recipe; there is none for {shown}"


def _list_faults(lists: Mapping[str, Sequence[str]]) -> Iterator[Fault]:
    total = sum(map(len, lists.values()))
    if total > MAX_LISTED:
        yield ("lists",), f"{total} prompts", f"at most {MAX_LISTED} over all classes"
    for name, prompts in lists.items():
        for index, text in enumerate(prompts):
            if f"{{{CLASS}}}" in text:
                wanted = f"a prompt without {{{CLASS}}}: those of a list are taken as they are"
                yield ("lists", name, index), text, wanted


def _texts(request: PromptRequest, name: str) -> Iterator[tuple[Place, str]]:
    for field, text in (
        ("template", request.template_of(name)),
        ("negative", request.negative_of(name)),
    ):
        if text is not None:
            is_own = isinstance(getattr(request, field), dict)
            yield ((field, name) if is_own else (field,)), text


def _name_faults(request: PromptRequest, classes: Sequence[Prompted]) -> Iterator[Fault]:
    """Of attributes: those that no class has, that no template shows, that a class has already."""
    shown: set[str] = set()
    told: set[tuple[Place, str]] = set()
    for each in classes:
        shown.update(placeholders(request.template_of(each.name) or ""))
        known = [CLASS, *request.attributes, *each.attributes]
        for place, text in _texts(request, each.name):
            for name in placeholders(text):
                if name not in known and (place, name) not in told:
                    told.add((place, name))
                    yield (
                        place,
                        text,
                        (
                            f"an attribute of the prompt or of class {each.name} in place of "
                            f"{{{name}}} ({', '.join(known[:20])}){suggest(name, known)}"
                        ),
                    )
    for name in request.attributes:
        owner = next((c.name for c in classes if name in c.attributes), None)
        if owner is not None:
            wanted = (
                f"an attribute that no class has of its own; class {owner} has it: leave out one"
            )
            yield ("attributes", name), name, wanted
        if name not in shown:
            wanted = f"an attribute that a template shows as {{{name}}}: else no image shows it"
            yield ("attributes", name), name, wanted


def _count_faults(request: PromptRequest, classes: Sequence[Prompted]) -> Iterator[Fault]:
    for each in classes:
        template = request.template_of(each.name) or ""
        negative = request.negative_of(each.name) or ""
        used = {*placeholders(template), *placeholders(negative)}
        for name, attribute in request.attributes.items():
            place = ("attributes", name, "counts", *([each.name] * attribute.is_by_class))
            if attribute.counts is None:
                continue
            counts = attribute.counts_of(each.name)
            if name not in used:
                if counts is not None and attribute.is_by_class:
                    yield place, "given", f"none: the template of {each.name} lacks {{{name}}}"
            elif counts is None:
                wanted = f"counts for class {each.name} too: its template shows {{{name}}}"
                yield place[:-1], f"a mapping of {len(attribute.counts)}", wanted
            elif sum(counts.values()) != each.count:
                wanted = f"counts that sum to {each.count}, the images of class {each.name}"
                yield place, f"{_sum_text(counts)} = {sum(counts.values())}", wanted


def _sum_text(counts: Mapping[str, int]) -> str:
    return " + ".join(map(str, list(counts.values())[:8])) + (" + ..." if len(counts) > 8 else "")


def _size_faults(request: PromptRequest, classes: Sequence[Prompted]) -> Iterator[Fault]:
    """Bounds what is made of a small recipe, before it is made."""
    total = 0
    for each in classes:
        lengths = {name: len(own_text(value)) for name, value in each.attributes.items()}
        lengths[CLASS] = len(request.word_of(each.name))
        sizes = []
        used = {name for _, text in _texts(request, each.name) for name in placeholders(text)}
        for name, attribute in request.attributes.items():
            values = attribute.values_of(each.name)
            lengths[name] = max(map(len, values), default=0)
            if name in used:
                sizes.append(len(values))
        for place, text in _texts(request, each.name):
            if (length := longest(text, lengths)) > MAX_LENGTH:
                wanted = f"a prompt of at most {MAX_LENGTH} characters; this makes up to {length}"
                yield place, text, wanted
        combinations = math.prod(sizes)
        if request.combine == "crossed" and len(sizes) > 1 and combinations > MAX_CROSSED:
            wanted = f"at most {MAX_CROSSED} crossed values of a class, or combine: independent"
            yield ("attributes",), f"{combinations} for class {each.name}", wanted
            return
        total += combinations
        if total > MAX_PROMPTS:
            wanted = f"at most {MAX_PROMPTS} different prompts over all classes: use fewer values"
            yield ("attributes",), f"{total} or more", wanted
            return
