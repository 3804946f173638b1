"""The commands ``salvage`` and ``accept-edits``: sessions that are damaged, or were edited by hand, are put right."""

from __future__ import annotations

import click

from session_manager import operations
from session_manager.cli.exits import FOUND
from session_manager.cli.output import counted, json_value, print_findings
from session_manager.cli.parameters import json_option, key_argument, storage_option
from session_manager.cli.terminal import paint, progress_bar
from session_manager.cli.text import one_line
from session_manager.errors import SessionNotFoundError
from session_manager.operations.salvaging import SalvagedSession

__all__ = ["accept_edits", "salvage"]

_MOST = 10


@click.command(
    epilog="""\b
Examples:
    session-manager salvage -s log:chats
    session-manager salvage telegram:42 --json > telegram-42.json
    session-manager salvage telegram:42 --write"""
)
@key_argument(required=False)
@click.option("--write", is_flag=True, help="Put the sessions right: the damaged bytes go to quarantine first.")
@json_option
@storage_option
def salvage(storage: str, key: str | None, *, write: bool, as_json: bool) -> int:
    """Find every message of damaged sessions that is whole, and name what is missing.

    It only reads, and a bot may run; with --write a storage of files must not be open elsewhere. Read what it finds first. The
    exit code is 1 while something is damaged.
    """
    with progress_bar("Salvaging") as progress:
        report = operations.salvage(storage, key, write=write, progress=progress)
    if key is not None and not report.sessions:
        raise SessionNotFoundError(key)
    if as_json:
        json_value(report)
    else:
        damaged = [one for one in report.sessions if one.findings]
        for session in damaged:
            _show(session)
        click.echo("nothing is damaged" if not damaged else f"{counted(len(damaged), 'session')} of {report.checked:,}")
    return 0 if report.ok else FOUND


def _show(session: SalvagedSession) -> None:
    found = f"{counted(len(session.messages), 'message')} whole"
    archived = f", {len(session.archived):,} archived" if session.archived else ""
    lost = "an unknown number lost" if session.lost is None else f"{session.lost:,} lost"
    click.echo(f"{paint(one_line(session.key), 'cyan')}: {found}{archived}, {lost}")
    print_findings(session.findings)
    if session.missing:
        ranges = [f"#{gap.first}" if gap.first == gap.last else f"#{gap.first}-{gap.last}" for gap in session.missing]
        click.echo(f"  missing: {_some(ranges)}")
    if session.doubtful:
        click.echo(f"  read before you trust them: {_some([f'#{position}' for position in session.doubtful])}")
    for name in session.quarantined:
        click.echo(f"  in quarantine: {one_line(name)}")
    if session.written:
        click.echo(f"  {paint('put right', 'green')}")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _MOST:,} more" if len(names) > _MOST else ""
    return ", ".join(names[:_MOST]) + more


@click.command(
    epilog="""\b
Example:
    session-manager accept-edits telegram:42 -s snapshot:chats"""
)
@key_argument()
@json_option
@storage_option
def accept_edits(storage: str, key: str, *, as_json: bool) -> None:
    """Take the session KEY as it is in its file now, after you have edited it by hand, and sign it again.

    Use it only for what you have changed yourself; for damage there is salvage. The edited bytes are copied to quarantine first. A
    storage of files must not be open in another program.
    """
    done = operations.accept_edits(storage, key)
    if as_json:
        json_value(done)
    else:
        what = "signed" if done.signed else "every checksum was right already"
        click.echo(f"{paint(one_line(done.key), 'cyan')}: {counted(done.messages, 'message')}, {what}")
