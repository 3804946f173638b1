"""The command ``export``: a session as a text or a page, and several of them as JSON."""

from __future__ import annotations

import os
import re
import sys
from typing import BinaryIO, cast, get_args

import click

from session_manager import exporters
from session_manager.cli.exits import FOUND
from session_manager.cli.output import counted
from session_manager.cli.parameters import key_argument, storage_option
from session_manager.cli.terminal import paint, progress_bar
from session_manager.cli.text import one_line

__all__ = ["export"]

#: The endings of file names that tell the format.
_ENDINGS: dict[str, exporters.Format] = {
    ".md": "md",
    ".markdown": "md",
    ".txt": "text",
    ".json": "json",
    ".jsonl": "jsonl",
    ".html": "html",
    ".htm": "html",
}
_SEVERAL = ("json", "jsonl")
#: Characters that could steer a terminal, and are not escaped in JSON.
_STEERING = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@click.command(
    epilog="""\b
Examples:
    session-manager export telegram:42 -o chat.html -s log:chats
    session-manager export telegram:42 > chat.md
    session-manager export --prefix telegram: -o chats.jsonl

\b
Formats:
    md      a transcript in Markdown
    text    a transcript in plain text
    json    all of a session; 'import' brings it back without a loss
    jsonl   a line {"messages": [...]} for fine-tuning; 'import' brings it back
    html    a page that looks like a chat and works offline""",
)
@key_argument(required=False)
@click.option("-o", "--output", type=click.Path(), help="The file, which is replaced. Without it: standard output.")
@click.option(
    "-f",
    "--format",
    type=click.Choice(list(get_args(exporters.Format))),
    metavar="FORMAT",
    help="See below. By default what the file's name ends with, or md.",
)
@click.option("--prefix", help="Instead of KEY: all sessions whose keys start with this text; '' for all.")
@click.option("--no-archive", is_flag=True, help="Without the archived messages.")
@storage_option
def export(
    storage: str,
    key: str | None,
    *,
    output: str | None,
    format: exporters.Format | None,
    prefix: str | None,
    no_archive: bool,
) -> int:
    """Export a session, or with json and jsonl all whose keys start so, while a bot uses the storage.

    What the bot has not saved yet is not there. A damaged session is left out of several; the exit code is then 1.
    """
    chosen = format or _ENDINGS.get(os.path.splitext(output or "")[1].lower(), "md")
    if (key is None) == (prefix is None):
        raise click.UsageError("give KEY for one session, or --prefix for several")
    target = output if output is not None else _standard_output()
    if key is not None:
        try:
            exporters.export(storage, key, chosen, target, archive=not no_archive)
        except ImportError as lack:
            raise click.UsageError(str(lack)) from None
        return 0
    if chosen not in _SEVERAL:
        raise click.UsageError(f"--prefix needs --format {' or '.join(_SEVERAL)}: {chosen} has one session")
    with progress_bar("Exporting") as progress:
        report = exporters.export_sessions(
            storage,
            target,
            "json" if chosen == "json" else "jsonl",
            prefix=prefix or "",
            archive=not no_archive,
            progress=progress,
        )
    for damaged, error in report.damaged.items():
        click.echo(f"{paint(one_line(damaged), 'cyan')}: {paint(one_line(str(error)), 'red')}", err=True)
    sums = f"{counted(len(report.exported), 'session')} with {counted(report.messages, 'message')} exported"
    click.echo(sums, err=output is None)
    return 0 if report.ok else FOUND


def _standard_output() -> BinaryIO:
    stream = sys.stdout.buffer
    return cast("BinaryIO", _Terminal(stream)) if sys.stdout.isatty() else stream


class _Terminal:
    """Standard output, where a person looks at it: what could steer the terminal is shown as an escape."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, data: bytes) -> int:
        """Write bytes that are whole characters."""
        text = _STEERING.sub(lambda match: f"\\u{ord(match.group()):04x}", data.decode())
        return self._stream.write(text.encode())
