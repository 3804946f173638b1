"""The command ``import``: sessions of other programs come in."""

from __future__ import annotations

from datetime import timezone as _fixed
from datetime import tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from session_manager.cli.exits import FOUND
from session_manager.cli.output import counted, json_value, table
from session_manager.cli.parameters import json_option, storage_option
from session_manager.cli.terminal import paint, progress_bar
from session_manager.cli.text import one_line
from session_manager.importers import FORMATS, ImportedFile, ImportReport, OnConflict, import_sessions

__all__ = ["import_", "print_report"]

#: How many files, and how many reasons, are shown one by one.
_FILES, _REASONS = 40, 50


def _zone(ctx: click.Context, param: click.Parameter, name: str | None) -> tzinfo | None:
    """Return the time zone of a name; `None` for this machine's.

    :raises click.BadParameter: if there is no such zone.
    """
    try:
        return None if name is None else _fixed.utc if name.upper() == "UTC" else ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        failure = click.BadParameter(f"{name!r} is no time zone, such as Europe/Berlin or UTC", ctx, param)
    raise failure


@click.command(
    "import",
    epilog="""\b
Examples:
    session-manager import ~/export/conversations.json -s sqlite:chats.db --dry-run
    session-manager import ~/export/conversations.json -s sqlite:chats.db
    session-manager import sessions --timezone Europe/Berlin --on-conflict append -s log:chats

\b
Formats:
    """
    + "\n    ".join(f"{name:<18}{what}" for name, what in FORMATS.items()),
)
@click.argument("source", type=click.Path())
@click.option(
    "--format",
    type=click.Choice(list(FORMATS)),
    metavar="FORMAT",
    help="The format of all files: see below. Without it, each is recognized.",
)
@click.option(
    "--on-conflict",
    type=click.Choice(["skip", "replace", "append", "fail"]),
    default="skip",
    show_default=True,
    help="What to do with a session that is there already.",
)
@click.option(
    "--timezone", metavar="ZONE", callback=_zone, help="The zone of times that name none; this machine's by default."
)
@click.option("--dry-run", is_flag=True, help="Import nothing, and say what would be imported.")
@json_option
@storage_option
def import_(
    storage: str,
    source: str,
    *,
    format: str | None,
    on_conflict: OnConflict,
    timezone: tzinfo | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Import the sessions of SOURCE, a file or directory of another program. SOURCE is only read.

    What cannot be imported is listed with its file and line; the exit code is then 1. The same command goes on after an
    interruption, and imports nothing twice.
    """
    with progress_bar("Importing") as progress:
        report = import_sessions(
            source,
            storage,
            format=format,
            on_conflict=on_conflict,
            dry_run=dry_run,
            timezone=timezone,
            progress=progress,
        )
    if as_json:
        json_value(report)
    else:
        print_report(report, "imported", dry_run=dry_run)
    return 0 if report.ok else FOUND


def print_report(report: ImportReport, done: str, *, dry_run: bool) -> None:
    """Print a table of the files, why something was left out, and the sum.

    :param done: what was done with them, such as ``imported``.
    """
    known = [file for file in report.files if file.format is not None]
    shown = known if len(known) <= _FILES else [file for file in known if file.skipped][:_FILES]
    if shown:
        table(
            ("FILE", "FORMAT", "SESSIONS", "MESSAGES", "THERE", "SKIPPED"),
            [_row(file) for file in shown],
            ("cyan", "dim", "", "", "dim", "red" if report.skipped else "dim"),
            numbers=(2, 3, 4, 5),
        )
    if len(shown) < len(known):
        click.echo(f"{counted(len(known) - len(shown), 'more file')}")
    _print_reasons(list(report.files))
    ignored = sum(file.format is None and not file.skipped for file in report.files)
    would = f"would be {done}" if dry_run else done
    there = f", {report.present:,} were there already" if report.present else ""
    other = f", {counted(ignored, 'file')} of no known format" if ignored else ""
    sums = f"{counted(report.sessions, 'session')} with {counted(report.messages, 'message')}"
    click.echo(f"{sums} {paint(would, 'bold')}{there}{other}")


def _row(file: ImportedFile) -> tuple[str, ...]:
    numbers = (file.sessions, file.messages, file.present, len(file.skipped))
    return (one_line(file.name), file.format or "", *(f"{number:,}" for number in numbers))


def _print_reasons(files: list[ImportedFile]) -> None:
    """Print why something was left out, one a line."""
    reasons = [(file, one) for file in files for one in file.skipped]
    for file, one in reasons[:_REASONS]:
        place = one_line(file.name) + ("" if one.line is None else f":{one.line}")
        who = "" if one.key is None else f" {paint(one_line(one.key), 'cyan')}"
        click.echo(f"{place}{who}: {paint(one_line(one.reason), 'red')}")
    if len(reasons) > _REASONS:
        click.echo(f"and {len(reasons) - _REASONS:,} more; --json shows all")
