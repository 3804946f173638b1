"""The encoded messages of hot sessions, so that a save encodes only what is new."""

from __future__ import annotations

import threading
from collections import OrderedDict

from session_manager.changes import Append, SetSummary, UpdateMetadata
from session_manager.model import Version
from session_manager.snapshot_format import Lines
from session_manager.store import Commit

__all__ = ["LineCache"]

_NONE: tuple[Version | None, Lines] = (None, Lines())


class LineCache:
    """The last used sessions' lines, within a budget. Safe to use from several threads.

    :param budget: how many bytes of lines to keep, at most.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._size = 0
        self._lines: OrderedDict[str, tuple[Version | None, Lines]] = OrderedDict()
        # Re-entrant, so that a signal handler that saves cannot hang here; each step leaves it whole.
        self._lock = threading.RLock()

    def lines(self, commit: Commit) -> Lines:
        """Return the lines of a commit's session: those of its base and what was appended, if they are here."""
        session = commit.session
        with self._lock:
            version, lines = self._lines.get(session.key, _NONE)
        extends = all(isinstance(change, Append | SetSummary | UpdateMetadata) for change in commit.changes)
        if commit.base is None or version != commit.base or not extends:
            _, lines = _NONE
        return lines.appended(session.messages[session.index(lines.end) :], session.end)

    def keep(self, commit: Commit, lines: Lines) -> None:
        """Remember the lines of a commit that landed."""
        with self._lock:
            self.forget(commit.session.key)
            if lines.size > self._budget:
                return
            self._lines[commit.session.key] = (commit.session.version, lines)
            self._size += lines.size
            while self._size > self._budget:
                _, (_, oldest) = self._lines.popitem(last=False)
                self._size -= oldest.size

    def forget(self, key: str) -> None:
        """Forget a session's lines."""
        with self._lock:
            _, lines = self._lines.pop(key, _NONE)
            self._size -= lines.size
