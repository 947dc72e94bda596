"""Recipes: what is accepted, what is refused and how, and that spelling never changes a digest."""

from __future__ import annotations

import copy
import json
import os
import random
import re
import resource
import string
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from datagen.errors import InputError, RecipeError
from datagen.recipe import (
    MAX_BYTES,
    InvalidRecipe,
    Problem,
    Recipe,
    RecipeDocument,
    canonical_json,
    field_error,
    json_schema,
    load_recipe,
    parse_recipe,
    recipe_digest_of,
    suggest,
)

QUICKSTART = """\
version: 1
name: fashion-quickstart
seed: 42
image_size: [28, 28]
classes:
  - {name: trouser, count: 120}
  - {name: ankle-boot, count: 80, attributes: {season: winter}}
generator: {model: fashion-mnist-edm, num_inference_steps: 18, guidance_scale: 1.0}
conditioning: {}
filters: [{filter: blank}, {filter: duplicate}]
augmentations: [{transform: HorizontalFlip}, {transform: Affine, p: 0.3, params: {rotate: [-8, 8]}}]
splits: {ratios: {train: 0.9, val: 0.1}}
output: {formats: [webdataset], shard_size: 256}
limits: {max_attempts_per_class: 8.0, on_shortfall: fail}
"""
MINIMAL: dict[str, Any] = {
    "version": 1,
    "name": "small",
    "image_size": [28, 28],
    "classes": [{"name": "trouser", "count": 3}],
    "generator": {"model": "noise"},
}


def parse(text: str | bytes) -> RecipeDocument:
    return parse_recipe(text.encode() if isinstance(text, str) else text, source="r.yaml")


def digest(text: str | bytes) -> str:
    return recipe_digest_of(canonical_json(parse(text).recipe.to_json()))


def refusal(text: str | bytes) -> InvalidRecipe:
    with pytest.raises(InvalidRecipe) as caught:
        parse(text)
    return caught.value


def edited(old: str, new: str) -> str:
    assert QUICKSTART.count(old) == 1
    return QUICKSTART.replace(old, new)


# --- what is accepted -----------------------------------------------------------------------------


def test_quickstart_is_read_as_written() -> None:
    recipe = parse(QUICKSTART).recipe
    assert recipe.name == "fashion-quickstart"
    assert recipe.image_size == (28, 28)
    assert [(c.name, c.count) for c in recipe.classes] == [("trouser", 120), ("ankle-boot", 80)]
    assert recipe.classes[1].attributes == {"season": "winter"}
    assert recipe.generator.model == "fashion-mnist-edm"
    assert recipe.generator.options == {"num_inference_steps": 18, "guidance_scale": 1.0}
    assert [(f.filter, f.options) for f in recipe.filters] == [("blank", {}), ("duplicate", {})]
    assert [(a.transform, a.p) for a in recipe.augmentations] == [
        ("HorizontalFlip", 0.5),
        ("Affine", 0.3),
    ]
    assert recipe.augmentations[1].params == {"rotate": [-8, 8]}
    assert recipe.splits.ratios == {"train": 0.9, "val": 0.1}
    assert recipe.limits.on_shortfall == "fail"
    assert recipe.num_images == 200


def test_what_is_left_out_has_defaults() -> None:
    recipe = parse(json.dumps(MINIMAL)).recipe
    assert recipe.seed is None
    assert (recipe.filters, recipe.augmentations) == ((), ())
    assert recipe.splits.ratios == {"train": 1.0}
    assert (recipe.output.formats, recipe.output.shard_size) == (("webdataset",), 256)
    assert recipe.limits.max_attempts_per_class == 8.0
    assert recipe.limits.max_attempts_per_sample == 256


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("count: 120", "count: 10000000"),
        ("[28, 28]", "[8, 1024]"),
        ("seed: 42", "seed: 9223372036854775807"),
        ("seed: 42", "seed: ~"),
        ("{train: 0.9, val: 0.1}", "{a: 0.333333, b: 0.333333, c: 0.333334}"),
        ("name: fashion-quickstart", "name: " + "a" * 63),
        ("name: trouser", "name: '007'"),
        ("name: trouser", 'name: "no"'),
        ("shard_size: 256", "shard_size: 1"),
        ("guidance_scale: 1.0", "guidance_scale: 1e1"),
        ("guidance_scale: 1.0", "sizes: [1, 2.5, a, true]"),
        ("season: winter", "season: 2024-01-01"),
        ("season: winter", "season: 'Grüße 😀\n  x'"),
    ],
)
def test_the_edges_are_accepted(old: str, new: str) -> None:
    parse(edited(old, new))


