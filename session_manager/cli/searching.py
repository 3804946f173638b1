"""The command ``search``: messages that contain a text."""

from __future__ import annotations

import click

from session_manager.cli.output import json_list
from session_manager.cli.parameters import json_option, keys_of, prefix_option, storage_option
from session_manager.cli.terminal import paint
from session_manager.cli.text import clock_time, one_line
from session_manager.errors import SessionNotFoundError
from session_manager.history.search import SearchHit, case_fold
from session_manager.model.key import check_key
from session_manager.stores.opening import opened

__all__ = ["search"]

_MARK = "**"


@click.command(
    epilog="""\b
Examples:
    session-manager search Lisbon -s log:chats
    session-manager search "boarding pass" --prefix telegram: --limit 5
    session-manager search Lisbon --key telegram:42 --json"""
)
@click.argument("text")
@click.option("--key", help="Only in this session.", shell_complete=keys_of)
@prefix_option
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many messages at most.")
@json_option
@storage_option
def search(storage: str, text: str, *, key: str | None, prefix: str, limit: int, as_json: bool) -> None:
    """Find messages that contain TEXT, best first, also archived ones.

    TEXT stands for itself, and matches inside of words, upper and lower case alike.
    """
    if not text:
        raise click.UsageError("TEXT must not be empty")
    with opened(storage, read_only=True) as store:
        if key is not None and store.version(check_key(key)) is None:
            raise SessionNotFoundError(key)
        hits = store.search(text, key=key, prefix=prefix, limit=limit)
    if as_json:
        json_list(hits)
        return
    for hit in hits:
        where = f"{paint(one_line(hit.key), 'cyan')} #{hit.position}"
        click.echo(f"{where}  {one_line(hit.role or 'item')}  {paint(clock_time(hit.created_at), 'dim')}")
        click.echo(f"    {_snippet(hit, text)}")
    if not hits:
        click.echo("nothing found", err=True)


def _snippet(hit: SearchHit, text: str) -> str:
    """Return the text around a match in one line, the match in a colour; without colours between ``**``."""
    # The first match is the one between the marks: the text before it has no match.
    start = case_fold(hit.snippet).find(f"{_MARK}{case_fold(text)}{_MARK}")
    end = start + len(_MARK) + len(text)
    before, match, after = hit.snippet[:start], hit.snippet[start + len(_MARK) : end], hit.snippet[end + len(_MARK) :]
    shown = paint(one_line(match), "match")
    marks = _MARK if shown == one_line(match) else ""
    return f"{_flat(before)}{marks}{shown}{marks}{_flat(after)}"


def _flat(text: str) -> str:
    return one_line(text.replace("\n", " "))
