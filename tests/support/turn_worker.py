"""A process of its own that takes turns, answers deliveries, resets or summarizes, until it is done, or is killed.

What it acknowledges it says on its standard output, a line at a time, by one system call.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
import time
from itertools import count

from session_manager import ConflictError, SessionManager

KEY = "telegram:42"
CHATS = 3
#: How many messages a turn has in `turns`, and how large they are: a kill shall hit the middle of a write.
PARTS, SIZE = 4, 30_000


def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def turns(m, who):
    for number in count():
        with m.turn(KEY, f"r{number}") as turn:
            if not turn.done:
                for part in range(PARTS):
                    turn.add_message("assistant" if part else "user", f"{number} {part} " + "x" * SIZE)
        assert turn.done or turn.applied
        if number % 10 == 9:
            m.truncate_history(KEY, 3 * PARTS, whole_turns=True)
        say(number)


def deliver(m, who, deliveries):
    """Answer each delivery, in an order of this process."""
    numbers = list(range(int(deliveries)))
    random.Random().shuffle(numbers)
    for number in numbers:
        with m.turn(f"chat:{number % CHATS}", f"tg:{number}") as turn:
            if not turn.done:
                turn.add_message("user", f"{number} {who} {os.getpid()}")
                time.sleep(0.0005)  # the model thinks
                turn.add_message("assistant", f"{number} {who} {os.getpid()}")
        assert turn.applied or turn.done
        assert len(turn.messages) == 2
    say("done")


def reset(m, who, times):
    """Clear or delete the session, again and again; say which one when it is done, and durable."""
    chance = random.Random()
    for _ in range(int(times)):
        time.sleep(chance.random() * 0.004)
        if chance.random() < 0.5:
            m.clear(KEY)
            m.save(KEY)
        else:
            m.delete(KEY)
    say("done")


def once(m, who, call):
    """Clear or delete the session once."""
    getattr(m, call)(KEY)
    m.save_all()
    say("done")


def visit(m, who, call):
    """Create the session, look at it, and clear or delete it, each step durably."""
    m.add_message(KEY, "user", "theirs")
    m.save(KEY)
    once(m, who, call)


def talk(m, who, amount):
    """Add messages, in turns and without; drop some, and say so before."""
    chance = random.Random()
    for number in range(int(amount)):
        said = f"{who}-{os.getpid()}-{number}"
        if chance.random() < 0.5:
            with m.turn(KEY) as turn:
                turn.add_message("user", said)
        else:
            m.add_message(KEY, "user", said)
            m.save(KEY)
        say("saved", said)
        if chance.random() < 0.15:
            last = m.remove_last(KEY)
            if last is not None:
                say("dropped", last.content)
            save(m)
    say("done")


def save(m):
    """Save. Give up a removal that another process made impossible by a summary."""
    with contextlib.suppress(ConflictError):
        m.save(KEY)
        return
    m.reload(KEY)


def summarize(m, who, times):
    """Summarize: the summary is the names of all messages that it stands for."""

    def joined(previous, messages):
        time.sleep(0.002)
        return " ".join([*([previous] if previous else []), *(message.content for message in messages)])

    applied = 0
    while applied < int(times):
        done = m.summarize(KEY, joined, keep_last=4)
        applied += done is not None and done.applied
    say("done")


if __name__ == "__main__":
    with SessionManager(sys.argv[2], archive=True) as manager:
        {one.__name__: one for one in (turns, deliver, reset, once, visit, talk, summarize)}[sys.argv[1]](
            manager, *sys.argv[3:]
        )
