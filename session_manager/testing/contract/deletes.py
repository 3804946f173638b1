"""Deletions, and writes whose outcome is asked for later."""

from __future__ import annotations

import attrs
import pytest

from session_manager.errors import ConflictError
from session_manager.model.session import Session, Version
from session_manager.stores.contract import MAX_TOKENS, Store
from session_manager.testing.contract.base import ContractBase, Storage, check_holds, check_holds_none, check_same
from session_manager.testing.contract.chats import KEY, Chat

__all__ = ["DeleteContract"]


class DeleteContract(ContractBase):
    """`Store.delete` and `Store.landed`."""

    def test_a_deleted_session_is_gone_and_the_others_stay(self, storage: Storage) -> None:
        other = Chat("telegram:43").add("stays").write(storage.store)
        Chat().add("goes").write(storage.store)
        assert storage.store.delete(KEY) is True
        assert storage.store.delete(KEY) is False
        for store in storage.now_and_reopened():
            check_holds_none(store, KEY)
            check_holds(store, other)
        assert storage.store.delete(KEY) is False

    def test_a_session_stored_before_the_opening_is_deleted(self, storage: Storage) -> None:
        Chat().add("goes").write(storage.store)
        assert storage.reopen().delete(KEY) is True
        check_holds_none(storage.reopen(), KEY)

    @pytest.mark.parametrize(
        "expected",
        [Version("generation", 1), Version("generation", 3), Version("another", 2)],
        ids=["an older revision", "a newer revision", "another generation"],
    )
    def test_another_version_than_the_expected_one_is_not_deleted(self, storage: Storage, expected: Version) -> None:
        chat = Chat().add("a")
        chat.write(storage.store)
        session = chat.add("b").write(storage.store)
        for store in storage.now_and_reopened():
            assert store.delete(KEY, expected) is False
            check_holds(store, session)
        assert storage.store.delete(KEY, session.version) is True
        check_holds_none(storage.reopen(), KEY)

    def test_a_missing_session_is_of_no_expected_version(self, store: Store) -> None:
        assert store.delete(KEY, Version("generation", 1)) is False
        check_holds_none(store, KEY)

    def test_a_session_that_is_created_again_is_another_one(self, storage: Storage) -> None:
        old = Chat().add("old", "older")
        old.write(storage.store)
        assert storage.store.delete(KEY)
        new = Chat(generation="another").add("new").write(storage.store)
        assert new.version == Version("another", 1)
        check_holds(storage.store, new)
        with pytest.raises(ConflictError):
            old.add("late").write(storage.store)
        assert storage.store.delete(KEY, old.entry.durable.version) is False
        for store in storage.now_and_reopened():
            check_holds(store, new)
            assert store.search("old") == []

    def test_a_write_on_a_session_that_was_deleted_is_a_conflict(self, storage: Storage) -> None:
        chat = Chat().add("a")
        chat.write(storage.store)
        assert storage.store.delete(KEY)
        for store in storage.now_and_reopened():
            with pytest.raises(ConflictError) as raised:
                store.write(chat.add("b").commit())
            assert raised.value.actual is None
            check_holds_none(store, KEY)

    # Outcomes

    def test_a_write_that_landed_is_said_to_have_landed(self, storage: Storage) -> None:
        chat = Chat()
        for text in ("a", "b"):
            commit = chat.add(text).commit()
            storage.store.write(commit)
            assert storage.store.landed(commit) is True
            check_holds(storage.store, chat.written(commit))
            assert storage.reopen().landed(commit) is True
            check_holds(storage.store, commit.session)
        check_holds(storage.reopen(), chat.add("c").write(storage.store))

    def test_the_store_says_what_holds_after_a_write_that_did_not_happen(self, storage: Storage) -> None:
        chat = Chat()
        for text in ("a", "b"):
            commit = chat.add(text).commit()
            landed = storage.store.landed(commit)
            assert landed is not None
            check_same(storage.store.load(KEY), commit.session if landed else _stored(chat))
            check_same(storage.reopen().load(KEY), commit.session if landed else _stored(chat))
            if not landed:
                commit = attrs.evolve(commit, token=f"{commit.token} again")
                storage.store.write(commit)
            check_holds(storage.store, chat.written(commit))

    def test_a_write_in_whose_place_another_one_landed_did_not(self, storage: Storage) -> None:
        self._needs_tokens()
        chat = Chat().add("a")
        chat.write(storage.store)
        lost = chat.commit("lost")
        session = chat.add("b").write(storage.store)
        assert (lost.base, lost.session.version) == (Version("generation", 1), session.version)
        for store in storage.now_and_reopened():
            assert store.landed(lost) is False
            check_holds(store, session)

    def test_a_write_on_which_others_were_based_is_still_known_to_have_landed(self, storage: Storage) -> None:
        self._needs_tokens()
        chat = Chat().add("a")
        first = chat.commit()
        storage.store.write(first)
        chat.written(first)
        lost = attrs.evolve(first, token="lost")
        for number in range(2, MAX_TOKENS + 1):
            session = chat.add("more").write(storage.store)
            if number in (2, 3, MAX_TOKENS):
                assert storage.store.landed(first) is True
                assert storage.store.landed(lost) is not True
        assert storage.reopen().landed(first) is True
        check_holds(storage.store, session)

    def test_a_write_that_is_out_of_reach_is_not_said_to_have_failed(self, storage: Storage) -> None:
        self._needs_tokens()
        chat = Chat().add("a")
        first = chat.commit()
        storage.store.write(first)
        chat.written(first)
        for _ in range(MAX_TOKENS + 1):
            chat.add("more").write(storage.store)
        for store in storage.now_and_reopened():
            assert store.landed(first) is not False
            assert store.landed(attrs.evolve(first, token="lost")) is not True
            check_holds(store, chat.session)

    def _needs_tokens(self) -> None:
        if not self.tokens:
            pytest.skip("tokens is False: the store does not tell writes apart")


def _stored(chat: Chat) -> Session | None:
    """Return what a store holds of a chat."""
    return chat.entry.durable if chat.entry.durable.revision else None