@pytest.mark.parametrize(
    ("spelling", "value"),
    [
        ("true", True),
        ("FALSE", False),
        ("7", 7),
        ("-7", -7),
        ("1e3", 1000.0),
        ("1.50", 1.5),
        (".5", 0.5),
        ("y", "y"),
        ("1.2.3", "1.2.3"),
        ("12-5", "12-5"),
        ("'yes'", "yes"),
        ('"0x10"', "0x10"),
        ("nan", "nan"),
    ],
)
def test_scalars_are_read_as_json_and_yaml_1_2_read_them(spelling: str, value: object) -> None:
    read = parse(edited("season: winter", f"season: {spelling}")).recipe.classes[1].attributes
    assert read["season"] == value
    assert type(read["season"]) is type(value)


def test_a_json_file_is_a_recipe(tmp_path: Path) -> None:
    values = copy.deepcopy(MINIMAL)
    values["classes"][0]["attributes"] = {"mark": "\U0001f600 \\ud83d", "path": "a/b"}
    path = tmp_path / "r.json"
    for indent, ascii_only in [(None, True), (2, True), ("\t", False)]:
        path.write_text(json.dumps(values, indent=indent, ensure_ascii=ascii_only))
        recipe = load_recipe(path).recipe
        assert recipe.classes[0].attributes == values["classes"][0]["attributes"]


def test_byte_order_mark_and_line_ends_do_not_matter() -> None:
    assert digest(b"\xef\xbb\xbf" + QUICKSTART.replace("\n", "\r\n").encode()) == digest(QUICKSTART)


def test_a_recipe_cannot_be_changed() -> None:
    recipe = parse(QUICKSTART).recipe
    with pytest.raises(ValidationError, match="frozen"):
        recipe.name = "other"


# --- canonical JSON and digest --------------------------------------------------------------------

names = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=12)
scalars = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20),
)
keys = st.text(string.ascii_letters, min_size=1, max_size=8)
mappings = st.dictionaries(keys, scalars, max_size=4)
real_ratios = st.sampled_from([{"train": 1}, {"val": 0.25, "train": 0.75}, {"b": 0.5, "a": 0.5}])


@st.composite
def recipes(draw: st.DrawFn) -> dict[str, Any]:
    """Valid recipes as plain values."""
    chosen = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    recipe: dict[str, Any] = {
        **copy.deepcopy(MINIMAL),
        "name": draw(names),
        "classes": [
            {"name": name, "count": draw(st.integers(1, 10**7)), "attributes": draw(mappings)}
            for name in chosen
        ],
        "generator": {**draw(mappings), "model": draw(names)},
    }
    if draw(st.booleans()):
        recipe["seed"] = draw(st.none() | st.integers(0, 2**63 - 1))
        recipe["splits"] = {"ratios": draw(real_ratios)}
    if draw(st.booleans()):
        recipe["filters"] = [{**draw(mappings), "filter": name} for name in chosen[:2]]
        params = st.dictionaries(keys, st.lists(scalars, max_size=3) | mappings, max_size=3)
        recipe["augmentations"] = [
            {"transform": "Affine", "p": draw(st.sampled_from([1, 0.25])), "params": draw(params)}
        ]
    return recipe


def respelled(value: Any, rng: random.Random, indent: str = "") -> str:
    """The same value in other YAML: keys shuffled, comments, flow or block, blanks, quotes."""
    if isinstance(value, dict) and value:
        items = list(value.items())
        rng.shuffle(items)
        if rng.random() < 0.3:
            flow = ", ".join(f'"{k}":  {respelled_flow(v, rng)}' for k, v in items)
            return f"{{ {flow} }}"
        lines = [f"\n{indent}{k}: {respelled(v, rng, indent + '  ')}" for k, v in items]
        return "".join(line + rng.choice(["", "  # note", "\n", "\n# count: 3"]) for line in lines)
    if isinstance(value, list) and value and rng.random() < 0.7:
        return "".join(f"\n{indent}- {respelled_flow(item, rng)}" for item in value)
    return respelled_flow(value, rng)


def respelled_flow(value: Any, rng: random.Random) -> str:
    if isinstance(value, dict):
        items = list(value.items())
        rng.shuffle(items)
        return "{" + ",".join(f" {k}: {respelled_flow(v, rng)}" for k, v in items) + "}"
    if isinstance(value, list):
        return "[" + " , ".join(respelled_flow(item, rng) for item in value) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=rng.random() < 0.5)
    if isinstance(value, float) and value == 1:
        return rng.choice(["1", "1.0", "1.00e0"])
    return json.dumps(value)


