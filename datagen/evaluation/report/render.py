"""render_report: an evaluation and its pictures become one page that needs nothing else.

Called by the commands and by stages that attach a report to a version. The page makes no network
request (its policy forbids any), prints, and stays below MAX_BYTES: text and tables are bounded,
and the images take what is left.
"""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files

from datagen.evaluation.report.components import Section
from datagen.evaluation.report.embedded_json import evaluation_script, json_script
from datagen.evaluation.report.gallery import gallery_section, suspects_block
from datagen.evaluation.report.markup import Markup, clean, join, ready, tag
from datagen.evaluation.report.numbers import count, plural
from datagen.evaluation.report.pairs import pairs_section
from datagen.evaluation.report.pictures import Pictures
from datagen.evaluation.report.sections.fairness import fairness_section
from datagen.evaluation.report.sections.fidelity import fidelity_section
from datagen.evaluation.report.sections.funnel import funnel_section
from datagen.evaluation.report.sections.learning_curve import learning_curve_section
from datagen.evaluation.report.sections.privacy import privacy_section
from datagen.evaluation.report.sections.provenance import limits_section, provenance_section
from datagen.evaluation.report.sections.utility import utility_section
from datagen.evaluation.report.verdict import verdict_section
from datagen.evaluation.results import Evaluation, Subject

MAX_BYTES = 5_000_000
_MAX_JSON_BYTES = 1_000_000
_MAX_PAIR_BYTES = 600_000
# What frames the sections, and the script that names the gallery's data set.
_RESERVE_BYTES = 30_000


def render_report(evaluation: Evaluation, pictures: Pictures) -> str:
    """The page as text; its UTF-8 form is below MAX_BYTES."""
    subject = evaluation.subject
    style, script = (files(__package__).joinpath(n).read_text("utf-8") for n in _ASSETS)
    figures = evaluation_script(evaluation, max_bytes=_MAX_JSON_BYTES)
    pairs = pairs_section(pictures.pairs, max_bytes=_MAX_PAIR_BYTES)
    verdict, rest = verdict_section(evaluation), _later_sections(evaluation)
    suspects = suspects_block(evaluation.label_agreement.suspects)
    texts = [style, script, figures, suspects or "", verdict.to_markup(), pairs.to_markup()]
    used = sum(len(text.encode()) for text in [*texts, *[each.to_markup() for each in rest]])
    left = MAX_BYTES - _RESERVE_BYTES - used
    gallery = gallery_section(pictures.gallery, counts=subject.counts, max_bytes=left)
    shown = Section("gallery", "Gallery", join([gallery.section.content, suspects]))
    sections = [verdict, shown, pairs, *rest]
    scripts = [
        figures,
        json_script("marked", {**_marked(subject), "keys": gallery.keys}),
        tag("script", None, ready(script)),
    ]
    body = tag("body", None, *_body(subject, sections), *scripts)
    page = tag("html", {"lang": "en"}, _head(subject, style, script), body)
    assert len(page.encode()) < MAX_BYTES, len(page.encode())
    return f"<!DOCTYPE html>\n{page}\n"


_ASSETS = ("style.css", "script.js")


def _later_sections(evaluation: Evaluation) -> list[Section]:
    return [
        funnel_section(evaluation.funnel),
        fidelity_section(evaluation.fidelity),
        utility_section(evaluation.utility),
        learning_curve_section(evaluation),
        privacy_section(evaluation.privacy),
        fairness_section(evaluation.fairness),
        provenance_section(evaluation),
        limits_section(evaluation),
    ]


def _marked(subject: Subject) -> dict[str, object]:
    """What marks.json says it is about."""
    return {"dataset": subject.name, "version": subject.version, "digest": subject.digest}


def _head(subject: Subject, style: str, script: str) -> Markup:
    policy = (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src '{_digest(style)}'; script-src '{_digest(script)}'"
    )
    return tag(
        "head",
        None,
        tag("meta", {"charset": "utf-8"}),
        tag("meta", {"http-equiv": "Content-Security-Policy", "content": policy}),
        tag("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        tag("meta", {"name": "referrer", "content": "no-referrer"}),
        tag("meta", {"name": "color-scheme", "content": "light dark"}),
        tag("title", None, f"Evaluation of {_title(subject)}"),
        tag("style", None, ready(style)),
    )


def _digest(source: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()


def _title(subject: Subject) -> str:
    version = "" if subject.version is None else f", version {subject.version}"
    return clean(subject.name, limit=80) + version


def _body(subject: Subject, sections: list[Section]) -> list[Markup]:
    links = [tag("li", None, tag("a", {"href": f"#{each.id}"}, each.title)) for each in sections]
    return [
        tag("a", {"class": "skip", "href": "#main"}, "Skip to the verdict"),
        tag("header", None, tag("h1", None, "Evaluation of ", _title(subject)), _about(subject)),
        tag("nav", {"aria-label": "Contents"}, tag("ul", None, *links)),
        tag("main", {"id": "main"}, *[each.to_markup() for each in sections]),
        tag("footer", None, "Synthetic images. This page is complete: it loads nothing else."),
    ]


def _about(subject: Subject) -> Markup:
    height, width = subject.image_size
    text = (
        f"{plural(subject.num_images, 'synthetic image')} in "
        f"{plural(len(subject.counts), 'class', 'classes')}, {width} × {height} px, against "
        f"{count(subject.num_train)} training and {count(subject.num_held_out)} held-out real "
        f"images of {clean(subject.reference, limit=80)}."
    )
    quick = " A quick run: the intervals are wide." if subject.quick else ""
    return tag("p", {"class": "muted"}, text + quick)
