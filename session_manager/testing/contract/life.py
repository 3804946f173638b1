"""A storage's life: what outlives it, what heals it, what damages it, and its end."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable

import pytest

from session_manager.errors import ClosedError, CorruptSessionError
from session_manager.model.changes import Truncate
from session_manager.model.session import Version
from session_manager.stores.contract import Store
from session_manager.testing.contract.base import (
    ContractBase,
    OpenStore,
    Storage,
    check_holds,
    check_holds_none,
    check_same,
)
from session_manager.testing.contract.chats import KEY, Chat

__all__ = ["LifeContract"]

_CALLS: dict[str, Callable[[Store], object]] = {
    "load": lambda store: store.load(KEY),
    "write": lambda store: store.write(Chat("new").add("a").commit()),
    "landed": lambda store: store.landed(Chat("new").add("a").commit()),
    "delete": lambda store: store.delete(KEY),
    "erase": lambda store: store.erase([KEY]),
    "rename": lambda store: store.rename(KEY, "new", Version("generation", 1)),
    "keys": lambda store: list(store.keys()),
    "version": lambda store: store.version(KEY),
    "describe": lambda store: store.describe(KEY),
    "window": lambda store: store.window(KEY, limit=1),
    "infos": lambda store: store.infos(),
    "search": lambda store: store.search("a"),
    "verify": lambda store: store.verify(KEY),
}


def _in_a_process_that_dies(work: Callable[[], object]) -> None:
    """Run something in a process that ends without any farewell; its writes alone are left."""
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # other threads of the tests stay behind, and hold no lock here
        child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0, "it worked in the other process"


class LifeContract(ContractBase):
    """`Store.close`, `compact`, `verify`, `repairs`, `strays`; damage; other stores on the same storage."""

    # What is well

    def test_nothing_is_wrong_with_a_good_session(self, storage: Storage) -> None:
        chat = Chat()
        for text in ("a", "b", "c"):
            chat.add(text).write(storage.store)
        for store in storage.now_and_reopened():
            assert store.verify(KEY) == []
            assert store.verify("missing") == []
            assert store.repairs() == []
            assert store.strays() == []

    def test_releasing_changes_nothing_that_is_stored(self, storage: Storage) -> None:
        chat = Chat()
        storage.store.release(KEY)
        for text in ("a", "b", "c"):
            chat.add(text).write(storage.store)
            storage.store.release(KEY)
            check_holds(storage.store, chat.session)
            storage.store.release(KEY)
        check_holds(storage.reopen(), chat.session)

    def test_compacting_changes_nothing_that_is_stored(self, storage: Storage) -> None:
        chat, other = Chat(), Chat("other", "other").add("other")
        other.write(storage.store)
        storage.store.compact("missing")
        assert storage.store.load("missing") is None
        for number in range(30):
            chat.add(f"{number}", "x" * 500).step(lambda session, at: Truncate(at=at, start=session.end - 7))
            chat.write(storage.store)
            if number % 10 == 5:
                storage.store.compact(KEY)
                check_holds(storage.store, chat.session)
                check_holds(storage.reopen(), chat.session)
        storage.store.compact(KEY)
        check_holds(storage.reopen(), chat.session)
        check_holds(storage.store, other.session)
        assert storage.store.verify(KEY) == []
        kept = [message.position for message in reversed(chat.session.messages) if message.content == "x" * 500]
        assert [hit.position for hit in storage.store.search("x" * 500)] == kept

    # Its end

    def test_a_store_may_be_closed_twice(self, store: Store) -> None:
        Chat().add("a").write(store)
        store.close()
        store.close()

    @pytest.mark.parametrize("call", _CALLS)
    def test_a_closed_store_refuses_calls(self, storage: Storage, call: str) -> None:
        if not self.refuses_when_closed:
            pytest.skip("refuses_when_closed is False")
        session = Chat().add("a").write(storage.store)
        storage.store.close()
        with pytest.raises(ClosedError):
            _CALLS[call](storage.store)
        if self.durable:
            check_holds(storage.reopen(), session)
            assert list(storage.store.keys()) == [KEY]

    def test_what_was_written_outlives_a_process_that_dies(self, storage: Storage, open_store: OpenStore) -> None:
        self._needs_durable()
        if not hasattr(os, "fork"):
            pytest.skip("the system has no fork()")
        chats = [Chat(f"chat:{number}", f"g{number}") for number in range(3)]
        storage.store.close()

        def work() -> None:
            store = open_store()
            for chat in chats:
                chat.add("a", "b").write(store)
                chat.add("c").write(store)
            assert store.delete("chat:1")

        _in_a_process_that_dies(work)
        store = storage.reopen()
        check_holds_none(store, "chat:1")
        for chat in (chats[0], chats[2]):
            chat.add("a", "b").written(chat.commit())
            chat.add("c").written(chat.commit())
            check_holds(store, chat.session)
            assert store.verify(chat.key) == []
            check_holds(store, chat.add("d").write(store))

    # Several stores

    def test_a_shared_storage_shows_what_another_store_wrote(self, storage: Storage) -> None:
        if not storage.store.shared:
            pytest.skip("shared is False: nobody else writes while it is open")
        if not self.durable:
            pytest.skip("durable is False: a second store is another storage")
        one, other = storage.store, storage.open_beside()
        chat = Chat().add("a")
        check_holds(other, chat.write(one))
        check_holds(one, chat.add("b").write(other))
        lost = chat.add("c").commit("lost")
        session = chat.add("d").write(other)
        assert one.landed(lost) is False
        check_holds(one, session)
        assert other.delete(KEY, session.version) is True
        check_holds_none(one, KEY)

    # Damage

    def test_a_damaged_session_raises_and_is_never_overwritten(
        self, storage: Storage, damage: Callable[[str], None]
    ) -> None:
        chat, store = self._damaged(storage, damage)
        for _ in range(2):
            with pytest.raises(CorruptSessionError) as raised:
                store.load(KEY)
            assert raised.value.key == KEY
            for commit in (chat.commit("based"), Chat(generation="another").add("new").commit()):
                with pytest.raises(CorruptSessionError):
                    store.write(commit)
            store = storage.reopen()

    def test_a_damaged_session_is_listed_and_verify_finds_it(
        self, storage: Storage, damage: Callable[[str], None]
    ) -> None:
        _, store = self._damaged(storage, damage)
        assert sorted(store.keys()) == sorted([KEY, "other"])
        assert {finding.key for finding in store.verify(KEY)} == {KEY}
        assert store.verify("other") == []

    def test_a_damaged_session_harms_no_other_one(self, storage: Storage, damage: Callable[[str], None]) -> None:
        _, store = self._damaged(storage, damage)
        other = store.load("other")
        assert other is not None
        assert [hit.key for hit in store.search("a")] == ["other"]
        check_holds(store, Chat("third").add("a").write(store))

    def test_a_damaged_session_is_deleted_and_may_be_created_again(
        self, storage: Storage, damage: Callable[[str], None]
    ) -> None:
        _, store = self._damaged(storage, damage)
        assert store.delete(KEY) is True
        check_holds_none(store, KEY)
        check_holds_none(storage.reopen(), KEY)
        session = Chat(generation="another").add("new").write(storage.store)
        check_same(storage.reopen().load(KEY), session)
        assert session.version == Version("another", 1)

    def _damaged(self, storage: Storage, damage: Callable[[str], None]) -> tuple[Chat, Store]:
        chat = Chat().add("a", "b")
        chat.write(storage.store)
        Chat("other").add("a").write(storage.store)
        storage.store.close()
        damage(KEY)
        return chat.add("c"), storage.reopen()

    def _needs_durable(self) -> None:
        if not self.durable:
            pytest.skip("durable is False: nothing outlives the process")
