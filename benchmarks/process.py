"""A process that answers calls: a line of JSON each way.

Whatever the process prints goes to the standard error, not among the answers.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Process", "answer"]


class Process:
    """A process of this Python that runs a module, which calls `answer`.

    :param name: what errors call it.
    :param arguments: the module and its arguments, as after ``python -m``.
    :param environment: of the process.
    :param directory: where it runs; modules are looked for there first.
    :param before: a command that runs it, such as strace.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        directory: str | None = None,
        before: Sequence[str] = (),
    ) -> None:
        self.name = name
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close
        self._process = subprocess.Popen(  # noqa: S603 - our own code
            [*before, sys.executable, "-m", *arguments],
            env=dict(environment),
            cwd=directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def ask(self, call: str, *arguments: Any) -> Any:
        """Return the answer to a call.

        :raises RuntimeError: with the last line that the process printed, if it ended instead.
        """
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError(f"{self.name} has no pipes")
        try:
            self._process.stdin.write(json.dumps([call, *arguments]) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if line:
            return json.loads(line)
        raise RuntimeError(f"{self.name}: {self._last_error()}")

    def close(self) -> None:
        """Let the process end, and wait for it."""
        self._process.communicate()
        self._errors.close()

    def _last_error(self) -> str:
        self._process.wait()
        self._errors.seek(0)
        printed = self._errors.read().decode(errors="replace").strip()
        return printed.splitlines()[-1] if printed else f"ended with {self._process.returncode}"


def answer(calls: object) -> None:
    """Answer the calls that come in with the methods of an object, until no more come."""
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        call, *arguments = json.loads(line)
        print(json.dumps(getattr(calls, call)(*arguments)), file=answers, flush=True)
