"""Refreshes: a picture of a session becomes the one that the store holds now."""

from __future__ import annotations

import attrs
from hypothesis import strategies as st

from session_manager.model.changes import Append, Clear, Edit, Remove, SetSummary, Truncate
from session_manager.model.session import Session
from session_manager.stores.contract import Store
from session_manager.testing.contract.base import ContractBase, Storage, check_same, for_all
from session_manager.testing.contract.chats import EPOCH, KEY, Chat, Step, said, steps

__all__ = ["RefreshContract"]


def _loaded(store: Store) -> Session:
    session = store.load(KEY)
    assert session is not None
    return session


class RefreshContract(ContractBase):
    """`Store.newer`."""

    def test_a_picture_of_what_is_stored_is_returned_itself(self, storage: Storage) -> None:
        chat = Chat().add("a")
        written = chat.write(storage.store)
        for store in storage.now_and_reopened():
            loaded = _loaded(store)
            assert store.newer(loaded) is loaded
            assert store.newer(written) is written

    def test_a_session_that_is_not_there_has_nothing_newer(self, storage: Storage) -> None:
        blank = Chat().session
        assert storage.store.newer(blank) is blank
        chat = Chat().add("a")
        written = chat.write(storage.store)
        check_same(storage.store.newer(blank), written)
        storage.store.delete(KEY)
        for store in storage.now_and_reopened():
            assert store.newer(written) is None
        new = Chat(generation="another").add("b").write(storage.store)
        check_same(storage.store.newer(written), new)

    def test_each_change_of_another_writer_is_seen(self, storage: Storage) -> None:
        chat = Chat().add("0", "1", "2", "3")
        chat.write(storage.store)
        picture = _loaded(storage.store)
        for change in (
            Append(at=EPOCH, messages=(said("new"),), turn="update-1"),
            Edit(at=EPOCH, position=1, message=said("edited")),
            Edit(at=EPOCH, position=4, message=said("edited")),
            Remove(at=EPOCH, position=2),
            SetSummary(at=EPOCH, text="so far"),
            Truncate(at=EPOCH, start=1),
            Clear(at=EPOCH, generation="another"),
            Append(at=EPOCH, messages=(said("after"),)),
        ):
            chat.did(change).write(storage.store)
            picture_now = storage.store.newer(picture)
            check_same(picture_now, chat.session)
            assert picture_now is not None
            check_same(storage.store.newer(picture_now), chat.session)
            picture = picture_now
        check_same(storage.reopen().newer(picture), chat.session)

    def test_any_older_picture_becomes_the_stored_session(self, storage: Storage) -> None:
        """Pictures that were loaded, refreshed, or written, each of any moment, refreshed in any order."""

        def check(chain: list[tuple[list[Step], int]]) -> None:
            storage.store.delete(KEY)
            chat = Chat().add("a", "b", "c")
            pictures = [chat.write(storage.store), _loaded(storage.store)]
            for some, which in chain:
                chat.add("more").step(*some)
                written = chat.write(storage.store)
                known = pictures[which % len(pictures)]
                found = storage.store.newer(known)
                check_same(found, written)
                pictures.extend(one for one in (found, written) if one is not None)
            check_same(storage.store.newer(attrs.evolve(pictures[0])), chat.session)

        for_all(check, st.lists(st.tuples(st.lists(steps(), max_size=3), st.integers(0, 20)), max_size=6))
