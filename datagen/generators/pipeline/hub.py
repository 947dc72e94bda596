"""Pipelines of a model hub: pinned to a commit, from this machine's cache or fetched where allowed.

Torch-free; huggingface_hub is imported late. Called by files.py and registration.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from datagen.errors import ModelError

# Of what is fetched: the card, configurations, vocabularies and weights under the names that the
# libraries load, at the top (a ControlNet) and in the folders there (components). No pickle, no
# code, and no checkpoint of all weights in one file.
_FETCHED = re.compile(
    r"README\.md|model_index\.json|config\.json"
    r"|[\w.-]+/[\w.-]+\.(?:json|txt|model|jinja)"
    r"|(?:[\w.-]+/)?(?:diffusion_pytorch_model|model)(?:[.-][\w.-]*)?\.safetensors"
    r"|(?:[\w.-]+/)?(?:diffusion_pytorch_model|model)\.safetensors\.index[\w.]*\.json"
)
_WEIGHTS = re.compile(
    r"(?P<stem>.*?(?:diffusion_pytorch_model|model))(?P<shard>-\d+-of-\d+)?"
    r"\.safetensors(?P<index>\.index\.json)?"
)
_HINTS = ("README.md", "*.json", "*/*.json", "*/*.txt", "*/*.model", "*/*.safetensors")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_NAME = re.compile(r"[A-Za-z0-9][\w./-]{0,200}")
_OUT_OF_REACH = (
    "is not in this machine's cache, and the hub cannot be reached; copy the pipeline to a folder "
    "and give that, or try again with a network"
)


def is_hub_id(source: str) -> bool:
    """owner/name; whether there is such a folder is another question."""
    return _HUB_ID.fullmatch(source) is not None


def find_snapshot(repository: str, revision: str) -> tuple[Path, Path] | None:
    """The snapshot's folder in this machine's cache, whole or not, and the one that links in it may
    point into; None if there is none.

    revision: a full commit id. Raises ModelError if it is not.
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

    try:
        found: str | None = snapshot_download(repository, revision=revision, local_files_only=True)
    except LocalEntryNotFoundError as error:
        # Known to hold a part of the repository: which is all that is fetched of it.
        found = getattr(error, "snapshot_path", None)
    return None if found is None else _with_root(Path(found))


def fetch_snapshot(repository: str, revision: str) -> tuple[Path, Path]:
    """As find_snapshot, after what is missing was fetched. Raises ModelError if it cannot be."""
    from huggingface_hub import HfApi, snapshot_download

    with _told_of(repository, revision):
        names = HfApi().list_repo_files(repository, revision=revision)
        found = snapshot_download(repository, revision=revision, allow_patterns=_wanted(names))
    return _with_root(Path(found))


def not_cached(repository: str, revision: str) -> ModelError:
    """For whoever may not fetch."""
    patterns = " ".join(f"'{each}'" for each in _HINTS)
    return ModelError(
        f"{repository} at revision {revision} is not in this machine's cache, and nothing is "
        f"fetched here; run: hf download {repository} --revision {revision} --include {patterns}"
    )


def _wanted(names: Iterable[str]) -> list[str]:
    """Of a repository's files; of weights in several variants the plain ones."""
    taken = [name for name in names if _FETCHED.fullmatch(name)]
    plain = {match["stem"] for name in taken if (match := _WEIGHTS.fullmatch(name))}
    return [
        name
        for name in taken
        if ".safetensors" not in name
        or _WEIGHTS.fullmatch(name)
        or not any(name.startswith(f"{stem}.") or name.startswith(f"{stem}-") for stem in plain)
    ]


def _with_root(snapshot: Path) -> tuple[Path, Path]:
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
        problem = _OUT_OF_REACH
    except Exception as error:  # an HTTP library's own: its version decides which
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        problem = f"could not be fetched ({reason}); copy the pipeline to a folder and give that"
        if reason.startswith(("Connect", "ReadTimeout", "OfflineMode")):
            problem = _OUT_OF_REACH
    else:
        return
    raise ModelError(f"{repository} at revision {revision}: {problem}")
