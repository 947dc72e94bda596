"""Models of a home, kept once."""

from __future__ import annotations

from pathlib import Path

from datagen.generators.model_directory import Model, change_facts
from datagen.generators.model_facts import SourceFact
from datagen.home_models import keep_if_new
from tests.generators.tiny_models import TINY, save_random_model
from tests.test_sources import trained_on


def write(folder: Path, *, use: str) -> Model:
    fact = SourceFact(name="wards", version=1, licence="MIT", permitted_use=use)
    model = save_random_model(folder, TINY["noise"])
    (folder / "README.md").write_text(f"for {use}")
    return change_facts(model, training=trained_on(fact))


def test_the_same_weights_under_new_terms_have_these(tmp_path: Path) -> None:
    first, _ = keep_if_new(write(tmp_path / "tiny", use="all"), tmp_path)
    change_facts(first, deprecated="too small")
    kept, is_new = keep_if_new(write(tmp_path / "tiny@2", use="research"), tmp_path)
    assert (kept.name, kept.digest, is_new) == ("tiny", first.digest, False)
    assert kept.facts.training is not None
    assert [fact.permitted_use for fact in kept.facts.training.sources] == ["research"]
    assert kept.facts.deprecated == "too small"
    assert (tmp_path / "tiny" / "README.md").read_text() == "for research"
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_other_weights_are_the_next_version(tmp_path: Path) -> None:
    write(tmp_path / "tiny", use="all")
    other = save_random_model(tmp_path / "tiny@2", TINY["cgan"])
    assert keep_if_new(other, tmp_path) == (other, True)
