"""Late imports: a package's names that are imported when they are asked for, by one thread at a time."""

from __future__ import annotations

import os
from importlib import import_module
from threading import RLock

__all__ = ["late"]

#: No module of the package asks for such a name while it is imported. So a thread that waits here holds no module's lock.
_importing = RLock()


def _after_in_child() -> None:
    """Let a child import, although a thread that the fork did not copy may have been importing."""
    global _importing  # noqa: PLW0603 - the child has a lock of its own
    _importing = RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_in_child)


def late(package: str, home: str, name: str) -> object:
    """Import a name of a package.

    Two threads that import a package and a part of it at once wait for each other, which Python before 3.14 ends by an error in one of them.

    :param home: the module below the package that defines the name.
    """
    with _importing:
        module = import_module(package)
        for part in home.split("."):  # a room before its part, as a program does that imports the room itself
            module = import_module(f"{module.__name__}.{part}")
        value: object = getattr(module, name)
        return value