@given(recipes(), st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_spelling_does_not_change_the_digest(values: dict[str, Any], rng: random.Random) -> None:
    expected = digest(json.dumps(values))
    for _ in range(3):
        assert digest("# a recipe\n---\n" + respelled(values, rng) + "\n") == expected


@given(recipes())
@settings(max_examples=100, deadline=None)
def test_canonical_json_is_a_recipe_of_the_same_digest(values: dict[str, Any]) -> None:
    canonical = canonical_json(parse(json.dumps(values)).recipe.to_json())
    again = canonical_json(parse(canonical).recipe.to_json())
    assert again == canonical
    assert canonical_json(Recipe.model_validate(json.loads(canonical)).to_json()) == canonical


def test_any_change_of_a_value_changes_the_digest() -> None:
    edits = [
        ("seed: 42", "seed: 43"),
        ("count: 120", "count: 121"),
        ("guidance_scale: 1.0", "guidance_scale: 1.25"),
        ("rotate: [-8, 8]", "rotate: [8, -8]"),
        ("season: winter", "season: summer"),
        ("{filter: blank}, {filter: duplicate}", "{filter: duplicate}, {filter: blank}"),
    ]
    assert len({digest(QUICKSTART), *(digest(edited(*edit)) for edit in edits)}) == len(edits) + 1


def test_defaults_written_out_change_nothing() -> None:
    values = {**MINIMAL, "filters": [], "limits": {"max_attempts_per_sample": 256}, "seed": None}
    assert digest(json.dumps(values)) == digest(json.dumps(MINIMAL))


def test_the_digest_of_the_quickstart_is_pinned() -> None:
    """Changing the canonical form orphans every stored attempt and version."""
    assert digest(QUICKSTART) == "1a874cb7752c14cb1dadcc70bb92b17ca4ec90db2700e6aec175866bc20353c9"


def test_key_order_is_gone_once_read() -> None:
    recipe = parse(edited("{train: 0.9, val: 0.1}", "{val: 0.1, train: 0.9}")).recipe
    assert list(recipe.splits.ratios) == ["train", "val"]


def test_canonical_json_sorts_keys_and_unifies_numbers() -> None:
    value = {"b": 1.0, "a": [True, None, -0.0, 1e300, 0.1], "é": (1, {"y": 2, "x": 1})}
    expected = '{"a":[true,null,0,1e+300,0.1],"b":1,"é":[1,{"x":1,"y":2}]}'
    assert canonical_json(value) == expected.encode()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [float("-inf")]])
def test_canonical_json_refuses_what_is_not_a_number(value: object) -> None:
    with pytest.raises(ValueError, match="Out of range"):
        canonical_json(value)


@pytest.mark.parametrize("value", [{1: 2}, {"a": {None: 1}}, b"x", {1, 2}, object()])
def test_canonical_json_refuses_what_json_cannot_hold(value: object) -> None:
    with pytest.raises(TypeError):
        canonical_json(value)


@given(st.recursive(scalars | st.none(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)))
@settings(deadline=None)
def test_canonical_json_keeps_values(value: Any) -> None:
    try:
        text = canonical_json(value)
    except UnicodeEncodeError:
        return  # a lone surrogate in a key
    assert json.loads(text) == value
    assert canonical_json(json.loads(text)) == text


# --- what is refused ------------------------------------------------------------------------------

