"""A process of its own that takes turns in chats on a server or several, which other processes share, until its input ends or it is killed.

What it acknowledges it says on its standard output, a line at a time, by one system call. A turn that fails is taken again, under its ref.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import sys
import time

from session_manager import ConflictError, Lease, SessionManager, StorageError
from session_manager.stores.sharded import ShardedStore

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


def store_of(urls, schema, statement_timeout):
    """Return the store of one URL, or of several shards, when their servers are there."""
    from session_manager.stores.postgres import PostgresStore

    shards = []
    while len(shards) < len(urls):
        with contextlib.suppress(StorageError):
            shards.append(PostgresStore(urls[len(shards)], schema=schema, statement_timeout=statement_timeout))
        time.sleep(0.02)
    return shards[0] if len(shards) == 1 else ShardedStore({str(number): one for number, one in enumerate(shards)})


def main(who, schema, *urls, chats=CHATS, statement_timeout=30, lease=None):
    """Take turns.

    :param chats: their names, or how many there are.
    :param lease: for how many seconds a turn holds one.
    """
    keys = [f"chat:{number}" for number in range(chats)] if isinstance(chats, int) else chats
    store = store_of(urls, schema, statement_timeout)
    m = SessionManager(store, archive=True, lease=None if lease is None else Lease(seconds=lease))
    number = 0
    while not is_told_to_end():
        take(m, random.choice(keys), f"{who}:{number}")
        number += 1
        if number % 20 == 0:
            with contextlib.suppress(StorageError):
                m.truncate_history(random.choice(keys), 30, whole_turns=True)
    m.close()


if __name__ == "__main__":
    main(*sys.argv[2:], **json.loads(sys.argv[1]))
