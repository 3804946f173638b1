"""`get_state` and `put_state`: a session's metadata in one durable call, for programs that keep state without messages."""

from __future__ import annotations

import asyncio
from datetime import datetime, timezone

import pytest

from session_manager import (
    AsyncSessionManager,
    ConflictError,
    InvalidMessageError,
    ReadOnlyError,
    SaveFailedError,
    SaveOutcomeUnknownError,
    SessionManager,
    Write,
)
from session_manager.stores.memory import MemoryStore
from session_manager.testing import FaultyStore

KEY = "thread:1"


@pytest.fixture(params=["snapshot:{}", "log:{}", "sqlite:{}.db"], ids=lambda url: url.partition(":")[0])
def url(request, tmp_path):
    return request.param.format(tmp_path / "state")


def test_one_call_creates_changes_and_saves(url):
    with SessionManager(url) as m:
        assert m.get_state(KEY) == {}
        m.put_state(KEY, {"step": 1, "blob": b"\0\xff", "list": [b"x"]})
        m.put_state(KEY, {"step": 2}, removed=["list", "nothing"])
        assert m.health().dirty == ()
        assert m.get(KEY).revision == 2
        m.close(save=False)
    with SessionManager(url, read_only=True) as m:
        assert m.get_state(KEY) == {"step": 2, "blob": b"\0\xff"}
        assert m.get_history(KEY) == []
        with pytest.raises(ReadOnlyError):
            m.put_state(KEY, {})


def test_nothing_to_set_still_makes_the_session_durable():
    with SessionManager(store := MemoryStore()) as m:
        m.put_state("new", {})
        assert store.load("new").revision == 1
        m.put_state("new", {}, ["nothing"])
        assert store.load("new").revision == 1
        m.add_message("new", "user", "unsaved")
        m.put_state("new", {})
        assert len(store.load("new").messages) == 1


def test_a_state_that_is_got_is_a_copy():
    with SessionManager() as m:
        m.put_state(KEY, {"list": [1]})
        m.get_state(KEY)["list"].append(2)
        assert m.get_state(KEY) == {"list": [1]}
        assert m.get(KEY).metadata == {"list": [1]}


def test_in_ram_only_it_works_as_well():
    with SessionManager() as m:
        m.put_state(KEY, {"a": b"1"})
        assert m.get_state(KEY) == {"a": b"1"}
        assert m.get(KEY).metadata == {"a": {"session_manager.bytes": "MQ=="}}


def by_turn(m, items, key=KEY):
    with m.turn(key) as turn:
        turn.set_metadata(items)


SETTERS = {
    "put_state": lambda m, items: m.put_state(KEY, items),
    "update_metadata": lambda m, items: m.update_metadata(KEY, items),
    "commit_together": lambda m, items: m.commit_together([Write(KEY, items=items)]),
    "a turn": by_turn,
}


@pytest.mark.parametrize("setter", SETTERS)
def test_every_call_that_sets_metadata_takes_bytes_alike(setter):
    """`update_metadata` and a turn refused them."""
    given = {"a": b"\0\xff", "list": [b"x", {"b": b""}], "n": 1}
    with SessionManager(MemoryStore()) as m:
        m.get_or_create(KEY)
        SETTERS[setter](m, given)
        assert m.get_state(KEY) == given
        m.put_state("another", {"a": b"\0"})
        for where in ({"a": b"\0\xff"}, {"list": given["list"]}, m.get(KEY).metadata):
            assert [info.key for info in m.list_sessions(where=where)] == [KEY]
            assert m.expire(datetime.max.replace(tzinfo=timezone.utc), where=where, dry_run=True) == [KEY]
        with pytest.raises(InvalidMessageError, match=r"^metadata\.a\.b: "):
            SETTERS[setter](m, {"a": {"b": {b"no JSON"}}})


def test_metadata_that_is_shown_can_be_given_to_another_session():
    with SessionManager() as m:
        m.put_state(KEY, given := {"a": b"x", "like": {"session_manager.bytes": "aGk="}})
        for name, call in (("b", m.update_metadata), ("c", lambda key, items: by_turn(m, items, key))):
            m.get_or_create(name)
            call(name, m.get(KEY).metadata)
            assert m.get_state(name) == given


async def async_turn(m, items):
    async with m.turn(KEY) as turn:
        await turn.set_metadata(items)


ASYNC_SETTERS = {
    "put_state": lambda m, items: m.put_state(KEY, items),
    "update_metadata": lambda m, items: m.update_metadata(KEY, items),
    "commit_together": lambda m, items: m.commit_together([Write(KEY, items=items)]),
    "a turn": async_turn,
}


