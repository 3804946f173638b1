"""Erasures: of a session, and of all that the storage keeps of it elsewhere."""

from __future__ import annotations

from collections.abc import Callable

from session_manager.stores.contract import Store
from session_manager.testing.contract.base import ContractBase, Storage, check_holds, check_holds_none
from session_manager.testing.contract.chats import KEY, Chat

__all__ = ["EraseContract"]


class EraseContract(ContractBase):
    """`Store.erase`. That no byte is left in its files is for the tests of each store."""

    def test_an_erased_session_is_gone_and_the_others_stay(self, storage: Storage) -> None:
        other = Chat(f"{KEY}:2").add("stays").write(storage.store)
        for key in (KEY, "another"):
            Chat(key).add("goes").write(storage.store)
        told: list[str] = []
        assert storage.store.copies_of([KEY, "missing", "another"]) == []
        report = storage.store.erase([KEY, "missing", "another"], told.append)
        assert told == [KEY, "missing", "another"]
        assert report.sessions == (KEY, "another")
        assert (report.waits, report.finished) == ((), ())
        for store in storage.now_and_reopened():
            for key in (KEY, "another", "missing"):
                check_holds_none(store, key)
                assert list(store.archive(key)) == []
                assert store.quarantined_of(key) == []
            check_holds(store, other)
            assert store.strays() == store.repairs() == []
        assert storage.store.erase([KEY]).sessions == ()
        assert storage.store.erase([]).sessions == ()

    def test_an_erased_session_may_be_created_again(self, storage: Storage) -> None:
        Chat().add("old", "older").write(storage.store)
        assert storage.store.erase([KEY]).sessions == (KEY,)
        new = Chat(generation="another").add("new").write(storage.store)
        for store in storage.now_and_reopened():
            check_holds(store, new)
            assert store.search("old") == []

    def test_a_damaged_session_is_erased_also_from_quarantine(
        self, storage: Storage, damage: Callable[[str], None]
    ) -> None:
        Chat().add("goes").write(storage.store)
        storage.store.close()
        damage(KEY)
        store: Store = storage.reopen()
        report = store.erase([KEY])
        assert report.sessions == (KEY,)
        for now in storage.now_and_reopened():
            assert now.quarantined_of(KEY) == now.quarantined() == []
            check_holds_none(now, KEY)
