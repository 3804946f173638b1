"""The command ``completion``: the script by which a shell completes commands, options and keys."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from session_manager.cli.exits import USAGE

__all__ = ["completion"]

_VARIABLE = "_SESSION_MANAGER_COMPLETE"


@click.command(
    epilog="""\b
Examples:
    session-manager completion bash >> ~/.bashrc
    session-manager completion zsh >> ~/.zshrc
    session-manager completion fish > ~/.config/fish/completions/session-manager.fish"""
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> int:
    """Print the script for SHELL that completes commands, options, and keys of the storage."""
    kind = get_completion_class(shell)
    if kind is None:
        return USAGE
    root = ctx.find_root()
    click.echo(kind(root.command, {}, "session-manager", _VARIABLE).source())
    return 0