def test_every_async_call_that_sets_metadata_takes_bytes_alike():
    async def check():
        async with AsyncSessionManager(MemoryStore()) as m:
            await m.get_or_create(KEY)
            for number, setter in enumerate(ASYNC_SETTERS.values()):
                await setter(m, given := {"a": bytes([number])})
                assert await m.get_state(KEY) == given
                assert len(await m.list_sessions(where=given)) == 1

    asyncio.run(check())


def test_keys_that_two_writers_set_both_stay(tmp_path):
    """Each is rebased over the other; of one key, the last writer's value stays."""
    store = MemoryStore()
    with SessionManager(store) as one, SessionManager(store) as other:
        one.put_state(KEY, {"one": 1, "both": 1})
        other.put_state(KEY, {"other": 2, "both": 2})
        one.put_state(KEY, {"both": 1})
        assert one.get_state(KEY) == other.get_state(KEY) == {"one": 1, "other": 2, "both": 1}


def test_a_value_that_another_process_has_replaced_is_put_again():
    """It looked as if it had no effect: in RAM stood the same value."""
    store = MemoryStore()
    with SessionManager(store) as one, SessionManager(store) as other:
        one.put_state(KEY, {"mode": "a"})
        other.put_state(KEY, {"mode": "b"})
        one.put_state(KEY, {"mode": "a"})
        assert store.load(KEY).metadata == {"mode": "a"}


def test_a_session_that_is_deleted_meanwhile_is_created_again():
    """Rebased over the deletion, a change of metadata has no effect: the state would have been lost in silence."""
    store = MemoryStore()

    class Deleting(FaultyStore):
        due = False

        def write(self, commit):
            if self.due:
                self.due = False
                other.delete(KEY)
            super().write(commit)

    with SessionManager(faulty := Deleting(store)) as one, SessionManager(store) as other:
        one.put_state(KEY, {"a": 1})
        faulty.due = True
        one.put_state(KEY, {"b": 2})
        assert store.load(KEY).metadata == {"b": 2}


@pytest.mark.parametrize("is_new", [True, False])
def test_a_put_that_fails_has_done_nothing(is_new):
    with SessionManager(store := FaultyStore(MemoryStore())) as m:
        if not is_new:
            m.put_state(KEY, {"a": 1})
        store.fail_next(SaveFailedError(KEY, "full"))
        with pytest.raises(SaveFailedError):
            m.put_state(KEY, {"a": 2})
        assert m.get_state(KEY) == ({} if is_new else {"a": 1})
        assert (KEY in m) is not is_new
        assert m.health().dirty == ()
        m.put_state(KEY, {"a": 3})
        assert store.load(KEY).metadata == {"a": 3}


def test_a_put_whose_acknowledgement_is_lost_is_settled():
    with SessionManager(store := FaultyStore(MemoryStore())) as m:
        m.put_state(KEY, {"a": 1})
        store.lose_ack_next()
        m.put_state(KEY, {"a": 2})
        assert store.load(KEY).metadata == m.get_state(KEY) == {"a": 2}
        store.fail_next(SaveOutcomeUnknownError(KEY, "lost"))
        with pytest.raises((SaveFailedError, SaveOutcomeUnknownError)):
            m.put_state(KEY, {"a": 3})
        m.save_all()
        assert store.load(KEY).metadata == m.get_state(KEY)


def test_bad_input_changes_nothing():
    with SessionManager() as m:
        for items, error in (({"a": {1}}, InvalidMessageError), ({1: 2}, InvalidMessageError), ([1], TypeError)):
            with pytest.raises(error):
                m.put_state(KEY, items)
        with pytest.raises(TypeError, match="removed"):
            m.put_state(KEY, {}, removed="abc")
        endless = []
        endless.append(endless)
        for call in (
            lambda: m.put_state(KEY, {"a": endless}),
            lambda: m.commit_together([Write(KEY, items={"a": endless})]),
        ):
            with pytest.raises(InvalidMessageError, match=r"^metadata\.a: more than 200 levels"):
                call()
        assert KEY not in m


def test_a_conflict_of_an_earlier_call_is_told():
    store = MemoryStore()
    with SessionManager(store) as one, SessionManager(store) as other:
        one.add_message(KEY, "user", "a")
        one.save(KEY)
        assert len(other.get_history(KEY)) == 1
        one.update_last(KEY, {"role": "user", "content": "b"})
        other.update_last(KEY, {"role": "user", "content": "c"})
        other.save(KEY)
        with pytest.raises(ConflictError):
            one.put_state(KEY, {"a": 1})
        one.reload(KEY)
        assert one.get_state(KEY) == {}
