"""Deletions, expiries and renames that are interrupted at each point at which a signal handler may run."""

from __future__ import annotations

from datetime import timedelta

import pytest

from session_manager import SessionManager
from session_manager.stores.memory import MemoryStore
from tests.support.clocks import Clock
from tests.support.interruptions import CAN_INTERRUPT, interrupted

DAY = timedelta(days=1)
SAID = ["saved", "unsaved"]

pytestmark = pytest.mark.skipif(
    not CAN_INTERRUPT, reason="this Python does not tell, or not each time, where an interrupt may come"
)


def expected(m):
    m.save("k")
    m.delete("k", expected=m.get("k").version)


REMOVALS = {
    "delete": lambda m: m.delete("k"),
    "delete expected": expected,
    "delete_prefix": lambda m: m.delete_prefix("k"),
    "expire": lambda m: m.expire(DAY),
    "rename": lambda m: m.rename("k", "new"),
}


def texts(session):
    return None if session is None else [message.content for message in session.messages]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("name", REMOVALS)
def test_a_removal_interrupted_at_any_point_is_all_or_nothing(name, shared):
    """A store had deleted the session, and RAM had not noted it yet: its unsaved messages began a new one with the next save."""
    number, outcomes = 0, []
    is_reached = True
    while is_reached:
        number += 1
        store, clock = MemoryStore(), Clock()
        store.shared = shared
        with SessionManager(store, clock=clock) as m:
            m.add_message("k", "user", "saved")
            m.save("k")
            m.add_message("k", "user", "unsaved")
            clock.advance(days=2)
            is_reached = interrupted(lambda m=m: REMOVALS[name](m), number)
            shown = {key: found for key in ("k", "new") if (found := texts(m.get(key))) is not None}
            m.save_all()
            assert shown == {key: texts(store.load(key)) for key in tuple(store.keys())}, number
            assert all(said == SAID for said in shown.values()), number
            assert len(shown) == 1 or (name != "rename" and not shown), number
            outcomes.append(tuple(shown))
    gone = ("new",) if name == "rename" else ()
    assert outcomes[0] == ("k",)
    assert outcomes[-1] == gone
    assert outcomes.index(gone) < len(outcomes) - 2, "no interrupt came after the store had landed it"
