"""Lists: pages of descriptions, in one order, each session once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta

import pytest
from hypothesis import strategies as st

from session_manager.model.changes import Append, Clear, Remove, SetSummary, Truncate
from session_manager.model.message import Message
from session_manager.stores.contract import SessionInfo, Store
from session_manager.stores.order import Order, in_order
from session_manager.testing.contract.base import ContractBase, Storage, for_all
from session_manager.testing.contract.chats import EPOCH, KEY, Chat, said
from session_manager.testing.strategies import keys

__all__ = ["ListingContract"]

#: Keys that a pattern, a collation or a naive comparison puts together, or into another order.
_NASTY = (
    "a%b", "a_b", "a%", "a_", "%", "_", "aXb", "a*b", "a[b]", "a", "A", "B", "b", "ab", "aB", "Ab", "a\x00", "a\x00b", "a b", " a", "a ",
    "caf\u00e9", "cafe\u0301", "\u00df", "ss", "\u0130", "i", "\u6f22", "\u6f22\u5b57", "\uffff", "\U0001f600", "\U0010ffff",
    "telegram:1", "telegram:1:7", "telegram:10", "Telegram:1", "'", '"', "\n", "k" * 1024, "1", "10", "9", "None", "sqlite_sequence",
)  # fmt: skip
_PREFIXES = (
    "",
    "a",
    "a%",
    "a_",
    "A",
    "%",
    "_",
    "telegram:1",
    "telegram:1:",
    "caf",
    "\u6f22",
    "\U0010ffff",
    "k" * 600,
    "x",
    "a\x00",
)
_ORDERS: tuple[Order, ...] = ("recent", "key")
_SIZES = (1, 2, 3, 7, 1000)


def _filled(store: Store, some: Iterable[str]) -> list[Chat]:
    """Write sessions whose times are in another order than their keys; some are equally old, some have no message."""
    chats = []
    for number, key in enumerate(some):
        chat = Chat(key, f"g{number}")
        if number % 4:
            chat.did(Append(at=EPOCH, messages=(said("a", seconds=number * 7 % 11 - 5),)))
        else:
            chat.did(SetSummary(at=EPOCH + timedelta(seconds=number % 3, microseconds=number), text="s"))
        chat.write(store)
        chats.append(chat)
    return chats


def _pages(store: Store, prefix: str, order: Order, size: int) -> list[SessionInfo]:
    """Return what all pages of a size list."""
    found: list[SessionInfo] = []
    after = None
    while True:
        page = store.infos(prefix, after=after, limit=size, order=order)
        assert len(page) <= size
        assert not {info.key for info in page} & {info.key for info in found}, "a session is listed twice"
        found += page
        if len(page) < size:
            return found
        after = page[-1]


def _check(store: Store, chats: Iterable[Chat], prefixes: Iterable[str] = ("",)) -> None:
    there = [SessionInfo.of(chat.session) for chat in chats]
    for prefix in prefixes:
        for order in _ORDERS:
            expected = in_order((info for info in there if info.key.startswith(prefix)), order)
            assert store.infos(prefix, order=order) == expected, (prefix, order)
            for size in _SIZES:
                assert _pages(store, prefix, order, size) == expected, (prefix, order, size)


class ListingContract(ContractBase):
    """`Store.infos`."""

    @pytest.mark.parametrize("opened", ["as it was written", "again"])
    def test_pages_of_a_list_have_every_session_once_in_order(self, storage: Storage, opened: str) -> None:
        chats = _filled(storage.store, _NASTY)
        store = storage.reopen() if opened == "again" else storage.store
        _check(store, chats, _PREFIXES)

    def test_any_sessions_are_listed_in_order(self, storage: Storage) -> None:
        def check(some: list[str], prefix: str) -> None:
            for key in list(storage.store.keys()):
                assert storage.store.delete(key)
            _check(storage.store, _filled(storage.store, some), ("", prefix))

        for_all(check, st.lists(keys(), max_size=8, unique=True), keys(), share=8)

    def test_the_list_of_an_empty_storage_is_empty(self, store: Store) -> None:
        for order in _ORDERS:
            assert store.infos(order=order) == store.infos("a", limit=1, order=order) == []

    def test_a_session_is_listed_by_its_last_message_or_last_change(self, store: Store) -> None:
        """A chat that is emptied today counts from today, though it is old."""
        chats = _filled(store, ("old", "other", "third", "empty"))
        steps: list[Callable[[Chat], object]] = [
            lambda chat: chat.add("new"),
            lambda chat: chat.did(Append(at=chat.tick(), messages=(Message("user", "late", created_at=EPOCH),))),
            lambda chat: chat.step(lambda session, at: Remove(at=at, position=session.end - 1)),
            lambda chat: chat.step(lambda session, at: Truncate(at=at, start=session.end)),
            lambda chat: chat.did(SetSummary(at=chat.tick(), text="another")),
            lambda chat: chat.did(Clear(at=chat.tick(), generation=f"cleared {chat.key}")),
        ]
        for step in steps:
            for chat in chats:
                step(chat)
                chat.write(store)
                _check(store, chats)

    def test_a_page_begins_after_the_one_before_even_if_its_session_is_gone(self, store: Store) -> None:
        chats = _filled(store, [f"chat:{number}" for number in range(12)])
        for order in _ORDERS:
            listed = in_order([SessionInfo.of(chat.session) for chat in chats], order)
            last = store.infos(limit=4, order=order)[-1]
            gone = next(chat for chat in chats if chat.key == last.key)
            assert store.delete(gone.key)
            assert store.infos(after=last, limit=4, order=order) == listed[4:8]
            gone.generation = f"{order} again"
            gone.__attrs_post_init__()
            gone.did(Append(at=EPOCH, messages=(said("the most recent one now", seconds=1000),))).write(store)
            rest = store.infos(after=last, order=order)
            assert [info.key for info in rest] == [info.key for info in listed[4:]]

    def test_a_page_may_begin_anywhere(self, store: Store) -> None:
        chats = _filled(store, _NASTY)
        there = [SessionInfo.of(chat.session) for chat in chats]
        for place in (
            SessionInfo(key="a"),
            SessionInfo(key="", updated=EPOCH),
            SessionInfo(key="\U0010ffff" * 2, updated=EPOCH),
            SessionInfo(key="\ud800", last_message_at=EPOCH + timedelta(seconds=2)),
            SessionInfo(key="m", last_message_at=EPOCH - timedelta(days=100_000)),
            SessionInfo(key="m", last_message_at=EPOCH + timedelta(days=100_000)),
        ):
            for order in _ORDERS:
                assert store.infos(after=place, order=order) == in_order(there, order, place)
                assert store.infos("a", after=place, limit=2, order=order) == in_order(
                    (info for info in there if info.key.startswith("a")), order, place, 2
                )

    def test_deleted_sessions_are_not_listed(self, storage: Storage) -> None:
        chats = _filled(storage.store, _NASTY)
        for chat in chats[::2]:
            assert storage.store.delete(chat.key)
        for store in storage.now_and_reopened():
            _check(store, chats[1::2])

    def test_a_damaged_session_is_listed_once_with_its_error(
        self, storage: Storage, damage: Callable[[str], None]
    ) -> None:
        chats = [Chat(key, key).add("a") for key in (KEY, "other", "third")]
        for chat in chats:
            chat.write(storage.store)
        storage.store.close()
        damage(KEY)
        store = storage.reopen()
        for order in _ORDERS:
            for size in _SIZES:
                listed = _pages(store, "", order, size)
                assert sorted(info.key for info in listed) == sorted([KEY, "other", "third"])
                assert [info.key for info in listed if info.error is not None] == [KEY]
                assert listed == in_order(listed, order)
            assert [info.key for info in store.infos("telegram", order=order)] == [KEY]
