"""What stands between a training and the sources of its images: located, admitted, recorded.

Called by whoever trains: `datagen train`, and the service's workers.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from pathlib import Path

from datagen.catalog.catalog import Catalog
from datagen.catalog.sources import (
    NewSource,
    Source,
    Terms,
    get_source,
    insert_source,
    record_use,
    sources_of_digests,
)
from datagen.catalog.tombstones import (
    MODEL,
    SOURCE,
    Ref,
    commit_revoked,
    get_tombstone,
)
from datagen.errors import InputError, RevokedError
from datagen.generators.model_directory import Model
from datagen.generators.model_facts import SourceFact
from datagen.real_images.reading import Reading, content_digest
from datagen.registry import check_usable
from datagen.settings import Settings
from datagen.sources import (
    NOT_STATED,
    check_trainable,
    find_source,
    location_of,
    refuse_withdrawn,
    same_images,
    source_fact,
)
from datagen.synthetic_images import find_synthetic
from datagen.training.admission import Admission, refuse_synthetic
from datagen.training.dataset import real_images
from datagen.training.model_recipe import DataSource
from datagen.training.remote_images import s3_address


class Registrar:
    """Sees to it that one training uses a registered source, and that it is known for ever.

    In this order: locate, before the images are fetched; admit, with the images (an
    admission.Admit); record, with the model. catalog: the tenant's. recipe_name: for images that
    nobody registered, and whose source makes no name.
    """

    def __init__(
        self, catalog: Catalog, settings: Settings, *, recipe_name: str, created_by: str | None
    ) -> None:
        self._catalog = catalog
        self._settings = settings
        self._recipe_name = recipe_name
        self._created_by = created_by
        self._wanted: Source | None = None
        self._location = ""
        self._data_sha256 = ""
        self._own: tuple[Source, ...] = ()

    @property
    def profile(self) -> str | None:
        """Of the AWS configuration, to read the located images with: of where they were registered
        alone."""
        wanted = self._wanted
        return wanted.profile if wanted and wanted.location == self._location else None

    @property
    def has_admitted(self) -> bool:
        """Of several processes that train together, the first one alone has."""
        return bool(self._data_sha256)

    def locate(self, data: DataSource) -> DataSource:
        """With path, licence and source as they were registered; as it is if it names none.

        Raises NotFoundError, RevokedError for a withdrawn source, InputError for an expired one.
        """
        if data.registered is not None:
            self._wanted = find_source(self._catalog, data.registered)
            check_trainable(self._catalog, self._wanted)
            data = _as_registered(data, self._wanted)
        self._location = location_of(data.place)
        return data

    def admit(self, data: DataSource, reading: Reading) -> Admission:
        """Raises InputError if the images are not those registered, or synthetic and not allowed;
        RevokedError if they, or some class of them, were withdrawn."""
        synthetic = find_synthetic(self._catalog, self._settings, data.place, reading)
        refuse_synthetic(data, reading, synthetic.names)
        self._data_sha256 = real_images(reading).digest()
        digests = reading.class_digests()
        known = same_images(self._catalog, digests)
        refuse_withdrawn(known, content_digest(digests))
        self._refuse_revoked(data, (self._data_sha256, content_digest(digests)))
        if self._wanted is not None:
            _check_unchanged(self._wanted, digests, data)
            source = self._wanted
        else:
            source = self._found(data, reading, known, synthetic.depth)
        check_trainable(self._catalog, source)
        self._own = _one_a_digest((source, *known))
        depth = max(synthetic.depth, source.depth)
        return Admission((source_fact(source),), depth)

    def check_parent(self, parent: Model) -> None:
        """Of a model to start from. Raises RevokedError if it, or what it comes from, was."""
        check_usable(self._catalog, parent)

    def record(self, model: Model) -> None:
        """That the model was trained on its sources: the admitted one, every other that shares a
        class of images with it, and inherited ones.

        Raises RevokedError if one of them was withdrawn meanwhile: the model is revoked then.
        """
        training = model.facts.training
        assert training is not None
        used = {source.label: (source, self._data_sha256) for source in self._own}
        for fact in training.sources:
            # The images that this training read are none of an inherited source.
            if (source := self._inherited(fact)) is not None:
                used.setdefault(source.label, (source, ""))
        for source, data_sha256 in used.values():
            record_use(
                self._catalog,
                source_name=source.name,
                source_version=source.version,
                model_name=model.name,
                model_digest=model.digest,
                data_sha256=data_sha256,
            )
        for source, _ in used.values():
            now = get_source(self._catalog, source.name, source.version)
            if now is not None and now.withdrawn_at is not None:
                self._revoke(model, now)

    def _location_as_read(self, data: DataSource) -> str:
        """The path of a recipe is below a folder of the service; images of S3 lie in a copy."""
        is_s3 = s3_address(Path(self._location)) is not None
        return self._location if is_s3 else location_of(data.place)

    def _inherited(self, fact: SourceFact) -> Source | None:
        """The source here of a model's fact: in another home its label may be of other images.
        What is not registered here is found by the fact's digest, in the model's config."""
        if fact.sha256 is None:  # of a private model
            return get_source(self._catalog, fact.name, fact.version)
        found = sources_of_digests(self._catalog, {fact.sha256})
        return max(found, key=lambda each: each.label == fact.label, default=None)

    def _refuse_revoked(self, data: DataSource, digests: Collection[str]) -> None:
        for digest in digests:
            revoked = get_tombstone(self._catalog, SOURCE, digest)
            if revoked is not None:
                raise RevokedError(
                    f"data {data.place}: these images were revoked: {revoked.reason}; nothing may "
                    "be trained on them"
                )

    def _revoke(self, model: Model, source: Source) -> None:
        """By its digest: the name may be another version's."""
        reason = f"{source.withdrawn_reason} (trained on source {source.label})"
        ref = Ref(f"{model.name} {model.digest[:16]}", model.digest)
        commit_revoked(
            self._catalog,
            ref,
            kind=MODEL,
            models_found=[ref],
            version=None,
            reason=reason,
            actor=self._created_by or "datagen",
        )
        raise RevokedError(
            f"source {source.label} was withdrawn while {model.name} was trained on it: "
            f"{source.withdrawn_reason}; the model is revoked (digest {model.digest})"
        )

    def _found(
        self, data: DataSource, reading: Reading, known: Collection[Source], depth: int
    ) -> Source:
        """What the images are registered as, whoever did; else they are registered now."""
        digests = reading.class_digests()
        holding = [source for source in known if set(digests) <= set(source.class_digests)]
        if holding:
            exact = [source for source in holding if source.digest == content_digest(digests)]
            return max(exact or holding, key=lambda source: source.created_at)
        terms = Terms(
            licence=data.licence,
            description=data.source,
            permitted_use=NOT_STATED,
            permitted_uses=(),
            consent=NOT_STATED,
            contact=NOT_STATED,
            expires_on=None,
        )
        return insert_source(
            self._catalog,
            NewSource(
                name=_slug(data.source) or self._recipe_name,
                digest=content_digest(digests),
                class_digests=digests,
                num_images=len(reading.images),
                depth=depth,
                terms=terms,
                location=self._location_as_read(data),
                format=data.format,
                profile=None,
                created_by=self._created_by,
            ),
        )


