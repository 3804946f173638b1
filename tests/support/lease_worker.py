"""A process of its own that takes turns under leases, as it is told on its standard input; it says what became of them."""

from __future__ import annotations

import os
import random
import sys
import time

from session_manager import Lease, LeaseLostError, SessionManager

KEY = "telegram:42"
CHATS = 3


def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def opened(kind, *where):
    if kind == "sqlite":
        from session_manager.stores.sqlite import SQLiteStore

        return SQLiteStore(*where)
    from session_manager.stores.postgres import PostgresStore

    return PostgresStore(where[0], schema=where[1])


def hold(m):
    """Take a turn for each line, and leave its block at the next one."""
    for line in sys.stdin:
        try:
            with m.turn(KEY) as turn:
                turn.add_message("user", line.strip())
                say("open")
                sys.stdin.readline()
        except LeaseLostError:
            say("lost")
        else:
            say("applied" if turn.applied else "not applied")


def deliver(m):
    """Answer each of so many deliveries, in an order of this process; say how many messages each model sees."""
    numbers = list(range(int(sys.stdin.readline())))
    random.Random().shuffle(numbers)
    for number in numbers:
        key, ref = f"chat:{number % CHATS}", f"tg:{number}"
        while True:
            try:
                with m.turn(key, ref) as turn:
                    if not turn.done:
                        say("asked", number, len(turn.get_context()))
                        turn.add_message("user", f"{number} {os.getpid()}")
                        time.sleep(0.0005)  # the model thinks
                        turn.add_message("assistant", f"{number} {os.getpid()}")
                break
            except LeaseLostError:
                say("lost", number)
    say("done")


if __name__ == "__main__":
    work, seconds, *where = sys.argv[1:]
    store = opened(*where)
    with SessionManager(store, lease=Lease(float(seconds))) as manager:
        {"hold": hold, "deliver": deliver}[work](manager)
    store.close()
