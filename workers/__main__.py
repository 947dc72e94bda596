"""The command line of the fleet: python -m workers generate | train | cpu | beat | api | migrate.

Called by a supervisor: `datagen up`, Docker Compose, systemd. Each command is one process that
runs until SIGTERM (migrate ends by itself), and may die at any moment without losing anything.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from datagen.commands.opening import pin_threads
from datagen.errors import DatagenError
from datagen.settings import Settings, load_settings

if TYPE_CHECKING:
    from workers.process import Role

# For connections that are to be closed in good order.
_GOODBYE_S = 5

_idle_option = click.option(
    "--idle-limit",
    "idle_s",
    type=click.FloatRange(min=0.5),
    default=120.0,
    show_default=True,
    help="End the process when it claims nothing for so many seconds while units wait for it.",
)
_unit_option = click.option(
    "--unit-limit",
    "unit_s",
    type=click.FloatRange(min=0.5),
    default=3600.0,
    show_default=True,
    help="End the process when it is at one unit for so many seconds.",
)
_step_option = click.option(
    "--step-limit",
    "step_s",
    type=click.FloatRange(min=0.5),
    default=14400.0,
    show_default=True,
    help="End the process when it makes no step for so many seconds; reading images is one.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """The processes of a datagen service. Settings come from the environment (DATAGEN_...)."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s %(message)s")


@main.command()
@click.option("--families", default="", metavar="A,B,...", help="Generators to serve; else all.")
@_idle_option
@_unit_option
def generate(families: str, idle_s: float, unit_s: float) -> None:
    """Make raw images, on DATAGEN_DEVICE. One process per GPU."""
    from workers.process import generate_role

    names = [name.strip() for name in families.split(",") if name.strip()]
    _work(lambda settings: generate_role(settings, names), idle_s=idle_s, unit_s=unit_s)


@main.command()
@_idle_option
@_step_option
def train(idle_s: float, step_s: float) -> None:
    """Train models, one at a time, on DATAGEN_DEVICE."""
    from workers.process import train_role

    _work(train_role, idle_s=idle_s, unit_s=step_s)


@main.command()
@_idle_option
@_unit_option
def cpu(idle_s: float, unit_s: float) -> None:
    """Judge, pack and publish, and look after schedules, webhooks and retention."""
    from workers.process import cpu_role

    _work(lambda settings: cpu_role(), idle_s=idle_s, unit_s=unit_s)


@main.command()
def beat() -> None:
    """Send ticks. One is enough, more do no harm."""
    from workers.beat import run_beat

    run_beat(_settings())


@main.command()
def migrate() -> None:
    """Bring the database to this release's schema, and end. Twice at once is harmless."""
    settings = _settings()
    from datagen.catalog.catalog import Catalog
    from datagen.catalog.schema import HEAD_REVISION
    from datagen.catalog.schema import migrate as migrate_catalog

    catalog = Catalog(settings.database_url)
    try:
        migrate_catalog(catalog)
    except DatagenError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    finally:
        catalog.close()
    click.echo(f"The schema is {HEAD_REVISION}")


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True)
def api(host: str, port: int) -> None:
    """Answer HTTP."""
    import uvicorn

    _settings()
    uvicorn.run(
        "workers.asgi:create",
        factory=True,
        host=host,
        port=port,
        access_log=False,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=_GOODBYE_S,  # event streams would never end by themselves
    )


def _settings() -> Settings:
    """Malformed ones end the process with a message and no traceback."""
    try:
        settings = load_settings()
    except DatagenError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    pin_threads(settings)
    return settings


def _work(role_of: Callable[[Settings], Role], *, idle_s: float, unit_s: float) -> None:
    settings = _settings()
    from workers.caretaker import Patience
    from workers.run import run_worker

    try:
        code = run_worker(settings, role_of(settings), Patience(idle_s, unit_s))
    except DatagenError as error:
        click.echo(f"error: {error}", err=True)
        code = error.exit_code
    sys.exit(code)


if __name__ == "__main__":
    main()
