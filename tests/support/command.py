"""The command ``session-manager``, run in this process, in another one, and in a terminal."""

from __future__ import annotations

import json
import os
import pty
import select
import sys

import attrs
from click.testing import CliRunner

from session_manager.cli.program import program
from tests.support.processes import python


@attrs.frozen
class Done:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


def run(*arguments, answer=None):
    """Run the command in this process, without a terminal."""
    result = CliRunner().invoke(program, [str(one) for one in arguments], input=answer, prog_name="session-manager")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return Done(result.exit_code, result.stdout, result.stderr)


def command(*arguments):
    """The words that start the command in a process of its own."""
    return [sys.executable, "-W", "error", "-m", "session_manager", *map(str, arguments)]


def in_terminal(*arguments, answer="", columns=100, **environment):
    """Run the command in a process whose terminal is a pseudo-terminal; return the exit code and what it printed there."""
    ours, theirs = pty.openpty()
    plain = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
    env = {**plain, "TERM": "xterm-256color", "COLUMNS": str(columns), "LINES": "50", **environment}
    with python("-m", "session_manager", *arguments, stdin=theirs, stdout=theirs, stderr=theirs, env=env) as process:
        os.close(theirs)
        if answer:
            os.write(ours, answer.encode())
        seen = b""
        while select.select([ours], [], [], 60)[0]:
            try:
                chunk = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            if not chunk:
                break
            seen += chunk
        os.close(ours)
    return process.returncode, seen.decode()
