"""The command ``ls``: the sessions of a storage, as a table."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import datetime, timezone
from typing import Any

import click

from session_manager.cli.output import json_list, table
from session_manager.cli.parameters import json_option, prefix_option, storage_option, where_option
from session_manager.cli.terminal import columns, is_terminal, paint
from session_manager.cli.text import age, amount, clock_time, one_line
from session_manager.manager.manager import SessionManager
from session_manager.stores.contract import SessionInfo
from session_manager.stores.order import recency
from session_manager.stores.urls import open_store

__all__ = ["ls"]

_SORTS = ("recent", "messages", "bytes", "key")
_LEAST = 20


@click.command(
    epilog="""\b
Examples:
    session-manager ls -s log:chats --limit 20
    session-manager ls --prefix telegram: --where language=de --sort messages
    session-manager ls --json | jq -r '.[].key'"""
)
@click.option(
    "--sort", type=click.Choice(_SORTS), default="recent", show_default=True, help="The order; largest first."
)
@click.option("--limit", type=click.IntRange(min=1), help="How many sessions at most.")
@prefix_option
@where_option
@json_option
@storage_option
def ls(storage: str, *, sort: str, limit: int | None, prefix: str, where: Mapping[str, Any], as_json: bool) -> None:
    """List the sessions, the most recent first.

    Times are UTC. AGE is that of the last message, or of the last change of a session without messages.
    """
    store = open_store(storage, read_only=True)
    with closing(store), SessionManager(store, read_only=True) as manager:
        sizes = store.sizes(prefix) if sort == "bytes" else {}
        if sort in ("recent", "key"):
            infos = manager.list_sessions(prefix, where=where, order="key" if sort == "key" else "recent", limit=limit)
        else:
            infos = manager.list_sessions(prefix, where=where)
            infos.sort(key=(lambda info: -sizes.get(info.key, 0)) if sort == "bytes" else (lambda info: -info.count))
            infos = infos[:limit]
    if as_json:
        json_list(infos)
    elif infos:
        _show(infos, sizes.get if sort == "bytes" else None)
    else:
        click.echo("no sessions", err=True)


def _show(infos: list[SessionInfo], size_of: Callable[[str], int | None] | None) -> None:
    now = datetime.now(timezone.utc)
    rows = [_row(info, size_of, now) for info in infos]
    heads, colours = ["KEY", "MESSAGES", "LAST", "AGE"], ["cyan", "", "", "dim"]
    if size_of is not None:
        heads.insert(2, "BYTES")
        colours.insert(2, "")
    if any(row[-1] for row in rows):
        heads.append("NOTES")
        colours.append("")
        if is_terminal(sys.stdout):
            room = columns() - sum(max(len(row[at]) for row in rows) + 2 for at in range(len(heads) - 1))
            rows = [[*row[:-1], _note(row[-1], max(room, _LEAST))] for row in rows]
    else:
        rows = [row[:-1] for row in rows]
    numbers = (1, 2, 4) if size_of is not None else (1, 3)
    table(heads, rows, colours, numbers)


def _row(info: SessionInfo, size_of: Callable[[str], int | None] | None, now: datetime) -> list[str]:
    time = recency(info)
    sizes = [] if size_of is None else [amount(size_of(info.key))]
    count = "?" if info.error is not None else f"{info.count:,}"
    return [one_line(info.key), count, *sizes, clock_time(time), age(time, now), _notes(info)]


def _notes(info: SessionInfo) -> str:
    if info.error is not None:
        return f"damaged: {one_line(getattr(info.error, 'reason', str(info.error)))}"
    notes = ["summary"] if info.has_summary else []
    if info.expires_after is not None:
        notes.append(f"expires after {info.expires_after.total_seconds() / 86_400:g}d")
    return ", ".join(notes)


def _note(text: str, room: int) -> str:
    short = text if len(text) <= room else f"{text[: room - 1]}…"
    return paint(short, "red") if text.startswith("damaged") else paint(short, "dim")
