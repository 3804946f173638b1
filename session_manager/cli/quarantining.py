"""The commands ``quarantine ls``, ``quarantine show`` and ``quarantine purge``: damaged bytes that were moved aside."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone

import click

from session_manager.cli.output import counted, json_list, table
from session_manager.cli.parameters import age_option, json_option, keys_of, storage_option, yes_option
from session_manager.cli.text import age, amount, clock_time, one_line
from session_manager.operations import quarantine as kept
from session_manager.stores.descriptions import Quarantined

__all__ = ["ls", "purge", "quarantine", "show"]

_SHOWN = 20
_key_option = click.option("--key", help="Only of this session.", shell_complete=keys_of)


@click.group(
    epilog="""\b
Examples:
    session-manager quarantine ls -s log:chats
    session-manager quarantine show NAME > bytes
    session-manager quarantine purge --older-than 90d"""
)
def quarantine() -> None:
    """Look at damaged bytes that were moved aside, and remove them.

    They go to quarantine before a damaged session is deleted or put right. They hold texts of the session.
    """


@quarantine.command(
    epilog="""\b
Example:
    session-manager quarantine ls --key telegram:42"""
)
@_key_option
@json_option
@storage_option
def ls(storage: str, *, key: str | None, as_json: bool) -> None:
    """List what is in quarantine, the oldest first."""
    found = kept.list(storage, key=key)
    if as_json:
        json_list(found)
    elif found:
        _show(found)
    else:
        click.echo("nothing is in quarantine", err=True)


@quarantine.command(
    epilog="""\b
Example:
    session-manager quarantine show NAME > bytes"""
)
@click.argument("name")
@storage_option
def show(storage: str, name: str) -> None:
    """Print the damaged bytes NAME as they are: to a file, as they may hold anything."""
    click.echo(kept.show(storage, name), nl=False)


@quarantine.command(
    epilog="""\b
Examples:
    session-manager quarantine purge NAME
    session-manager quarantine purge --key telegram:42 --yes
    session-manager quarantine purge --older-than 90d --yes"""
)
@click.argument("name", required=False)
@_key_option
@age_option
@yes_option
@json_option
@storage_option
def purge(
    storage: str,
    name: str | None,
    *,
    key: str | None,
    older_than: timedelta | datetime | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Remove NAME from quarantine, or all that the options allow. There is no way back. It asks first."""
    since = datetime.now(timezone.utc) - older_than if isinstance(older_than, datetime) else older_than
    if since is not None and since < timedelta():
        raise click.UsageError("--older-than must not be in the future")
    if not yes:
        _ask(_chosen(kept.list(storage, key=key), name, since))
    removed = kept.purge(storage, name, key=key, older_than=since)
    if as_json:
        json_list(removed)
    else:
        click.echo(f"{counted(len(removed), 'piece')} removed")


def _chosen(found: Sequence[Quarantined], name: str | None, since: timedelta | None) -> list[Quarantined]:
    """Return what the question is about."""
    before = None if since is None else datetime.now(timezone.utc) - since
    return [one for one in found if name in (None, one.name) and (before is None or one.moved <= before)]


def _ask(chosen: Sequence[Quarantined]) -> None:
    """Ask whether these may be removed; nothing is asked about nothing.

    :raises click.Abort: if not.
    """
    if chosen:
        for one in chosen[:_SHOWN]:
            click.echo(f"  {one_line(one.name)}  {one_line(one.key or '?')}", err=True)
        if len(chosen) > _SHOWN:
            click.echo(f"  and {len(chosen) - _SHOWN:,} more", err=True)
        click.confirm(f"Remove {counted(len(chosen), 'piece')}?", abort=True, err=True)


def _show(found: Sequence[Quarantined]) -> None:
    now = datetime.now(timezone.utc)
    rows = [
        [one_line(one.name), one_line(one.key or "?"), amount(one.size), clock_time(one.moved), age(one.moved, now)]
        for one in found
    ]
    table(["NAME", "KEY", "BYTES", "MOVED", "AGE"], rows, ["", "cyan", "", "", "dim"], numbers=(2,))
