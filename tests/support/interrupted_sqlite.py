"""A process of its own that interrupts saves to a SQLite store, while other threads save too; see test_group_commit."""

from __future__ import annotations

import contextlib
import sys
import threading
import time

from session_manager import SessionManager
from session_manager.stores.sqlite import SQLiteStore
from tests.support.interrupted import DEADLINE, Storm


def save_on(m, key, leave, added):
    """Save again and again in a thread that is never interrupted."""
    while not leave.is_set():
        m.add_message(key, "user", str(len(added)))
        m.save(key)
        added.append(key)


def run(path):
    store = SQLiteStore(path)
    m = SessionManager(store)
    m.add_message("k", "user", "0")
    m.save("k")
    storm = Storm(0.00001)
    leave = threading.Event()
    others = {key: [] for key in ("a", "b")}
    threads = [
        threading.Thread(target=save_on, args=(m, key, leave, added), daemon=True) for key, added in others.items()
    ]
    for thread in threads:
        thread.start()

    def add():
        m.add_message("k", "user", str(len(m.get_history("k"))))
        m.save("k")

    end = time.monotonic() + 4
    while time.monotonic() < end or storm.count <= 20:
        storm.once(add)
    leave.set()
    for thread in threads:
        thread.join(DEADLINE)
        assert not thread.is_alive(), "a thread hangs"
    m.save("k")
    with contextlib.closing(SQLiteStore(path, busy_timeout=5)) as other:
        with SessionManager(other) as writer:
            writer.add_message("other", "user", "no lock is held")
        for key in ("k", *others):
            texts = [message.content for message in other.load(key).messages]
            assert texts == [str(number) for number in range(len(texts))], f"{key}: lost or doubled"
            assert texts == [message.content for message in m.get_history(key)], key
        for key, added in others.items():
            assert len(other.load(key).messages) == len(added), key
    m.add_message("k", "user", "last")
    m.save("k")
    m.close()
    store.close()


if __name__ == "__main__":
    run(sys.argv[1])
    print("well")
