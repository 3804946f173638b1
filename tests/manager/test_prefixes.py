"""Calls with a prefix: a text that keys start with, or, by `key_prefix`, whole parts of them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from session_manager import ReadOnlyError, SaveFailedError, SessionManager, join_key, key_prefix
from session_manager.stores.memory import MemoryStore
from session_manager.testing import FaultyStore
from tests.support.clocks import Clock

CHATS = ("telegram", "telegram:1", "telegram:1:7", "telegram:1:70", "telegram:10", "telegram:10:7", "Telegram:1:7")


@pytest.fixture(params=["ram", "memory store", "snapshot", "log", "sqlite"])
def m(request, tmp_path):
    storages = {"ram": "memory:", "memory store": MemoryStore()}
    storage = storages.get(request.param, f"{request.param}:{tmp_path / 'chats'}")
    with SessionManager(storage, clock=Clock(), archive=True) as manager:
        for key in CHATS:
            manager.add_message(key, "user", "hello")
        manager.save_all()
        manager.add_message("telegram:1:8", "user", "hello, unsaved")
        yield manager


def test_a_prefix_of_whole_parts_means_no_neighbour_in_any_call(m):
    """``telegram:1`` also means ``telegram:10``."""
    below = ["telegram:1:7", "telegram:1:70", "telegram:1:8"]
    prefix = key_prefix("telegram", 1)
    assert sorted(info.key for info in m.list_sessions(prefix)) == below
    assert sorted(hit.key for hit in m.search("hello", prefix=prefix)) == below
    assert m.expire(m._incoming.now() + timedelta(days=1), prefix=prefix, dry_run=True) == below
    assert m.delete_prefix(prefix, dry_run=True) == below
    assert m.delete_prefix(prefix) == below
    assert list(m) == ["Telegram:1:7", "telegram", "telegram:1", "telegram:10", "telegram:10:7"]


def test_a_chat_and_its_topics_are_deleted_by_its_key_and_its_prefix(m):
    assert m.delete(join_key("telegram", "1")) is True
    assert m.delete_prefix(key_prefix("telegram", "1")) == ["telegram:1:7", "telegram:1:70", "telegram:1:8"]
    assert list(m) == ["Telegram:1:7", "telegram", "telegram:10", "telegram:10:7"]


def test_a_plain_prefix_is_compared_character_by_character(m):
    assert m.delete_prefix("telegram:10") == ["telegram:10", "telegram:10:7"]
    assert m.delete_prefix("telegram:1%") == m.delete_prefix("telegram_1") == []


def test_what_a_deletion_by_prefix_took_is_gone_for_good(m):
    m.add_message("telegram:10", "user", "dropped")
    m.truncate_history("telegram:10", 0)
    m.save_all()
    m.delete_prefix("telegram:10")
    assert m.get("telegram:10") is None
    assert list(m.get_archive("telegram:10")) == []
    assert m.search("dropped") == []
    assert "telegram:10" not in m


def test_a_dry_run_deletes_nothing(m):
    before = list(m)
    assert m.delete_prefix("telegram", dry_run=True) == before[1:]
    assert list(m) == before


@pytest.mark.parametrize(
    ("arguments", "options", "error"),
    [
        (("",), {}, ValueError),
        ((None,), {}, TypeError),
        ((b"telegram",), {}, TypeError),
        (("telegram",), {"dry_run": None}, TypeError),
    ],
)
def test_a_deletion_of_everything_by_mistake_is_refused(m, arguments, options, error):
    before = list(m)
    with pytest.raises(error):
        m.delete_prefix(*arguments, **options)
    assert list(m) == before


def test_a_failed_deletion_by_prefix_names_the_session_and_keeps_the_rest():
    class Full(MemoryStore):
        def delete(self, key, expected=None):
            if key == "b:2":
                raise SaveFailedError(key, "no space")
            return super().delete(key, expected)

    m = SessionManager(Full())
    for key in ("b:1", "b:2", "b:3"):
        m.add_message(key, "user", "x")
    m.save_all()
    with pytest.raises(SaveFailedError, match="b:2"):
        m.delete_prefix("b:")
    assert list(m) == ["b:2", "b:3"]


def test_a_read_only_manager_deletes_nothing_by_prefix(tmp_path):
    with SessionManager(tmp_path / "chats") as m:
        m.add_message("a", "user", "x")
    with SessionManager(tmp_path / "chats", read_only=True) as m, pytest.raises(ReadOnlyError):
        m.delete_prefix("a")


def test_an_unsaved_session_deleted_by_prefix_does_not_come_back():
    store = FaultyStore(MemoryStore())
    m = SessionManager(store)
    m.add_message("a:1", "user", "x")
    store.lose_ack_next()
    with pytest.raises(Exception, match="acknowledgement"):
        m.save("a:1")
    m.add_message("a:2", "user", "x")
    assert m.delete_prefix("a:") == ["a:1", "a:2"]
    m.close()
    assert list(store.keys()) == []