REFUSED = [
    ("version: 1", "version: 2", "version", 1, "2: expected 1"),
    ("version: 1", "version: true", "version", 1, "true: expected 1"),
    ("version: 1", "version: 1.0", "version", 1, "1.0: expected 1"),
    ("seed: 42", "seed: -1", "seed", 3, "-1: expected a whole number from 0"),
    ("seed: 42", "seed: 9223372036854775808", "seed", 3, "expected a whole number from 0"),
    ("seed: 42", "seed: 1.5", "seed", 3, "1.5: expected a whole number"),
    ("seed: 42", "seeds: 42", "seeds", 3, "did you mean 'seed'?"),
    ("image_size", "imageSize", "imageSize", 4, "did you mean 'image_size'?"),
    ("[28, 28]", "[0, 28]", "image_size[0]", 4, "0: expected [height, width]"),
    ("[28, 28]", "[28, 1000000]", "image_size[1]", 4, "1000000: expected"),
    ("[28, 28]", "28", "image_size", 4, "28: expected [height, width]"),
    ("[28, 28]", "[28, 28, 3]", "image_size", 4, "[28, 28, 3]: expected [height, width]"),
    ("[28, 28]", "[28.0, 28]", "image_size[0]", 4, "28.0: expected"),
    ("count: 120", "count: 0", "classes[0].count", 6, "0: expected a whole number"),
    ("count: 120", "count: -1", "classes[0].count", 6, "-1: expected a whole number"),
    ("count: 120", "count: 1000000000000", "classes[0].count", 6, "from 1 to 10000000"),
    ("count: 120", "count: .nan", "classes[0].count", 6, ".nan (read as nan): expected"),
    ("count: 120", "count: NaN", "classes[0].count", 6, "'NaN': expected"),
    ("count: 120", "count: true", "classes[0].count", 6, "true: expected a whole number"),
    ("count: 120", "count: '120'", "classes[0].count", 6, "without quotes"),
    ("count: 120", "count: ", "classes[0].count", 6, "nothing given: expected a whole number"),
    ("count: 120", "count: 1e2", "classes[0].count", 6, "1e2 (read as 100.0)"),
    ("count: 120", "count: " + "9" * 400, "classes[0].count", 6, "expected a whole number"),
    ("count: 120", "kount: 120", "classes[0].kount", 6, "did you mean 'count'?"),
    (
        "count: 120",
        "count: 120, colour: 1",
        "classes[0].colour",
        6,
        "(name, count, attributes, also, caption)",
    ),
    ("name: ankle-boot", "name: trouser", "classes[1].name", 7, "each name once"),
    ("name: ankle-boot", "name: Trouser", "classes[1].name", 7, "'trouser' stands above"),
    ("name: trouser", "name: a/b", "classes[0].name", 6, "'a/b': expected 1 to 63 letters"),
    ("name: trouser", "name: ..", "classes[0].name", 6, "'..': expected 1 to 63 letters"),
    ("name: trouser", "name: " + "a" * 300, "classes[0].name", 6, "(302 characters)"),
    ("name: trouser", 'name: "a\\n"', "classes[0].name", 6, "'a\\n': expected"),
    ("name: trouser", "name: no", "classes[0].name", 6, "no (read as false): expected"),
    ("name: trouser", "name: On", "classes[0].name", 6, "'On' in quotes"),
    ("name: trouser", "name: 1e3", "classes[0].name", 6, "1e3 (read as 1000.0): expected"),
    ("name: trouser", "name: 1e3", "classes[0].name", 6, "write it in quotes, '1e3'"),
    ("name: trouser", "name: 7", "classes[0].name", 6, "write it in quotes, '7'"),
    ("name: trouser", "name: null", "classes[0].name", 6, "write it in quotes, 'null'"),
    ("name: trouser", "name: True", "classes[0].name", 6, "True (read as true)"),
    ("season: winter", "season: NO", "classes[1].attributes.season", 7, "NO (read as false)"),
    ("season: winter", "season: 010", "classes[1].attributes.season", 7, "010: expected a plain"),
    ("season: winter", "season: 0x1F", "classes[1].attributes.season", 7, "a plain decimal"),
    ("season: winter", "season: 12:30", "classes[1].attributes.season", 7, "a plain decimal"),
    ("season: winter", "season: 1_000", "classes[1].attributes.season", 7, "a plain decimal"),
    ("season: winter", "season: .inf", "classes[1].attributes.season", 7, "a finite number"),
    ("season: winter", "season: 1e999", "classes[1].attributes.season", 7, "a finite number"),
    ("season: winter", "season: [1]", "classes[1].attributes.season", 7, "a single value"),
    ("season: winter", "season: ", "classes[1].attributes.season", 7, "nothing given: expected"),
    ("season: winter", 'season: "\\0"', "classes[1].attributes.season", 7, "none of them control"),
    ("season: winter", "season: " + "a" * 1001, "classes[1].attributes.season", 7, "at most 1000"),
    ("season: winter", "a b: 1", "classes[1].attributes['a b']", 7, "a key of 1 to 63"),
    ("{season: winter}", "[winter]", "classes[1].attributes", 7, "a mapping of at most 32"),
    ("fashion-mnist-edm", "../edm", "generator.model", 8, "'../edm': expected the name of a model"),
    ("model: fashion-mnist-edm, ", "", "generator.model", 8, "nothing given: expected the name"),
    ("guidance_scale: 1.0", "a: {b: {c: {}}}", "generator.a.b.c", 8, "a single value"),
    (
        "conditioning: {}",
        "conditioning: {mask: x}",
        "conditioning.mask",
        9,
        "like {model: my-layouts}",
    ),
    ("conditioning: {}", "conditioning: {masks: x}", "conditioning.masks", 9, "mask, image"),
    ("{filter: duplicate}", "{filter: blank}", "filters[1].filter", 10, "each name once"),
    ("{filter: duplicate}", "duplicate", "filters[1]", 10, "each like {filter: blank}"),
    ("{filter: duplicate}", "{fliter: blank}", "filters[1].filter", 10, "nothing given"),
    ("transform: Affine", "transform: a.b.C", "augmentations[1].transform", 11, "a transform"),
    ("p: 0.3", "p: 0", "augmentations[1].p", 11, "0: expected a probability"),
    ("p: 0.3", "p: 1.01", "augmentations[1].p", 11, "1.01: expected a probability"),
    ("p: 0.3", "p: true", "augmentations[1].p", 11, "true: expected a probability"),
    ("p: 0.3", "param: 1", "augmentations[1].param", 11, "did you mean 'params'?"),
    ("rotate: [-8, 8]", "rotate: [-8, .inf]", "augmentations[1].params.rotate[1]", 11, "finite"),
    ("{train: 0.9, val: 0.1}", "{train: 0.9, val: 0.2}", "splits.ratios", 12, "1.1: expected rat"),
    ("{train: 0.9, val: 0.1}", "{}", "splits.ratios", 12, "1 to 16 splits"),
    ("{train: 0.9, val: 0.1}", "{train: 1.0, val: 0}", "splits.ratios.val", 12, "above 0"),
    ("{train: 0.9, val: 0.1}", "{train: .nan}", "splits.ratios.train", 12, "read as nan"),
    ("{train: 0.9, val: 0.1}", "{a/b: 1}", "splits.ratios['a/b']", 12, "1 to 16 splits"),
    ("ratios:", "ratio:", "splits.ratio", 12, "did you mean 'ratios'?"),
    ("[webdataset]", "[]", "output.formats", 13, "a list of 1 to 16 formats"),
    ("[webdataset]", "[coco, coco]", "output.formats[1]", 13, "each name once"),
    ("shard_size: 256", "shard_size: 0", "output.shard_size", 13, "from 1 to 100000"),
    ("on_shortfall: fail", "on_shortfall: no", "limits.on_shortfall", 14, "no (read as false)"),
    ("on_shortfall: fail", "on_shortfall: fial", "limits.on_shortfall", 14, "did you mean 'fail'?"),
    ("limits: {", "limits: {<<: 1, ", "limits['<<']", 14, "a known field"),
]


