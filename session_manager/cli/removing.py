"""The commands ``delete`` and ``expire``: sessions are deleted, by their keys or because of their age."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import click

from session_manager.arguments import Progress
from session_manager.cli.output import confirm, counted, json_value
from session_manager.cli.parameters import (
    age_option,
    dry_run_option,
    json_option,
    key_argument,
    prefix_option,
    storage_option,
    where_option,
    yes_option,
)
from session_manager.cli.terminal import paint, progress_bar
from session_manager.cli.text import one_line
from session_manager.errors import CorruptSessionError, SessionNotFoundError, UnsupportedFormatError
from session_manager.manager.manager import SessionManager
from session_manager.model.key import check_key
from session_manager.stores.contract import Store
from session_manager.stores.opening import opened

__all__ = ["delete", "expire"]


@click.command(
    epilog="""\b
Examples:
    session-manager delete telegram:42 -s log:chats
    session-manager delete --prefix test: --dry-run
    session-manager delete --prefix test: --yes"""
)
@key_argument(required=False, several=True)
@prefix_option
@dry_run_option
@yes_option
@json_option
@storage_option
def delete(storage: str, keys: tuple[str, ...], *, prefix: str, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Delete sessions and their archives: those that you name, or those of a --prefix. It asks first.

    Damaged ones are moved to quarantine. A storage of files must not be open in another program.
    """
    if bool(keys) == bool(prefix):
        raise click.UsageError("name the sessions, or give a --prefix: one of the two")
    with opened(storage, read_only=dry_run) as store:
        wanted = sorted(store.keys(prefix)) if prefix else [_there(store, key) for key in keys]
        if dry_run or not wanted:
            _tell(wanted, dry_run=dry_run, as_json=as_json)
            return
        _ask(wanted, yes=yes)
        with progress_bar("Deleting") as progress:
            deleted = _deleted(store, wanted, progress)
    _tell(deleted, dry_run=False, as_json=as_json)


def _deleted(store: Store, keys: Sequence[str], progress: Progress | None) -> list[str]:
    """Delete sessions; return the keys of those that were there."""
    deleted = []
    for number, key in enumerate(keys, 1):
        if store.delete(key):
            deleted.append(key)
        if progress is not None:
            progress(number, len(keys), key)
    return deleted


def _there(store: Store, key: str) -> str:
    """Return a key that the storage has, damaged or not."""
    try:
        if store.version(check_key(key)) is None:
            raise SessionNotFoundError(key)
    except (CorruptSessionError, UnsupportedFormatError):
        pass
    return key


@click.command(
    epilog="""\b
Examples:
    session-manager expire --older-than 90d --dry-run -s log:chats
    session-manager expire --older-than 30d --where tier=free --yes
    session-manager expire --yes"""
)
@age_option
@prefix_option
@where_option
@dry_run_option
@yes_option
@json_option
@storage_option
def expire(
    storage: str,
    *,
    older_than: timedelta | datetime | None,
    prefix: str,
    where: Mapping[str, Any],
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Delete the sessions whose last message is older than AGE; without it, those whose own expiry has passed. It asks first.

    Of a session without messages its last change counts. Damaged sessions stay.
    """
    with SessionManager(storage, read_only=dry_run) as manager:
        old = manager.expire(older_than, prefix=prefix, where=where, dry_run=True)
        if not dry_run and old:
            _ask(old, yes=yes)
            old = manager.expire(older_than, prefix=prefix, where=where)
    _tell(old, dry_run=dry_run, as_json=as_json)


def _ask(keys: Sequence[str], *, yes: bool) -> None:
    """Ask whether sessions may be deleted.

    :raises click.Abort: if not.
    """
    if not yes:
        confirm(f"Delete {counted(len(keys), 'session')}?", keys)


def _tell(keys: Sequence[str], *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        json_value({"dry_run": dry_run, "deleted": list(keys)})
        return
    if dry_run:
        for key in keys:
            click.echo(one_line(key))
    click.echo(
        f"{counted(len(keys), 'session')} {paint('would be deleted' if dry_run else 'deleted', 'bold')}", err=dry_run
    )
