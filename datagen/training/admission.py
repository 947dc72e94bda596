"""Which images may train: real ones, and synthetic ones only where the recipe says so.

What is known of registered sources comes from datagen/sources.py, which is passed in where there is
a catalog. Called by session.py.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

from datagen.errors import InputError
from datagen.faults import plural
from datagen.generators.model_directory import Model
from datagen.generators.model_facts import SourceFact
from datagen.real_images.reading import Reading
from datagen.training.model_recipe import DataSource


@dataclass(frozen=True)
class Admission:
    """sources: what the images are registered as. depth: of generation: 0 if all of them are real,
    else 1 + the depth of the models that made some of them."""

    sources: tuple[SourceFact, ...] = ()
    depth: int = 0

    def after(self, parent: Model | None) -> Admission:
        """With what the model was trained on that the weights begin from. In another home a label
        may be of other images; private models tell no digest."""
        training = None if parent is None else parent.facts.training
        if training is None:
            return self
        own = {(fact.label, digest) for fact in self.sources for digest in (fact.sha256, None)}
        inherited = tuple(fact for fact in training.sources if (fact.label, fact.sha256) not in own)
        return replace(
            self,
            sources=(*self.sources, *inherited),
            depth=max(self.depth, training.generation_depth),
        )


# Called with the images before they train. Raises InputError or RevokedError if they may not.
Admit = Callable[[DataSource, Reading], Admission]


def admit_unregistered(source: DataSource, reading: Reading) -> Admission:
    """Where nothing is registered: by what the files say of themselves alone."""
    refuse_synthetic(source, reading, reading.marks)
    return Admission(depth=1 if reading.marks else 0)


def refuse_synthetic(source: DataSource, reading: Reading, names: Collection[str]) -> None:
    """names: of the synthetic images among those read. Raises InputError unless there are none, or
    the recipe allows them."""
    if not names or source.allow_synthetic:
        return
    first = next(name for name in reading.images.names if name in names)
    raise InputError(
        f"data {Path(source.place)}: {plural(len(names), 'image')} of {len(reading.images):,} "
        f"{'is' if len(names) == 1 else 'are'} synthetic, the first of them {first}: models that "
        "are trained on the images of models lose what is rare; take them out, or say "
        "data.allow_synthetic: true"
    )