@pytest.mark.parametrize(("old", "new", "field", "line", "message"), REFUSED)
def test_a_fault_is_named_with_line_field_value_and_remedy(
    old: str, new: str, field: str, line: int, message: str
) -> None:
    error = refusal(edited(old, new))
    found = [problem for problem in error.problems if problem.field == field]
    assert [problem.line for problem in found] == [line], str(error)
    assert f"r.yaml:{line}: {field}: " in str(error)
    assert message in found[0].describe("r.yaml")


def test_a_fault_in_one_field_brings_no_others() -> None:
    """Fields that vanish by a typo are missed as well; all else is reported once."""
    for old, new, field, *_ in REFUSED:
        others = {p.field for p in refusal(edited(old, new)).problems} - {field}
        renamed = {"seed": "seeds", "image_size": "imageSize", "filters[1].fliter": ""}
        missed = {"image_size", "classes[0].count"} | set(renamed)
        assert others <= missed, (old, new, others)


def test_all_faults_are_reported_at_once_in_the_order_of_lines() -> None:
    text = edited("count: 120", "count: 0").replace("{train: 0.9, val", "{train: 0.5, val")
    text = text.replace("p: 0.3", "p: 3").replace("seed: 42", "sed: 42").replace("fail}", "no}")
    error = refusal(text)
    assert [(p.line, p.field) for p in error.problems] == [
        (3, "sed"),
        (6, "classes[0].count"),
        (11, "augmentations[1].p"),
        (12, "splits.ratios"),
        (14, "limits.on_shortfall"),
    ]
    assert len(str(error).splitlines()) == 5


def test_a_list_of_bad_classes_is_not_called_too_short() -> None:
    error = refusal(json.dumps({**MINIMAL, "classes": [{"name": "a", "count": 0}]}))
    assert [p.field for p in error.problems] == ["classes[0].count"]


def test_a_repeated_field_is_refused_with_both_lines() -> None:
    error = refusal(QUICKSTART + "seed: 42\n")
    assert str(error) == "r.yaml:15: seed: 42: expected this field once; line 3 has it already"


