"""The command ``session-manager``: look at a storage, check it, and put it right. It needs the extra ``cli``."""

from __future__ import annotations

import gc as _gc
import sys as _sys

__all__ = ["main"]

#: How many objects more than before let Python look for garbage. A list of 100,000 sessions is none, and the default looks through it again
#: and again: a fifth of the time of ``ls``.
_GARBAGE = 100_000

_EXTRA = "session-manager needs click and rich: pip install 'chat-session-manager[cli]'"


def main() -> None:
    """Run the command with the arguments of the process, and end the process with its exit code."""
    try:
        import rich as rich  # noqa: PLC0415 - to say that it is missing; its modules are imported when they are used

        from session_manager.cli.program import program  # noqa: PLC0415 - likewise
    except ModuleNotFoundError as error:
        if error.name not in ("click", "rich"):
            raise
        _sys.exit(_EXTRA)
    _gc.set_threshold(_GARBAGE, 20, 100)
    program(prog_name="session-manager")
