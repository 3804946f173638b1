"""The commands ``verify`` and ``compact``: a check of everything, and space that is given back."""

from __future__ import annotations

import click

from session_manager import operations
from session_manager.cli.exits import FOUND
from session_manager.cli.output import counted, json_list, json_value, print_findings
from session_manager.cli.parameters import json_option, key_argument, storage_option
from session_manager.cli.terminal import paint, progress_bar
from session_manager.cli.text import amount, one_line
from session_manager.errors import SessionNotFoundError
from session_manager.model.key import check_key
from session_manager.stores.opening import opened

__all__ = ["compact", "verify"]


@click.command(
    epilog="""\b
Examples:
    session-manager verify -s log:chats
    session-manager verify telegram:42 --json"""
)
@key_argument(required=False)
@json_option
@storage_option
def verify(storage: str, key: str | None, *, as_json: bool) -> int:
    """Read every session and archive, or those of KEY, and report what is damaged.

    The exit code is 1 if there is something. It only reads, and does not disturb a running bot.
    """
    if key is not None:
        with opened(storage, read_only=True) as store:
            findings = list(dict.fromkeys(store.verify(check_key(key))))
            if not findings and store.version(key) is None:
                raise SessionNotFoundError(key)
    else:
        with progress_bar("Verifying") as progress:
            findings = operations.verify(storage, progress=progress)
    if as_json:
        json_list(findings)
    else:
        print_findings(findings)
        flaws = "no flaws" if not findings else counted(len(findings), "flaw")
        click.echo(paint(flaws, "red" if findings else "green"), err=bool(findings))
    return FOUND if findings else 0


@click.command(
    epilog="""\b
Examples:
    session-manager compact -s sqlite:chats.db
    session-manager compact telegram:42 -s log:chats"""
)
@key_argument(required=False)
@json_option
@storage_option
def compact(storage: str, key: str | None, *, as_json: bool) -> int:
    """Give back the space that dropped and replaced text takes, of all sessions or of KEY.

    What the sessions say stays the same. A storage of files must not be open in another program. The exit code is 1 if a damaged
    session was left alone.
    """
    with progress_bar("Compacting") as progress:
        report = operations.compact(storage, key, progress=progress)
    if as_json:
        json_value(report)
    else:
        for one, error in report.damaged.items():
            click.echo(f"{paint(one_line(one), 'cyan')}: {paint(one_line(str(error)), 'red')}", err=True)
        click.echo(f"{counted(report.sessions, 'session')}: {amount(report.before)} before, {amount(report.after)} now")
    return FOUND if report.damaged else 0
