"""The command ``erase``: sessions are deleted, and no byte of their texts stays in the storage."""

from __future__ import annotations

from collections.abc import Sequence

import click

from session_manager.cli.exits import FOUND, MISSING
from session_manager.cli.output import confirm, counted, json_value, print_findings, table
from session_manager.cli.parameters import (
    dry_run_option,
    json_option,
    key_argument,
    prefix_option,
    storage_option,
    yes_option,
)
from session_manager.cli.terminal import paint, progress_bar
from session_manager.cli.text import one_line
from session_manager.operations.erasing import ErasedSession, EraseReport
from session_manager.operations.erasing import erase as erase_sessions

__all__ = ["erase"]

_NO_WAY_BACK = "with every copy in the storage? There is no way back."


@click.command(
    epilog="""\b
Examples:
    session-manager erase telegram:42 --dry-run -s log:chats
    session-manager erase telegram:42 -s log:chats
    session-manager erase --prefix telegram:42: --yes --json

\b
The exit code is 1 if something of the text is left in the storage or beside it,
and 3 if there is nothing of a session that you name."""
)
@key_argument(required=False, several=True)
@prefix_option
@dry_run_option
@yes_option
@json_option
@storage_option
def erase(storage: str, keys: tuple[str, ...], *, prefix: str, dry_run: bool, yes: bool, as_json: bool) -> int:
    """Delete sessions, and leave no byte of their texts: in archives, quarantine, temporary files, or the index for search.

    A database is written anew for that. The report says what no erasure reaches, such as backups. It asks first. A storage of files must
    not be open in another program.
    """
    if bool(keys) == bool(prefix):
        raise click.UsageError("name the sessions, or give a --prefix: one of the two")
    if not dry_run and not yes:
        _ask(erase_sessions(storage, *keys, prefix=prefix, dry_run=True).sessions, keys)
    with progress_bar("Erasing") as progress:
        report = erase_sessions(storage, *keys, prefix=prefix, dry_run=dry_run, progress=progress)
    found = {one.key for one in report.sessions}
    missing = [key for key in dict.fromkeys(keys) if key not in found]
    if as_json:
        json_value(report)
    else:
        _tell(report)
    for key in missing:
        click.echo(f"session-manager: there is nothing of a session {one_line(key)!r}", err=True)
    return MISSING if missing else 0 if report.ok else FOUND


def _ask(found: Sequence[ErasedSession], keys: Sequence[str]) -> None:
    """Ask whether sessions may be erased.

    :raises click.Abort: if not.
    """
    if found or keys:
        confirm(f"Erase {counted(len(found), 'session')}, {_NO_WAY_BACK}", [one.key for one in found])


def _tell(report: EraseReport) -> None:
    if report.sessions:
        rows = [
            [
                one_line(one.key),
                _number(one.messages),
                _number(one.archived),
                f"{len(one.quarantined)}",
                f"{len(one.files)}",
            ]
            for one in report.sessions
        ]
        heads = ["KEY", "MESSAGES", "ARCHIVED", "QUARANTINED", "FILES"]
        table(heads, rows, ["cyan", "", "", "", ""], numbers=(1, 2, 3, 4))
    done = paint("would be erased" if report.dry_run else "erased", "bold")
    click.echo(f"{counted(len(report.sessions), 'session')} {done}")
    for key in report.finished:
        click.echo(f"{one_line(key)}: an erasure that was cut short is finished")
    for reason in report.waits:
        click.echo(paint(one_line(reason), "red"))
    print_findings(report.left)
    click.echo("An erasure does not reach:", err=True)
    for place in report.unreachable:
        click.echo(f"  {place}", err=True)


def _number(count: int | None) -> str:
    """Return a count of messages; ``?`` of a damaged session."""
    return "?" if count is None else f"{count:,}"
