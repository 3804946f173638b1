"""Archives: what truncations and summaries drop is kept beside the session, in the same atomic step."""

from __future__ import annotations

from datetime import datetime

import attrs
import pytest
from hypothesis import strategies as st

from session_manager.errors import ConflictError
from session_manager.model.archive import archived
from session_manager.model.changes import Append, Change, Clear, Remove, Replace, Truncate
from session_manager.model.message import Message
from session_manager.model.session import Session, Version
from session_manager.stores.contract import Store
from session_manager.testing.comparison import message_difference
from session_manager.testing.contract.base import ContractBase, Storage, check_holds, for_all
from session_manager.testing.contract.chats import KEY, Chat, Step, steps

__all__ = ["ArchiveContract"]


class ArchiveContract(ContractBase):
    """`Store.archive`, of stores that say `Store.archives`."""

    def test_what_is_dropped_is_archived_by_position_as_it_was(self, storage: Storage) -> None:
        _needs_archives(storage.store)
        self._check_writes(storage, "a", [_truncate(2)], [_truncate(3), _add("x"), _truncate(4)], [_add("y")])

    def test_only_a_clear_takes_from_it(self, storage: Storage) -> None:
        _needs_archives(storage.store)
        self._check_writes(
            storage, "b", [_truncate(2)], [_remove_last], [_replace("new"), _truncate(9)], [_clear(None)]
        )
        self._check_writes(storage, "c", [_truncate(2)], [_clear((1, 9)), _add("x")], [_truncate(3)])
        self._check_writes(storage, "d", [_truncate(2), _clear((1, 9)), _add("x")], [_clear((1, 2)), _clear((0, 1))])

    def test_any_commits_leave_what_they_mean(self, storage: Storage) -> None:
        _needs_archives(storage.store)
        chats = 0

        def check(batches: list[list[Step]]) -> None:
            nonlocal chats
            chats += 1
            self._check_writes(storage, f"any-{chats}", *batches)

        for_all(check, st.lists(st.lists(steps(), max_size=4), max_size=5), share=4)

    def _check_writes(self, storage: Storage, key: str, *batches: list[Step]) -> None:
        """Write changes, a commit each batch, and compare the archive with what they mean."""
        chat, expected = Chat(key, f"generation-{key}").add("0", "1", "2", "3"), list[Message]()
        chat.write(storage.store)
        for batch in batches:
            commit = chat.step(*batch).entry.commit("", archive=True)
            storage.store.write(commit)
            expected = archived(expected, commit.changes, commit.archived)
            check_holds(storage.store, chat.written(commit))
            _check_archive(storage.store, key, expected)
        _check_archive(storage.reopen(), key, expected)
        assert storage.store.verify(key) == []

    def test_a_session_that_is_written_whole_brings_its_archive(self, storage: Storage) -> None:
        _needs_archives(storage.store)
        chat = Chat().add("a", "b", "c").step(_truncate(2))
        commit = attrs.evolve(chat.entry.commit("", archive=True), changes=(), before=None)
        storage.store.write(commit)
        for store in storage.now_and_reopened():
            check_holds(store, commit.session)
            assert [message.content for message in store.archive(KEY)] == ["a", "b"]
            assert [hit.position for hit in store.search("a")] == [0]

    def test_a_conflict_leaves_it_as_it_is(self, storage: Storage) -> None:
        _needs_archives(storage.store)
        chat = Chat().add("a", "b", "c", "d").step(_truncate(1))
        first = chat.entry.commit("", archive=True)
        storage.store.write(first)
        chat.written(first)
        commit = chat.step(_truncate(3)).entry.commit("", archive=True)
        for base in (None, Version(commit.session.generation, 7), Version("another", 1)):
            with pytest.raises(ConflictError):
                storage.store.write(attrs.evolve(commit, base=base, before=None))
            assert [message.content for message in storage.store.archive(KEY)] == ["a"]
        storage.store.write(attrs.evolve(commit, before=None))
        for store in storage.now_and_reopened():
            assert [message.content for message in store.archive(KEY)] == ["a", "b", "c"]

    def test_a_deletion_takes_it(self, storage: Storage) -> None:
        _needs_archives(storage.store)
        for generation in ("generation", "generation", "another"):
            chat = Chat(generation=generation).add("a", "b")
            chat.write(storage.store)
            assert list(storage.store.archive(KEY)) == []
            storage.store.write(chat.step(_truncate(chat.session.end - 1)).entry.commit("", archive=True))
            assert [message.content for message in storage.store.archive(KEY)] == ["a"]
            assert storage.store.delete(KEY)
            assert list(storage.reopen().archive(KEY)) == []
            assert storage.store.search("a") == []

    def test_there_is_none_of_a_missing_session(self, store: Store) -> None:
        assert list(store.archive(KEY)) == []


def _needs_archives(store: Store) -> None:
    if not store.archives:
        pytest.skip("Store.archives is False: the store keeps no archives")


def _check_archive(store: Store, key: str, expected: list[Message]) -> None:
    found = list(store.archive(key))
    assert [message.position for message in found] == [message.position for message in expected]
    assert not any(map(message_difference, found, expected))


def _truncate(start: int) -> Step:
    return lambda _, at: Truncate(at=at, start=start)


def _add(text: str) -> Step:
    return lambda _, at: Append(at=at, messages=(Message("user", text, created_at=at),))


def _clear(spare: tuple[int, int] | None) -> Step:
    return lambda session, at: Clear(at=at, generation=f"after-{at:%M%S}-{session.generation[:16]}", spare=spare)


def _replace(text: str) -> Step:
    return lambda _, at: Replace(at=at, messages=(Message("user", text, created_at=at),))


def _remove_last(session: Session, at: datetime) -> Change:
    return Remove(at=at, position=session.end - 1)
