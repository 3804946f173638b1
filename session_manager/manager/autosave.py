"""The background thread: it saves what has been unsaved for long, or has become much, and expires sessions now and then."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import attrs

from session_manager.errors import ClosedError, SessionManagerError
from session_manager.manager.cache.entry import Entry
from session_manager.resource import Resource
from session_manager.values import Value

__all__ = ["Autosave", "Autosaver"]

_log = logging.getLogger("session_manager")

_LONGEST_WAIT = 60.0
_NEVER = float("inf")
#: Seconds before the thread looks again at a manager that was being closed. A close that cannot save all leaves it open.
_RETRY = 1.0


def _positive(_: object, attribute: Any, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{attribute.name} must be a number, not {type(value).__name__}")
    if not value > 0:
        raise ValueError(f"{attribute.name} must be more than 0")


def _waitable(_: object, attribute: Any, value: float) -> None:
    if value > threading.TIMEOUT_MAX:
        raise ValueError(f"{attribute.name} must be {threading.TIMEOUT_MAX:.0f} seconds or less")


def _nothing() -> None:
    pass


@attrs.frozen(eq=False, repr=False)
class Autosave(Value):
    """When a background thread saves a session: after a time, or after a number of messages, whichever comes first.

    **A crash loses what is not saved yet.** A session loses the changes of the last `interval` seconds at most, and at most
    `messages` messages. It may lose more while saves fail, or while messages come in faster than they can be saved. If you
    must not lose a message, call `SessionManager.save` before you acknowledge it. Autosaving and saving go together.

    :param interval: how many seconds a session stays unsaved, at most.
    :param messages: how many unsaved messages make a session be saved at once.
    :raises ValueError: if one of them is not positive, or the interval is more than a thread can wait.
    """

    interval: float = attrs.field(default=5.0, validator=[_positive, _waitable])
    messages: int = attrs.field(default=20, validator=[attrs.validators.instance_of(int), _positive])


class Autosaver(Resource):
    """The thread. It holds on to what saves, not to the manager, which can be collected.

    A save that fails is logged, and tried again after twice the time, at most a minute; the session stays dirty.

    :param rule: when to save; `None`: never.
    :param save: saves those of some sessions that are dirty, and returns which could not be saved, and why.
    :param is_dirty: whether a session has something to save.
    :param every: how long after one expiry the next one begins, the first at once; `None`: there is none.
    :param expire: deletes sessions that are too old, and raises nothing.
    """

    def __init__(
        self,
        rule: Autosave | None,
        save: Callable[[list[str]], dict[str, Exception]],
        is_dirty: Callable[[str], bool],
        *,
        every: timedelta | None = None,
        expire: Callable[[], None] = _nothing,
    ) -> None:
        #: Whether it saves.
        self.saves = rule is not None
        self._rule = rule or Autosave()
        self._every = None if every is None else every.total_seconds()
        self._expire = expire
        self._next_expiry = _NEVER if every is None else time.monotonic()
        self._save = save
        self._is_dirty = is_dirty
        # Its `put` may be called in a signal handler, under a lock, anywhere.
        self._news: queue.SimpleQueue[tuple[str, bool] | None] = queue.SimpleQueue()
        self._due: dict[str, float] = {}
        self._failed: dict[str, int] = {}
        self._stopping = False
        self._last: Callable[[], None] = _nothing
        self._thread = threading.Thread(target=self._run, name="session-manager-autosave", daemon=True)
        self._thread.start()

    def watch(self, key: str, entry: Entry) -> None:
        """Take note of a change: costs a comparison, and never waits."""
        unsaved = entry.session.end - entry.durable.end
        if unsaved >= self._rule.messages:
            self._news.put((key, True))
        elif len(entry.pending) <= 1:
            self._news.put((key, False))

    def stop(self, *, last: Callable[[], None] = _nothing, patience: float | None = None) -> None:
        """End the thread; idempotent.

        :param last: called when the thread has ended: here, or by the thread itself if that takes longer than `patience`.
        :param patience: how many seconds to wait for it; `None`: until the save that is under way is done.
        """
        self._last = last
        self._stopping = True
        self._news.put(None)
        self._join(patience)
        if not self._thread.is_alive():
            last()

    def _join(self, patience: float | None) -> None:
        if self._thread is not threading.current_thread():
            with contextlib.suppress(RuntimeError):  # Python 3.14 refuses to wait while it is being shut down
                self._thread.join(patience)

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._listen()
                if not self._stopping:
                    self._save_due(time.monotonic())
                self._expire_if_due()
        finally:
            self._last()

    def _expire_if_due(self) -> None:
        if self._every is not None and not self._stopping and time.monotonic() >= self._next_expiry:
            self._expire()
            self._next_expiry = time.monotonic() + self._every

    def _listen(self) -> None:
        """Wait for news until the next session, or expiry, is due; take note of all that there is."""
        due = min(self._next_expiry, *self._due.values()) if self._due else self._next_expiry
        timeout = None if due == _NEVER else max(due - time.monotonic(), 0.0)
        with contextlib.suppress(queue.Empty):
            self._note(self._news.get(timeout=timeout))
        self._take_note()

    def _take_note(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._note(self._news.get_nowait())

    def _note(self, news: tuple[str, bool] | None) -> None:
        if news is not None:
            self._schedule(*news)

    def _schedule(self, key: str, urgent: bool) -> None:  # noqa: FBT001 - one of the queue's pairs
        now = time.monotonic()
        due = self._due.setdefault(key, now + self._rule.interval)
        if urgent and key not in self._failed:
            self._due[key] = min(due, now)

    def _save_due(self, now: float) -> None:
        keys = [key for key, due in self._due.items() if due <= now]
        if not keys:
            return
        try:
            failures = self._save(keys)
        except ClosedError:
            self._due.update(dict.fromkeys(keys, time.monotonic() + min(self._rule.interval, _RETRY)))
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, the other sessions are still to be saved
            failures = dict.fromkeys(keys, error)
        for key in keys:
            self._settle(key, failures.get(key))

    def _settle(self, key: str, failure: Exception | None) -> None:
        """Plan what comes after a save: nothing, if the session is clean."""
        if failure is None:
            self._failed.pop(key, None)
            if self._is_dirty(key):
                self._due[key] = time.monotonic() + self._rule.interval
            else:
                self._due.pop(key, None)
            return
        times = self._failed[key] = self._failed.get(key, 0) + 1
        wait = min(self._rule.interval * 2.0 ** min(times, 16), max(_LONGEST_WAIT, self._rule.interval))
        self._due[key] = time.monotonic() + wait
        _log.warning("autosave failed, again in %.1f s: %s", wait, _reason(failure))


def _reason(failure: Exception) -> str:
    return str(failure) if isinstance(failure, SessionManagerError) else type(failure).__name__
