"""The command line: gathers the commands. Called by the console script `datagen`."""

from __future__ import annotations

from pathlib import Path

import click

from datagen import __version__
from datagen.commands.approve import approvals, approve
from datagen.commands.completion import completion
from datagen.commands.credentials import credentials
from datagen.commands.edge import Edge, debug_option, home_option
from datagen.commands.evaluate import evaluate
from datagen.commands.export import export
from datagen.commands.inspection import remake, show
from datagen.commands.keys import audit, tenants
from datagen.commands.models import models
from datagen.commands.recipes import plan, run, validate
from datagen.commands.references import references
from datagen.commands.refilter import refilter
from datagen.commands.remote_keys import keys
from datagen.commands.report import report
from datagen.commands.revoke import revoke
from datagen.commands.schedules import schedules
from datagen.commands.service import cancel, jobs, preview, retry, submit, watch
from datagen.commands.sources import sources
from datagen.commands.speed import bench
from datagen.commands.train import train
from datagen.commands.trainings import trainings
from datagen.commands.up import up
from datagen.commands.versions import diff, list_, pull, verify
from datagen.commands.watermark import watermark

_EPILOG = """\b
Exit codes: 0 done, 2 bad input, 3 not found, 4 a job or training failed, 5 damage found,
6 the store or the catalog refused or is out of reach, 7 no key that allows this,
130 interrupted, 1 anything unexpected.

\b
With DATAGEN_API_URL and DATAGEN_API_KEY set, validate, plan, ls, show, pull, diff, report,
refilter, approve, approvals and keys speak to that service, as submit, jobs, watch, cancel, retry,
preview, schedules and trainings always do.
"""


@click.group(cls=Edge, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="datagen %(version)s")
@home_option
@debug_option
def main(home: Path | None) -> None:
    """Labelled synthetic image data sets: exact, traceable and reproducible."""


_COMMANDS = (
    *(validate, plan, run, list_, show, pull, export, verify, diff, remake),
    *(evaluate, report, refilter, approve, approvals, credentials, watermark),
    *(sources, train, models, references, bench),
    *(submit, jobs, watch, cancel, retry, preview, schedules, trainings),
    *(up, keys, audit, tenants, revoke, completion),
)
for command in _COMMANDS:
    main.add_command(command)