def _one_a_digest(found: Iterable[Source]) -> tuple[Source, ...]:
    """The first of each: one use stands for the same images under all terms."""
    by_digest: dict[str, Source] = {}
    for source in found:
        by_digest.setdefault(source.digest, source)
    return tuple(by_digest.values())


def _as_registered(data: DataSource, source: Source) -> DataSource:
    """data.path, if it is given, is where the images lie now."""
    update: dict[str, object] = {
        "licence": source.terms.licence,
        "source": source.terms.description,
    }
    if data.path is None:
        update["path"] = Path(source.location)
        if data.format == "auto":
            update["format"] = source.format
    return data.model_copy(update=update)


def _check_unchanged(source: Source, class_digests: Collection[str], data: DataSource) -> None:
    """A recipe may leave out classes, by data.class_names."""
    digests, registered = set(class_digests), set(source.class_digests)
    if digests == registered or (data.class_names and digests <= registered):
        return
    raise InputError(
        f"data {data.place}: these are not the images that were registered as {source.label}: "
        f"digest {content_digest(tuple(class_digests))[:12]}, expected {source.digest[:12]}; put "
        "them back, or register them as the next version"
    )


def _slug(text: str) -> str:
    """Fashion-MNIST (Zalando Research) => fashion-mnist; empty if nothing is left."""
    lead = re.split(r"[(,;:]", text, maxsplit=1)[0]
    return re.sub(r"[^a-z0-9]+", "-", lead.lower()).strip("-")[:63].strip("-")
