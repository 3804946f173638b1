"""The command ``show``: the messages of a session, as a transcript or as data."""

from __future__ import annotations

import click

from session_manager.cli.output import counted, json_value
from session_manager.cli.parameters import json_option, key_argument, storage_option
from session_manager.cli.text import clock_time, to_json
from session_manager.cli.transcript import print_messages, print_title
from session_manager.errors import SessionNotFoundError
from session_manager.model.key import check_key
from session_manager.model.message import Message
from session_manager.model.window import window
from session_manager.stores.contract import SessionInfo, Store
from session_manager.stores.opening import opened

__all__ = ["show"]

_LAST = 20


@click.command(
    epilog="""\b
Examples:
    session-manager show telegram:42 -s log:chats
    session-manager show telegram:42 --last 5 --before 120
    session-manager show telegram:42 --raw > messages.jsonl"""
)
@key_argument()
@click.option(
    "--last", type=click.IntRange(min=1), help=f"How many messages; {_LAST} by default, all with --raw or --json."
)
@click.option(
    "--before", type=click.IntRange(min=0), metavar="POSITION", help="Only messages before this one, by its #."
)
@click.option("--all", "all_messages", is_flag=True, help="All messages.")
@click.option("--archive", is_flag=True, help="The archived messages instead: those that were truncated or summarized.")
@click.option("--unfold", is_flag=True, help="Calls and their results whole, not in a line each.")
@click.option("--raw", is_flag=True, help="The messages as they were given: a JSON object a line.")
@json_option
@storage_option
def show(
    storage: str,
    key: str,
    *,
    last: int | None,
    before: int | None,
    all_messages: bool,
    archive: bool,
    unfold: bool,
    raw: bool,
    as_json: bool,
) -> None:
    """Show the messages of a session, the newest at the end.

    In a terminal Markdown is drawn. A call of a tool, and its result, is a line. Times are UTC.
    """
    if all_messages and last is not None:
        raise click.UsageError("give --last or --all, not both")
    limit = last if last is not None or all_messages or raw or as_json else _LAST
    with opened(storage, read_only=True) as store:
        info, summary, messages = _read(store, check_key(key), limit, before, archive=archive)
    if raw:
        for message in messages:
            click.echo(to_json(message.to_dict()))
    elif as_json:
        json_value({"session": info, "summary": summary, "messages": messages})
    else:
        first = messages[0].position if messages else None
        hidden = archive or first is None or first <= info.start
        earlier = "" if hidden else f"earlier messages: --before {first}"
        print_title(info.key, _notes(info), "" if archive or before is not None else summary, earlier)
        print_messages(messages, unfold=unfold)


def _read(
    store: Store, key: str, limit: int | None, before: int | None, *, archive: bool
) -> tuple[SessionInfo, str, list[Message]]:
    """Return the description of a session, its summary, and some messages. One read of the session, if it can be.

    :raises SessionNotFoundError: if there is none.
    """
    info = store.describe(key)
    if info is None:
        raise SessionNotFoundError(key)
    if archive:
        old = [one for one in store.archive(key) if before is None or (one.position or 0) < before]
        return info, "", old if limit is None else old[-limit:]
    if store.windowed and not info.has_summary:
        return info, "", store.window(key, limit=limit, before=before) or []
    session = store.load(key)
    if session is None:
        raise SessionNotFoundError(key)
    return SessionInfo.of(session), session.summary, window(session, limit=limit, before=before)


def _notes(info: SessionInfo) -> str:
    notes = [counted(info.count, "message"), f"created {clock_time(info.created)}"]
    if info.expires_after is not None:
        notes.append(f"expires after {info.expires_after.total_seconds() / 86_400:g} days")
    return ", ".join(notes)
