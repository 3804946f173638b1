"""What of a save is Python: saving on the same disk with the syncs left out, which is where it waits."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from benchmarks.floors import BareLog, bare_replace
from benchmarks.harness import Case, Figure, timed
from benchmarks.material import Chat
from benchmarks.place import Place
from benchmarks.storages import path_of, unsynced_store
from session_manager import SessionManager

__all__ = ["own"]

_MESSAGES = 10
_KEY = "chat"


def own(place: Place) -> Iterator[Case]:
    """Save one new message of 1 KB with all syncs left out, against the other system calls: what of a save is Python's."""
    for scheme in ("snapshot", "log"):
        with place.directory() as path:
            store = unsynced_store(scheme, os.path.join(path, "chats"))
            with SessionManager(store) as manager:
                chat = Chat(manager, _KEY, _MESSAGES)
                chat.save()
                with _system_calls(scheme, path) as bare:
                    figure = Figure(f"{scheme}: a save without its syncs", "save", "system calls")
                    contestants = {"save": lambda one=chat: [one.save()], "system calls": lambda one=bare: [one()]}
                    yield Case(figure.name, contestants, [figure], place.rounds(300))
            store.close()


@contextmanager
def _system_calls(scheme: str, path: str) -> Iterator[Callable[[], float]]:
    """Give what measures writing as many bytes as the last save did."""

    def written() -> bytes:
        with open(path_of(scheme, path, _KEY), "rb") as file:
            return file.read()

    if scheme == "log":
        log = BareLog(os.path.join(path, "floor"))
        yield partial(log.append, written().splitlines(keepends=True)[-1], syncs=False)
        log.close()
    else:
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)

        def replaced() -> float:
            data = [written()]
            return timed(lambda: bare_replace(directory, "floor", data, syncs=False))

        yield replaced
        os.close(directory)
