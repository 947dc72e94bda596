"""Sources: sets of real images, registered before they train anything, with the terms they came
under. The images stay where they are; the catalog keeps their digest.

Called by `datagen sources`, the API, and registrar.py for whoever trains. What was derived from a
source, and its withdrawal, are in withdrawal.py.
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
    today,
)
from datagen.errors import ConflictError, InputError, NotFoundError, RevokedError
from datagen.generators.model_facts import SourceFact
from datagen.real_images.opening import open_source
from datagen.real_images.reading import content_digest
from datagen.recipe import suggest
from datagen.settings import Settings
from datagen.synthetic_images import find_synthetic
from datagen.training.admission import refuse_synthetic
from datagen.training.dataset import read_training_images
from datagen.training.model_recipe import MAX_LINE_CHARS, DataFormat, DataSource, is_line
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


def images_at(
    location: Path, terms: Terms, *, format: DataFormat, allow_synthetic: bool
) -> DataSource:
    """Images to register under the terms. Raises InputError naming the field."""
    check_terms(terms)
    if not is_line(str(location)):
        raise InputError(
            f"location {str(location)[:80]!r}: expected one line of at most {MAX_LINE_CHARS} "
            "printable characters"
        )
    return DataSource(
        path=location,
        format=format,
        licence=terms.licence,
        source=terms.description,
        allow_synthetic=allow_synthetic,
    )


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
    known = sorted(same_images(catalog, new.class_digests), key=lambda source: source.created_at)
    refuse_withdrawn(known, new.digest)
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
        class_digests, num_images, depth = _read(catalog, settings, data, images)
    new = NewSource(
        name=name,
        digest=content_digest(class_digests),
        class_digests=class_digests,
        num_images=num_images,
        depth=depth,
        terms=terms,
        location=location_of(data.place),
        format=data.format,
        profile=profile,
        created_by=created_by,
    )
    return register(catalog, new)


def _read(
    catalog: Catalog, settings: Settings, data: DataSource, images: Path
) -> tuple[tuple[str, ...], int, int]:
    """Digests of the classes, number of images, depth of generation."""
    # Small, whatever their size: digests are of the pixels as they lie in the files.
    small = data.model_copy(update={"path": images, "image_size": _SIDE_PX})
    reading = read_training_images(small)
    synthetic = find_synthetic(catalog, settings, images, reading)
    refuse_synthetic(data, reading, synthetic.names)
    return reading.class_digests(), len(reading.images), synthetic.depth


def _check_number(images: Path, data: DataSource, most: int) -> None:
    """Before a pixel is read. Raises InputError."""
    source = open_source(images, kind=None if data.format == "auto" else data.format)
    num = len(source.list(source.part(None, images)).entries)
    if num > most:
        raise InputError(
            f"data {data.place}: {num:,} images; expected at most {most:,} here: register them by "
            "`datagen sources register`, or by training on them"
        )


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


def same_images(catalog: Catalog, class_digests: Collection[str]) -> list[Source]:
    """Sources that share a whole class of images, at least."""
    wanted = set(class_digests)
    return [each for each in each_source(catalog) if not wanted.isdisjoint(each.class_digests)]


def refuse_withdrawn(known: Collection[Source], digest: str) -> None:
    for source in known:
        if source.withdrawn_at is not None:
            what = "these images are" if source.digest == digest else "some of these images are"
            raise RevokedError(
                f"{what} of source {source.label}, which was withdrawn: {source.withdrawn_reason}; "
                "nothing may be trained on them"
            )


def location_of(path: Path) -> str:
    return s3_address(path) or str(path.absolute())
