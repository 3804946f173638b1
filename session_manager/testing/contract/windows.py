"""Windows: some messages of a session, the newest or the first of them, without the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import strategies as st

from session_manager.errors import CorruptSessionError
from session_manager.model.changes import Remove, Truncate
from session_manager.model.message import Message
from session_manager.model.session import Session
from session_manager.stores.contract import Store
from session_manager.testing.comparison import message_difference
from session_manager.testing.contract.base import ContractBase, Storage, for_all
from session_manager.testing.contract.chats import KEY, Chat, steps

__all__ = ["WindowContract"]

_limits = st.none() | st.integers(0, 4) | st.just(2**70)


def _expected(session: Session, limit: int | None, before: int | None, after: int | None) -> list[Message]:
    found = [
        one
        for one in session.messages
        if one.position is not None
        and (before is None or one.position < before)
        and (after is None or one.position > after)
    ]
    if limit is None:
        return found
    return found[:limit] if after is not None else found[max(0, len(found) - limit) :]


def _check(store: Store, session: Session, limit: int | None, before: int | None, after: int | None) -> None:
    found = store.window(session.key, limit=limit, before=before, after=after)
    assert found is not None
    _check_same(found, _expected(session, limit, before, after))


def _check_same(found: Sequence[Message], expected: Sequence[Message]) -> None:
    assert [one.position for one in found] == [one.position for one in expected]
    assert not any(map(message_difference, found, expected))


class WindowContract(ContractBase):
    """`Store.window`: what it returns is what `Store.load` has there."""

    def test_a_window_is_the_newest_or_with_after_the_first(self, storage: Storage) -> None:
        chat = Chat()
        chat.add(*"abcdefgh").step(lambda _, at: Truncate(at=at, start=2)).step(lambda _, at: Remove(at=at, position=5))
        session = chat.write(storage.store)
        Chat("other", "other").add("other").write(storage.store)
        for store in storage.now_and_reopened():
            for limit in (None, 0, 1, 3, 100):
                for before in (None, -1, 0, 3, 5, 6, 8, 2**70):
                    for after in (None, -(2**70), -1, 1, 2, 4, 5, 7, 9):
                        _check(store, session, limit, before, after)

    def test_a_window_is_what_the_session_has_there(self, storage: Storage) -> None:
        numbers = iter(range(10**6))

        def check(calls: list[list[object]], windows: list[tuple[int | None, int | None, int | None]]) -> None:
            chat = Chat(f"chat:{next(numbers)}")
            for some in calls:
                session = chat.step(*some).write(storage.store)  # type: ignore[arg-type]
                for limit, before, after in windows:
                    _check(storage.store, session, limit, before, after)

        bounds = st.none() | st.integers(-1, 8)
        windows = st.lists(st.tuples(_limits, bounds, bounds), min_size=1, max_size=4)
        for_all(check, st.lists(st.lists(steps(), min_size=1, max_size=3), min_size=1, max_size=3), windows, share=4)

    def test_a_window_shows_what_was_written_last(self, store: Store) -> None:
        chat = Chat()
        for text in ("a", "b"):
            session = chat.add(text).write(store)
            _check(store, session, 1, None, None)
        session = chat.step(lambda session, at: Remove(at=at, position=session.end - 1)).write(store)
        _check(store, session, 1, None, None)

    def test_there_is_no_window_of_a_session_that_is_not_there(self, storage: Storage) -> None:
        chat = Chat().add("a")
        assert storage.store.window(KEY) is None
        chat.write(storage.store)
        assert storage.store.window("missing", limit=1) is None
        assert storage.store.delete(KEY) is True
        assert storage.store.window(KEY, limit=1) is None

    def test_a_session_without_messages_has_an_empty_window(self, storage: Storage) -> None:
        chat = Chat()
        chat.write(storage.store)
        assert storage.store.window(KEY) == []
        chat.add("a").step(lambda _, at: Truncate(at=at, start=1)).write(storage.store)
        for store in storage.now_and_reopened():
            assert store.window(KEY, limit=5) == []

    def test_a_damaged_session_has_no_window(self, storage: Storage, damage: Callable[[str], None]) -> None:
        chat = Chat().add("a", "b")
        chat.write(storage.store)
        storage.store.close()
        damage(KEY)
        with pytest.raises(CorruptSessionError):
            storage.reopen().window(KEY, limit=1)
