"""The text-edm family: what it is told, mixes, and the prompts and models that it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from datagen.conditions import Condition, Mix, Prompt
from datagen.errors import InputError, ModelError, RecipeError, TrainingError
from datagen.generators.edm.options import EdmObjectiveOptions
from datagen.generators.interface import Images, Update
from datagen.generators.model_directory import Model, load_model
from datagen.generators.text_edm.encoder import encode_texts, find_encoder, token_ids
from datagen.generators.text_edm.networks import NULL_TEXT, WITH_TEXT, TextDenoiser
from datagen.generators.text_edm.options import TextEdmNetwork, TextEdmOptions
from datagen.generators.text_edm.sample import TextEdmSampler
from datagen.generators.text_edm.spec import TextEdmSpec
from datagen.generators.text_edm.train import TextEdmObjective
from datagen.half_precision import write_half
from datagen.labels import Labels
from datagen.recipe import Recipe
from datagen.resolve import resolve_recipe
from datagen.resources import recipes_dir, shipped_models_dir
from datagen.training.model_recipe import parse_model_recipe
from tests.generators.tiny_models import TINY, save_random_model

SPEC, CONFIG = TextEdmSpec(), TINY["text-edm"]
OPTIONS = TextEdmOptions(num_inference_steps=2)


@pytest.fixture(scope="module")
def encoder() -> Path:
    return find_encoder()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return save_random_model(tmp_path_factory.mktemp("models") / "tiny-text", CONFIG)


@pytest.fixture(scope="module")
def sampler(model: Model) -> TextEdmSampler:
    config = replace(model.config, class_names=("bag", "ankle-boot"))
    loaded = SPEC.load(config, model.weights, OPTIONS, batch_size=3)
    assert isinstance(loaded, TextEdmSampler)
    return loaded


def told(text: str, negative: str = "", mix: Mix | None = None) -> Condition:
    return Condition(Labels("bag"), prompt=Prompt(text, negative), mix=mix)


def drawn(sampler: TextEdmSampler, *conditions: Condition, seed: int = 5) -> Images:
    num = len(conditions)
    return sampler.sample_conditioned([seed] * num, [0] * num, conditions)


def test_texts_are_encoded_as_sentence_transformers_does(encoder: Path) -> None:
    """Mean over the tokens, of length 1; the file's own padding and cutting are not done."""
    from transformers import AutoTokenizer, BertModel

    text = "a dark narrow dress"
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    bert = BertModel.from_pretrained(encoder).eval()
    with torch.no_grad():
        given = tokenizer(text, return_tensors="pt")
        mean = bert(**given).last_hidden_state.mean(1)
    found = encode_texts(encoder, ["another", text])
    assert torch.allclose(found[1], mean[0] / mean[0].norm(), atol=1e-6)
    assert given.input_ids[0].tolist() == token_ids(encoder, text)


def test_near_texts_are_near_and_words_count(encoder: Path) -> None:
    dress, sundress, boot = encode_texts(encoder, ["a dress", "a summer dress", "an ankle boot"])
    assert dress @ sundress > dress @ boot + 0.2
    assert not torch.equal(*encode_texts(encoder, ["a dark dress", "a light dress"]))


def test_prompts_and_negative_prompts_steer_the_image(sampler: TextEdmSampler) -> None:
    images = drawn(sampler, told("a bag"), told("a boot"), told("a bag", negative="dark"))
    assert len({image.tobytes() for image in images}) == 3


def test_guidance_1_does_not_look_at_the_negative_prompt(model: Model) -> None:
    options = TextEdmOptions(num_inference_steps=2, guidance_scale=1.0)
    plain = SPEC.load(model.config, model.weights, options, batch_size=2)
    assert isinstance(plain, TextEdmSampler)
    one, other = drawn(plain, told("a bag"), told("a bag", negative="dark"))
    assert np.array_equal(one, other)


def test_the_null_text_is_not_the_empty_text(model: Model) -> None:
    network = TextDenoiser(CONFIG, TextEdmNetwork.model_validate(CONFIG.network))
    torch.nn.init.normal_(network.unet.conv_out.weight)
    torch.nn.init.normal_(network.null_embedding)
    noisy, sigma = torch.randn(2, 3, 8, 12), torch.ones(2)
    with torch.no_grad():
        texts = torch.randn(2, 384)
        absent = network(noisy, sigma, torch.full((2,), NULL_TEXT), texts)
        assert torch.equal(absent, network(noisy, sigma, torch.full((2,), NULL_TEXT)))
        present = network(noisy, sigma, torch.full((2,), WITH_TEXT), texts)
    assert not torch.allclose(present, absent, atol=1e-4)


@pytest.mark.parametrize("kind", ["seeds", "classes"])
def test_a_mix_has_the_two_images_at_its_ends(sampler: TextEdmSampler, kind: str) -> None:
    other = Prompt("a ankle boot") if kind == "classes" else None
    mixes = [
        Mix(kind, weight, 9, 1, "ankle-boot", prompt=other)  # type: ignore[arg-type]
        for weight in (0.0, 0.5, 1.0)
    ]
    mixed = [drawn(sampler, told("a bag", mix=mix))[0] for mix in mixes]
    start = drawn(sampler, told("a bag"))[0]
    end = (
        drawn(sampler, told("a bag"), seed=9)[0]
        if kind == "seeds"
        else drawn(sampler, told("a ankle boot"))[0]
    )
    assert np.array_equal(mixed[0], start)
    assert np.array_equal(mixed[2], end)
    assert len({image.tobytes() for image in mixed}) == 3


