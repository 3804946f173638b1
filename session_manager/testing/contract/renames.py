"""Renames: a session and its archive under another key, with all else as it was."""

from __future__ import annotations

import attrs
import pytest

from session_manager.errors import ConflictError, SessionExistsError
from session_manager.model.changes import Truncate
from session_manager.model.session import Session, Version
from session_manager.stores.contract import Store
from session_manager.testing.comparison import message_difference
from session_manager.testing.contract.base import ContractBase, Storage, check_holds, check_holds_none, for_all
from session_manager.testing.contract.chats import KEY, Chat
from session_manager.testing.strategies import keys

__all__ = ["RenameContract"]

_NEW = "telegram:-10042"


def _renamed(session: Session, new_key: str) -> Session:
    return attrs.evolve(session, key=new_key)


def _version(session: Session) -> Version:
    assert session.version is not None
    return session.version


class RenameContract(ContractBase):
    """`Store.rename`: there under the new key and nowhere else, or refused, with nothing changed."""

    def test_a_renamed_session_is_the_same_under_its_new_key(self, storage: Storage) -> None:
        other = Chat("other", "other").add("other").write(storage.store)
        chat = Chat()
        for text in ("a", "b", "needle"):
            chat.add(text).step(lambda session, at: Truncate(at=at, start=session.end - 2)).write(storage.store)
        storage.store.rename(KEY, _NEW, _version(chat.session))
        for store in storage.now_and_reopened():
            check_holds_none(store, KEY)
            check_holds(store, _renamed(chat.session, _NEW))
            check_holds(store, other)
            assert [(hit.key, hit.position) for hit in store.search("needle")] == [(_NEW, 2)]
            assert store.verify(_NEW) == []
            assert store.strays() == []

    def test_a_renamed_session_goes_on_and_its_old_key_is_free(self, storage: Storage) -> None:
        chat = Chat().add("a")
        chat.write(storage.store)
        storage.store.rename(KEY, _NEW, _version(chat.session))
        moved = Chat(_NEW)
        moved.entry = type(chat.entry).of(_renamed(chat.session, _NEW))
        session = moved.add("b").write(storage.store)
        again = Chat(KEY, "another").add("new").write(storage.store)
        for store in storage.now_and_reopened():
            check_holds(store, session)
            check_holds(store, again)
        assert storage.store.delete(KEY) is True
        storage.store.rename(_NEW, KEY, _version(session))
        for store in storage.now_and_reopened():
            check_holds_none(store, _NEW)
            check_holds(store, _renamed(session, KEY))

    def test_an_archive_is_renamed_with_its_session(self, storage: Storage) -> None:
        if not storage.store.archives:
            pytest.skip("archives is False")
        chat = Chat().add("a", "b", "c")
        chat.did(Truncate(at=chat.tick(), start=2))
        commit = chat.entry.commit("token", archive=True)
        storage.store.write(commit)
        session = chat.written(commit)
        archived = list(storage.store.archive(KEY))
        assert [one.content for one in archived] == ["a", "b"]
        storage.store.rename(KEY, _NEW, _version(session))
        for store in storage.now_and_reopened():
            found = list(store.archive(_NEW))
            assert [one.position for one in found] == [0, 1]
            assert not any(map(message_difference, found, archived))
            assert list(store.archive(KEY)) == []
            assert [hit.key for hit in store.search("a")] == [_NEW]
            assert store.verify(_NEW) == store.strays() == []

    def test_a_rename_over_another_session_is_refused(self, storage: Storage) -> None:
        session, other = Chat().add("a").write(storage.store), Chat(_NEW, "other").add("b").write(storage.store)
        for new_key in (_NEW, KEY):
            with pytest.raises(SessionExistsError):
                storage.store.rename(KEY, new_key, _version(session))
        for store in storage.now_and_reopened():
            check_holds(store, session)
            check_holds(store, other)

    @pytest.mark.parametrize("there", ["another revision", "another generation", "none"])
    def test_a_rename_of_another_version_is_a_conflict(self, storage: Storage, there: str) -> None:
        chat = Chat().add("a")
        expected = _version(chat.write(storage.store))
        if there == "another revision":
            chat.add("b").write(storage.store)
        else:
            storage.store.delete(KEY)
        if there == "another generation":
            chat = Chat(KEY, "another").add("a")
            chat.write(storage.store)
        with pytest.raises(ConflictError):
            storage.store.rename(KEY, _NEW, expected)
        for store in storage.now_and_reopened():
            check_holds_none(store, _NEW)
            if there == "none":
                check_holds_none(store, KEY)
            else:
                check_holds(store, chat.session)

    def test_any_key_may_be_renamed_to_any_other(self, store: Store) -> None:
        numbers = iter(range(10**6))

        def check(key: str, new_key: str) -> None:
            if key == new_key:
                return
            session = Chat(key, f"g{next(numbers)}").add("a").write(store)
            store.rename(key, new_key, _version(session))
            check_holds_none(store, key)
            check_holds(store, _renamed(session, new_key))
            assert store.delete(new_key) is True

        for_all(check, keys(), keys(), share=4)
