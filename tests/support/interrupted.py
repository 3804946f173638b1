"""A process that interrupts calls of a manager, at later and later moments, and then checks what is left.

It is run by test_processes: an interrupt may land in a callback of anything that is loaded, which the tests' own process
should not suffer. It exits with 0 if all is well.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from datetime import datetime, timedelta, timezone

from session_manager import SessionManager

DEADLINE = 20
DAY = timedelta(days=1)
LONG_AGO = datetime(2000, 1, 1, tzinfo=timezone.utc)


class Storm:
    """Raises KeyboardInterrupt in a block again and again, later and later in it."""

    def __init__(self, step):
        self.armed = False
        self.count = 0
        self.step = step
        signal.signal(signal.SIGALRM, self.handle)

    def handle(self, number, frame):
        if self.armed:
            self.armed = False
            self.count += 1
            raise KeyboardInterrupt

    def once(self, call):
        """Call again and again until it is interrupted; an interrupt that was swallowed is followed by another."""
        with contextlib.suppress(KeyboardInterrupt):
            self._repeat(call)
        self.armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _repeat(self, call):
        # In a frame of its own: Python 3.13 does not count the jump back of a loop as part of a try around it.
        self.armed = True
        signal.setitimer(signal.ITIMER_REAL, 0.00002 + self.step * (self.count % 200), 0.01)
        while self.armed:
            call()


def use(m):
    """Use every lock from another thread, and close; say whether no thread hangs."""
    for work in (lambda: (take_turn(m, "y"), m.get("other")), m.close):
        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        worker.join(DEADLINE)
        if worker.is_alive():
            return False
    return True


def take_turn(m, said):
    with m.turn("k") as turn:
        turn.add_message("user", said)


def summarize(m):
    """Summarize. No other thread does, so it must be applied."""
    m.add_message("k", "user", "x")
    done = m.summarize("k", lambda previous, messages: "s", keep_last=0)
    assert done is not None, "a summary that was interrupted counts as under way"
    assert done.applied


CALLS = {
    "add": lambda m: m.add_message("k", "user", "x"),
    "save": lambda m: (m.truncate_history("k", 3), m.add_message("k", "user", "x"), m.save("k")),
    "turn": lambda m: (m.truncate_history("k", 3), take_turn(m, "x")),
    "summarize": summarize,
    "in": lambda m: "other" in m,
    "get": lambda m: m.get("other"),
    "delete": lambda m: m.delete("gone"),
    "list": lambda m: m.list_sessions(),
    "search": lambda m: m.search("x"),
    "expire": lambda m: (m.add_message("other", "user", "x", created_at=LONG_AGO), m.expire(LONG_AGO + DAY)),
}


def locks(path, name):
    """No interrupt leaves a lock behind."""
    m = SessionManager(path)
    m.add_message("k", "user", "x")
    storm = Storm(0.0000007)
    end = time.monotonic() + 1.5
    while time.monotonic() < end or storm.count <= 50:
        storm.once(lambda: CALLS[name](m))
    assert use(m), "a lock is held"


def messages(path, seconds):
    """No interrupt loses or doubles a message."""
    m = SessionManager(path)
    storm = Storm(0.00001)

    def add():
        m.add_message("k", "user", str(len(m.get_history("k"))))
        m.save("k")

    end = time.monotonic() + float(seconds)
    while time.monotonic() < end or storm.count <= 20:
        storm.once(add)
    m.save("k")
    texts = [message.content for message in m.get_history("k")]
    assert texts == [str(number) for number in range(len(texts))], "lost or doubled"
    assert use(m), "a lock is held"
    with SessionManager(path) as again:
        assert [message.content for message in again.get_history("k")] == [*texts, "y"]


if __name__ == "__main__":
    {"locks": locks, "messages": messages}[sys.argv[1]](*sys.argv[2:])
    print("well")
