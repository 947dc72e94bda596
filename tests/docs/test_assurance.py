"""docs/assurance.md points at fields, sections and files: they exist."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from datagen.evaluation.report.render import render_report
from datagen.evaluation.results import Fidelity
from datagen.manifest import Manifest
from tests.evaluation.report.sample import evaluation, pictures

DOCS = Path(__file__).resolve().parents[2] / "docs"
TEXT = (DOCS / "assurance.md").read_text()
ROOTS = ("utility", "privacy", "subject")


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(evaluation().to_json()))
    return found


def test_every_field_of_the_evaluation_exists(content: dict[str, Any]) -> None:
    paths = re.findall(rf"`((?:{'|'.join(ROOTS)})\.[a-z_.\[\]]+)`", TEXT)
    assert len(paths) > 15
    for path in paths:
        value: Any = content
        for name in path.replace("[]", ".0").split("."):
            value = value[int(name)] if name == "0" else value[name]


def test_every_measure_exists(content: dict[str, Any]) -> None:
    measures = [*Fidelity.NAMES, "near_copies", "label_agreement", "fairness", "funnel"]
    for name in measures:
        assert f"`{name}`" in TEXT
        assert name in content
    assert "`suspects`" in TEXT
    assert "suspects" in content["label_agreement"]


def test_every_field_of_the_manifest_exists() -> None:
    known = {field.name for field in fields(Manifest)} | {"field"}
    named = re.findall(r"manifest ((?:`[a-z_]+`(?:, )?)+)", TEXT)
    assert {name for names in named for name in re.findall(r"`(\w+)`", names)} <= known


def test_every_section_of_the_report_exists() -> None:
    """A title may be cut where the table needs room: the report's begins so."""
    page = render_report(evaluation(), pictures(per_class=2))
    titles = re.findall(r"<h2[^>]*>\s*(?:<[^>]+>)?([^<]+)", page)
    named = set(re.findall(r"report \*([A-Z][a-z ]+)\*", TEXT))
    assert {"Fairness", "Limits", "Gallery", "Copy pairs"} <= named
    for name in named:
        assert any(title.strip().startswith(name) for title in titles), (name, titles)


def test_every_document_that_it_links_to_exists() -> None:
    links = re.findall(r"\]\(([a-z_]+\.md)\)", TEXT)
    assert links
    assert [link for link in links if not (DOCS / link).exists()] == []
