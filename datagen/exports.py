"""A version in another layout, as a tar that is attached to it: {layout}.tar, or several where it
is large.

It unpacks into what `datagen pull --format` writes. Called by the finish stage for what a recipe
asks for in `output.formats`, and by `datagen export` for a version that is there already. Equal
versions give equal bytes: nothing in them tells when, where or by whom they were made.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from datagen.attachments import EXPORT, attach_file
from datagen.catalog.attachments import AttachmentRow
from datagen.catalog.catalog import Catalog
from datagen.catalog.rows import Job, VersionRow
from datagen.errors import InputError, StoreError, StoreFullError
from datagen.faults import suggest
from datagen.folder_tar import move_into_tars
from datagen.formats import FORMATS
from datagen.formats.staging import staged_folder
from datagen.formats.version import VersionReader
from datagen.settings import Settings
from datagen.store import Store

# What the shards are already.
STORED = "webdataset"
# Of one tar: below what S3 takes in one request, 5 GiB.
MAX_TAR_BYTES = 2**32

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def check_layout(name: str) -> None:
    """Raises InputError unless an export can be made of it."""
    known = [each for each in FORMATS if each != STORED]
    if name == STORED:
        raise InputError(
            f"format {STORED!r}: the shards of every version are that already, `datagen pull` "
            f"writes them; expected {', '.join(known)}"
        )
    if name not in FORMATS:
        raise InputError(f"format {name!r}: expected {', '.join(known)}{suggest(name, known)}")


def attach_export(
    catalog: Catalog,
    store: Store,
    to: VersionRow | Job,
    reader: VersionReader,
    layout: str,
    settings: Settings,
    *,
    check_abort: Callable[[], None] = lambda: None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> list[AttachmentRow]:
    """Several rows where one tar would be too large; num_images of each is that of them all.

    Made in a hidden folder beside `{home}/exports`, which takes the room of the images about
    twice; memory does not grow with them. check_abort: called between batches and files.
    on_progress: called with the number of images done.

    Raises InputError if the version does not fit the layout, VerifyError if its shards are damaged,
    StoreFullError if the home or the store has no room, and what attach_file raises.
    """
    check_layout(layout)
    started = time.monotonic()
    with _full_told(), staged_folder(settings.home / "exports") as place:
        folder = place / "files"
        for done in FORMATS[layout](reader, folder):
            check_abort()
            on_progress(done)
        tars = move_into_tars(
            folder, place / layout, max_bytes=MAX_TAR_BYTES, check_abort=check_abort
        )
        folder.rmdir()
        seconds = time.monotonic() - started
        summary = {"format": layout, "num_images": reader.manifest.num_samples}
        found = []
        for path in tars:
            check_abort()
            found.append(
                attach_file(
                    catalog,
                    store,
                    to,
                    kind=EXPORT,
                    path=path,
                    summary=summary,
                    seconds=seconds,
                )
            )
            path.unlink()
    # `exports` is left empty: the next one takes its place.
    return found


@contextmanager
def _full_told() -> Iterator[None]:
    """A full disk under the home is a passing fault, as a full store is."""
    try:
        yield
    except StoreError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno in _FULL:
            raise StoreFullError(str(error)) from error
        raise
