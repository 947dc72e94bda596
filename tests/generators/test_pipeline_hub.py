"""Pipelines of a model hub: its cache on this machine, and a server that speaks as the hub does."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from datagen.errors import ModelError
from datagen.generators.pipeline.files import open_pipeline
from datagen.generators.pipeline.hub import pin_revision
from tests.generators.pipeline_folders import write_json, write_pipeline, write_safetensors

COMMIT = "0123456789abcdef0123456789abcdef01234567"
UNET_WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


@dataclass
class Hub:
    """repository: the folder that it serves as owner/name. fetched: what was asked of it."""

    url: str
    repository: Path
    fetched: list[str] = field(default_factory=list)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def hub(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    found = Hub("", write_pipeline(tmp_path / "served"))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self, found)

        do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", found.url)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        found.url + "/{repo_id}/resolve/{revision}/{filename}",
    )
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


def answer(request: BaseHTTPRequestHandler, hub: Hub) -> None:
    """The four calls of huggingface_hub 2 that a download makes."""
    path = request.path.partition("?")[0]
    files = {
        str(each.relative_to(hub.repository)): each.read_bytes()
        for each in sorted(hub.repository.rglob("*"))
        if each.is_file()
    }
    about, tree, resolve = "/api/models/owner/name/revision/", "/tree/", "/resolve/"
    headers, body, status = {"Content-Type": "application/json"}, b"", 200
    if path.startswith(about):
        siblings = [{"rfilename": name} for name in files]
        body = json.dumps({"id": "owner/name", "sha": COMMIT, "siblings": siblings}).encode()
    elif path.startswith(f"/api/models/owner/name{tree}"):
        rows = [
            {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
            for name, data in files.items()
        ]
        body = json.dumps(rows).encode()
    elif path.startswith(f"/owner/name{resolve}{COMMIT}/"):
        name = path.partition(f"{resolve}{COMMIT}/")[2]
        body = files[name]
        hub.fetched.append(name)
        headers |= {"ETag": f'"{hashlib.sha1(body).hexdigest()}"', "X-Repo-Commit": COMMIT}
    else:
        headers["X-Error-Code"] = "GatedRepo" if "gated" in path else "RepoNotFound"
        status = 403 if "gated" in path else 404
    request.send_response(status)
    for key, value in headers.items():
        request.send_header(key, value)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(body)


def test_a_branch_is_pinned_and_what_is_missing_is_fetched(hub: Hub) -> None:
    """Weights that are loaded, configurations and the card: nothing else crosses the line."""
    for name in ("unet/diffusion_pytorch_model.bin", "unet/modeling.py", "samples/grid.png"):
        write_json(hub.repository / name, {})
    write_safetensors(hub.repository / "v1-5-pruned.safetensors", {"a": (2,)})
    write_safetensors(hub.repository / "unet/diffusion_pytorch_model.fp16.safetensors", {"a": (2,)})
    commit = pin_revision("owner/name", None, allow_network=True)
    assert commit == pin_revision("owner/name", "main", allow_network=True) == COMMIT
    opened = open_pipeline("owner/name", revision=commit, allow_network=True)
    assert opened.licence == "apache-2.0"
    assert set(hub.fetched) == {*opened.files, "README.md"}
    hub.fetched.clear()
    again = open_pipeline("owner/name", revision=commit, sha256=opened.sha256, allow_network=True)
    assert again == opened == open_pipeline("owner/name", revision=commit)
    assert hub.fetched == []
    (opened.folder / UNET_WEIGHTS).unlink()
    with pytest.raises(ModelError, match=f"{UNET_WEIGHTS} is missing"):
        open_pipeline("owner/name", revision=commit)
    assert open_pipeline("owner/name", revision=commit, allow_network=True) == opened


def test_what_the_hub_refuses_is_told_in_words(hub: Hub) -> None:
    for call in (
        lambda name: open_pipeline(name, revision=COMMIT, allow_network=True),
        lambda name: pin_revision(name, "main", allow_network=True),
    ):
        with pytest.raises(ModelError, match=r"owner/other .* does not exist on the hub"):
            call("owner/other")
        with pytest.raises(ModelError, match=r"owner/gated .* is gated: accept its terms"):
            call("owner/gated")


def test_a_hub_out_of_reach_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(ModelError, match="the hub cannot be reached; copy the pipeline"):
        pin_revision("owner/name", "main", allow_network=True)


@pytest.fixture
def cached(cache: Path) -> Path:
    """A snapshot in a hub's cache: links to files beside it. Returns the repository's folder."""
    repository = cache / "models--owner--name"
    snapshot = write_pipeline(repository / "snapshots" / COMMIT)
    blobs = repository / "blobs"
    blobs.mkdir()
    for number, path in enumerate(sorted(each for each in snapshot.rglob("*") if each.is_file())):
        path.rename(blobs / str(number))
        path.symlink_to(os.path.relpath(blobs / str(number), path.parent))
    return repository


def test_a_hub_id_is_read_from_the_cache(cached: Path, tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path / "pipeline")
    opened = open_pipeline("owner/name", revision=COMMIT)
    assert opened.sha256 == open_pipeline(str(folder)).sha256
    assert opened.licence == "apache-2.0"
    with pytest.raises(ModelError, match=r"not in this machine's cache.* hf download"):
        open_pipeline("owner/other", revision=COMMIT)
    weights = cached / "snapshots" / COMMIT / UNET_WEIGHTS
    weights.unlink()
    weights.symlink_to(folder / UNET_WEIGHTS)
    with pytest.raises(ModelError, match="link out of the folder"):
        open_pipeline("owner/name", revision=COMMIT)


@pytest.mark.parametrize("revision", ["main", "v1.0", COMMIT[:12], COMMIT.upper()])
def test_a_branch_or_tag_is_no_pin(revision: str) -> None:
    with pytest.raises(ModelError, match="expected a full commit id"):
        open_pipeline("owner/name", revision=revision)
    with pytest.raises(ModelError, match="is a branch or tag, which the hub alone"):
        pin_revision("owner/name", revision, allow_network=False)
    assert pin_revision("owner/name", COMMIT, allow_network=False) == COMMIT


def test_what_is_no_hub_id_is_told() -> None:
    with pytest.raises(ModelError, match="expected a hub id such as owner/name"):
        open_pipeline("../folder", revision=COMMIT)
