"""The command ``copy``: sessions go to another storage."""

from __future__ import annotations

import click

from session_manager import operations
from session_manager.cli.exits import FOUND
from session_manager.cli.output import counted, json_value
from session_manager.cli.parameters import json_option, prefix_option, storage_option
from session_manager.cli.terminal import paint, progress_bar
from session_manager.cli.text import one_line

__all__ = ["copy"]


@click.command(
    epilog="""\b
Examples:
    session-manager copy sqlite:chats.db -s log:chats
    session-manager copy log:vip --prefix telegram: -s sqlite:chats.db"""
)
@click.argument("target")
@prefix_option
@json_option
@storage_option
def copy(storage: str, target: str, *, prefix: str, as_json: bool) -> int:
    """Copy sessions with their archives to TARGET, another storage, and compare each with its copy.

    Stop the program that writes to the storage first. The same command goes on after an interruption. Sessions that TARGET has
    in another version are left alone; the exit code is then 1.
    """
    if target == "memory:":
        raise click.UsageError("memory: is gone when this command ends: give a path, or a URL such as sqlite:chats.db")
    with progress_bar("Copying") as progress:
        report = operations.copy(storage, target, prefix=prefix, progress=progress)
    if as_json:
        json_value(report)
    else:
        for key in report.different:
            click.echo(f"{paint(one_line(key), 'cyan')}: {paint('the target has another version', 'red')}", err=True)
        for key, error in report.damaged.items():
            click.echo(f"{paint(one_line(key), 'cyan')}: {paint(one_line(str(error)), 'red')}", err=True)
        there = f", {len(report.present):,} were there already" if report.present else ""
        click.echo(f"{counted(len(report.copied), 'session')} copied{there}")
    return 0 if report.ok else FOUND
