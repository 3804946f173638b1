"""The command ``stats``: how many sessions, messages and bytes a storage has."""

from __future__ import annotations

from datetime import datetime, timezone

import click

from session_manager.cli.output import json_value, table
from session_manager.cli.parameters import json_option, prefix_option, storage_option
from session_manager.cli.terminal import paint, progress_bar
from session_manager.cli.text import age, amount, clock_time, one_line
from session_manager.operations.statistics import Stats
from session_manager.operations.statistics import stats as figures_of

__all__ = ["stats"]

_MOST_GROUPS = 20


@click.command(
    epilog="""\b
Examples:
    session-manager stats -s log:chats
    session-manager stats --prefix telegram: --json"""
)
@prefix_option
@json_option
@storage_option
def stats(storage: str, *, prefix: str, as_json: bool) -> None:
    """Count sessions, messages and bytes, in all and by the first part of the keys."""
    with progress_bar("Counting") as progress:
        found = figures_of(storage, prefix=prefix, progress=progress)
    if as_json:
        json_value(found)
    else:
        _show(found)


def _show(found: Stats) -> None:
    now = datetime.now(timezone.utc)
    click.echo(paint(one_line(found.storage), "bold"))
    damaged = paint(f"{found.damaged:,} damaged", "red") if found.damaged else "none damaged"
    lines = [
        ("sessions", f"{found.sessions:,}, {damaged}"),
        ("messages", f"{found.messages:,}"),
        ("summaries", f"{found.summaries:,}"),
        ("expiring", f"{found.expiring:,}"),
        ("bytes", f"{amount(found.bytes)}, of {amount(found.total_bytes)} in the storage"),
        ("oldest", clock_time(found.oldest) or "-"),
        ("latest", f"{clock_time(found.latest)}, {age(found.latest, now)} ago" if found.latest else "-"),
    ]
    for name, value in lines:
        click.echo(f"  {paint(f'{name:<10}', 'dim')}{value}")
    if found.groups:
        click.echo()
        groups = sorted(found.groups.items(), key=lambda item: -item[1].sessions)
        rows = [
            [one_line(first) or "(one part)", f"{group.sessions:,}", f"{group.messages:,}", amount(group.bytes)]
            for first, group in groups[:_MOST_GROUPS]
        ]
        if len(groups) > _MOST_GROUPS:
            rows.append([f"{len(groups) - _MOST_GROUPS:,} more", "", "", ""])
        table(["KEYS OF", "SESSIONS", "MESSAGES", "BYTES"], rows, ["cyan", "", "", ""], numbers=(1, 2, 3))
