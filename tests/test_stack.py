"""The local stack: servers that come back, keys cut to a tenant, and `datagen up` from outside."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from datagen.stack.programs import Program, ServiceMissingError, launch
from datagen.stack.servers import S3, Identity, prepare_s3
from datagen.stack.supervisor import Supervisor
from tests.conftest import give_up
from tests.servers import temporary_folder
from tests.stack import ROOT

pytestmark = pytest.mark.slow

PATIENCE_S = 180.0
RECIPE = {
    "version": 1,
    "name": "hundred",
    "image_size": [8, 8],
    "classes": [{"name": "cat", "count": 100}],
    "generator": {"model": "noise", "channels": 1},
    "splits": {"ratios": {"train": 0.8, "val": 0.2}},
}
# By a data engineer, with what the environment file sets.
READ = """
import json, os, boto3, psycopg
bucket, _, prefix = os.environ["STORE"].removeprefix("s3://").partition("/")
key = prefix + "/datasets/hundred/1/manifest.json"
print(json.load(boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"])["digest"])
with psycopg.connect(os.environ["CATALOG"]) as connection:
    query = "SELECT count(*) FROM dataset_versions WHERE tenant = %s"
    print(connection.execute(query, [os.environ["TENANT"]]).fetchone()[0])
"""


def wait(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.05)


def python_program(folder: Path, code: str) -> Program:
    return Program("child", (sys.executable, "-c", code), folder, folder / "child.log")


# --- the supervisor


def test_a_program_that_ends_is_started_again(tmp_path: Path) -> None:
    told: list[tuple[str, int, float]] = []
    with Supervisor(lambda *restart: told.append(restart)) as supervisor:
        supervisor.launch(python_program(tmp_path, "raise SystemExit(3)"))
        wait(lambda: supervisor.num_restarts("child") >= 3, "three restarts")
    assert {(name, code) for name, code, _ in told} == {("child", 3)}
    pauses = [pause_s for _, _, pause_s in told]
    assert pauses[:3] == [0.2, 0.4, 0.8]


def test_a_program_that_keeps_ending_is_told_with_its_log(tmp_path: Path) -> None:
    def never_ready() -> None:
        raise ConnectionError("nobody listens")

    program = Program(
        "child",
        (sys.executable, "-c", "print('the disk is on fire'); raise SystemExit(1)"),
        tmp_path,
        tmp_path / "child.log",
        probe=never_ready,
    )
    with Supervisor() as supervisor, pytest.raises(ServiceMissingError, match="disk is on fire"):
        supervisor.start(program)


def test_a_stopped_program_stays_stopped(tmp_path: Path) -> None:
    with Supervisor() as supervisor:
        process = supervisor.launch(python_program(tmp_path, "import time; time.sleep(600)"))
        assert supervisor.pid("child") == process.pid
        supervisor.stop("child")
        assert supervisor.pid("child") is None
        assert process.returncode == -signal.SIGTERM


def test_what_serves_others_ends_last_and_whoever_overstays_is_killed(tmp_path: Path) -> None:
    """Each child writes its name when it is told to stop; the deaf one heeds nothing."""
    ended = tmp_path / "ended"
    code = (
        "import pathlib, signal, sys, time\n"
        "def leave(*_):\n"
        "    with open({ended!r}, 'a') as file: file.write('{name}\\n')\n"
        "    if '{name}' != 'deaf': sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, leave)\n"
        "pathlib.Path('{name}.ready').touch()\n"
        "while True: time.sleep(0.05)\n"
    )
    with Supervisor() as supervisor:
        processes = {}
        for name in ("server", "deaf", "worker"):
            program = Program(
                name,
                (sys.executable, "-c", code.format(ended=str(ended), name=name)),
                tmp_path,
                tmp_path / f"{name}.log",
                grace_s=0.5 if name == "deaf" else PATIENCE_S,
                serves_others=name == "server",
            )
            processes[name] = supervisor.launch(program)
            wait((tmp_path / f"{name}.ready").exists, f"{name} is ready")
        supervisor.stop_all()
    assert {name: process.returncode for name, process in processes.items()} == {
        "server": 0,
        "deaf": -signal.SIGKILL,
        "worker": 0,
    }
    names = ended.read_text().split()
    assert (set(names[:2]), names[2:]) == ({"deaf", "worker"}, ["server"])


def test_a_child_dies_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path\n"
        "from datagen.stack.programs import Program, launch\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "sleep = (sys.executable, '-c', 'import time; time.sleep(600)')\n"
        "child = launch(Program('child', sleep, folder, folder / 'log'))\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert is_alive(child)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait(lambda: not is_alive(child), "the child is gone")


def test_a_program_whose_parent_has_ended_already_is_not_started(tmp_path: Path) -> None:
    leash = Path(sys.modules[launch.__module__].__file__ or "").with_name("leash.py")
    marker = tmp_path / "started"
    strange_parent = "1"
    command = [sys.executable, str(leash), strange_parent, "9", "-", "/bin/touch", str(marker)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0
    assert not marker.exists()


# --- keys cut to a tenant


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    """With keys of two tenants."""
    folder = temporary_folder("s3")
    server = None
    try:
        server = prepare_s3(
            folder, run=folder, bucket="shared", tenants=("ward-a", "ward-b"), prefix="data/"
        )
        with Supervisor() as supervisor:
            supervisor.start(server.program)
            service = s3_client(server, server.identity("service"))
            for tenant in ("ward-a", "ward-b"):
                service.put_object(Bucket="shared", Key=f"data/{tenant}/secret", Body=b"x")
            yield server
    except ServiceMissingError as error:
        give_up(str(error))
    finally:
        if server is not None:
            server.remove_sockets()
        shutil.rmtree(folder, ignore_errors=True)


def s3_client(server: S3, identity: Identity) -> Any:
    return boto3.session.Session().client(
        "s3",
        endpoint_url=server.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=identity.access_key,
        aws_secret_access_key=identity.secret_key,
        config=Config(retries={"total_max_attempts": 1}),
    )


def test_a_tenant_reads_and_lists_its_own_objects(s3: S3) -> None:
    client = s3_client(s3, s3.identity("ward-a"))
    assert client.get_object(Bucket="shared", Key="data/ward-a/secret")["Body"].read() == b"x"
    listed = client.list_objects_v2(Bucket="shared", Prefix="data/ward-a/")["Contents"]
    assert {item["Key"] for item in listed} == {"data/ward-a/secret"}


@pytest.mark.parametrize(
    ("operation", "options"),
    [
        ("put_object", {"Key": "data/ward-a/mine", "Body": b"x"}),
        ("put_object", {"Key": "data/ward-a/secret", "Body": b"changed"}),
        ("delete_object", {"Key": "data/ward-a/secret"}),
        ("put_object_tagging", {"Key": "data/ward-a/secret", "Tagging": {"TagSet": []}}),
        ("create_multipart_upload", {"Key": "data/ward-a/mine"}),
        ("get_object", {"Key": "data/ward-b/secret"}),
        ("head_object", {"Key": "data/ward-b/secret"}),
        ("put_object", {"Key": "data/ward-b/mine", "Body": b"x"}),
        ("put_object", {"Key": "data/ward-a-too/mine", "Body": b"x"}),
        ("delete_object", {"Key": "data/ward-b/secret"}),
        ("list_objects_v2", {"Prefix": "data/ward-b/"}),
        ("list_objects_v2", {"Prefix": "data/"}),
        ("list_objects_v2", {}),
        ("copy_object", {"Key": "data/ward-a/theirs", "CopySource": "shared/data/ward-b/secret"}),
        ("get_object", {"Key": "data/ward-a/../ward-b/secret"}),
        ("delete_bucket", {}),
    ],
)
def test_a_tenants_keys_change_nothing_and_do_not_reach_another_tenant(
    s3: S3, operation: str, options: dict[str, Any]
) -> None:
    client = s3_client(s3, s3.identity("ward-a"))
    with pytest.raises(ClientError) as refused:
        getattr(client, operation)(Bucket="shared", **options)
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] in (400, 403)


def test_a_tenants_keys_delete_nothing_in_bulk(s3: S3) -> None:
    """This call answers 200 and refuses each object."""
    client = s3_client(s3, s3.identity("ward-a"))
    answer = client.delete_objects(
        Bucket="shared", Delete={"Objects": [{"Key": "data/ward-a/secret"}]}
    )
    assert [error["Code"] for error in answer["Errors"]] == ["AccessDenied"]
    assert client.get_object(Bucket="shared", Key="data/ward-a/secret")["Body"].read() == b"x"


def test_keys_stay_over_a_restart(s3: S3) -> None:
    again = prepare_s3(
        s3.program.folder,
        run=s3.program.folder,
        bucket="shared",
        tenants=("ward-a", "ward-b", "ward-c"),
        prefix="data/",
    )
    for name in ("service", "ward-a", "ward-b"):
        assert again.identity(name) == s3.identity(name)
    assert again.identity("ward-c").access_key != s3.identity("ward-a").access_key


# --- datagen up


class Up:
    """One `datagen up`, ready. told: what it printed."""

    def __init__(self, home: Path) -> None:
        environ = {k: v for k, v in os.environ.items() if not k.startswith("DATAGEN_")}
        environ["PYTHONPATH"] = str(ROOT)  # its children run elsewhere
        command = [sys.executable, "-m", "datagen", "up", "--home", str(home)]
        self.errors = home.with_name("errors")
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                [*command, "--port", "0", "--s3-port", "0", "--json"],
                env=environ,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.end(signal.SIGTERM)
            pytest.fail(self.errors.read_text())
        self.told: dict[str, str] = json.loads(line)

    @property
    def children(self) -> list[int]:
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return [int(pid) for path in tasks for pid in path.read_text().split()]

    def client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.told['api_key']}"}
        return httpx.Client(base_url=f"{self.told['api_url']}/v1", headers=headers, timeout=30)

    def end(self, number: signal.Signals) -> int:
        """Harmless where it has ended."""
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE_S)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


@pytest.fixture
def start_up() -> Iterator[Callable[[Path], Up]]:
    started: list[Up] = []

    def start(home: Path) -> Up:
        started.append(Up(home))
        return started[-1]

    yield start
    for up in started:
        up.end(signal.SIGTERM)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_up_from_nothing_to_a_job_and_again_with_the_same_home(
    tmp_path: Path, start_up: Callable[[Path], Up]
) -> None:
    home = tmp_path / "home"
    first = start_up(home)
    with first.client() as client:
        answer = client.post("/jobs", json={"recipe": RECIPE}, headers={"Idempotency-Key": "k"})
        assert answer.status_code == 201, answer.text
        job = f"/jobs/{answer.json()['id']}"
        wait(lambda: client.get(job).json()["state"] == "PUBLISHED", "the job is published")
        digest = client.get(job).json()["digest"]
    children = first.children
    assert len(children) == 8  # three servers, API, three workers, beat
    another = subprocess.run(
        [sys.executable, "-m", "datagen", "up", "--home", str(home), "--port", "0"],
        capture_output=True,
        text=True,
    )
    assert another.returncode == 4
    assert "up already" in another.stderr
    assert first.end(signal.SIGINT) == 0
    assert [pid for pid in children if is_alive(pid)] == []

    second = start_up(home)
    for address in ("api_url", "api_key", "s3_endpoint_url"):
        assert second.told[address] == first.told[address]
    sourced = subprocess.run(
        [
            "bash",
            "-c",
            f'source {second.told["environment_file"]}; exec {sys.executable} -c "$0"',
            READ,
        ],
        capture_output=True,
        text=True,
    )
    assert sourced.stdout.split() == [digest, "1"], sourced.stderr
    with second.client() as client:
        assert client.get(job).json()["digest"] == digest
    children = second.children
    second.end(signal.SIGKILL)
    wait(lambda: not any(is_alive(pid) for pid in children), "no orphan is left")

    third = start_up(home)  # after a crash
    with third.client() as client:
        assert client.get("/readyz").json()["store"] == "ok"
    for name in ("environment", "aws_credentials"):
        assert (home / "service" / name).stat().st_mode & 0o077 == 0
    assert third.end(signal.SIGTERM) == 0


def test_up_starts_again_what_was_killed(tmp_path: Path, start_up: Callable[[Path], Up]) -> None:
    up = start_up(tmp_path / "home")
    for pid in up.children:
        os.kill(pid, signal.SIGKILL)
    with up.client() as client:

        def is_ready() -> bool:
            try:
                return client.get("/readyz").status_code == 200
            except httpx.TransportError:
                return False

        wait(is_ready, "everything answers again")
        client.post("/jobs", json={"recipe": RECIPE}, headers={"Idempotency-Key": "k"})
        wait(
            lambda: client.get("/jobs").json()["items"][0]["state"] == "PUBLISHED", "it works again"
        )
    assert up.end(signal.SIGINT) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers", "generate=one"], "generate=2,cpu=1"),
        (["--workers", "gpu=1"], "generate=2,cpu=1"),
        (["--port", "70000"], "70000"),
    ],
)
def test_up_refuses_what_it_cannot_mean(tmp_path: Path, arguments: list[str], message: str) -> None:
    home = tmp_path / "home"
    command = [sys.executable, "-m", "datagen", "up", "--home", str(home), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert message in done.stderr
    assert not home.exists()
