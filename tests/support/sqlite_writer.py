"""A process of its own that saves to a shared SQLite database until it has saved enough, or is killed.

Each message names its writer and its number; each acknowledged save, and each message that a deletion took knowingly, is
written to a file of the writer's, a line at a time, by one system call.
"""

from __future__ import annotations

import os
import random
import sys

from session_manager import SessionManager
from session_manager.stores.sqlite import SQLiteStore

SESSIONS = [f"shared:{number}" for number in range(5)]


def main(path, who, saves, deletes):
    chance = random.Random()
    log = os.open(f"{path}.{who}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    store = SQLiteStore(path)
    m = SessionManager(store)
    number = count_lines(f"{path}.{who}.log", "try")
    done = count_lines(f"{path}.{who}.log", "saved")
    while done < saves:
        key = chance.choice(SESSIONS)
        if deletes and chance.random() < 0.004:
            delete(m, store, key, log)
        text = f"{who} {number}"
        os.write(log, f"try {text} {key}\n".encode())
        m.add_message(key, "user", text)
        m.save(key)
        os.write(log, f"saved {text} {key}\n".encode())
        number += 1
        done += 1
    m.close()
    store.close()


def delete(m, store, key, log):
    """Delete exactly the seen version: another writer's message may have come since."""
    m.reload(key)
    session = store.load(key)
    if session is None:
        return
    os.write(log, "".join(f"seen {one.content} {key}\n" for one in session.messages).encode())
    store.delete(key, session.version)
    m.reload(key)


def count_lines(path, word):
    with open(path, encoding="utf-8") as file:
        return sum(line.startswith(f"{word} ") for line in file)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), deletes=sys.argv[4] == "deletes")
    print("done")
