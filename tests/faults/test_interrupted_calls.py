"""Calls of a worker that are interrupted at each point at which a signal handler may run: the state before, or the one after.

Signals at random moments (`test_processes_and_signals`) met the last microseconds of a deletion once in many thousand.
"""

from __future__ import annotations

import random
from functools import partial

import pytest

from session_manager import SessionManager
from tests.faults.expected import Ledgers, shown
from tests.faults.worker import KEYS, WEIGHTS, Hand, Place
from tests.support.interruptions import CAN_INTERRUPT, interrupted

KINDS = ("snapshot", "log", "sqlite")
#: How many sessions there are: a fork needs a key that has none.
SESSIONS = 3
#: What creates a session that is missing.
CREATING = ("add", "turn", "together")

pytestmark = pytest.mark.skipif(
    not CAN_INTERRUPT, reason="this Python does not tell, or not each time, where an interrupt may come"
)


class Lines(list):
    """What a worker says, kept here."""

    def say(self, *lines):
        self.extend(lines)


def begin(place, seed, said):
    """Open a storage, and do something with it, the same for each seed; return the hand, and its last call."""
    chance = random.Random(seed)
    archives = chance.random() < 0.5
    m = SessionManager(place.url, archive=archives, max_resident_bytes=chance.choice([None, None, 1, 20_000]))
    hand = Hand(m, said, chance, range(SESSIONS), [None] * len(KEYS), [0] * len(KEYS), archives=archives)
    hand.work(chance.choice([2, 4, 8, 12]))
    there = [number for number in hand.mine if hand.chats[number] is not None]
    name = list(WEIGHTS)[seed % len(WEIGHTS)] if there else "add"
    number = chance.choice(there) if there else 0
    if there and chance.random() < 0.7:
        hand.do_add(number, KEYS[number])  # so something is unsaved
        hand.making = {}
    return hand, partial(getattr(hand, f"do_{name}"), number, KEYS[number])


def attempt(place, seed, point):
    """Interrupt a call at a point, and close the manager, as a program does that is told to end; say whether it was reached."""
    said = Lines()
    hand, call = begin(place, seed, said)
    is_reached = interrupted(call, point, SystemExit())
    if not is_reached:
        hand.making = {}
    hand.close()
    ledgers = Ledgers([None] * len(KEYS))
    ledgers.take(said)
    with SessionManager(place.url, read_only=True) as m:
        found = [shown(m, key) for key in KEYS]
    wrong = [text for number, chat in enumerate(found) if (text := ledgers.contradicted(number, chat))]
    assert wrong == [], (seed, point)
    assert ledgers.errors == []
    return is_reached


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", KINDS)
def test_a_call_interrupted_at_any_point_leaves_one_of_two_states(kind, tmp_path, size, record_property):
    """A deletion left unsaved messages in RAM, which began a new session when the manager was closed."""
    first, step = size.of(list(WEIGHTS).index("delete"), 0, 0), size.of(7, 3, 1)
    count = 0
    for seed in range(first, first + size.of(1, 2 * len(WEIGHTS), 20 * len(WEIGHTS))):
        point = 1 + seed % step
        while attempt(Place(kind, str(tmp_path / f"{seed}-{point}")), seed, point):
            count, point = count + 1, point + step
    record_property("seen", count)
    print(f"{kind}: {count} interrupts")
    assert count > size.of(5, 500, 50_000)
