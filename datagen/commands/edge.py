"""The edge between datagen and the shell: shared options, and errors as messages and exit codes."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from datagen.errors import DatagenError

INTERRUPTED = 130
UNEXPECTED = 1

_DEBUG = "datagen.debug"

Command = TypeVar("Command", bound=Callable[..., Any])


class Edge(click.Group):
    """The outermost group: no error leaves it as a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of use, not of the alphabet."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt:
            _trace(ctx)
            click.echo("interrupted", err=True)
            ctx.exit(INTERRUPTED)
        except DatagenError as error:
            _trace(ctx)
            click.echo(error_text(error), err=True)
            ctx.exit(error.exit_code)
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # the reader went away, like head; click ends quietly
            _trace(ctx)
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            click.echo(f"error: unexpected {reason}; --debug shows where", err=True)
            ctx.exit(UNEXPECTED)


def error_text(error: DatagenError) -> str:
    """Several faults of a recipe or a request have a line each, and each is an error; further lines
    of one fault, such as what a program printed last, are not."""
    num_faults = len(getattr(error, "problems", ())) or 1
    lines = str(error).split("\n")
    return "\n".join([*(f"error: {line}" for line in lines[:num_faults]), *lines[num_faults:]])


def _trace(ctx: click.Context) -> None:
    if ctx.meta.get(_DEBUG):
        click.echo(traceback.format_exc(), err=True, nl=False)


def home_option(command: Command) -> Command:
    """--home, before or after the name of the command; the one nearer to the end counts."""
    return click.option(
        "--home",
        type=click.Path(path_type=Path, file_okay=False),
        callback=_inherit_home,
        help="Folder of the embedded home; else DATAGEN_HOME, else ./datagen-home.",
    )(command)


def debug_option(command: Command) -> Command:
    return click.option(
        "--debug",
        is_flag=True,
        expose_value=False,
        callback=_note_debug,
        help="Show the traceback of an error.",
    )(command)


def shared_options(command: Command) -> Command:
    """--home, --json and --debug: what every command takes."""
    as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
    return home_option(as_json(debug_option(command)))


def _inherit_home(ctx: click.Context, _: click.Parameter, value: Path | None) -> Path | None:
    outer = ctx.parent
    while value is None and outer is not None:
        value, outer = outer.params.get("home"), outer.parent
    return value


def _note_debug(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        ctx.meta[_DEBUG] = True
