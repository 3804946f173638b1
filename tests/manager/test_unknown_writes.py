"""Writes whose outcome is unknown, beside other calls about the same session."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from session_manager import SaveOutcomeUnknownError, SessionManager
from session_manager.stores.memory import MemoryStore
from session_manager.stores.sqlite import SQLiteStore
from session_manager.testing import FaultyStore

KEY = "telegram:42"
STORES = {"memory": lambda _: MemoryStore(), "sqlite": lambda path: SQLiteStore(path / "chats.db")}


class Interposed(FaultyStore):
    """Calls a function in the middle of the next look at a session: after the manager has taken its picture, before the store answers."""

    meanwhile = None

    def newer(self, known):
        function, self.meanwhile = self.meanwhile, None
        if function is not None:
            function()
        return super().newer(known)


@pytest.fixture(params=STORES)
def store(request, tmp_path):
    with closing(Interposed(STORES[request.param](tmp_path))) as one:
        yield one


def test_a_read_beside_a_save_whose_acknowledgement_is_lost(store):
    """The read saw the new state, took it for another writer's, and had the messages pending a second time on top of it."""
    with SessionManager(store) as m, ThreadPoolExecutor(1) as threads:
        m.add_message(KEY, "user", "a")
        m.save(KEY)
        m.add_message(KEY, "user", "b")

        def save():
            store.lose_ack_next()
            with pytest.raises(SaveOutcomeUnknownError):
                threads.submit(m.save, KEY).result()

        store.meanwhile = save
        assert [one.content for one in m.get_history(KEY)] == ["a", "b"]
        assert m.save(KEY)
        assert [one.content for one in store.load(KEY).messages] == ["a", "b"]


def test_a_first_write_that_arrives_after_the_deletion_is_refused(store):
    """There was no version to delete, and the session came back."""
    with SessionManager(store) as m:
        m.add_message(KEY, "user", "a")
        store.late_next(0.05)
        with pytest.raises(SaveOutcomeUnknownError):
            m.save(KEY)
        assert m.delete(KEY)
        assert len(store.settle_late()) == 1
        assert store.load(KEY) is None
        assert m.get(KEY) is None
