"""The command line over a service, as shells and scripts see it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from datagen.catalog.jobs import list_jobs
from datagen.cli import main
from datagen.recipe import canonical_json
from tests.api.conftest import Api, recipe
from tests.api.conftest import api as api
from tests.client.faulty_server import answer, faulty_server, stream
from tests.client.test_patience import JOB, KEY

DATAGEN = [sys.executable, "-m", "datagen"]
ROOT = Path(__file__).resolve().parents[2]

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Nothing of the machine's settings, and no service yet."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("DATAGEN_")}
    return {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def run(environment: dict[str, str], tmp_path: Path) -> Run:
    """datagen in an empty folder; arguments and changes to the environment."""
    folder = tmp_path / "cwd"
    folder.mkdir()

    def call(*arguments: str | Path, **changes: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*DATAGEN, *map(str, arguments)],
            cwd=folder,
            env={**environment, **changes},
            capture_output=True,
            text=True,
        )

    return call


@pytest.fixture
def within(environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """As run, in this process: for words that say the same without a shell, and many of them."""
    folder = tmp_path / "within"
    folder.mkdir()

    def call(*arguments: str | Path, **changes: str) -> subprocess.CompletedProcess[str]:
        words = [str(word) for word in arguments]
        with monkeypatch.context() as patch:
            patch.chdir(folder)
            for name in [name for name in os.environ if name.startswith("DATAGEN_")]:
                patch.delenv(name)
            for name, text in {**environment, **changes}.items():
                if name.startswith("DATAGEN_"):
                    patch.setenv(name, text)
            result = CliRunner().invoke(main, words)
        return subprocess.CompletedProcess(words, result.exit_code, result.stdout, result.stderr)

    return call


@pytest.fixture
def service(api: Api, environment: dict[str, str]) -> Api:
    """The environment now names it, with an admin key."""
    environment |= {"DATAGEN_API_URL": api.url, "DATAGEN_API_KEY": api.key()}
    return api


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.json"
    path.write_bytes(canonical_json(recipe()))
    return path


def one_object(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    content = json.loads(done.stdout)
    assert isinstance(content, dict)
    return content


def test_a_job_from_recipe_to_folder(service: Api, run: Run, recipe_file: Path) -> None:
    job = one_object(run("submit", recipe_file, "--json"))
    assert (job["name"], job["state"], job["priority"]) == ("small", "RUNNING", "batch")
    assert one_object(run("submit", recipe_file, "--json"))["id"] == job["id"]
    listed = one_object(run("jobs", "--json"))["jobs"]
    assert [each["id"] for each in listed] == [job["id"]]
    service.work(job["id"])
    done = one_object(run("watch", job["id"], "--json"))
    assert (done["state"], done["counts"]["cat"]["train"]) == ("PUBLISHED", 48)
    text = run("jobs", job["id"])
    assert ["cat", "48", "9", "3", "60"] in [line.split() for line in text.stdout.splitlines()]
    assert f"digest         {done['digest']}" in text.stdout
    versions = one_object(run("ls", "--json"))["versions"]
    assert [(v["name"], v["version"], v["digest"]) for v in versions] == [
        ("small", 1, done["digest"])
    ]
    pulled = one_object(run("pull", "small", "out", "--format", "imagefolder", "--json"))
    assert (pulled["digest"], pulled["num_samples"]) == (done["digest"], 100)
    assert len(list(Path(pulled["path"], "train", "cat").iterdir())) == 48


def test_the_words_of_a_service_print_what_the_embedded_ones_print(
    service: Api, within: Run, recipe_file: Path
) -> None:
    """The same keys; values of this machine's own aside."""
    local = {"DATAGEN_API_URL": "", "DATAGEN_HOME": str(recipe_file.parent / "local")}
    one_object(within("run", recipe_file, "--json", **local))
    service.publish()
    ours, theirs = (one_object(within("ls", "--json", **e))["versions"][0] for e in (local, {}))
    assert ours.keys() <= theirs.keys()
    assert ours["digest"] == theirs["digest"]
    ours, theirs = (one_object(within("validate", recipe_file, "--json", **e)) for e in (local, {}))
    assert ours == theirs
    ours, theirs = (one_object(within("plan", recipe_file, "--json", **e)) for e in (local, {}))
    assert all(ours[k] == theirs[k] for k in ("name", "recipe_digest", "counts", "shards"))
    for words in (["show", "small"], ["show", "small@1", "cat-3"], ["diff", "small", "small@1"]):
        ours, theirs = (one_object(within(*words, "--json", **e)) for e in (local, {}))
        assert ours.keys() == theirs.keys()
        same = ("digest", "counts", "recipe_digest", "image_sha256", "augmentations", "images")
        assert all(ours[name] == theirs[name] for name in same if name in ours)
        assert within(*words).returncode == 0
    pulls = [within("pull", "small@1", f"out{len(e)}", "--json", **e) for e in (local, {})]
    ours, theirs = map(one_object, pulls)
    assert ours.keys() == theirs.keys()
    assert ours["digest"] == theirs["digest"]


