"""The commands ``backup`` and ``verify-backup``: a storage is copied while a bot uses it, and the copy is checked."""

from __future__ import annotations

import click

from session_manager import operations
from session_manager.cli.exits import FOUND
from session_manager.cli.output import counted, json_value, print_findings
from session_manager.cli.parameters import json_option, storage_option
from session_manager.cli.terminal import progress_bar
from session_manager.cli.text import amount, clock_time, one_line
from session_manager.operations.verification import Backup

__all__ = ["backup", "verify_backup"]


@click.command(
    epilog="""\b
Examples:
    session-manager backup backups/monday -s log:chats
    session-manager backup "backups/$(date +%F)" && session-manager verify-backup "backups/$(date +%F)\""""
)
@click.argument("target", type=click.Path())
@json_option
@storage_option
def backup(storage: str, target: str, *, as_json: bool) -> int:
    """Copy the storage to TARGET, a new directory, while a bot uses it.

    TARGET has its name when the backup is whole. Each session is as it was at one moment, with its archive. The exit code is 1 if a
    session is damaged; its bytes are copied as they are.
    """
    with progress_bar("Backing up") as progress:
        made = operations.backup(storage, target, progress=progress)
    return _tell(made, as_json=as_json)


@click.command(
    epilog="""\b
Examples:
    session-manager verify-backup backups/monday
    session-manager verify-backup backups/monday --json"""
)
@click.argument("target", metavar="BACKUP", type=click.Path())
@json_option
def verify_backup(target: str, *, as_json: bool) -> int:
    """Check BACKUP: every byte against its manifest, then every session. Nothing is written.

    The exit code is 1 if something is damaged.
    """
    with progress_bar("Verifying") as progress:
        found = operations.verify_backup(target, progress=progress)
    return _tell(found, as_json=as_json)


def _tell(found: Backup, *, as_json: bool) -> int:
    """Print a backup, and return the exit code."""
    if as_json:
        json_value(found)
    else:
        print_findings([*found.damaged, *found.unreadable])
        what = f"{counted(found.sessions, 'session')}, {counted(found.messages, 'message')}, {amount(found.size)}"
        click.echo(f"{one_line(found.path)}: {what}, of {clock_time(found.made)}")
    return 0 if found.ok else FOUND
