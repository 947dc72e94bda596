"""Pipelines of a model hub: pinned to a commit, from this machine's cache or fetched where allowed.

Torch-free; huggingface_hub is imported late. Called by files.py and registration.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from datagen.errors import ModelError

# Of what is fetched: weights, configurations, vocabularies and the card. No pickle, no code.
PATTERNS = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "README.md")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_NAME = re.compile(r"[A-Za-z0-9][\w./-]{0,200}")


def is_hub_id(source: str) -> bool:
    """owner/name; whether there is such a folder is another question."""
    return _HUB_ID.fullmatch(source) is not None


def open_snapshot(repository: str, revision: str, *, allow_network: bool) -> tuple[Path, Path]:
    """The snapshot's folder, and the one that links in it may point into.

    revision: a full commit id. Raises ModelError if it is not in the cache and may not be, or
    cannot be, fetched.
    """
    _check_id(repository)
    if _COMMIT.fullmatch(revision) is None:
        raise ModelError(
            f"{repository}: revision {revision[:100]!r}: expected a full commit id of 40 hex "
            "digits, since a branch or tag may point elsewhere tomorrow; `datagen models "
            "add-pipeline` pins one where there is a network"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    patterns = list(PATTERNS)
    try:
        found = snapshot_download(
            repository, revision=revision, local_files_only=True, allow_patterns=patterns
        )
    except LocalEntryNotFoundError:
        if not allow_network:
            shown = " ".join(f"'{each}'" for each in PATTERNS)
            raise ModelError(
                f"{repository} at revision {revision} is not whole in this machine's cache, and "
                f"nothing is fetched here; run: hf download {repository} --revision {revision} "
                f"--include {shown}"
            ) from None
        with _told_of(repository, revision):
            found = snapshot_download(repository, revision=revision, allow_patterns=patterns)
    snapshot = Path(found)
    return snapshot, snapshot.parent.parent.resolve()


def pin_revision(repository: str, revision: str | None, *, allow_network: bool) -> str:
    """The full commit id of a branch or tag, as the hub has it now; None stands for main.

    Raises ModelError if it may not, or cannot, be asked.
    """
    _check_id(repository)
    if revision is not None and _COMMIT.fullmatch(revision):
        return revision
    name = revision or "main"
    if _NAME.fullmatch(name) is None:
        raise ModelError(f"{repository}: revision {name[:100]!r} is no commit, branch or tag")
    if not allow_network:
        raise ModelError(
            f"{repository}: revision {name!r} is a branch or tag, which the hub alone can tell the "
            "commit of; give the full commit id of 40 hex digits"
        )
    from huggingface_hub import HfApi

    with _told_of(repository, name):
        commit = HfApi().model_info(repository, revision=name).sha
    if commit is None or _COMMIT.fullmatch(commit) is None:
        raise ModelError(f"{repository}: the hub names no commit of {name!r}; give its id")
    return commit


def _check_id(repository: str) -> None:
    if not is_hub_id(repository):
        raise ModelError(
            f"source {repository[:200]!r}: expected a hub id such as owner/name, since a revision "
            "is given; leave that out for a folder"
        )


@contextmanager
def _told_of(repository: str, revision: str) -> Iterator[None]:
    """The hub's errors, in words."""
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except GatedRepoError:
        problem = (
            "is gated: accept its terms on the hub, and log in on this machine with `hf auth login`"
        )
    except RepositoryNotFoundError:
        problem = "does not exist on the hub, or is private; check its name, or log in"
    except RevisionNotFoundError:
        problem = "is not there; check the revision"
    except LocalEntryNotFoundError:
        problem = (
            "is not in this machine's cache and the hub cannot be reached; copy the pipeline to a "
            "folder and give that, or try again with a network"
        )
    except Exception as error:  # an HTTP library's own: its version decides which
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        problem = f"could not be fetched ({reason}); copy the pipeline to a folder and give that"
    else:
        return
    raise ModelError(f"{repository} at revision {revision}: {problem}")
