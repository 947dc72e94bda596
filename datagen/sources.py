"""Sources: sets of real images, registered before they train anything, with the terms they came
under. The images stay where they are; the catalog keeps their digest.

Called by `datagen sources`, the API and whoever trains (Registrar). What was derived from a source,
and its withdrawal, are in withdrawal.py.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from datagen.catalog.catalog import Catalog
from datagen.catalog.sources import (
    NewSource,
    Source,
    Terms,
    get_source,
    insert_source,
    list_sources,
    record_use,
    today,
)
from datagen.catalog.tombstones import (
    MODEL,
    SOURCE,
    Ref,
    check_model,
    commit_revoked,
    get_tombstone,
)
from datagen.errors import ConflictError, InputError, NotFoundError, RevokedError
from datagen.generators.model_directory import Model, SourceFact
from datagen.real_images.opening import open_source
from datagen.real_images.reading import Reading, content_digest
from datagen.recipe import suggest
from datagen.settings import Settings
from datagen.synthetic_images import find_synthetic
from datagen.training.admission import Admission, refuse_synthetic
from datagen.training.dataset import read_training_images, real_images
from datagen.training.model_recipe import DataSource
from datagen.training.remote_images import local_images, s3_address

NOT_STATED = "not stated"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_LABEL = re.compile(r"(?P<name>[a-z0-9][a-z0-9-]{0,62})(?:@(?P<version>[1-9][0-9]{0,8}))?")
_MAX_CHARS = {
    "licence": 200,
    "description": 1000,
    "permitted_use": 500,
    "consent": 500,
    "contact": 200,
}
_MAX_USES, _MAX_USE_CHARS = 32, 63
_PAGE = 200
_SIDE_PX = 32


def find_source(catalog: Catalog, text: str) -> Source:
    """text: NAME for its newest version, or NAME@VERSION. Raises InputError or NotFoundError."""
    name, version = parse_source(text)
    found = get_source(catalog, name, version)
    if found is None:
        known = sorted({source.name for source in each_source(catalog)})
        if name in known:
            raise NotFoundError(f"source {name} has no version {version}")
        raise NotFoundError(
            f"source {name!r} is not registered{suggest(name, known)}; `datagen sources ls` lists "
            "what is, `datagen sources register` adds images"
        )
    return found


def parse_source(text: str) -> tuple[str, int | None]:
    match = _LABEL.fullmatch(text)
    if match is None:
        raise InputError(f"source {text[:80]!r}: expected NAME or NAME@VERSION, such as wards@2")
    return match["name"], int(match["version"]) if match["version"] else None


def each_source(catalog: Catalog) -> Iterator[Source]:
    """By name and version."""
    after: tuple[str, int] | None = None
    while page := list_sources(catalog, after=after, limit=_PAGE):
        yield from page
        after = page[-1].name, page[-1].version


def check_terms(terms: Terms) -> Terms:
    """Raises InputError naming the field."""
    for field, limit in _MAX_CHARS.items():
        text = getattr(terms, field)
        if not text.strip() or len(text) > limit or not text.isprintable():
            raise InputError(f"{field} {text[:80]!r}: expected a line of 1 to {limit} characters")
    if len(terms.permitted_uses) > _MAX_USES:
        raise InputError(f"permitted_uses: expected at most {_MAX_USES} names")
    for use in terms.permitted_uses:
        if not use.strip() or len(use) > _MAX_USE_CHARS or not use.isprintable():
            raise InputError(
                f"permitted_uses {use[:80]!r}: expected names of 1 to {_MAX_USE_CHARS} characters, "
                "such as research"
            )
    if terms.expires_on is not None:
        try:
            is_date = datetime.date.fromisoformat(terms.expires_on).isoformat() == terms.expires_on
        except ValueError:
            is_date = False
        if not is_date:
            raise InputError(f"expires_on {terms.expires_on!r}: expected a date, as 2027-01-31")
    return terms


def register(catalog: Catalog, new: NewSource) -> tuple[Source, bool]:
    """And whether it is new: the same images under the same terms are there already. Other images,
    or other terms, are the next version of the name.

    Raises InputError, ConflictError if the images have another name, RevokedError if they were
    withdrawn.
    """
    check_terms(new.terms)
    if not _NAME.fullmatch(new.name):
        raise InputError(
            f"source name {new.name[:80]!r}: expected 1 to 63 lower-case letters, digits and '-', "
            "the first not '-'"
        )
    known = sorted(_same_images(catalog, new.class_digests), key=lambda source: source.created_at)
    _refuse_withdrawn(known, new.digest)
    equal = [source for source in known if source.digest == new.digest]
    if equal and equal[-1].name != new.name:
        raise ConflictError(
            f"these images are registered as {equal[-1].label}, and images have one name: "
            f"register them as {equal[-1].name}, for other terms too"
        )
    if equal and (equal[-1].terms, equal[-1].location) == (new.terms, new.location):
        return equal[-1], False
    return insert_source(catalog, new), True


def register_images(
    catalog: Catalog,
    settings: Settings,
    data: DataSource,
    *,
    name: str,
    terms: Terms,
    profile: str | None = None,
    created_by: str | None = None,
    max_images: int | None = None,
    max_bytes: int | None = None,
) -> tuple[Source, bool]:
    """Reads the images of data.path, a folder, a file or s3://bucket/prefix, and registers them.

    profile: of the AWS configuration, that may read them. max_images, max_bytes: what is read at
    most, and copied from S3. Raises as read_training_images and
    register do, and InputError for synthetic images that data does not allow.
    """
    check_terms(terms)
    place = local_images(
        data.place,
        folder=settings.home / "training",
        endpoint_url=settings.s3_endpoint_url,
        profile=profile,
        max_bytes=max_bytes,
    )
    with place as images:
        if max_images is not None:
            _check_number(images, data, max_images)
        # Small, whatever their size: digests are of the pixels as they lie in the files.
        small = data.model_copy(update={"path": images, "image_size": _SIDE_PX})
        reading = read_training_images(small)
        synthetic = find_synthetic(catalog, settings, images, reading)
        refuse_synthetic(data, reading, synthetic.names)
    digests = reading.class_digests()
    new = NewSource(
        name=name,
        digest=content_digest(digests),
        class_digests=digests,
        num_images=len(reading.images),
        depth=synthetic.depth,
        terms=terms,
        location=_location(data.place),
        format=data.format,
        profile=profile,
        created_by=created_by,
    )
    return register(catalog, new)


def _check_number(images: Path, data: DataSource, most: int) -> None:
    """Before a pixel is read. Raises InputError."""
    source = open_source(images, kind=None if data.format == "auto" else data.format)
    num = len(source.list(source.part(None, images)).entries)
    if num > most:
        raise InputError(
            f"data {data.place}: {num:,} images; expected at most {most:,} here: register them by "
            "`datagen sources register`, or by training on them"
        )


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

    @property
    def profile(self) -> str | None:
        """Of the AWS configuration, to read the located images with."""
        return None if self._wanted is None else self._wanted.profile

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
        self._location = _location(data.place)
        return data

    def admit(self, data: DataSource, reading: Reading) -> Admission:
        """Raises InputError if the images are not those registered, or synthetic and not allowed;
        RevokedError if they, or some class of them, were withdrawn."""
        synthetic = find_synthetic(self._catalog, self._settings, data.place, reading)
        refuse_synthetic(data, reading, synthetic.names)
        self._data_sha256 = real_images(reading).digest()
        digests = reading.class_digests()
        known = _same_images(self._catalog, digests)
        _refuse_withdrawn(known, content_digest(digests))
        self._refuse_revoked(data, (self._data_sha256, content_digest(digests)))
        if self._wanted is not None:
            _check_unchanged(self._wanted, digests, data)
            source = self._wanted
        else:
            source = self._found(data, reading, known, synthetic.depth)
        check_trainable(self._catalog, source)
        depth = max(synthetic.depth, source.depth)
        return Admission((source_fact(source),), depth)

    def check_parent(self, parent: Model) -> None:
        """Of a model to start from. Raises RevokedError if it, or what it comes from, was."""
        training = parent.facts.training
        sources = () if training is None else training.sources
        check_model(
            self._catalog,
            name=parent.name,
            digest=parent.digest,
            data_sha256=None if training is None else training.data_sha256,
            sources=[fact.sha256 for fact in sources if fact.sha256],
            parent=parent.facts.parent,
        )

    def record(self, model: Model) -> None:
        """That the model was trained on its sources, inherited ones too.

        Raises RevokedError if one of them was withdrawn meanwhile: the model is revoked then.
        """
        training = model.facts.training
        assert training is not None
        for fact in training.sources:
            record_use(
                self._catalog,
                source_name=fact.name,
                source_version=fact.version,
                model_name=model.name,
                model_digest=model.digest,
                data_sha256=self._data_sha256,
            )
        for fact in training.sources:
            source = get_source(self._catalog, fact.name, fact.version)
            if source is not None and source.withdrawn_at is not None:
                self._revoke(model, source)

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
                location=self._location,
                format=data.format,
                profile=None,
                created_by=self._created_by,
            ),
        )


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


def check_trainable(catalog: Catalog, source: Source) -> None:
    """Raises RevokedError if it was withdrawn, InputError if it expired."""
    if source.withdrawn_at is not None:
        raise RevokedError(
            f"source {source.label} was withdrawn: {source.withdrawn_reason}; nothing may be "
            "trained on it"
        )
    expires_on = source.terms.expires_on
    if expires_on is not None and today(catalog) > expires_on:
        raise InputError(
            f"source {source.label} expired on {expires_on}: nothing may be trained on it any "
            f"more; if its terms were prolonged ({source.terms.contact}), register the images "
            "again with the new date"
        )


def source_fact(source: Source) -> SourceFact:
    """What a model's card says of it."""
    stated = source.terms.permitted_use != NOT_STATED
    return SourceFact(
        name=source.name,
        version=source.version,
        sha256=source.digest,
        licence=source.terms.licence,
        permitted_use=source.terms.permitted_use if stated else "",
        permitted_uses=source.terms.permitted_uses,
        depth=source.depth,
    )


def _same_images(catalog: Catalog, class_digests: Collection[str]) -> list[Source]:
    """Sources that share a whole class of images, at least."""
    wanted = set(class_digests)
    return [each for each in each_source(catalog) if not wanted.isdisjoint(each.class_digests)]


def _refuse_withdrawn(known: Collection[Source], digest: str) -> None:
    for source in known:
        if source.withdrawn_at is not None:
            what = "these images are" if source.digest == digest else "some of these images are"
            raise RevokedError(
                f"{what} of source {source.label}, which was withdrawn: {source.withdrawn_reason}; "
                "nothing may be trained on them"
            )


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


def _location(path: Path) -> str:
    return s3_address(path) or str(path.absolute())


def _slug(text: str) -> str:
    """Fashion-MNIST (Zalando Research) => fashion-mnist; empty if nothing is left."""
    lead = re.split(r"[(,;:]", text, maxsplit=1)[0]
    return re.sub(r"[^a-z0-9]+", "-", lead.lower()).strip("-")[:63].strip("-")
