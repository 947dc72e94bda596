"""Faults on their way through pydantic: rules hand theirs in, recipe.py gets all back as problems.

Called by schema_rules.py and recipe.py (refuse), and by recipe.py once a schema has refused
(details_of, problems_of).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from datagen.faults import MAX_PROBLEMS, Place, Problem, join, line_of, show, suggest

Fault = tuple[Place, Any, str]  # where, the value, what was expected


def refuse(faults: Iterable[Fault]) -> None:
    """Raises, for pydantic, the faults found, each with its place below the field."""
    found = list(faults)
    if found:
        first, value, expected = found[0]
        summary = f"{join(first)}: {show(value)}: expected {expected}"
        raise PydanticCustomError("recipe_rule", "{summary}", {"summary": summary, "found": found})


def details_of(error: ValidationError) -> list[ErrorDetails]:
    return [d for d in error.errors(include_url=False) if not _is_echo(d)]


def problems_of(
    details: Sequence[ErrorDetails],
    schema: type[BaseModel],
    values: Any,
    *,
    lines: Mapping[str, int],
    texts: Mapping[str, str],
) -> list[Problem]:
    """The first MAX_PROBLEMS faults by line; a rule inside the schema may bring several each.

    values: what was validated. lines, texts: of its fields, as the reader met them.
    """
    placed = []
    for detail in details:
        path = _path_in(values, detail["loc"], missing=detail["type"] == "missing")
        placed.append((line_of(lines, join(path)), path, detail))
    problems = []
    for _, path, detail in sorted(placed, key=lambda entry: entry[0])[:MAX_PROBLEMS]:
        for place, value, expected in _faults_of(detail, schema, values, path):
            field = join(place)
            text = texts.get(field)
            if text and detail["type"] == "string_type":
                expected += f"; to give it as text write it in quotes, '{text[:80]}'"
            line = line_of(lines, field)
            problems.append(Problem(field, value, expected, line, text))
    return problems


def _is_echo(detail: ErrorDetails) -> bool:
    """Whether a list is called too short because its items, faults of their own, do not count."""
    return detail["type"] == "too_short" and len(detail["input"]) > detail["ctx"]["actual_length"]


def _faults_of(
    detail: ErrorDetails, schema: type[BaseModel], values: Any, path: Place
) -> list[Fault]:
    if detail["type"] == "recipe_rule":
        return [((*path, *below), value, text) for below, value, text in detail["ctx"]["found"]]
    return [(path, _value_at(values, path), _expected(schema, path, detail))]


def _path_in(values: Any, loc: Place, *, missing: bool) -> Place:
    """The part of pydantic's loc that exists: it also names members of unions and "[key]"."""
    for depth, part in enumerate(loc):
        inside = _child(values, part)
        if inside is None:
            return loc[: depth + 1] if missing else loc[:depth]
        values = inside[0]
    return loc


def _value_at(values: Any, path: Place) -> Any:
    for part in path:
        inside = _child(values, part)
        values = inside[0] if inside else None
    return values


def _child(values: Any, part: str | int) -> tuple[Any] | None:
    if isinstance(values, dict) and part in values:
        return (values[part],)
    if isinstance(values, list) and isinstance(part, int) and part < len(values):
        return (values[part],)
    return None


def _expected(schema: type[BaseModel], path: Place, detail: ErrorDetails) -> str:
    """The description of the field at the path, or what pydantic says where there is none."""
    model: type[BaseModel] | None = schema
    text: str | None = f"a mapping of fields: {', '.join(schema.model_fields)}"
    for part in path:
        if not isinstance(part, str) or model is None:
            continue  # an item of a list or mapping: what is said of the whole holds for it
        if part not in model.model_fields:
            known = list(model.model_fields)
            return f"a known field ({', '.join(known) or 'there is none'}){suggest(part, known)}"
        text = model.model_fields[part].description
        model = _model_in(model.model_fields[part].annotation)
    text = text or detail["msg"].removeprefix("Input should be ")
    if detail["type"] == "literal_error" and isinstance(detail["input"], str):
        return text + suggest(detail["input"], re.findall("'(.*?)'", detail["ctx"]["expected"]))
    if detail["type"] in ("int_type", "float_type") and isinstance(detail["input"], str):
        return f"{text}, without quotes"
    return text


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)
