"""How often a shared store is asked: on a server, each look is a round trip."""

from __future__ import annotations

import pytest

from session_manager import SessionManager
from session_manager.stores.memory import MemoryStore


class Counted(MemoryStore):
    """Notes the calls that would be round trips."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def load(self, key):
        self.calls.append("load")
        return super().load(key)

    def newer(self, known):
        self.calls.append("newer")
        there = MemoryStore.load(self, known.key)
        return (
            known
            if there is not None and there.version == known.version
            else there or (None if known.revision else known)
        )

    def write(self, commit):
        self.calls.append("write")
        super().write(commit)


def plain(m):
    with m.turn("k", "update-1") as turn:
        turn.add({"role": "user", "content": "hi"})


def with_a_context(m):
    with m.turn("k") as turn:
        turn.add({"role": "user", "content": "hi"})
        assert turn.get_context() == [{"role": "user", "content": "hi"}]
        turn.add({"role": "assistant", "content": "hello"})


def drafted(m):
    with m.turn("k", "update-1") as turn:
        turn.set_metadata({"language": "de"})
        turn.add({"role": "user", "content": "hi"})


def added_and_saved(m):
    m.add_message("k", "user", "hi")
    m.save("k")


@pytest.mark.parametrize("chat", [plain, with_a_context, drafted, added_and_saved], ids=lambda chat: chat.__name__)
def test_a_new_chat_costs_one_look_and_one_commit(chat):
    store = Counted()
    with SessionManager(store) as m:
        chat(m)
        assert store.calls == ["load", "write"]
    assert store.load("k").messages[0].content == "hi"


def test_get_or_create_and_a_turn_are_one_commit():
    store = Counted()
    with SessionManager(store) as m:
        m.get_or_create("k")
        assert store.calls == ["load"]
        plain(m)
    assert store.calls.count("write") == 1


@pytest.mark.parametrize("chat", [plain, with_a_context, drafted], ids=lambda chat: chat.__name__)
@pytest.mark.parametrize("creates_first", [False, True])
def test_a_turn_of_a_new_chat_is_rebased_if_another_process_creates_it(chat, creates_first):
    """Both see no session. The turn looks no more, and its save finds the other's message."""
    store = Counted()
    with SessionManager(store) as m, SessionManager(store) as other:
        if creates_first:
            m.get_or_create("k")
        original = MemoryStore.write

        def meanwhile(commit):
            store.write = lambda commit: original(store, commit)
            other.add_message("k", "user", "theirs")
            other.save("k")
            original(store, commit)

        store.write = meanwhile
        chat(m)
        found = [one.content for one in m.get_history("k")]
        assert found[0] == "theirs"
        assert "hi" in found
        assert [one.content for one in store.load("k").messages] == found


def test_one_delivery_in_two_processes_is_stored_once_in_a_new_chat():
    store = Counted()
    with SessionManager(store) as m, SessionManager(store) as other:
        with m.turn("k", "update-1") as turn, other.turn("k", "update-1") as second:
            turn.add({"role": "user", "content": "hi"})
            second.add({"role": "user", "content": "hi"})
        assert [one.content for one in store.load("k").messages] == ["hi"]
        assert (second.applied, turn.applied) == (True, False)
