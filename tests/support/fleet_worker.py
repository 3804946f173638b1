"""A process of its own that takes turns in chats on a server, which other processes share, until its input ends or it is killed.

What it acknowledges it says on its standard output, a line at a time, by one system call. A turn that fails is taken again, under its ref.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import sys
import time

from session_manager import SessionManager, StorageError

CHATS = 3


def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def is_told_to_end():
    return bool(select.select([0], [], [], 0)[0])


def take(m, ref):
    """Take one turn, until it is acknowledged."""
    key = f"chat:{random.randrange(CHATS)}"
    while True:
        with contextlib.suppress(StorageError):
            with m.turn(key, ref) as turn:
                if not turn.done:
                    turn.add_message("user", ref)
                    turn.add_message("assistant", ref)
            say(ref)
            return
        time.sleep(0.02)


def main(url, schema, who):
    from session_manager.stores.postgres import PostgresStore

    store = None
    while store is None:
        with contextlib.suppress(StorageError):
            store = PostgresStore(url, schema=schema)
        time.sleep(0.02)
    m = SessionManager(store, archive=True)
    number = 0
    while not is_told_to_end():
        take(m, f"{who}:{number}")
        number += 1
        if number % 20 == 0:
            with contextlib.suppress(StorageError):
                m.truncate_history(f"chat:{random.randrange(CHATS)}", 30, whole_turns=True)
    m.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
