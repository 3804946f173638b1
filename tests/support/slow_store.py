"""A store whose writes and loads wait until the test lets them through."""

from __future__ import annotations

import threading

from session_manager.stores.memory import MemoryStore


class SlowStore(MemoryStore):
    """A store in RAM, whose writes and loads each wait until they are let through, while it is slow.

    It has one manager, so that a session in RAM need not be compared with it.
    """

    shared = False

    def __init__(self):
        super().__init__()
        self.is_slow = False
        self.waiting = threading.Semaphore(0)
        self._passes = threading.Semaphore(0)
        self.order = []
        #: The threads that called it.
        self.threads = []
        self.most = 0
        self._running = 0
        self._counting = threading.Lock()

    def let_through(self, count=1):
        """Let so many calls through."""
        self._passes.release(count)

    def heal(self):
        """Let all calls through, from now on."""
        self.is_slow = False
        self._passes.release(1000)

    def _wait(self):
        self.threads.append(threading.get_ident())
        if not self.is_slow:
            return
        with self._counting:
            self._running += 1
            self.most = max(self.most, self._running)
        self.waiting.release()
        assert self._passes.acquire(timeout=30)
        with self._counting:
            self._running -= 1

    def write(self, commit):
        self._wait()
        super().write(commit)
        self.order.append((commit.session.key, commit.session.revision))

    def load(self, key):
        self._wait()
        return super().load(key)