def test_too_many_images_are_refused() -> None:
    classes = [{"name": f"c{i}", "count": 10_000_000} for i in range(11)]
    error = refusal(json.dumps({**MINIMAL, "classes": classes}))
    assert "classes: 110000000: expected at most 100000000 images" in str(error)


def test_many_faults_are_counted_but_not_all_listed() -> None:
    values = {**MINIMAL, "classes": [{"name": "a/b", "count": 0}] * 500}
    error = refusal(json.dumps(values, indent=0))
    assert len(error.problems) == 50
    assert error.num_problems == 1000
    assert str(error).endswith("\n... and 950 more")


def test_a_name_that_would_move_the_terminal_is_shown_escaped() -> None:
    error = refusal(json.dumps({**MINIMAL, "name": "a\x1b[2J\u202e", "\x1b[2J": 1}))
    assert "\x1b" not in str(error)
    assert "\u202e" not in str(error)


def test_refusals_are_input_errors() -> None:
    assert issubclass(InvalidRecipe, RecipeError)
    assert issubclass(InvalidRecipe, InputError)
    assert InvalidRecipe.exit_code == 2


def test_the_model_keeps_its_rules_without_a_file() -> None:
    twice = {**MINIMAL, "classes": MINIMAL["classes"] * 2}
    with pytest.raises(ValidationError, match="each name once"):
        Recipe.model_validate(twice)


# --- hostile text ---------------------------------------------------------------------------------

