"""The command and its subcommands. The module of a subcommand is imported when it is run."""

from __future__ import annotations

import contextlib
import importlib
import io
import keyword
import os
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import click

import session_manager
from session_manager.cli.exits import FOUND, INTERRUPTED, PIPE_CLOSED, told
from session_manager.errors import SessionManagerError

__all__ = ["COMMANDS", "Program", "program"]


class _Place(NamedTuple):
    """Where a subcommand is, and what the list of them says of it."""

    module: str
    help: str


#: The subcommands, by the headings of the list.
COMMANDS: Mapping[str, Mapping[str, _Place]] = {
    "Look": {
        "ls": _Place("listing", "List the sessions, the most recent first."),
        "show": _Place("showing", "Show the messages of a session."),
        "search": _Place("searching", "Find messages that contain a text."),
        "stats": _Place("figures", "Count sessions, messages and bytes."),
        "holder": _Place("holding", "Name the process that has the storage open."),
    },
    "Check and mend": {
        "verify": _Place("checking", "Read everything, and report what is damaged."),
        "salvage": _Place("mending", "Find what is whole of damaged sessions, and put them right."),
        "accept-edits": _Place("mending", "Sign a session that you have edited by hand."),
        "quarantine": _Place("quarantining", "Look at damaged bytes that were moved aside, and remove them."),
        "compact": _Place("checking", "Give back the space that dropped text takes."),
    },
    "Move": {
        "backup": _Place("backups", "Copy the whole storage to a new directory, while a bot uses it."),
        "verify-backup": _Place("backups", "Check every byte and session of a backup."),
        "restore": _Place("backups", "Put a backup in the place of the storage."),
        "copy": _Place("moving", "Copy sessions to another storage, and compare them."),
    },
    "Move in and out": {
        "import": _Place("importing", "Import sessions of other programs' files."),
        "adopt": _Place("adopting", "Make a directory of picoclaw's sessions one of ours, in place."),
        "export": _Place("exporting", "Export a session as text, JSON or a page for a browser."),
    },
    "Remove": {
        "expire": _Place("removing", "Delete sessions whose last message is too old."),
        "delete": _Place("removing", "Delete sessions by their keys."),
        "erase": _Place("erasing", "Delete sessions, and every copy of their texts in the storage."),
    },
    "Shell": {
        "completion": _Place("completion", "Print the script that completes commands and keys."),
    },
}
_PLACES = {name: place for commands in COMMANDS.values() for name, place in commands.items()}


class Program(click.Group):
    """The command: it finds its subcommands by the table above, and tells each mistake of a user in one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - what click gives
        """Return the names of the subcommands, in the order of the list."""
        return list(_PLACES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - what click gives
        """Return a subcommand, and import its module."""
        place = _PLACES.get(cmd_name)
        if place is None:
            return None
        module = importlib.import_module(f"session_manager.cli.{place.module}")
        name = cmd_name.replace("-", "_")
        command: click.Command = getattr(module, f"{name}_" if keyword.iskeyword(name) else name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - what click gives
        """Write the list of subcommands, without importing one."""
        for heading, commands in COMMANDS.items():
            with formatter.section(heading):
                formatter.write_dl([(name, place.help) for name, place in commands.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a subcommand; its result is the exit code."""
        _open_closed_streams(ctx)
        _escape_what_cannot_be_encoded()
        try:
            code = super().invoke(ctx)
            sys.stdout.flush()
        except KeyboardInterrupt:
            click.echo(
                "\nsession-manager: interrupted; what was done is complete, and the same command goes on", err=True
            )
            code = INTERRUPTED
        except click.Abort:
            click.echo("session-manager: nothing was done", err=True)
            code = FOUND
        except BrokenPipeError:
            _forget_output()
            code = PIPE_CLOSED
        except (SessionManagerError, OSError) as error:
            line, code = told(error)
            click.echo(f"session-manager: {line}", err=True)
        ctx.exit(code or 0)


def _open_closed_streams(ctx: click.Context) -> None:
    """Let a command do its work where the caller has closed its output (``>&-``), which is `None` in Python then."""
    for stream, redirect in ((sys.stdout, contextlib.redirect_stdout), (sys.stderr, contextlib.redirect_stderr)):
        if stream is None:
            nowhere = ctx.with_resource(open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - the context closes it
            ctx.with_resource(redirect(nowhere))


def _escape_what_cannot_be_encoded() -> None:
    """Let the terminal's encoding lack characters, and messages have lone surrogates."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _forget_output() -> None:
    """Let the interpreter end without a second complaint that nobody reads the output, such as behind ``| head``."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


@click.command(
    cls=Program,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
    session-manager ls -s log:chats
    session-manager show telegram:42 -s sqlite:chats.db

\b
Exit codes:
    0  done
    1  something was found or left out, or you said no
    2  a wrong command, storage or key
    3  no such session
    4  the storage cannot be read or written
    5  the storage is open elsewhere
    6  a session is damaged, or of a newer version
    130  interrupted; 141  the reader of the output has gone""",
)
@click.option("-s", "--storage", metavar="STORAGE", help="The storage, for any command: see below.")
@click.version_option(session_manager.__version__, prog_name="session-manager")
@click.pass_context
def program(ctx: click.Context, storage: str | None) -> None:
    """Look at stored chat sessions, check them, and put them right.

    STORAGE is a path, or a URL such as log:chats, snapshot:chats or sqlite:chats.db. Give it as --storage, or set
    SESSION_MANAGER_STORAGE. What only reads does not disturb a running bot. Every command has --help with an example.
    """
    ctx.obj = storage
