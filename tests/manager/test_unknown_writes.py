"""Writes whose outcome is unknown, beside other calls about the same session."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from session_manager import ConflictError, SaveOutcomeUnknownError, SessionManager, SessionNotFoundError
from session_manager.model.session import MAX_REFS
from session_manager.stores.contract import MAX_TOKENS
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
        assert m.save(KEY) or not m.health().dirty  # or the read has settled it
        assert [one.content for one in store.load(KEY).messages] == ["a", "b"]


@pytest.mark.parametrize("call", ["get_history", "get_context", "list_sessions", "contains", "search", "fork"])
@pytest.mark.parametrize("landed", [True, False])
def test_what_others_do_is_seen_behind_a_write_of_unknown_outcome(store, call, landed):
    """Until its next save, the manager showed the session as it had left it, also if another one had deleted it."""

    def seen(m, number):
        calls = {
            "get_history": lambda: len(m.get_history(KEY)),
            "get_context": lambda: len(m.get_context(KEY)),
            "list_sessions": lambda: sum(one.count for one in m.list_sessions()),
            "contains": lambda: 2 + landed if KEY in m else 0,
            "search": lambda: len(m.search("text", key=KEY)),
            "fork": lambda: len(m.fork(KEY, f"copy {number}").messages),
        }
        try:
            return calls[call]()
        except SessionNotFoundError:
            return 0

    with SessionManager(store) as m, SessionManager(store.store) as other:
        m.add_message(KEY, "user", "text a")
        m.save(KEY)
        m.add_message(KEY, "user", "text b")
        if landed:
            store.lose_ack_next()
        else:
            store.fail_next(error=SaveOutcomeUnknownError(KEY, "the answer is lost"))
        with pytest.raises(SaveOutcomeUnknownError):
            m.save(KEY)
        other.add_message(KEY, "user", "text c")
        other.save(KEY)
        assert seen(m, 1) == (2 + landed if call == "contains" else 3)
        if landed:
            other.delete(KEY)
            assert seen(m, 2) == 0


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


def take(m, ref):
    with m.turn(KEY, ref) as turn:
        if not turn.done:
            turn.add_message("user", ref)
    return turn


class LosesRequests(FaultyStore):
    """Loses a write when it is told to: it is sent, and does not arrive."""

    is_cut_off = False

    def write(self, commit):
        if self.is_cut_off:
            self.is_cut_off, commit.doubt.exists = False, True
            raise SaveOutcomeUnknownError(commit.session.key, "the connection ended")
        super().write(commit)


def cut_off(m, store, *, landed):
    """Take a turn whose outcome the manager does not learn."""
    if landed:
        store.lose_ack_next()
    else:
        store.is_cut_off = True
    with pytest.raises(SaveOutcomeUnknownError):
        take(m, "cut off")


def others_write(path, count):
    """Have a manager of another process's take so many turns."""
    with SessionManager(f"sqlite:{path}") as other:
        for number in range(count):
            take(other, f"other:{number}")


@pytest.mark.parametrize("landed", [True, False])
def test_a_turn_that_no_token_tells_of_is_told_by_its_ref(tmp_path, landed):
    """A machine was cut off in a commit, while others wrote more than 64 times: its chat was stuck there until `reload`."""
    path = tmp_path / "chats.db"
    with closing(LosesRequests(SQLiteStore(path))) as store, SessionManager(store) as m:
        take(m, "first")
        cut_off(m, store, landed=landed)
        others_write(path, MAX_TOKENS + 2)
        turn = take(m, "cut off")
        assert turn.done
        assert [one.content for one in turn.messages] == ["cut off"]
        assert m.save(KEY) is False
        said = [one.content for one in store.load(KEY).messages]
    assert said.count("cut off") == 1
    assert len(said) == MAX_TOKENS + 4


@pytest.mark.parametrize("landed", [True, False])
def test_a_turn_that_neither_token_nor_ref_tells_of_is_a_conflict(tmp_path, landed):
    """So many deliveries came since that the session has forgotten those of that time."""
    path = tmp_path / "chats.db"
    with closing(LosesRequests(SQLiteStore(path))) as store, SessionManager(store) as m:
        take(m, "first")
        cut_off(m, store, landed=landed)
        others_write(path, MAX_REFS + 1)
        with pytest.raises(ConflictError, match="nobody can tell any more"):
            m.save(KEY)
        assert [one.turn for one in m.reload(KEY)] == ["cut off"]
        assert take(m, "next").applied


def test_a_message_without_a_ref_that_no_token_tells_of_is_a_conflict(tmp_path):
    """It was unsaved when the turn was taken, and went with it: made again, it would be there twice."""
    path = tmp_path / "chats.db"
    with closing(LosesRequests(SQLiteStore(path))) as store, SessionManager(store) as m:
        take(m, "first")
        m.add_message(KEY, "user", "without a ref")
        cut_off(m, store, landed=True)
        others_write(path, MAX_TOKENS + 2)
        with pytest.raises(ConflictError, match="nobody can tell any more"):
            m.save(KEY)
        m.reload(KEY)
        assert [one.content for one in m.get_history(KEY)].count("without a ref") == 1