@pytest.mark.parametrize("arguments", [["verify", "small"], ["remake", "small", "cat-3"]])
def test_what_works_beside_the_store_alone_says_so(within: Run, arguments: list[str]) -> None:
    refused = within(*arguments, DATAGEN_API_URL="http://127.0.0.1:9")
    assert (refused.returncode, "DATAGEN_API_URL" in refused.stderr) == (2, True)


def test_submit_and_wait_ends_with_the_published_job(
    service: Api, within: Run, recipe_file: Path
) -> None:
    service.publish()
    done = one_object(within("submit", recipe_file, "--wait", "--json"))
    assert done["state"] == "PUBLISHED"


def test_a_failed_job_exits_with_4_and_says_why(service: Api, within: Run, tmp_path: Path) -> None:
    strict = {"filters": [{"filter": "blank", "min_contrast": 0.5}]}
    changed = recipe({**strict, "limits": {"max_attempts_per_class": 1}})
    (tmp_path / "strict.json").write_bytes(canonical_json(changed))
    job = one_object(within("submit", tmp_path / "strict.json", "--json"))
    assert service.work(job["id"]).state == "FAILED"
    watched = within("watch", job["id"])
    assert watched.returncode == 4
    assert "class" in watched.stderr
    assert one_object(within("retry", job["id"], "--json"))["state"] == "RUNNING"


def test_an_interrupted_watch_exits_with_130_and_says_that_the_job_goes_on(
    environment: dict[str, str],
) -> None:
    job = {**JOB, "id": "a" * 32}
    is_watched, is_over = threading.Event(), threading.Event()

    def silence(request: BaseHTTPRequestHandler) -> None:
        stream(": here\n\n")(request)
        is_watched.set()
        is_over.wait()

    with faulty_server() as server:
        server.routes |= {
            f"/v1/jobs/{job['id']}": answer(job),
            f"/v1/jobs/{job['id']}/events": silence,
        }
        watching = subprocess.Popen(
            [*DATAGEN, "watch", "a" * 32],
            env={**environment, "DATAGEN_API_URL": server.url, "DATAGEN_API_KEY": KEY},
            stderr=subprocess.PIPE,
            text=True,
        )
        is_watched.wait()
        watching.send_signal(signal.SIGINT)
        _, told = watching.communicate()
        is_over.set()
    assert watching.returncode == 130
    assert f"datagen watch {job['id']}" in told
    assert "/cancel" not in "".join(server.paths())


def test_a_job_is_cancelled_once(service: Api, within: Run, recipe_file: Path) -> None:
    job = one_object(within("submit", recipe_file, "--json"))
    assert "CANCELLED" in within("cancel", job["id"]).stdout
    assert within("watch", job["id"]).returncode == 4
    refused = within("retry", job["id"])
    assert (refused.returncode, "CANCELLED" in refused.stderr) == (4, True)


