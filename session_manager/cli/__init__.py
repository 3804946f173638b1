"""The command ``session-manager``: look at a storage, check it, and put it right. It needs the extra ``cli``."""

from __future__ import annotations

import sys

__all__ = ["main"]

_EXTRA = "session-manager needs click and rich: pip install 'chat-session-manager[cli]'"


def main() -> None:
    """Run the command with the arguments of the process, and end the process with its exit code."""
    try:
        import rich as rich  # noqa: PLC0415 - to say that it is missing; its modules are imported when they are used

        from session_manager.cli.program import program  # noqa: PLC0415 - likewise
    except ModuleNotFoundError as error:
        if error.name not in ("click", "rich"):
            raise
        sys.exit(_EXTRA)
    program(prog_name="session-manager")