LAUGHS = "a: &a [x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(20)
)
FULL = MAX_BYTES - 100
HOSTILE = {
    "empty": (b"", "nothing given: expected a mapping"),
    "only a comment": (b"# nothing", "nothing given: expected a mapping"),
    "only a start": (b"---", "nothing given: expected a mapping"),
    "a list": (b"- 1\n- 2", "[1, 2]: expected a mapping"),
    "a word": (b"recipe", "'recipe': expected a mapping"),
    "two documents": (b"a: 1\n---\nb: 2", "x.yaml:2: recipe: a second document"),
    "NUL bytes": (b"version: 1\n\0", "x.yaml:2: recipe: '\\x00': expected text without control"),
    "UTF-16": (QUICKSTART.encode("utf-16"), "x.yaml:1: recipe: byte 0xff: expected UTF-8"),
    "Latin-1": (b"version: 1\nname: \xe9", "x.yaml:2: recipe: byte 0xe9: expected UTF-8"),
    "a tab": (b"version: 1\nclasses:\n\t- a", "x.yaml:3: recipe: '\\t- a': expected valid YAML"),
    "a syntax error": (b"version: 1\nclasses: [a\nb: 1", "expected valid YAML"),
    "half a surrogate": (b'version: 1\nname: "\\ud800"', "x.yaml:2: "),
    "an object": (b"!!python/object/apply:os.system [ls]", "tags are refused"),
    "a tagged value": (QUICKSTART.replace("42", "!!int 42").encode(), "x.yaml:3: seed: "),
    "a local tag": (b"version: !x 1", "x.yaml:1: version: '!x': expected no tag"),
    "an exploding anchor": (LAUGHS.encode(), "x.yaml:1: a: &a: expected no anchor"),
    "an alias": (QUICKSTART.replace("42", "*a").encode(), "x.yaml:3: seed: *a: expected the value"),
    "a merge": (b"a: &a {x: 1}\nb:\n  <<: *a", "aliases are refused"),
    "a self reference": (b"&a [*a]", "aliases are refused"),
    "a mapping as key": (b"{a: 1}: 2", "a key that is not plain text"),
    "deep lists": (b"[" * FULL, "at most 16 levels"),
    "deep mappings": (b"{a: " * (FULL // 4), "at most 16 levels"),
    "deep blocks": (b"- " * (FULL // 2), "at most 16 levels"),
    "many values": (b"-\n" * (FULL // 2), "at most 100000 values"),
    "many fields": (b"".join(b"k%d: 1\n" % i for i in range(80_000)), "... and 79955 more"),
    "many bad classes": (
        b"classes:\n" + b"- aaaa\n" * 99_000,
        "... and 98954 more",
    ),
    "many equal classes": (
        edited("classes:\n", "classes:\n" + "  - {name: a, count: 1}\n" * 9_990).encode(),
        "... and 9939 more",
    ),
    "many options": (
        edited("guidance_scale: 1.0", ", ".join(f"k{i}: 1" for i in range(60_000))).encode(),
        "generator: a mapping of 60001: expected at most 10000 entries",
    ),
    "a long number": (b"seed: " + b"1" * FULL, "seed: 1111"),
    "a long time": (b"seed: " + b"1:" * (FULL // 2) + b"1", "seed: 1:1:1"),
    "a long word": (b"a" * FULL, f"({FULL + 2} characters)"),
    "a long key": (b"a" * FULL + b": 1", "expected valid YAML"),
    "too long": (b"#" * (MAX_BYTES + 1), "1048577 bytes: expected at most 1048576 bytes"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_refused(name: str) -> None:
    text, message = HOSTILE[name]
    with pytest.raises(InvalidRecipe) as caught:
        parse_recipe(text, source="x.yaml")
    assert message in str(caught.value)
    assert len(str(caught.value)) < 50_000


def test_hostile_text_needs_little_memory() -> None:
    """All of it, one after the other, in a process that may not map 500 MB."""
    program = (
        "import sys, runpy\n"
        f"sys.path[:0] = {[str(Path.cwd()), *sys.path]!r}\n"
        "from datagen.recipe import InvalidRecipe, parse_recipe\n"
        "import importlib.util as u\n"
        f"spec = u.spec_from_file_location('t', {__file__!r})\n"
        "t = u.module_from_spec(spec); spec.loader.exec_module(t)\n"
        "for text, _ in t.HOSTILE.values():\n"
        "    try:\n        parse_recipe(text, source='x')\n"
        "    except InvalidRecipe:\n        print('refused')\n"
    )
    limit = 500 * 2**20
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    assert done.stdout.split() == ["refused"] * len(HOSTILE), done.stderr[-2000:]


@given(st.binary(max_size=300))
@example(b"---")
@example(b"classes:\n- \n\n")
@example(b"%YAML 1.2\n--- !!set {a}")
@example(b"\xef\xbb\xbf\xef\xbb\xbfa: 1")
@settings(max_examples=500, deadline=None)
def test_bytes_are_a_recipe_or_a_recipe_error(data: bytes) -> None:
    assert_recipe_or_error(data)


@given(st.text(st.sampled_from("[]{}:,-?&*!|>'\"%@`#~ \n\tabno01.e_\\<="), max_size=120))
@settings(max_examples=500, deadline=None)
def test_yaml_syntax_is_a_recipe_or_a_recipe_error(text: str) -> None:
    assert_recipe_or_error(text.encode())


PIECES = [
    *(
        "[",
        "]",
        "{",
        "}",
        ":",
        ": ",
        ",",
        "- ",
        "&a ",
        "*a",
        "!!int ",
        "!x ",
        "|\n",
        "? ",
        "'",
        '"',
    ),
    *(
        "~",
        "true",
        "no",
        "010",
        "1e3",
        ".nan",
        "-.inf",
        "9" * 30,
        "-1",
        "0",
        "1.5",
        "\n",
        "\t",
        "\0",
    ),
    *(
        "# ",
        "---\n",
        "...\n",
        "<<: ",
        "name: x\n",
        "classes: []\n",
        "\\",
        "é",
        "\u2028",
        "\U0001f600",
    ),
]


@given(st.data())
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_mutated_recipes_are_recipes_or_recipe_errors(data: st.DataObject) -> None:
    text = QUICKSTART
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = start + data.draw(st.integers(0, 12))
        text = text[:start] + data.draw(st.sampled_from(PIECES)) + text[end:]
    assert_recipe_or_error(text.encode())


json_values = st.recursive(
    st.none() | scalars | st.sampled_from([0, -1, 10**12, 10**30, "", "a/b", "no"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(keys | st.text(), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(recipes(), json_values, st.randoms(use_true_random=False))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_value_in_any_place_is_a_recipe_or_a_recipe_error(
    values: dict[str, Any], odd: Any, rng: random.Random
) -> None:
    place: Any = values
    while True:
        options = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = rng.choice(options)
        if not isinstance(place[key], dict | list) or not place[key] or rng.random() < 0.3:
            break
        place = place[key]
    place[key] = odd
    assert_recipe_or_error(json.dumps(values).encode())


def assert_recipe_or_error(data: bytes) -> None:
    """Any other exception is a failure; a recipe survives its canonical form."""
    try:
        document = parse_recipe(data, source="x.yaml")
    except InvalidRecipe as refused:
        check_refusal(refused, data)
    else:
        text = canonical_json(document.recipe.to_json())
        assert canonical_json(parse_recipe(text, source="x.json").recipe.to_json()) == text


def check_refusal(error: InvalidRecipe, data: bytes) -> None:
    lines = re.split(r"\r\n|[\r\n\x85\u2028\u2029]", data.decode(errors="replace"))
    assert error.problems
    assert all(1 <= (problem.line or 0) <= len(lines) for problem in error.problems)
    assert all(line.isprintable() for line in str(error).split("\n"))


# --- files ----------------------------------------------------------------------------------------


def test_a_file_is_read_with_its_name_and_lines(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(QUICKSTART)
    document = load_recipe(path)
    assert document.source == str(path)
    assert document.lines["classes[1].attributes.season"] == 7
    path.write_text(QUICKSTART.replace("42", "x"))
    with pytest.raises(InvalidRecipe) as caught:
        load_recipe(path)
    assert str(caught.value).startswith(f"{path}:3: seed: 'x': expected a whole number")


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.yaml"
    with path.open("wb") as stream:
        stream.truncate(10**12)
    with pytest.raises(RecipeError, match="1000000000000 bytes: expected at most"):
        load_recipe(path)


def test_what_is_no_plain_file_is_refused(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (tmp_path, pipe, Path("/dev/zero")):
        with pytest.raises(RecipeError, match="not a plain file"):
            load_recipe(path)


@pytest.mark.parametrize("name", ["absent.yaml", "a" * 300, "a\0b", "file/below"])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(tmp_path / name)


# --- faults found later ---------------------------------------------------------------------------


def test_an_error_found_later_gets_file_and_line() -> None:
    document = parse(QUICKSTART)
    error = document.locate(field_error("generator.model", "fashion", "a known model"))
    assert str(error) == "r.yaml:8: generator.model: 'fashion': expected a known model"
    assert isinstance(error, InvalidRecipe)
    assert error.problems == (Problem("generator.model", "fashion", "a known model", 8),)


@pytest.mark.parametrize(
    ("field", "line"),
    [
        ("augmentations[1].params.rotate", 11),
        ("augmentations[1].params.rotate[1]", 11),
        ("classes[1].attributes.other", 7),
        ("classes[7].name", 5),
        ("output.formats[3]", 13),
        ("nowhere", 1),
    ],
)
def test_an_error_later_gets_the_nearest_line(field: str, line: int) -> None:
    error = parse(QUICKSTART).locate(field_error(field, 1, "something else"))
    assert str(error).startswith(f"r.yaml:{line}: {field}: ")


def test_other_recipe_errors_get_the_file() -> None:
    assert str(parse(QUICKSTART).locate(RecipeError("too odd"))) == "r.yaml: too odd"


@pytest.mark.parametrize(
    ("word", "known", "expected"),
    [
        ("trowser", ["trouser", "dress"], "; did you mean 'trouser'?"),
        ("imageSize", ["image_size"], "; did you mean 'image_size'?"),
        ("horizontalflip", ["HorizontalFlip"], "; did you mean 'HorizontalFlip'?"),
        ("ankle_boot", ["ankle-boot"], "; did you mean 'ankle-boot'?"),
        ("zebra", ["trouser", "dress"], ""),
        ("", ["a"], ""),
        ("a" * 10**6, ["a" * 64], f"; did you mean '{'a' * 64}'?"),
    ],
)
def test_the_nearest_name_is_suggested(word: str, known: list[str], expected: str) -> None:
    assert suggest(word, known) == expected


# --- the module -----------------------------------------------------------------------------------


def test_the_schema_names_every_field_of_a_recipe() -> None:
    schema = json_schema()
    assert set(schema["properties"]) == set(Recipe.model_fields)
    assert schema["additionalProperties"] is False
    assert schema["$defs"]["GeneratorRequest"]["additionalProperties"] is True
    for part in [schema, *schema["$defs"].values()]:
        for name, entry in part.get("properties", {}).items():
            assert entry.get("description"), name


def test_importing_recipe_loads_nothing_heavy() -> None:
    program = "import datagen.recipe, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert not {"numpy", "torch", "PIL", "pyarrow", "rich"} & set(done.stdout.split())


def test_yaml_is_scanned_by_libyaml() -> None:
    """The Python scanner gives the same answers ten times slower."""
    assert hasattr(yaml, "CSafeLoader")


@pytest.mark.parametrize("also", [["cat"], ["pet", "pet"]])
def test_further_classes_stand_once_and_without_their_own(also: list[str]) -> None:
    document = yaml.safe_load(QUICKSTART)
    document["classes"] = [{"name": "cat", "count": 20, "also": ["pet"]}]
    read = parse_recipe(yaml.safe_dump(document).encode(), source="r.yaml")
    assert read.recipe.classes[0].also == ("pet",)
    document["classes"][0]["also"] = also
    with pytest.raises(InvalidRecipe, match="each once"):
        parse_recipe(yaml.safe_dump(document).encode(), source="r.yaml")
