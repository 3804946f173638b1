"""Reports: the events of a manager are told outside of its locks, and slow saves are in the log."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Literal, TypeAlias

from session_manager.errors import ConflictError, SessionManagerError
from session_manager.manager.on_event import Event, OnEvent
from session_manager.model.session import Session
from session_manager.resource import Resource
from session_manager.stores.contract import Commit
from session_manager.threads import at_leisure

__all__ = ["Reports"]

_log = logging.getLogger("session_manager")


#: The names of events in `session_manager.manager.events`, which is imported for a manager that tells them.
_Kind: TypeAlias = Literal[
    "Conflict",
    "Deleted",
    "Evicted",
    "Expired",
    "LeaseLost",
    "Loaded",
    "SaveFailed",
    "Saved",
    "Summarized",
    "WentBack",
]


class _Thread(threading.local):
    is_held = False


class Reports(Resource):
    """The events of a manager that wait to be told. Any thread may call any method.

    :param on_event: is called with each event.
    :param slow_save: a save that takes more seconds is a warning in the log; `None`: none is.
    """

    def __init__(self, on_event: OnEvent | None = None, slow_save: float | None = None) -> None:
        self._on_event = on_event
        #: How many seconds a save may take without a warning.
        self.slow = float("inf") if slow_save is None else slow_save
        #: Whether events are told at all.
        self.is_used = on_event is not None
        self._kinds: dict[str, Callable[..., Event]] = {}
        if self.is_used:
            from session_manager.manager import events

            self._kinds = vars(events)
        #: The events to tell: call `deliver`, outside of all locks, if there are some.
        self.waiting: deque[Event] = deque()
        self._thread = _Thread()
        #: The sessions of which the store has shown an older state than it had acknowledged, and the revision of that state.
        self.behind: dict[str, int] = {}

    def note(self, kind: _Kind, **fields: object) -> None:
        """Have an event told by the next `deliver`: never waits, and may be called under a lock."""
        if self.is_used:
            self.waiting.append(self._kinds[kind](**fields))

    def deliver(self) -> None:
        """Tell the events that wait. Call it without a lock. An exception of the callback is logged, and harms no caller.

        Events of calls that the callback makes are told after it has returned, by the same thread.
        """
        if self._on_event is None or self._thread.is_held:
            return
        self._thread.is_held = True
        try:
            while self.waiting:
                try:
                    event = self.waiting.popleft()
                except IndexError:  # another thread tells it
                    return
                try:
                    at_leisure(self._on_event, event)
                except Exception as error:  # noqa: BLE001 - whatever it is, the call has done its work
                    _log.warning("on_event raised %s for %s", type(error).__name__, type(event).__name__, exc_info=True)
        finally:
            self._thread.is_held = False

    def hold(self) -> bool:
        """Let this thread tell nothing until `release`: it holds a lock. Return whether it does so already."""
        before, self._thread.is_held = self._thread.is_held, True
        return before

    def release(self, before: bool) -> None:  # noqa: FBT001 - what `hold` has returned
        """Let this thread tell events again, and tell them.

        :param before: what `hold` returned.
        """
        self._thread.is_held = before
        self.deliver()

    # What stores did

    def went_back(self, key: str, seen: Session, found: Session, *, regained: bool) -> None:
        """Report that a store shows an older state than it had acknowledged; once for each state of a session."""
        if self.behind.get(key) == found.revision:
            return
        self.behind[key] = found.revision
        self.note("WentBack", key=key, revision=seen.revision, found=found.revision, regained=regained)
        then = "the next save writes the rest again" if regained else "what it lacks is not written again"
        _log.error(
            "the storage went back: %s is at revision %d, and was at %d; %s",
            _shown(key),
            found.revision,
            seen.revision,
            then,
        )

    def loaded(self, key: str, session: Session | None, began: float) -> None:
        """Report that a session was read.

        :param began: `time.perf_counter` before.
        """
        seconds = perf_counter() - began
        if session is not None and session.revision:
            self.note("Loaded", key=key, messages=len(session.messages), seconds=seconds)
            _log.debug("loaded %s: %d messages, in %.2f ms", _shown(key), len(session.messages), seconds * 1000)

    @property
    def tells_saves(self) -> bool:
        """Whether each save is told, by an event or in the log, and not only a slow one."""
        return self.is_used or _log.isEnabledFor(logging.DEBUG)

    def saved(self, commit: Commit, seconds: float) -> None:
        """Report that a commit is durable.

        :param seconds: how long the store took; 0 if it turned out later.
        """
        if seconds > self.slow:
            key = _shown(commit.session.key)
            _log.warning("saving %s took %.1f s, more than slow_save=%g", key, seconds, self.slow)
        if self.tells_saves:
            self._saved(commit, seconds)

    def _saved(self, commit: Commit, seconds: float) -> None:
        session, changes = commit.session, len(commit.changes)
        count, revision = len(session.messages), session.revision
        self.note("Saved", key=session.key, revision=revision, changes=changes, messages=count, seconds=seconds)
        told = "saved %s: %d changes, %d messages, revision %d, in %.2f ms"
        _log.debug(told, _shown(session.key), changes, count, revision, seconds * 1000)

    def failed(self, commit: Commit, error: Exception, seconds: float) -> None:
        """Report that a save failed; a conflict is none yet, for a rebase may reconcile it.

        :param seconds: how long the store took.
        """
        if not isinstance(error, ConflictError):
            self.note("SaveFailed", key=commit.session.key, error=error, seconds=seconds)
        reason = str(error) if isinstance(error, SessionManagerError) else type(error).__name__
        _log.debug("not saved %s, after %.2f ms: %s", _shown(commit.session.key), seconds * 1000, reason)

    def saved_many(self, commits: list[Commit], errors: list[Exception | None], seconds: float) -> None:
        """Report what became of commits that were written at once.

        :param seconds: how long the store took for all of them.
        """
        if seconds > self.slow and commits:
            _log.warning("saving %d sessions took %.1f s, more than slow_save=%g", len(commits), seconds, self.slow)
        tells_saves = self.tells_saves
        for commit, error in zip(commits, errors, strict=True):
            if error is None:
                if tells_saves:
                    self._saved(commit, seconds)
            else:
                self.failed(commit, error, seconds)


def _shown(key: str) -> str:
    return ascii(key[:80])
