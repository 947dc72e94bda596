"""Where all of it comes from, and what must not be concluded. Called by render.py."""

from __future__ import annotations

from collections.abc import Mapping

from datagen.evaluation.report.components import (
    Section,
    bullets,
    details,
    facts,
    name,
)
from datagen.evaluation.report.markup import Child, clean, join, tag
from datagen.evaluation.report.numbers import (
    DASH,
    count,
    figure,
)
from datagen.evaluation.results import (
    Evaluation,
)


def provenance_section(evaluation: Evaluation) -> Section:
    subject = evaluation.subject
    given: Mapping[str, str] = subject.provenance
    height, width = subject.image_size
    real = f"{count(subject.num_train)} training, {count(subject.num_held_out)} held out"
    colour = "grey" if subject.channels == 1 else "colour"
    own: list[tuple[str, Child]] = [
        ("data set", name(subject.name)),
        ("version", DASH if subject.version is None else str(subject.version)),
        ("digest", tag("code", None, clean(subject.digest))),
        ("images", f"{count(subject.num_images)} of {width} × {height} px, {colour}"),
        ("reference", name(subject.reference)),
        ("real images", real),
        ("seed", str(subject.seed)),
        ("run", "quick" if subject.quick else "full"),
    ]
    own += [(clean(key, limit=80), clean(text)) for key, text in given.items()]
    timing = [(clean(key, limit=80), f"{figure(s)} s") for key, s in evaluation.seconds.items()]
    parts: list[Child] = [facts(own)]
    if timing:
        parts.append(details("Time taken", facts(timing)))
    if subject.notes:
        parts += [
            tag("h3", None, "What was changed or left out on the way"),
            bullets(subject.notes),
        ]
    return Section("provenance", "Provenance", join(parts))


def limits_section(evaluation: Evaluation) -> Section:
    """What a reader must not conclude."""
    subject, items = evaluation.subject, list[Child]()
    if subject.performance_claims:
        items.append(join([tag("strong", None, "Use: "), subject.performance_claims]))
    items += subject.limits
    if not items:
        items.append("None were declared; those of every measurement on a sample remain.")
    return Section("limits", "Limits", bullets(items))
