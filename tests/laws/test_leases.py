"""Turns of three managers under leases, beside a model: whatever runs out, no turn lands behind one that it did not see."""

from __future__ import annotations

import time
from contextlib import ExitStack

import attrs
from hypothesis import given
from hypothesis import strategies as st

from session_manager import Lease, LeaseLostError, SessionManager
from tests.support.laws import examples
from tests.support.leased import storage

KEY = "telegram:42"
MANAGERS = range(3)
STEPS = ["enter", "leave", "leave", "raise", "run out", "add"]


class BoomError(Exception):
    """What a model raises."""


@attrs.define
class Open:
    """A turn that is open, as the model has it."""

    turn: object
    #: The texts of turns that its model saw.
    seen: list[str]
    is_lost: bool = False


@attrs.define
class Model:
    """What must be stored, and who has the lease."""

    texts: list[str] = attrs.field(factory=list)
    holder: int | None = None
    has_run_out: bool = False
    open: dict[int, Open] = attrs.field(factory=dict)

    @property
    def of_turns(self):
        return [text for text in self.texts if text.startswith("turn")]

    def may_enter(self, who):
        return self.holder in (None, who) or self.has_run_out

    def enters(self, who, turn):
        for one in self.open.values():
            one.is_lost = True
        self.holder, self.has_run_out = who, False
        self.open[who] = Open(turn, self.of_turns)

    def ends(self, who):
        ended = self.open.pop(who)
        if not ended.is_lost:
            self.holder = None
        return ended


def enter(m, model, who, number):
    if who in model.open:
        return
    turn = m.turn(KEY, timeout=0)
    try:
        turn.__enter__()
    except TimeoutError:
        assert not model.may_enter(who)
        return
    assert model.may_enter(who)
    assert [message["content"] for message in turn.get_context()] == model.texts
    turn.add_message("user", f"turn {number}")
    model.enters(who, turn)


def leave(m, model, who, number):
    if who not in model.open:
        return
    before, ended = model.of_turns, model.ends(who)
    try:
        ended.turn.__exit__(None, None, None)
    except LeaseLostError:
        assert ended.is_lost
        return
    assert not ended.is_lost
    assert ended.turn.applied
    assert ended.seen == before, "it lands behind a turn that it did not see"
    model.texts.append(ended.turn.messages[0].content)


def fail(m, model, who, number):
    if who in model.open:
        ended = model.ends(who)
        ended.turn.__exit__(BoomError, BoomError(), None)
        if not ended.is_lost:
            wait_until_released(m)


def wait_until_released(m):
    """Wait for the manager's thread, which releases what no commit has."""
    end = time.monotonic() + 60
    while m._residents.store._leases[KEY].is_held:
        assert time.monotonic() < end
        time.sleep(0.0005)


def add(m, model, who, number):
    m.add_message(KEY, "user", f"plain {number}")
    m.save(KEY)
    model.texts.append(f"plain {number}")


@examples(60)
@given(st.lists(st.tuples(st.sampled_from(STEPS), st.sampled_from(MANAGERS)), max_size=25))
def test_no_turn_lands_behind_one_that_it_did_not_see(steps):
    place, model = storage("memory", None), Model()
    does = {"enter": enter, "leave": leave, "raise": fail, "add": add}
    with ExitStack() as stack:
        managers = [stack.enter_context(SessionManager(place.opened(), lease=Lease())) for _ in MANAGERS]
        for number, (step, who) in enumerate(steps):
            if step == "run out":
                place.jump(3600)
                model.has_run_out = model.holder is not None
            else:
                does[step](managers[who], model, who, number)
            for m in managers:
                assert [message.content for message in m.get_history(KEY)] == model.texts
        for who in list(model.open):
            leave(managers[who], model, who, len(steps))
        assert [message.content for message in managers[0].get_history(KEY)] == model.texts
        assert all(m.health().dirty == () for m in managers)
