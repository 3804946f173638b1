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

from session_manager import ConflictError, SessionManager, StorageError

#: How many chats there are, unless it is told.
CHATS = 3


def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def is_told_to_end():
    return bool(select.select([0], [], [], 0)[0])


def take(m, key, ref):
    """Take one turn, until it is acknowledged."""
    while True:
        try:
            with m.turn(key, ref) as turn:
                if not turn.done:
                    turn.add_message("user", ref)
                    turn.add_message("assistant", ref)
        except StorageError:
            time.sleep(0.02)
        except ConflictError:
            m.reload(key)  # others have written so often since that no token tells; the turn's ref does
        else:
            say(ref)
            return


def main(url, schema, who, statement_timeout="30", chats=CHATS):
    from session_manager.stores.postgres import PostgresStore

    store = None
    while store is None:
        with contextlib.suppress(StorageError):
            store = PostgresStore(url, schema=schema, statement_timeout=float(statement_timeout))
        time.sleep(0.02)
    m = SessionManager(store, archive=True)
    number = 0
    while not is_told_to_end():
        take(m, f"chat:{random.randrange(int(chats))}", f"{who}:{number}")
        number += 1
        if number % 20 == 0:
            with contextlib.suppress(StorageError):
                m.truncate_history(f"chat:{random.randrange(int(chats))}", 30, whole_turns=True)
    m.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