def test_without_a_prompt_nothing_is_drawn(sampler: TextEdmSampler) -> None:
    with pytest.raises(ModelError, match="template"):
        sampler.sample([1], [0])
    with pytest.raises(ModelError, match="without a prompt"):
        sampler.sample_conditioned([1], [0], [Condition(Labels("bag"))])


def test_a_prompt_longer_than_the_encoder_takes_is_refused_by_name(model: Model) -> None:
    fits, too_long = "word " * 254, "long " * 255
    SPEC.check_prompts(model.config, OPTIONS, [fits])
    with pytest.raises(ModelError, match=r"prompt 'long long .* 257 word pieces.* at most 256"):
        SPEC.check_prompts(model.config, OPTIONS, [fits, too_long])


def test_another_encoder_than_the_model_was_trained_with_is_refused(model: Model) -> None:
    network = model.config.network | {"encoder_sha256": ["0" * 64, "1" * 64]}
    other = replace(model.config, network=network)
    with pytest.raises(ModelError, match=r"expected 0000.* and 1111"):
        SPEC.check_prompts(other, OPTIONS, ["a bag"])
    with pytest.raises(ModelError, match="expected 0000"):
        SPEC.load(other, model.weights, OPTIONS, batch_size=2)


@pytest.mark.parametrize(("name", "value"), [("text_dim", 16), ("augment_dim", 9)])
def test_sizes_that_no_text_fits_are_refused(name: str, value: int) -> None:
    with pytest.raises(ModelError, match=f"network.{name} {value}"):
        SPEC.check(replace(CONFIG, network=CONFIG.network | {name: value}))


def test_a_training_learns_from_its_texts() -> None:
    """And dimensions that no text changes are not divided by: half precision has no such number."""
    objective = TextEdmObjective(CONFIG, EdmObjectiveOptions(), seed=0)
    vectors = torch.randn(4, 384) * torch.linspace(0, 1, 384)
    objective.set_text_statistics(vectors)
    before = objective.network.state_dict()["text_embedding.0.weight"].clone()
    rng = torch.Generator().manual_seed(1)
    update = Update(0, 0, 1e-2, 0.5, rng, condition=vectors)
    real, class_ids = torch.randn(4, 3, 8, 12), torch.zeros(4, dtype=torch.long)
    for _ in range(2):  # the last layer starts at zero: the first step moves it alone
        objective.step(real, class_ids, update)
    weights = objective.ema_weights()
    assert not torch.equal(before, weights["text_embedding.0.weight"])
    assert float(weights["text_std"].half().min()) > 0
    sampler = objective.ema_sampler(2)
    assert drawn(sampler, told("a bag"), told("a boot")).shape == (2, 8, 12, 3)
    with pytest.raises(TrainingError, match="vectors of its texts"):
        objective.step(real, class_ids, replace(update, condition=None))


def test_a_recipe_names_any_classes_and_needs_a_prompt(model: Model) -> None:
    content = {
        "version": 1,
        "name": "words",
        "image_size": [8, 12],
        "classes": [{"name": "umbrella", "count": 3}],
        "generator": {"model": "tiny-text"},
    }
    folders = [model.path.parent]
    prompt = {"template": "a {class}"}
    asked = Recipe.model_validate(content | {"conditioning": {"prompt": prompt}})
    resolved = resolve_recipe(asked, folders)
    assert resolved.config.class_names == ("umbrella",)
    with pytest.raises(RecipeError, match=r"conditioning.prompt"):
        resolve_recipe(Recipe.model_validate(content), folders)
    long = {"template": "a {class}" + "," * 300}
    with pytest.raises(RecipeError, match="at most 256"):
        resolve_recipe(Recipe.model_validate(content | {"conditioning": {"prompt": long}}), folders)


def test_it_is_offered_to_no_model_recipe_and_no_half_precision(
    model: Model, tmp_path: Path
) -> None:
    assert load_model(model.path).config.class_names == ()
    recipe = (recipes_dir() / "models" / "digits-edm.yaml").read_text()
    asked = recipe.replace("generator: edm", "generator: text-edm").encode()
    with pytest.raises(RecipeError, match=r"text-edm.: expected one of cgan, .*, vae"):
        parse_model_recipe(asked, source="words.yaml")
    with pytest.raises(InputError, match="need prompts"):
        write_half(model, tmp_path / "half")


def test_the_shipped_model_draws_what_words_say() -> None:
    """Of one seed, so that the words alone differ. Figures: docs/text-to-image.md."""
    shipped = load_model(shipped_models_dir() / "fashion-text-edm")
    assert shipped.weights is not None
    assert shipped.weights.stat().st_size < 10e6
    options = TextEdmOptions(num_inference_steps=8)
    loaded = SPEC.load(shipped.config, shipped.weights, options, batch_size=4)
    assert isinstance(loaded, TextEdmSampler)
    texts = ("a dark wide bag", "a light wide bag", "a narrow trouser", "a sneaker")
    dark, light, trouser, sneaker = drawn(loaded, *map(told, texts))[..., 0]
    assert light[light > 25].mean() > dark[dark > 25].mean() + 60
    # What stands is drawn tall, what lies is drawn flat.
    assert (trouser > 25).any(1).sum() > 1.5 * (trouser > 25).any(0).sum()
    assert (sneaker > 25).any(0).sum() > 1.5 * (sneaker > 25).any(1).sum()
