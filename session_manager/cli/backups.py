"""The commands ``backup``, ``verify-backup`` and ``restore``: a storage is copied while a bot uses it, and put back."""

from __future__ import annotations

import click

from session_manager import operations
from session_manager.cli.exits import FOUND
from session_manager.cli.output import counted, json_value, print_findings
from session_manager.cli.parameters import json_option, storage_option, yes_option
from session_manager.cli.terminal import progress_bar
from session_manager.cli.text import amount, clock_time, one_line
from session_manager.errors import without_password
from session_manager.operations.verification import Backup

__all__ = ["backup", "restore", "verify_backup"]


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


@click.command(
    epilog="""\b
Examples:
    session-manager restore backups/monday -s log:chats
    session-manager restore backups/monday --discard --yes"""
)
@click.argument("target", metavar="BACKUP", type=click.Path())
@click.option("--discard", is_flag=True, help="Remove what is replaced; by default it is kept beside the storage.")
@yes_option
@json_option
@storage_option
def restore(storage: str, target: str, *, discard: bool, yes: bool, as_json: bool) -> int:
    """Put BACKUP in the place of the storage, whole and in one step. It asks first.

    Stop every program that uses the storage. Every byte of the backup is checked before anything is written. The exit code is 1
    if a session was damaged already when the backup was made.
    """
    if not yes:
        lost = "remove" if discard else "keep beside it"
        click.confirm(
            f"Put {one_line(target)} in the place of {one_line(without_password(storage))}, and {lost} what is there?",
            abort=True,
            err=True,
        )
    with progress_bar("Restoring") as progress:
        done = operations.restore(target, storage, keep=not discard, progress=progress)
    if as_json:
        json_value(done)
    else:
        for key in done.unreadable:
            click.echo(f"{one_line(key)}: was damaged in the backup already", err=True)
        click.echo(f"{one_line(done.path)}: {counted(done.sessions, 'session')}, {counted(done.messages, 'message')}")
        if done.replaced is not None:
            click.echo(f"what was there is kept as {one_line(done.replaced)}")
    return FOUND if done.unreadable else 0


def _tell(found: Backup, *, as_json: bool) -> int:
    """Print a backup, and return the exit code."""
    if as_json:
        json_value(found)
    else:
        print_findings([*found.damaged, *found.unreadable])
        what = f"{counted(found.sessions, 'session')}, {counted(found.messages, 'message')}, {amount(found.size)}"
        click.echo(f"{one_line(found.path)}: {what}, of {clock_time(found.made)}")
    return 0 if found.ok else FOUND
