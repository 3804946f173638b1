"""Random walks of three managers over a storage that goes back once: nothing that one of them showed vanishes in silence.

A walk is drawn by its seed. What a manager shows may go only by a conflict, after which its caller takes what is stored.
"""

from __future__ import annotations

import itertools
import random

from session_manager import ConflictError, SessionManager
from session_manager.stores import commits, memory
from session_manager.stores.memory import MemoryStore

KEY = "telegram:42"
WALKS, STEPS = 40, 40


def shown(manager):
    entry = manager._residents.peek(KEY)
    return [] if entry is None else [message.content for message in entry.session.messages]


def step(manager, verb, number):
    if verb == "turn":
        with manager.turn(KEY, f"r{number}") as turn:
            turn.add({"role": "user", "content": f"{number} asks"}, {"role": "assistant", "content": f"{number} says"})
    elif verb == "add":
        manager.add_message(KEY, "user", f"{number}")
    elif verb == "note":
        manager.update_metadata(KEY, {"n": number})
    elif verb == "save":
        manager.save(KEY)
    else:
        manager.get_history(KEY)


def check_stored(store):
    texts = [message.content for message in store.load(KEY).messages]
    assert len(texts) == len(set(texts)), "a message is there twice"
    asked = [index for index, text in enumerate(texts) if text.endswith("asks")]
    assert all(texts[index + 1] == texts[index].replace("asks", "says") for index in asked), "a turn is torn"


def failure(seed):
    """Walk; return what vanished or was doubled or torn, or `None`; and how often it was said."""
    store = MemoryStore()
    managers = [SessionManager(store) for _ in range(3)]
    try:
        return walk(seed, store, managers)
    finally:
        for one in managers:
            one.close(save=False)


def walk(seed, store, managers):
    chance, numbers, told = random.Random(seed), itertools.count(), 0
    managers[0].add_message(KEY, "user", "first")
    managers[0].save(KEY)
    kept, when = [dict(store._sessions)], chance.randrange(8, STEPS)
    before = [shown(one) for one in managers]
    for moment in range(STEPS):
        who, reloaded = chance.randrange(3), None
        if moment == when:
            store._sessions = chance.choice(kept[-6:])
        try:
            step(managers[who], chance.choice(["turn", "turn", "add", "note", "save", "read"]), next(numbers))
        except ConflictError:
            told, reloaded = told + 1, who
            managers[who].reload(KEY)
        kept.append(dict(store._sessions))
        for number, one in enumerate(managers):
            now = shown(one)
            if number != reloaded and not set(before[number]) <= set(now):
                return f"walk {seed}: {set(before[number]) - set(now)} vanished from {number} at {moment}", told
            before[number] = now
        try:
            check_stored(store)
        except AssertionError as error:
            return f"walk {seed}: {error}", told
    return None, told


def test_nothing_vanishes_in_silence_is_doubled_or_torn(size):
    done = [failure(seed) for seed in range(size.of(WALKS, 400, 20_000))]
    assert [found for found, _ in done if found is not None] == []
    assert sum(told for _, told in done) > 0, "no walk met a conflict"


def test_the_walks_notice_a_store_that_looks_at_revisions_alone(monkeypatch):
    """A state of a later revision is taken for the newest, and one of the same for what RAM has."""
    monkeypatch.setattr(commits, "has_parted", lambda known, kept: None)
    for module in (commits, memory):
        monkeypatch.setattr(module, "agree", lambda one, other: one == other)
    assert any(failure(seed)[0] is not None for seed in range(400))
