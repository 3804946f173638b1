"""The encoded messages of hot sessions, so that a save encodes only what is new."""

from __future__ import annotations

import threading
from collections import OrderedDict

from session_manager.model.changes import Append, SetSummary, UpdateMetadata
from session_manager.model.session import Version
from session_manager.resource import Resource
from session_manager.stores.contract import Commit
from session_manager.stores.snapshot.format import Lines

__all__ = ["LineCache"]

_EMPTY = Lines()
#: How many bytes of RAM a session's lines take besides their own, measured by `tracemalloc` on CPython 3.11.
_ENTRY = 500

#: Changes after which the old lines are the beginning of the new ones.
_ADDING = frozenset((Append, SetSummary, UpdateMetadata))


class LineCache(Resource):
    """An LRU cache of sessions' lines, within a budget. Safe to use from several threads.

    :param budget: how many bytes of RAM they may take, about.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._size = 0
        self._lines: OrderedDict[str, tuple[Version | None, Lines]] = OrderedDict()
        # Re-entrant, so that a signal handler that saves cannot hang here. Each step leaves the cache whole.
        self._lock = threading.RLock()

    def lines(self, commit: Commit) -> Lines:
        """Return the lines of a commit's session. If those of its base are cached, only new messages are encoded."""
        session, base = commit.session, commit.base
        with self._lock:
            version, lines = self._lines.get(session.key, (None, _EMPTY))
        extends = base is not None and version == base and _ADDING.issuperset(map(type, commit.changes))
        if not extends:
            lines = _EMPTY
        messages = session.messages
        return lines.appended(messages.last(len(messages) - session.index(lines.end)), session.end)

    def keep(self, key: str, version: Version | None, lines: Lines) -> None:
        """Remember the lines of a version that was written."""
        weight = _weight(lines)
        with self._lock:
            if key in self._lines:
                self._size -= _weight(self._lines.pop(key)[1])
            if weight > self._budget:
                return
            self._lines[key] = version, lines
            self._size += weight
            while self._size > self._budget:
                _, (_, oldest) = self._lines.popitem(last=False)
                self._size -= _weight(oldest)

    def forget(self, key: str) -> None:
        """Forget a session's lines."""
        with self._lock:
            if key in self._lines:
                self._size -= _weight(self._lines.pop(key)[1])


def _weight(lines: Lines) -> int:
    return _ENTRY + lines.size
