"""conditioning.prompt and conditioning.mix: what is accepted, what is refused and how."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.client.recipes import read_recipe, text_to_check
from datagen.prompt_templates import placeholders, render, template_fault
from datagen.recipe import InvalidRecipe, RecipeDocument, canonical_json, load_recipe, parse_recipe

RECIPE: dict[str, Any] = {
    "version": 1,
    "name": "worded",
    "image_size": [28, 28],
    "classes": [
        {"name": "nevus", "count": 100, "attributes": {"site": "back", "flat": True}},
        {"name": "T_shirt", "count": 50},
    ],
    "generator": {"model": "noise"},
}
HALVES = {"weights": {"light": 0.5, "dark": 0.5}}
TONE = {"template": "a {class}, {tone}"}


def parse(**conditioning: Any) -> RecipeDocument:
    text = json.dumps({**RECIPE, "conditioning": conditioning})
    return parse_recipe(text.encode(), source="r.yaml")


def stored(**conditioning: Any) -> dict[str, Any]:
    """What is kept of it; a recipe survives its canonical form."""
    recipe = parse(**conditioning).recipe
    text = canonical_json(recipe.to_json())
    assert parse_recipe(text, source="again").recipe == recipe
    kept: dict[str, Any] = json.loads(text)["conditioning"]
    return kept


@pytest.mark.parametrize(
    "prompt",
    [
        {"template": "a photo of a {class}"},
        {"template": "braces {{are}} kept"},
        {"template": {"nevus": "a {class} on the {site}", "T_shirt": "a {class}"}},
        {"template": "a {class}", "words": {"T_shirt": "t-shirt"}, "negative": "blurry {class}"},
        {"lists": {"nevus": ["one", "two {odd} braces"], "T_shirt": ["three"]}},
        {**TONE, "attributes": {"tone": HALVES}, "combine": "independent"},
        {**TONE, "attributes": {"tone": {"weights": {"light": 1, "dark": 0}}}},
        {
            **TONE,
            "attributes": {"tone": {"counts": {"nevus": {"a": 40, "b": 60}, "T_shirt": {"b": 50}}}},
        },
    ],
)
def test_prompts_are_kept_as_they_are_written(prompt: dict[str, Any]) -> None:
    assert stored(prompt=prompt) == {"prompt": prompt}


def test_the_order_in_the_file_decides_nothing() -> None:
    turned = {"weights": dict(reversed(HALVES["weights"].items()))}
    one = parse(prompt={**TONE, "attributes": {"tone": HALVES}})
    other = parse(prompt={**TONE, "attributes": {"tone": turned}})
    texts = [str(each.recipe.conditioning.prompt) for each in (one, other)]
    assert texts[0] == texts[1]


BAD_PROMPTS = [
    ({}, "prompt: nothing given: expected one of template and lists"),
    ({"template": "a", "lists": {"nevus": ["b"]}}, "expected one of template and lists"),
    ({"template": "{class.__init__}"}, "not '{class.__init__}'"),
    ({"template": "{class!r:>99999999}"}, "as its only placeholders, not"),
    ({"template": "{0}"}, "as its only placeholders, not '{0}'"),
    ({"template": "a {class"}, "as its only placeholders, not '{'"),
    ({"template": "a }"}, "braces themselves are written {{ and }}"),
    ({"template": " "}, "and not blank"),
    ({"template": "a\nb"}, "none of them control"),
    ({"template": 5}, "template: 5: expected one line"),
    ({"template": "x" * 1001}, "one line of 1 to 1000 characters"),
    ({"template": {"nevus": "a"}}, "there is none for T_shirt"),
    (
        {"template": {"nevus": "a", "T_shirt": "b", "tshirt": "c"}},
        "template.tshirt: 'tshirt': expected a class of the recipe",
    ),
    (TONE, "in place of {tone} (class, flat, site)"),
    ({"template": "a {class} {site}"}, "of class T_shirt in place of {site}"),
    ({"template": "a", "negative": "{tone}"}, "negative: '{tone}': expected an attribute"),
    ({"template": "a", "words": {"shirt": "b"}}, "words.shirt: 'shirt': expected a class"),
    ({"template": "a", "attributes": {"tone": HALVES}}, "shows as {tone}: else no image shows it"),
    (
        {"template": "a {site}", "attributes": {"site": HALVES}},
        "attributes.site: 'site': expected an attribute that no class has of its own; class nevus",
    ),
    ({"template": "{class}", "attributes": {"class": HALVES}}, "none of class, mix_with"),
    ({"template": "{a b}", "attributes": {"a b": HALVES}}, "attributes['a b']"),
    (
        {**TONE, "attributes": {"tone": {"weights": {"a": 0.5, "b": 0.6}}}},
        "attributes.tone.weights: 1.1: expected weights that sum to 1",
    ),
    ({**TONE, "attributes": {"tone": {"weights": {"a": -1, "b": 2}}}}, "weights.a: -1"),
    ({**TONE, "attributes": {"tone": {"weights": {"a": "1"}}}}, "expected a weight of 0 or more"),
    ({**TONE, "attributes": {"tone": {"weights": {"a": 10**400}}}}, "weight"),
    ({**TONE, "attributes": {"tone": {}}}, "one of weights and counts"),
    ({**TONE, "attributes": {"tone": {**HALVES, "counts": {"a": 1}}}}, "weights and counts"),
    (
        {**TONE, "attributes": {"tone": {"counts": {"a": 60, "b": 40}}}},
        "'60 + 40 = 100': expected counts that sum to 50, the images of class T_shirt",
    ),
    (
        {
            **TONE,
            "attributes": {"tone": {"counts": {"nevus": {"a": 40, "b": 61}, "T_shirt": {"a": 50}}}},
        },
        "counts.nevus: '40 + 61 = 101': expected counts that sum to 100, the images of class nevus",
    ),
    (
        {**TONE, "attributes": {"tone": {"counts": {"nevus": {"a": 100}}}}},
        "expected counts for class T_shirt too",
    ),
    ({**TONE, "attributes": {"tone": {"counts": {"a": 1.5}}}}, "a whole number of images"),
    ({"lists": {"nevus": ["a"], "T_shirt": []}}, "lists.T_shirt: []: expected a list of 1 to"),
    ({"lists": {"nevus": ["a"], "T_shirt": ["a {class}"]}}, "taken as they are"),
    ({"lists": {"nevus": ["a"], "T_shirt": ["b"]}, "attributes": {"t": HALVES}}, "none beside"),
    (
        {"lists": {"nevus": ["a"], "T_shirt": {"file": "/etc/passwd"}}},
        "lists.T_shirt: '/etc/passwd': expected the prompts themselves",
    ),
    (
        {
            "template": "".join(f"{{a{i}}}" for i in range(8)),
            "attributes": {
                f"a{i}": {"weights": {f"v{j}": 0.1 for j in range(10)}} for i in range(8)
            },
        },
        "crossed values of a class",
    ),
    (
        {"template": "{t}" * 300, "attributes": {"t": {"weights": {"x" * 200: 1}}}},
        "a prompt of at most 2000 characters; this makes up to 60000",
    ),
]


@pytest.mark.parametrize(("prompt", "message"), BAD_PROMPTS)
def test_a_bad_prompt_is_refused(prompt: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRecipe) as caught:
        parse(prompt=prompt)
    assert message in str(caught.value)
    assert all(problem.field.startswith("conditioning") for problem in caught.value.problems)


@pytest.mark.parametrize(
    ("mix", "message"),
    [
        ({}, "mix.between: nothing given: expected seeds, classes or images"),
        ({"between": "class"}, "did you mean 'classes'?"),
        ({"between": "seeds", "weight": [0.7, 0.3]}, "weight: [0.7, 0.3]: expected a range"),
        ({"between": "seeds", "weight": [0, 2]}, "expected a range like [0.3, 0.7] in 0 to 1"),
        ({"between": "seeds", "classes": {"nevus": ["T_shirt"]}}, "none where it is between"),
        ({"between": "classes", "classes": {"nevus": ["cat"]}}, "classes.nevus[0]: 'cat'"),
        ({"between": "classes", "classes": {"nevus": ["nevus"]}}, "expected another class"),
        ({"between": "classes", "classes": {"nevus": []}}, "a list of the classes"),
    ],
)
def test_a_bad_mix_is_refused(mix: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRecipe) as caught:
        parse(mix=mix)
    assert message in str(caught.value)


def test_a_mix_is_kept_without_its_defaults() -> None:
    mix = {"between": "classes", "classes": {"nevus": ["T_shirt"]}}
    assert stored(mix={**mix, "weight": [0, 1]}) == {"mix": mix}


def test_many_faults_are_found_at_once_and_few_are_told() -> None:
    many = {f"c{i}": "text" for i in range(5000)}
    with pytest.raises(InvalidRecipe) as caught:
        parse(prompt={"template": "a", "words": many, "negative": many})
    assert len(caught.value.problems) <= 101


# --- templates ------------------------------------------------------------------------------------


@given(st.text(alphabet="{}ab 0.!", max_size=30))
@settings(max_examples=150, deadline=None)
def test_a_template_is_refused_or_renders_as_python_formats_it(text: str) -> None:
    if template_fault(text) is None:
        values = {name: f"<{name}>" for name in placeholders(text)}
        assert render(text, values) == text.format(**values)


def test_values_are_not_templates() -> None:
    assert render("{a} {b}", {"a": "{b}", "b": "{{c}}"}) == "{b} {{c}}"


# --- files ----------------------------------------------------------------------------------------


def write_recipe(folder: Path, name: str) -> Path:
    lists = {"nevus": {"file": name}, "T_shirt": ["a shirt"]}
    path = folder / "recipe.yaml"
    path.write_text(json.dumps({**RECIPE, "conditioning": {"prompt": {"lists": lists}}}))
    return path


def test_a_list_is_read_from_a_file_beside_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    text = "\ufeff# prompts\r\n\r\n  a mole \r\nein Mutterm\u00e4l\r\n"
    (tmp_path / "more" / "nevus.txt").write_bytes(text.encode())
    recipe = load_recipe(write_recipe(tmp_path, "more/nevus.txt")).recipe
    expected = {"T_shirt": ["a shirt"], "nevus": ["a mole", "ein Mutterm\u00e4l"]}
    assert recipe.to_json()["conditioning"]["prompt"] == {"lists": expected}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../secret.txt", "a file beside the recipe or below"),
        ("/etc/passwd", "a file beside the recipe or below"),
        ("link.txt", "a file beside the recipe or below"),
        ("none.txt", "cannot be read"),
        ("empty.txt", "empty.txt: 0 prompts; expected 1 to 10000"),
        ("latin.txt", "latin.txt:2: expected UTF-8 text"),
        ("odd.txt", "odd.txt:3: "),
        (".", "not a plain file"),
        ("a\0b", "expected"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, name: str, message: str) -> None:
    folder = tmp_path / "recipes"
    folder.mkdir()
    (tmp_path / "secret.txt").write_text("key\n")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "empty.txt").write_text("# nothing\n\n")
    (folder / "latin.txt").write_bytes(b"ok\n\xe9\n")
    (folder / "odd.txt").write_text("ok\n\na\x07b\n")
    with pytest.raises(InvalidRecipe) as caught:
        load_recipe(write_recipe(folder, name))
    assert message in str(caught.value)
    assert "recipe.yaml:1: conditioning.prompt.lists.nevus" in str(caught.value)


def test_the_client_sends_the_prompts_and_not_the_name_of_their_file(tmp_path: Path) -> None:
    (tmp_path / "nevus.txt").write_text("a mole\n")
    path = write_recipe(tmp_path, "nevus.txt")
    sent = json.loads(text_to_check(path))
    assert sent["conditioning"]["prompt"]["lists"]["nevus"] == ["a mole"]
    assert json.loads(canonical_json(read_recipe(path).recipe.to_json())) == sent
    assert text_to_check(path.read_text() + "\n") == path.read_bytes() + b"\n"
    with pytest.raises(InvalidRecipe, match="read by the command line and the client"):
        read_recipe(path.read_text() + "\n")
