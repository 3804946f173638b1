"""The end of a program, or of a manager that is collected: unsaved sessions are saved, within seconds."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from session_manager.manager.autosave import Autosaver
from session_manager.manager.cache.residents import Residents
from session_manager.manager.saving import Saving
from session_manager.resource import Resource

__all__ = ["Ending"]

_log = logging.getLogger("session_manager")

#: How many seconds the end of the interpreter waits for all managers together.
_EXIT_PATIENCE = 5.0
#: How many managers are closed at once. A disk that hangs keeps one thread, and the others go on.
_MOST_THREADS = 8

_ADVICE = "close it: use `with SessionManager(...)`, `async with AsyncSessionManager(...)`, or call close()"


class Ending(Resource):
    """What is done with an open manager that its program leaves open. It does not hold the manager, which can be collected.

    :param residents, saving, autosaver: the manager's.
    """

    def __init__(self, residents: Residents, saving: Saving, autosaver: Autosaver | None) -> None:
        self._residents = residents
        self._saving = saving
        self._autosaver = autosaver

    def watch(self) -> None:
        """Be there at the end of the interpreter, unless `forget` is called before."""
        if self._residents.is_stored:
            _open.add(self)
            _register()

    @property
    def is_over(self) -> bool:
        """Whether the manager is closed."""
        return self._residents.is_closed

    def forget(self) -> None:
        """Note that the manager is closed; idempotent."""
        _open.discard(self)

    def collected(self, patience: float) -> int:
        """Close a manager that is being collected: in another thread if that may have to wait, for a lock or for the disk.

        :param patience: how many seconds to wait for it, before the rest is left to that thread.
        :returns: how many sessions were unsaved.
        """
        unsaved = self._residents.unsaved()
        if unsaved:
            with contextlib.suppress(RuntimeError):  # no thread can be started any more: `_end_all` will do it
                _joined(_started(self.end), patience)
            return unsaved
        self.forget()
        self._residents.abandon()
        if self._autosaver is not None:
            self._autosaver.stop(last=self._residents.let_go, patience=patience)  # it may be in the middle of a save
        else:
            self._residents.let_go()
        return unsaved

    def end(self) -> None:
        """Save what can be saved, close the manager, and say in the log what was unsaved."""
        unsaved = self._residents.unsaved()
        try:
            self._residents.close(self._saving.save_the_rest)
            if self._autosaver is not None:
                self._autosaver.stop()
        except Exception as error:  # noqa: BLE001 - nobody is left to handle it
            _log.warning("%s was not closed, and could not be: %s", repr(self._residents.store), type(error).__name__)
        finally:
            self.forget()
            self._residents.reports.deliver()
        left = self._residents.left()
        if left or (unsaved and not (self._autosaver is not None and self._autosaver.saves)):
            told = "%s was not closed: %d sessions were unsaved, and %d of them could not be saved; %s"
            _log.warning(told, repr(self._residents.store), unsaved, left, _ADVICE)

    def late(self) -> None:
        """Say in the log that this took too long."""
        told = "%s was not closed: its store did not answer within %g s, and unsaved sessions may be lost; %s"
        _log.warning(told, repr(self._residents.store), _EXIT_PATIENCE, _ADVICE)


#: The managers of this process that are open, and have a store.
_open: set[Ending] = set()
#: What the threads of the end are to do: end a manager, and note it. `None` ends a thread.
_work: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
#: How many threads of the end were started.
_started_threads = 0
_has_hook = False


def _register() -> None:
    """Register `_end_all`: anew each time, for the handlers that were registered last come first.

    So what the store has registered comes later, and a child of multiprocessing, which forgets its parent's handlers, has it.
    """
    global _has_hook  # noqa: PLW0603 - once for each process
    import signal  # noqa: F401, PLC0415 - `_alarm` needs it at the end of the interpreter, when an import may fail

    atexit.unregister(_end_all)
    atexit.register(_end_all)
    if not _has_hook:
        _has_hook = True
        hook = getattr(threading, "_register_atexit", None)  # as concurrent.futures does
        with contextlib.suppress(RuntimeError):  # the interpreter is ending already
            _ = hook is not None and hook(_start_threads)
        children = sys.modules.get("multiprocessing.util")
        if children is not None and sys.modules["multiprocessing"].parent_process() is not None:
            children.Finalize(None, _end_all, exitpriority=10)  # a child ends without the handlers of atexit


def _started(function: Callable[[], object]) -> threading.Thread:
    """Start a thread that does not keep the interpreter from ending."""
    thread = threading.Thread(target=function, name="session-manager-end", daemon=True)
    thread.start()
    return thread


def _joined(thread: threading.Thread, patience: float) -> None:
    with contextlib.suppress(RuntimeError):  # Python 3.14 refuses to wait while it is being shut down
        thread.join(patience)


def _start_threads() -> None:
    """Start threads for the managers that are open: some versions of Python start none in a handler of atexit."""
    global _started_threads  # noqa: PLW0603 - they serve all managers
    with contextlib.suppress(RuntimeError):
        while _started_threads < min(len(_open), _MOST_THREADS):
            _started(_serve)
            _started_threads += 1


def _serve() -> None:
    while True:
        _work.get()()


def _end_all() -> None:
    """End all managers that are open, at once; wait for them together."""
    _start_threads()
    mine = [one for one in list(_open) if one._residents.lock.is_of_this_process]
    if not mine:
        return
    if not _started_threads:
        _end_here(mine)
        return
    deadline = time.monotonic() + _EXIT_PATIENCE
    ended = [threading.Event() for _ in mine]
    for one, event in zip(mine, ended, strict=True):
        _work.put(lambda one=one, event=event: (one.end(), event.set()))  # type: ignore[misc]
    for one, event in zip(mine, ended, strict=True):
        if not event.wait(max(deadline - time.monotonic(), 0.0)):
            one.late()


class _TooLateError(BaseException):
    """The end took too long."""


def _end_here(mine: list[Ending]) -> None:
    """End managers in this thread, where no other can be started (Python 3.12.0 and 3.12.1)."""
    for one in mine:
        try:
            with _alarm(_EXIT_PATIENCE / len(mine)):
                one.end()
        except _TooLateError:
            one.late()


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Raise `_TooLateError` in a block that takes too long, if it waits for what a signal interrupts."""
    import signal  # noqa: PLC0415 - as `_register` did when a manager was opened

    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def ring(_: int, __: FrameType | None) -> None:
        raise _TooLateError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _after_in_child() -> None:
    """Forget the parent's managers and threads."""
    global _started_threads, _has_hook, _work  # noqa: PLW0603 - the child has its own
    _open.clear()
    _started_threads, _has_hook, _work = 0, False, queue.SimpleQueue()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_in_child)
