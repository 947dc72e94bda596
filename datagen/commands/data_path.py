"""Where images are, as an argument or option. Called by evaluate, references, models and train."""

from __future__ import annotations

from typing import Any

import click

from datagen.errors import InputError


class DataPath(click.Path):
    """A path, or a name, that is not empty: an unset variable of a shell would else stand for the
    folder that one happens to be in."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "" and param is not None:
            name = param.opts[0] if isinstance(param, click.Option) else param.human_readable_name
            raise InputError(f"{name}: empty; name a folder")
        return super().convert(value, param, ctx)
