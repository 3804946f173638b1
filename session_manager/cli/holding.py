"""The command ``holder``: which process has a storage open."""

from __future__ import annotations

import click

from session_manager import operations
from session_manager.cli.output import json_value
from session_manager.cli.parameters import json_option, storage_option
from session_manager.cli.terminal import paint
from session_manager.cli.text import clock_time, one_line
from session_manager.operations.holding import Holder

__all__ = ["holder"]


@click.command(
    epilog="""\b
Examples:
    session-manager holder -s log:chats
    session-manager holder --json -s sqlite:chats.db"""
)
@json_option
@storage_option
def holder(storage: str, *, as_json: bool) -> None:
    """Name the process that has the storage open for writing. It takes no lock.

    A process that was killed leaves its name, and does not keep others from opening the storage.
    """
    found = operations.holder(storage)
    if as_json:
        json_value(found)
    elif found is None:
        click.echo("no process has it open")
    else:
        click.echo(_line(found))
        for pid in found.others:
            click.echo(f"process {pid}")


def _line(one: Holder) -> str:
    process = "a process" if one.pid is None else f"process {one.pid}"
    host = "" if one.host is None else f" on {one_line(one.host)}"
    since = "" if one.since is None else f" since {clock_time(one.since)}"
    state = paint(", which has ended: the storage is free", "red") if one.alive is False else ""
    return f"{process}{host}{since}{state}"
