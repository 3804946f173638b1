"""The store in RAM, where it is more than the contract (`test_testing_contract`) says."""

from __future__ import annotations

import sys

import attrs
import pytest

from session_manager import SessionManager
from session_manager.stores.memory import MemoryStore
from tests.support.managers import texts

KEY = "telegram:42"
MOST = 1000


def interrupted_at(number, call):
    """Make a call, and raise KeyboardInterrupt at the n-th line inside of `MemoryStore`; say whether there was one."""
    left = number

    def trace(frame, event, _):
        nonlocal left
        if frame.f_code.co_filename != sys.modules[MemoryStore.__module__].__file__:
            return None
        if event == "line":
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.parametrize("deleted", [False, True])
def test_a_write_that_is_interrupted_anywhere_landed_if_it_is_there(deleted):
    """Its token was noted before the session was there: an interrupt in between lost the changes in silence."""
    for number in range(1, MOST):
        store = MemoryStore()
        with SessionManager(store) as m:
            m.add_message(KEY, "user", "a")
            m.save(KEY)
            if deleted:
                m.delete(KEY)
            m.add_message(KEY, "user", "b")
            if not interrupted_at(number, lambda m=m: m.save(KEY)):
                break
            commit = m._residents.peek(KEY).unknown
            assert commit is None or store.landed(commit) is (store.version(KEY) == commit.session.version)
            m.save(KEY)
            assert texts(m, KEY) == ["a"] * (not deleted) + ["b"]
        assert [message.content for message in store.load(KEY).messages] == ["a"] * (not deleted) + ["b"]
    assert 10 < number < MOST - 1


def test_a_copy_of_a_commit_passed_on_by_a_wrapper_may_have_landed():
    """The copy had a doubt of its own: of a write too long ago the store said that it had not happened."""

    class Wrapper(MemoryStore):
        def write(self, commit):
            super().write(attrs.evolve(commit, before=None))

    store = Wrapper()
    with SessionManager(store) as m:
        m.add_message(KEY, "user", "a")
        commit = m._residents.peek(KEY).commit("token")
        store.write(commit)
        assert commit.doubt.exists
        m.reload(KEY)