def test_a_recipe_with_faults_exits_with_2_and_names_file_and_line(
    service: Api, within: Run, tmp_path: Path
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(
        "version: 1\nname: small\nimage_size: [8, 8]\nclasses: [{name: a, count: 1}]\n"
        "generator: {model: nois}\n"
    )
    for command in ("validate", "plan", "submit"):
        refused = within(command, path)
        assert refused.returncode == 2, refused.stderr
        assert f"{path}:5: generator.model: 'nois'" in refused.stderr
    assert one_object(within("jobs", "--json"))["jobs"] == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["submit", "RECIPE"],
        ["jobs"],
        ["watch", "a" * 32],
        ["cancel", "a" * 32],
        ["retry", "a" * 32],
        ["preview", "RECIPE", "out"],
        ["schedules", "ls"],
    ],
    ids=" ".join,
)
def test_without_a_service_every_command_says_what_to_set(
    within: Run, recipe_file: Path, arguments: list[str]
) -> None:
    filled = [str(recipe_file) if a == "RECIPE" else a for a in arguments]
    refused = within(*filled)
    assert (refused.returncode, "DATAGEN_API_URL" in refused.stderr) == (2, True)
    refused = within(*filled, DATAGEN_API_URL="http://127.0.0.1:9")
    assert (refused.returncode, "DATAGEN_API_KEY" in refused.stderr) == (2, True)


def test_exit_codes_tell_what_was_wrong(service: Api, within: Run, recipe_file: Path) -> None:
    assert within("jobs", DATAGEN_API_KEY="dg_wrong").returncode == 7
    assert within("submit", recipe_file, DATAGEN_API_KEY=service.key("read")).returncode == 7
    assert within("jobs", "a" * 32).returncode == 3
    assert within("pull", "nothing", "out").returncode == 3
    assert within("jobs", "not-an-id").returncode == 2
    assert within("submit", recipe_file, "--idempotency-key", "two words").returncode == 2


def test_a_service_that_is_away_exits_with_6(service: Api, run: Run) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        away = run("jobs", DATAGEN_API_URL=f"http://127.0.0.1:{held.getsockname()[1]}")
    assert away.returncode == 6
    assert "does not answer" in away.stderr
    assert "Traceback" not in away.stderr


def test_schedules_by_name(service: Api, within: Run, recipe_file: Path) -> None:
    make = ("schedules", "create", "nightly", recipe_file, "--cron", "30 2 * * *")
    made = one_object(within(*make, "--timezone", "Europe/Berlin", "--json"))
    assert len(made["next_fire_times"]) == 5
    assert one_object(within("schedules", "pause", "nightly", "--json"))["paused"] is True
    assert "paused" in within("schedules", "ls").stdout
    assert one_object(within("schedules", "resume", made["id"], "--json"))["paused"] is False
    assert "Europe/Berlin" in within("schedules", "show", "nightly").stdout
    assert within("schedules", "delete", "nightly").returncode == 0
    assert within("schedules", "show", "nightly").returncode == 3
    assert within(*make[:-1], "sometimes").returncode == 2


def test_keys_go_to_the_service(service: Api, within: Run) -> None:
    made = one_object(within("keys", "create", "--name", "ci", "--scope", "read", "--json"))
    assert within("jobs", DATAGEN_API_KEY=made["key"]).returncode == 0
    listed = one_object(within("keys", "list", "--json"))["keys"]
    assert made["id"] in [key["id"] for key in listed]
    assert made["key"] not in within("keys", "list").stdout
    assert within("keys", "revoke", made["id"]).returncode == 0
    assert within("jobs", DATAGEN_API_KEY=made["key"]).returncode == 7


def test_without_a_service_keys_go_to_the_database(within: Run) -> None:
    made = one_object(within("keys", "create", "--tenant", "acme", "--name", "first", "--json"))
    assert made["tenant"] == "acme"


def test_a_preview_is_a_folder_of_pictures(service: Api, run: Run, recipe_file: Path) -> None:
    def work() -> None:
        while not (found := list_jobs(service.catalog, limit=1, kind="preview")):
            pass
        service.work(found[0].uid)

    worker = threading.Thread(target=work)
    worker.start()
    made = one_object(run("preview", recipe_file, "looks", "--json"))
    worker.join()
    names = {path.name for path in Path(made["path"]).iterdir()}
    assert names == {f"{c}-{i:08d}.png" for c in ("cat", "dog") for i in range(8)}
