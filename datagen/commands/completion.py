"""completion: what makes a shell complete datagen's commands and options."""

from __future__ import annotations

import click

_SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    bash:  eval "$(datagen completion bash)"            in ~/.bashrc
    zsh:   eval "$(datagen completion zsh)"             in ~/.zshrc
    fish:  datagen completion fish | source             in ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    root = ctx.find_root()
    click.echo(kind(root.command, {}, "datagen", "_DATAGEN_COMPLETE").source())
