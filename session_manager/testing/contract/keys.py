"""Keys: any text is one, and no two are the same session."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from session_manager.model.key import MAX_KEY_BYTES
from session_manager.stores.contract import Store
from session_manager.testing.contract.base import ContractBase, Storage, check_holds, check_holds_none, for_all
from session_manager.testing.contract.chats import Chat
from session_manager.testing.strategies import keys

__all__ = ["KeyContract", "check_holds_one"]

#: Keys that meet in a naive file name, pattern, or collation.
_NASTY = (
    "a:b", "a_b", "a/b", "a\\b", "a b", "a.b", "a%b", "A:b", "a:B", "a", "A", "a:", ":a", "ab", "a*b", "a?b", "a[b]", "[ab]",
    "~", "~3a", "%3a", "..a", "a/../b", "/", "//", "../a", "/etc/passwd", "-", "--a", "'", '"', "';--", "$HOME", "`a`", "a\nb",
    " ", "  ", " a", "a ", "\t", "\n", "\r\n", "\x00", "a\x00", "a\x00b", "\x7f", "\u0085", "\u2028", "\ufeff", "\ufffd", "\ufffe",
    "caf\u00e9", "cafe\u0301", "\u212b", "\u00c5", "\ufb01", "fi", "\u0130", "i\u0307", "\u0131", "I", "i", "\u00df", "ss", "SS",
    "\u03c3", "\u03c2", "\u6f22", "\U0001f600", "\U0010ffff", "CON", "con", "nul", "com1", "lpt9.txt", "0", "00", "1", "1.0", "1e0",
    "None", "null", "True", ".lock", ".tmp-a", "x.session.json", "x.session.jsonl", "sqlite_sequence",
)  # fmt: skip

_LONG = (
    "k" * MAX_KEY_BYTES,
    "k" * (MAX_KEY_BYTES - 1),
    "k" * (MAX_KEY_BYTES - 1) + "l",
    "K" + "k" * (MAX_KEY_BYTES - 1),
    "l" + "k" * (MAX_KEY_BYTES - 1),
    ":" * MAX_KEY_BYTES,
    "\u6f22" * (MAX_KEY_BYTES // 3) + "k",
    "\U0001f600" * (MAX_KEY_BYTES // 4),
    "\U0001f600" * (MAX_KEY_BYTES // 4 - 1) + "\U0001f601",
    "\x00" * MAX_KEY_BYTES,
)


def _write_each(store: Store, some: tuple[str, ...]) -> list[Chat]:
    chats = [Chat(key, f"g{number}").add(f"message of {number}") for number, key in enumerate(some)]
    for chat in chats:
        chat.write(store)
    return chats


def _check_sessions_of_their_own(storage: Storage, some: tuple[str, ...]) -> None:
    chats = _write_each(storage.store, some)
    for store in storage.now_and_reopened():
        assert sorted(store.keys()) == sorted(some)
        for chat in chats:
            check_holds_one(store, chat)
    gone, left = chats[::2], chats[1::2]
    for chat in gone:
        assert storage.store.delete(chat.key) is True
    for store in storage.now_and_reopened():
        assert sorted(store.keys()) == sorted(chat.key for chat in left)
        for chat in left:
            check_holds_one(store, chat)
        for chat in gone:
            check_holds_none(store, chat.key)


def check_holds_one(store: Store, chat: Chat) -> None:
    """Check that a store holds a chat, and no other in its place."""
    check_holds(store, chat.session)
    assert store.verify(chat.key) == []


class KeyContract(ContractBase):
    """`Store.keys`, and what is a key."""

    def test_nasty_keys_are_sessions_of_their_own(self, storage: Storage) -> None:
        _check_sessions_of_their_own(storage, _NASTY)

    def test_long_keys_are_sessions_of_their_own(self, storage: Storage) -> None:
        _check_sessions_of_their_own(storage, _LONG)

    def test_any_keys_are_sessions_of_their_own(self, storage: Storage) -> None:
        def check(some: list[str]) -> None:
            for key in list(storage.store.keys()):
                assert storage.store.delete(key)
            _check_sessions_of_their_own(storage, tuple(some))

        for_all(check, st.lists(keys(), max_size=6, unique=True), share=8)

    @pytest.mark.parametrize("opened", ["as it was written", "again"])
    def test_keys_with_a_prefix_are_those_that_start_with_its_characters(self, storage: Storage, opened: str) -> None:
        everything = (*_NASTY, *_LONG)
        _write_each(storage.store, everything)
        store = storage.reopen() if opened == "again" else storage.store
        prefixes = {"", *everything, *(key[:length] for key in everything for length in (1, 2, 3, 130))}
        prefixes |= {"%", "_", "a%", "a_", "*", "a*", "[a", "^a", "no such key", "k" * 2000, "\U0010ffff\U0010ffff"}
        for prefix in sorted(prefixes):
            assert sorted(store.keys(prefix)) == sorted(key for key in everything if key.startswith(prefix)), repr(
                prefix
            )

    def test_keys_may_be_iterated_over_beside_writes_and_deletions(self, store: Store) -> None:
        stay = {chat.key for chat in _write_each(store, tuple(f"stays:{number}" for number in range(50)))}
        found = set()
        for number, key in enumerate(store.keys()):
            found.add(key)
            Chat(f"new:{number}").add("a").write(store)
            if number % 2:
                assert store.delete(f"new:{number}")
            if number > 200:
                break
        assert stay <= found
