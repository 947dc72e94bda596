"""docker-compose.yml against itself, the Makefile, the Dockerfile and the command lines.

No container is started here: what a daemon would find out later is what these cannot see.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from datagen.cli import main as datagen_command
from datagen.settings import load_settings
from workers.__main__ import main as workers_command

ROOT = Path(__file__).resolve().parent.parent
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name for name, each in SERVICES.items() if str(each["image"]).startswith("datagen:")}

TOP_KEYS = {"name", "services", "volumes", "secrets"}
SERVICE_KEYS = {
    *("image", "build", "entrypoint", "command", "environment", "secrets", "volumes", "tmpfs"),
    *("ports", "healthcheck", "depends_on", "profiles", "deploy", "restart", "user", "read_only"),
    *("cap_drop", "security_opt", "stop_grace_period", "shm_size"),
}
HEALTH_KEYS = {"test", "interval", "timeout", "retries", "start_period"}


def test_only_known_keys() -> None:
    assert {key for key in COMPOSE if not key.startswith("x-")} == TOP_KEYS
    for name, service in SERVICES.items():
        assert set(service) - SERVICE_KEYS == set(), name
        assert set(service.get("healthcheck", {})) - HEALTH_KEYS == set(), name


def test_every_secret_and_volume_is_declared_and_used() -> None:
    used_secrets = {secret for each in SERVICES.values() for secret in each.get("secrets", ())}
    assert used_secrets == set(COMPOSE["secrets"])
    mounts = [mount for each in SERVICES.values() for mount in each.get("volumes", ())]
    named = {mount.split(":")[0] for mount in mounts if not mount.startswith((".", "/"))}
    assert named == set(COMPOSE["volumes"])


def test_every_file_below_run_secrets_is_a_secret_of_that_service() -> None:
    for name, service in SERVICES.items():
        texts = json.dumps([service.get("environment"), service.get("command")])
        named = set(re.findall(r"/run/secrets/(\w+)", texts))
        assert named - set(service.get("secrets", ())) == set(), name


def test_no_secret_stands_in_the_file() -> None:
    for name, service in SERVICES.items():
        for variable in service.get("environment", {}):
            is_secret = re.search(r"PASSWORD|SECRET|KEY|TOKEN|BROKER_URL", variable)
            assert not is_secret or variable.endswith("_FILE"), f"{name}: {variable}"


def test_make_secrets_makes_what_the_file_asks_for(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    subprocess.run(["make", "--silent", "secrets"], cwd=tmp_path, check=True, capture_output=True)
    made = {path.name for path in (tmp_path / "secrets").iterdir()}
    asked = {Path(each["file"]).name for each in COMPOSE["secrets"].values()}
    assert made == asked
    keys = json.loads((tmp_path / "secrets/s3_config").read_text())["identities"][0]["credentials"]
    assert keys[0]["secretKey"] in (tmp_path / "secrets/aws_credentials").read_text()
    password = re.search(r"requirepass (\S+)", (tmp_path / "secrets/valkey_config").read_text())
    assert password is not None
    environ = {"DATAGEN_BROKER_URL_FILE": str(tmp_path / "secrets/broker_url")}
    settings = load_settings(environ, home=tmp_path)
    assert settings.broker_url == f"redis://:{password[1]}@valkey:6379/0"


def test_nothing_runs_as_root_or_writes_to_its_image() -> None:
    for name, service in SERVICES.items():
        assert str(service["user"]) not in ("root", "0"), name
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name


def test_our_user_is_the_one_of_the_image() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert "useradd --uid 10001" in dockerfile
    assert {SERVICES[name]["user"] for name in OURS} == {"10001"}


def test_ports_are_of_this_machine_alone() -> None:
    ports = [port for each in SERVICES.values() for port in each.get("ports", ())]
    assert len(ports) == 3
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_dependencies_exist_and_can_be_healthy() -> None:
    for name, service in SERVICES.items():
        for other, condition in service.get("depends_on", {}).items():
            assert other in SERVICES, name
            if condition["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[other], f"{name} waits for {other}"


@pytest.mark.parametrize("name", sorted(OURS))
def test_commands_exist(name: str) -> None:
    """Name and options, as the command line itself reads them."""
    service = SERVICES[name]
    groups = {"datagen": datagen_command, "workers": workers_command}
    group = groups[service["entrypoint"][-1]]
    words = list(service.get("command", ["--help"]))
    if words == ["--help"]:
        return
    assert isinstance(group, click.Group)
    command = group.get_command(click.Context(group), words[0])
    assert command is not None
    command.make_context(words[0], words[1:])


def test_settings_in_the_file_are_known() -> None:
    """A misspelt variable would be ignored in silence."""
    known = (ROOT / "datagen" / "settings.py").read_text()
    for service in SERVICES.values():
        for variable in service.get("environment", {}):
            if variable.startswith("DATAGEN_"):
                assert f'"{variable.removesuffix("_FILE")}"' in known


def test_each_image_has_its_target() -> None:
    targets = set(
        re.findall(r"^FROM \S+ AS (\w+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    )
    for name in OURS:
        build = SERVICES[name]["build"]
        assert build["target"] in targets
        assert SERVICES[name]["image"] == f"datagen:{build['target']}"


@pytest.mark.parametrize(
    ("name", "profile", "device"),
    [("worker-generate-gpu", "gpu", "0"), ("worker-train-gpu", "train-gpu", "1")],
)
def test_a_gpu_is_reserved_in_a_profile_alone(name: str, profile: str, device: str) -> None:
    reserving = {name for name, each in SERVICES.items() if "deploy" in each}
    assert reserving == {"worker-generate-gpu", "worker-train-gpu"}
    service = SERVICES[name]
    assert service["profiles"] == [profile]
    devices = service["deploy"]["resources"]["reservations"]["devices"]
    assert devices == [{"driver": "nvidia", "device_ids": [device], "capabilities": ["gpu"]}]
    assert load_settings(service["environment"] | {"DATAGEN_BROKER_URL_FILE": ""}).device == "cuda"


def test_the_operations_page_tells_every_setting_and_no_other() -> None:
    variables = r"DATAGEN_[A-Z0-9]+(?:_[A-Z0-9]+)*"
    known = set(re.findall(rf'"({variables})"', (ROOT / "datagen" / "settings.py").read_text()))
    told = set(re.findall(variables, (ROOT / "docs" / "operations.md").read_text()))
    assert known - told == set()
    assert {name.removesuffix("_FILE") for name in told} - known == set()


def test_the_operations_page_names_commands_and_metrics_that_exist() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    for word in re.findall(r"`datagen ([a-z-]+)", page):
        assert word in datagen_command.commands, word
    for word in re.findall(r"python -m workers ([a-z]+)", page):
        assert word in workers_command.commands, word
    source = (ROOT / "datagen" / "api" / "metrics.py").read_text()
    for metric in re.findall(r"`(datagen_[a-z_]+)`", page):
        assert f'"{metric}"' in source, metric
