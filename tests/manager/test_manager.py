"""What each call of the manager does, and its edge cases."""

from __future__ import annotations

import errno
import gc
import inspect
import json
import logging
import os
import pickle
import sqlite3
import sys
import traceback
import warnings
from contextlib import closing
from datetime import datetime, timedelta

import pytest

from session_manager import (
    ClosedError,
    CorruptSessionError,
    InvalidKeyError,
    InvalidMessageError,
    Message,
    SaveFailedError,
    SaveOutcomeUnknownError,
    SessionExistsError,
    SessionManager,
    SessionManagerError,
    SessionNotFoundError,
    UnsupportedFormatError,
    Version,
)
from session_manager.codec import json as codec_json
from session_manager.codec.lines import encoded_size
from session_manager.history import cuts
from session_manager.manager.options import MAX_MESSAGE_BYTES
from session_manager.model import changes
from session_manager.stores.files.filesystem import Files
from session_manager.stores.memory import MemoryStore
from session_manager.stores.snapshot import SnapshotStore
from session_manager.stores.snapshot import format as snapshot_format
from tests.support.clocks import Clock
from tests.support.managers import texts
from tests.support.strategies import CANARY

KEY = "telegram:42"
NAME = "telegram~3a42.session.json"


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(params=["ram", "memory store", "snapshot"])
def m(request, tmp_path, clock):
    """A manager on each kind of storage."""
    storage = {"ram": "memory:", "memory store": MemoryStore(), "snapshot": tmp_path / "chats"}[request.param]
    manager = SessionManager(storage, clock=clock)
    yield manager
    manager.close(save=False)


@pytest.fixture
def stored(tmp_path, clock):
    """A manager on a directory."""
    manager = SessionManager(tmp_path / "chats", clock=clock)
    yield manager
    manager.close(save=False)


# Each call on a session that is missing


def test_a_missing_session_is_none_empty_or_false_and_stays_missing(m):
    assert m.get(KEY) is None
    assert m.get_history(KEY) == []
    assert m.get_summary(KEY) == ""
    assert m.set_summary(KEY, "s") is False
    assert m.set_history(KEY, [{"role": "user"}]) is False
    assert m.truncate_history(KEY, 1) == 0
    assert m.remove_last(KEY) is None
    assert m.update_last(KEY, {"role": "user"}) is False
    assert m.update_message(KEY, 0, {"role": "user"}) is False
    assert m.clear(KEY) == 0
    assert m.delete(KEY) is False
    assert m.update_metadata(KEY, {"a": 1}) is False
    assert m.save(KEY) is False
    assert m.reload(KEY) == []
    assert KEY not in m
    assert len(m) == 0
    assert list(m) == []
    assert m.save_all() == 0
    with pytest.raises(SessionNotFoundError):
        m.fork(KEY, "other")


@pytest.mark.parametrize("key", ["", ".", "..", 42, None, b"x", "\ud800", "x" * 1025])
def test_an_invalid_key_is_refused_by_every_call_at_once(m, key):
    calls = [
        lambda: m.get(key),
        lambda: m.get_or_create(key),
        lambda: m.get_history(key),
        lambda: m.get_summary(key),
        lambda: key in m,
        lambda: m.add_message(key, "user", "hi"),
        lambda: m.add(key),
        lambda: m.set_summary(key, ""),
        lambda: m.set_history(key, []),
        lambda: m.truncate_history(key, 1),
        lambda: m.remove_last(key),
        lambda: m.update_last(key, {"role": "user"}),
        lambda: m.update_message(key, 0, {"role": "user"}),
        lambda: m.update_metadata(key, {}),
        lambda: m.clear(key),
        lambda: m.delete(key),
        lambda: m.fork("ok", key),
        lambda: m.save(key),
        lambda: m.reload(key),
        lambda: m.compact(key),
    ]
    m.get_or_create("ok")
    for call in calls:
        with pytest.raises(InvalidKeyError):
            call()
    assert list(m) == ["ok"]


# Writing


def test_messages_are_added_in_order_with_their_positions(m, clock):
    first = m.add_message(KEY, "user", "one", name="Ada", ref="tg:1", metadata={"a": [1]}, extra={"x": 1})
    clock.advance(seconds=1)
    second, third = m.add(KEY, {"role": "assistant", "content": None}, Message("tool", "r", tool_call_id="c"))
    assert [first.position, second.position, third.position] == [0, 1, 2]
    assert first.to_dict() == {"role": "user", "content": "one", "name": "Ada", "x": 1}
    assert (first.ref, first.metadata) == ("tg:1", {"a": [1]})
    assert second.created_at == clock.time
    assert m.get_history(KEY) == [first, second, third]
    assert m.get(KEY).updated == clock.time


def test_content_is_empty_by_default_and_null_when_none(m):
    assert m.add_message(KEY, "user").to_dict() == {"role": "user", "content": ""}
    assert m.add_message(KEY, "user", None).to_dict() == {"role": "user", "content": None}


def test_add_is_all_or_nothing_and_names_the_place(m):
    with pytest.raises(InvalidMessageError, match=r"^messages\[1\]\.content\[0\]: bytes is not JSON$"):
        m.add(KEY, {"role": "user"}, {"role": "user", "content": [b"x"]})
    with pytest.raises(InvalidMessageError, match=r"^content: set is not JSON$"):
        m.add(KEY, {"role": "user", "content": {1}})
    assert KEY not in m


def test_a_message_that_is_too_large_is_refused_at_the_call(clock):
    with SessionManager(max_message_bytes=100, clock=clock) as m:
        size = len(json.dumps({"role": "user", "content": ""}, separators=(",", ":")))
        m.add_message(KEY, "user", "x" * (100 - size))
        for content in ("x" * (101 - size), "é" * 50):
            with pytest.raises(InvalidMessageError, match="max_message_bytes"):
                m.add_message(KEY, "user", content)
        with pytest.raises(InvalidMessageError, match="max_message_bytes"):
            m.add_message(KEY, "user", "", metadata={"note": "x" * 100})
        assert len(m.get_history(KEY)) == 1


@pytest.mark.parametrize("text", ["x", "é", "😀", "\n", "\x00", "\ud800"], ids=ascii)
@pytest.mark.parametrize("limit", [60, 700])
def test_a_message_is_refused_from_the_first_byte_above_the_limit(text, limit, clock):
    """Whether it was measured or not: one byte less, and it is taken."""
    with SessionManager(max_message_bytes=limit, clock=clock) as m:
        for count in range(limit // 12, limit):
            message = Message("user", text * count)
            size = encoded_size(message)
            if size > limit:
                with pytest.raises(InvalidMessageError, match=f"{size:,} bytes, more than max_message_bytes={limit:,}"):
                    m.add(KEY, message)
                break
            m.add(KEY, message)
        assert size > limit
        assert len(m.get_history(KEY)) == count - limit // 12


def test_a_small_message_is_added_without_encoding_it(m):
    def profiled(frame, event, _):
        if event == "call" and frame.f_code.co_filename == inspect.getsourcefile(codec_json):
            called.append(frame.f_code.co_name)

    def called_by(call):
        called.clear()
        sys.setprofile(profiled)
        try:
            call()
        finally:
            sys.setprofile(None)
        return list(called)

    called = []
    large = {"role": "user", "content": [{"text": "x" * MAX_MESSAGE_BYTES}]}
    assert called_by(lambda: m.add_message(KEY, "user", "hello", metadata={"a": 1})) == []
    assert called_by(lambda: m.add(KEY, {"role": "user", "content": [{"text": "é" * 1000}]}, {"role": "user"})) == []
    with pytest.raises(InvalidMessageError):
        called_by(lambda: m.add(KEY, large))
    assert "encode_json" in called


def test_bad_summaries_and_metadata_are_refused_at_the_call(m):
    m.get_or_create(KEY)
    for call, path in [
        (lambda: m.set_summary(KEY, None), "summary"),
        (lambda: m.set_summary(KEY, "\ud83d\ude00"), "summary"),
        (lambda: m.update_metadata(KEY, {"x": float("nan")}), "metadata.x"),
        (lambda: m.update_metadata(KEY, [1]), "metadata"),
        (lambda: m.update_metadata(KEY, {}, [1]), "removed"),
        (lambda: m.add_message(KEY, "user", metadata={"x": {1}}), "metadata.x"),
        (lambda: m.add_message(KEY, ""), "role"),
        (lambda: m.add_message(KEY, "user", ref=""), "ref"),
        (lambda: m.add_message(KEY, "user", created_at=datetime(2026, 1, 1)), "created_at"),  # noqa: DTZ001
        (lambda: m.set_history(KEY, [{"content": "no role"}]), "role"),
    ]:
        with pytest.raises(InvalidMessageError) as raised:
            call()
        assert raised.value.path == path
    assert m.get(KEY).updated == m.get(KEY).created


def test_set_history_keeps_the_summary(m):
    m.add_message(KEY, "user", "old")
    m.set_summary(KEY, "s")
    assert m.set_history(KEY, [{"role": "user", "content": "new"}]) is True
    assert (texts(m), m.get_summary(KEY)) == (["new"], "s")
    assert m.set_history(KEY, []) is True
    assert texts(m) == []


@pytest.mark.parametrize(("keep_last", "kept"), [(0, ""), (1, "c"), (2, "bc"), (3, "abc"), (9, "abc")])
def test_truncate_history_keeps_the_last(m, clock, keep_last, kept):
    m.add(KEY, *[{"role": "user", "content": text} for text in "abc"])
    before = clock.time
    clock.advance(seconds=1)
    assert m.truncate_history(KEY, keep_last) == 3 - len(kept)
    assert "".join(texts(m)) == kept
    assert m.get(KEY).updated == (before if kept == "abc" else clock.time)


@pytest.mark.parametrize("keep_last", [None, "1", 1.0, True])
def test_truncate_history_takes_an_int(m, keep_last):
    with pytest.raises(TypeError):
        m.truncate_history(KEY, keep_last)


def test_remove_last_returns_the_message_and_never_reuses_its_position(m):
    m.add(KEY, {"role": "user", "content": "a"}, {"role": "user", "content": "b"})
    removed = m.remove_last(KEY)
    assert (removed.content, removed.position) == ("b", 1)
    assert m.add_message(KEY, "user", "c").position == 2


def test_a_message_is_updated_by_position_by_ref_or_as_the_last(m, clock):
    m.add(KEY, Message("user", "a", ref="tg:1"), Message("assistant", "b"), Message("user", "c", ref="tg:1"))
    created = [message.created_at for message in m.get_history(KEY)]
    clock.advance(hours=1)
    assert m.update_message(KEY, 0, {"role": "user", "content": "A"}) is True
    assert m.update_message(KEY, "tg:1", {"role": "user", "content": "C"}) is True
    assert m.update_message(KEY, 7, {"role": "user"}) is False
    assert m.update_message(KEY, "tg:2", {"role": "user"}) is False
    assert m.update_last(KEY, {"role": "user", "content": "C2"}) is True
    assert texts(m) == ["A", "b", "C2"]
    history = m.get_history(KEY)
    assert [message.created_at for message in history] == created
    assert [message.ref for message in history] == ["tg:1", None, "tg:1"]
    with pytest.raises(TypeError):
        m.update_message(KEY, None, {"role": "user"})


def facts_of(message):
    return message.content, message.created_at, message.metadata, message.ref, message.position, message.turn


@pytest.mark.parametrize(
    "new", [{"role": "user", "content": "new"}, Message("user", "new")], ids=["a mapping", "a message without a time"]
)
@pytest.mark.parametrize("where", [0, "tg:1", None], ids=["position", "ref", "last"])
def test_an_edit_keeps_time_metadata_and_ref(m, clock, new, where):
    """An edit dropped the metadata; one by a `Message` without a time got the system clock's."""
    with m.turn(KEY, "delivery") as turn:
        turn.add(Message("user", "old", created_at=clock(), metadata={"draft": [1]}, ref="tg:1"))
    (old,) = m.get_history(KEY)
    clock.advance(hours=1)
    assert m.update_last(KEY, new) if where is None else m.update_message(KEY, where, new)
    assert facts_of(m.get_history(KEY)[0]) == ("new", *facts_of(old)[1:])
    m.save(KEY)
    assert facts_of(m.get_history(KEY)[0]) == ("new", *facts_of(old)[1:])


def test_an_edit_takes_what_the_new_message_was_given(m, clock):
    old = Message("user", "old", created_at=clock(), metadata={"draft": True}, ref="tg:1")
    m.add(KEY, old, old)
    later = clock() + timedelta(hours=1)
    m.update_message(KEY, 0, Message("user", "a", created_at=later, metadata={"sent": 1}, ref="tg:2"))
    m.update_last(KEY, Message("user", "b", metadata={}))
    one, other = m.get_history(KEY)
    assert facts_of(one) == ("a", later, {"sent": 1}, "tg:2", 0, None)
    assert facts_of(other) == ("b", clock(), {}, "tg:1", 1, None)


def test_an_edit_with_kept_metadata_is_refused_if_too_large(clock):
    """The metadata of the old message counts, as the message is stored with it."""
    with SessionManager(clock=clock, max_message_bytes=300) as m:
        m.add(KEY, Message("user", "a", created_at=clock(), metadata={"note": "x" * 150}))
        with pytest.raises(InvalidMessageError, match="max_message_bytes"):
            m.update_last(KEY, {"role": "user", "content": "y" * 200})
        assert texts(m) == ["a"]
        m.update_last(KEY, Message("user", "y" * 200, metadata={}))
        assert texts(m) == ["y" * 200]


def test_clear_is_a_new_life_with_the_same_metadata(m):
    m.add_message(KEY, "user", "a")
    m.set_summary(KEY, "s")
    m.update_metadata(KEY, {"lang": "de"})
    before = m.get(KEY)
    assert m.clear(KEY) == 1
    after = m.get(KEY)
    assert (len(after.messages), after.summary, after.metadata) == (0, "", {"lang": "de"})
    assert after.generation != before.generation
    assert after.created == before.created
    assert m.add_message(KEY, "user", "b").position == 1


def test_update_metadata_merges_by_key(m):
    m.get_or_create(KEY)
    assert m.update_metadata(KEY, {"a": 1, "b": 2}) is True
    assert m.update_metadata(KEY, {"a": True}, removed=["b", "absent"]) is True
    assert m.get(KEY).metadata == {"a": True}


def test_fork_copies_everything_to_a_life_of_its_own(m, clock):
    m.add_message(KEY, "user", "a", ref="r")
    m.set_summary(KEY, "s")
    m.update_metadata(KEY, {"x": 1})
    clock.advance(hours=1)
    copy = m.fork(KEY, "copy")
    assert (copy.key, copy.summary, copy.metadata, copy.created) == ("copy", "s", {"x": 1}, clock.time)
    assert list(copy.messages) == m.get_history(KEY)
    assert copy.generation != m.get(KEY).generation
    m.add_message("copy", "user", "b")
    assert (texts(m), texts(m, "copy")) == (["a"], ["a", "b"])
    m.add_message("unsaved", "user", "c")
    for new_key in ("copy", "unsaved", KEY):
        with pytest.raises(SessionExistsError):
            m.fork(KEY, new_key)
    assert texts(m, "unsaved") == ["c"]


def test_fork_is_durable_when_it_returns(stored, tmp_path):
    stored.add_message(KEY, "user", "unsaved")
    stored.fork(KEY, "copy")
    stored.close(save=False)
    with SessionManager(tmp_path / "chats") as again:
        assert (list(again), texts(again, "copy")) == (["copy"], ["unsaved"])


def test_delete_is_for_good_and_created_again_is_another(stored, tmp_path):
    stored.add_message(KEY, "user", "a")
    stored.save(KEY)
    generation = stored.get(KEY).generation
    stored.add_message(KEY, "user", "unsaved")
    assert stored.delete(KEY) is True
    assert stored.delete(KEY) is False
    assert KEY not in stored
    assert stored.get_or_create(KEY).generation != generation
    assert texts(stored) == []
    stored.close(save=False)
    with SessionManager(tmp_path / "chats") as again:
        assert list(again) == []


# Nothing is shared with the caller


def test_no_change_to_an_object_given_or_returned_changes_a_session(m):
    given = {"role": "user", "content": [{"a": [1]}]}
    metadata = {"n": [1]}
    notes = {"m": {"x": 1}}
    message = m.add_message(KEY, "user", given["content"], metadata=metadata)
    m.add(KEY, given)
    m.update_metadata(KEY, notes)
    before = [one.to_dict() for one in m.get_history(KEY)]
    given["content"][0]["a"].append(2)
    metadata["n"].append(2)
    notes["m"]["x"] = 2
    history = m.get_history(KEY)
    history.clear()
    message.content.append(1)
    message.to_dict()["content"].clear()
    with pytest.raises(TypeError):
        message.metadata["n"].clear()
    with pytest.raises(TypeError):
        m.get(KEY).metadata["m"]["x"] = 3
    assert [one.to_dict() for one in m.get_history(KEY)] == before
    assert m.get_history(KEY)[0].metadata == {"n": [1]}
    assert m.get(KEY).metadata == {"m": {"x": 1}}


def test_a_picture_stays_what_it_was(m):
    m.add_message(KEY, "user", "a")
    picture = m.get(KEY)
    m.add_message(KEY, "user", "b")
    m.remove_last(KEY)
    m.update_last(KEY, {"role": "user", "content": "edited"})
    m.truncate_history(KEY, 0)
    assert [message.content for message in picture.messages] == ["a"]


# Saving


def test_save_writes_what_is_new_and_only_that(stored, tmp_path):
    path = tmp_path / "chats" / NAME
    assert stored.save(KEY) is False
    stored.get_or_create(KEY)
    assert stored.health().dirty == (KEY,)
    assert stored.save(KEY) is True
    before = path.stat()
    assert stored.save(KEY) is False
    assert stored.save_all() == 0
    assert path.stat().st_ino == before.st_ino
    stored.add_message(KEY, "user", "a")
    assert stored.save(KEY) is True
    assert stored.get(KEY).version == Version(stored.get(KEY).generation, 2)
    assert stored.health().dirty == ()


def test_a_call_without_effect_leaves_the_session_clean(stored):
    stored.add_message(KEY, "user", "a")
    stored.set_summary(KEY, "s")
    stored.save(KEY)
    stored.truncate_history(KEY, 5)
    stored.set_summary(KEY, "s")
    stored.update_metadata(KEY, {})
    stored.update_last(KEY, {"role": "user", "content": "a"})
    stored.add(KEY)
    assert stored.save(KEY) is False


@pytest.mark.parametrize(
    ("call", "left"),
    [
        (lambda m: m.update_message(KEY, 1, {"role": "user", "content": "B"}), ["a", "B", "c"]),
        (lambda m: m.remove_last(KEY), ["a", "b"]),
        (lambda m: m.truncate_history(KEY, 2), ["b", "c"]),
        (lambda m: m.set_history(KEY, [{"role": "user", "content": "new"}]), ["new"]),
        (lambda m: m.clear(KEY), []),
    ],
)
def test_what_replaces_or_drops_saved_messages_is_saved_too(stored, tmp_path, call, left):
    """The messages of a session that is saved again and again are not encoded again: these must be."""
    for text in "abc":
        stored.add_message(KEY, "user", text)
        stored.save(KEY)
    call(stored)
    stored.save(KEY)
    with SessionManager(tmp_path / "chats", read_only=True) as reader:
        assert texts(reader) == left


def test_save_of_a_session_that_is_not_in_ram_reads_nothing(stored, tmp_path):
    (tmp_path / "chats" / NAME).write_text("damaged")
    assert stored.save(KEY) is False


def test_everything_comes_back_when_the_storage_is_opened_again(stored, tmp_path, clock):
    stored.add_message(KEY, "user", "\ud800\u2028 日本", ref="tg:1", metadata={"a": 2**70})
    stored.set_summary(KEY, "s")
    stored.update_metadata(KEY, {"x": 1.0})
    stored.truncate_history(KEY, 5)
    picture = stored.get(KEY)
    stored.close()
    clock.advance(days=1)
    with SessionManager(tmp_path / "chats", clock=clock) as again:
        loaded = again.get(KEY)
        assert loaded.version == Version(picture.generation, 1)
        for field in ("messages", "summary", "metadata", "created", "updated", "start", "end", "refs"):
            assert getattr(loaded, field) == getattr(picture, field)
        assert loaded.messages[0].ref == "tg:1"
        assert loaded.messages[0].metadata == {"a": 2**70}


def test_reload_gives_up_what_is_unsaved_and_returns_it(stored):
    stored.add_message(KEY, "user", "saved")
    stored.save(KEY)
    stored.add_message(KEY, "user", "unsaved")
    stored.set_summary(KEY, "unsaved")
    given_up = stored.reload(KEY)
    assert [type(change).__name__ for change in given_up] == ["Append", "SetSummary"]
    assert (texts(stored), stored.get_summary(KEY)) == (["saved"], "")
    assert stored.reload("never saved") == []
    stored.get_or_create("never saved")
    stored.reload("never saved")
    assert "never saved" not in stored


class Counting(MemoryStore):
    def __init__(self):
        super().__init__()
        self.sizes = []

    def write_many(self, commits):
        self.sizes.append(len(commits))
        return super().write_many(commits)


def test_save_all_leaves_descriptors_to_other_threads():
    """A store of files has one open for each session that it saves at once, and macOS allows a process 256."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with SessionManager(Counting()) as m:
        for number in range(100):
            m.add_message(str(number), "user", "x")
        resource.setrlimit(resource.RLIMIT_NOFILE, (160, hard))
        try:
            assert m.save_all() == 100
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert m._residents.store.sizes == [40, 40, 20]


def test_save_all_tries_all_and_then_raises_with_every_failure(stored, tmp_path):
    for key in ("a", "b", "c"):
        stored.add_message(key, "user", key)
    (tmp_path / "chats" / "b.session.json").write_text("somebody else's")
    with pytest.raises(SaveFailedError) as raised:
        stored.save_all()
    assert set(raised.value.failures) == {"b"}
    assert isinstance(raised.value.failures["b"], CorruptSessionError)
    assert raised.value.key is None
    assert str(raised.value) == f"1 session not saved: CorruptSessionError ({raised.value.failures['b'].reason})"
    assert stored.health().dirty == ("b",)
    assert not stored.health().ok
    os.unlink(tmp_path / "chats" / "b.session.json")
    assert stored.save_all() == 1
    assert stored.health().ok
    stored.close()
    with SessionManager(tmp_path / "chats") as again:
        assert [texts(again, key) for key in again] == [["a"], ["b"], ["c"]]


def test_in_ram_only_nothing_is_dirty_and_no_list_of_changes_is_kept(clock):
    with SessionManager(clock=clock) as m:
        m.add_message(KEY, "user", "a")
        assert (m.save(KEY), m.save_all(), m.health().dirty) == (False, 0, ())
        assert not m._residents.peek(KEY).pending
        assert m.verify() == []


# Damage

DAMAGE = {
    "empty": b"",
    "binary": bytes(range(256)),
    "foreign": b'{"hello": "world"}\n',
    "list": b"[1,2,3]",
    "zeros": b"\0" * 4096,
}


@pytest.fixture(params=[*DAMAGE, "truncated", "flipped", "renamed", "directory", "symlink", "fifo"])
def damaged(request, tmp_path, clock):
    """A storage with a damaged session and a good one; and the path of the damaged one."""
    with SessionManager(tmp_path / "chats", clock=clock) as m:
        for key in (KEY, "good"):
            m.add_message(key, "user", CANARY)
    path = tmp_path / "chats" / NAME
    data = path.read_bytes()
    path.unlink()
    match request.param:
        case "truncated":
            path.write_bytes(data[:-7])
        case "flipped":
            path.write_bytes(data.replace(b"CANARY", b"CANARX"))
        case "renamed":
            path.write_bytes((tmp_path / "chats" / "good.session.json").read_bytes())
        case "directory":
            path.mkdir()
        case "symlink":
            path.symlink_to(tmp_path / "chats" / "good.session.json")
        case "fifo":
            os.mkfifo(path)
        case name:
            path.write_bytes(DAMAGE[name])
    return path


def test_a_damaged_session_raises_in_every_call_and_the_others_work(damaged, tmp_path):
    before = damaged.lstat()
    with SessionManager(tmp_path / "chats") as m:
        calls = [
            lambda: m.get(KEY),
            lambda: m.get_or_create(KEY),
            lambda: m.get_history(KEY),
            lambda: m.get_summary(KEY),
            lambda: m.add_message(KEY, "user", "x"),
            lambda: m.set_history(KEY, []),
            lambda: m.truncate_history(KEY, 0),
            lambda: m.clear(KEY),
            lambda: m.fork(KEY, "other"),
            lambda: m.fork("good", KEY),
            lambda: m.reload(KEY),
        ]
        for call in calls:
            with pytest.raises(CorruptSessionError) as raised:
                call()
            assert raised.value.key == KEY
            assert raised.value.path == str(damaged)
            assert raised.value.reason
        assert texts(m, "good") == [CANARY]
        assert KEY in m
        assert list(m) == ["good", KEY]
        *_, last = m.list_sessions()
        assert (last.key, last.count) == (KEY, 1 if last.error is None else 0)
        assert [finding.key for finding in m.verify()] == [KEY]
    after = damaged.lstat()
    assert (before.st_ino, before.st_size, before.st_mtime_ns) == (after.st_ino, after.st_size, after.st_mtime_ns)


def test_a_damaged_session_goes_to_quarantine_when_it_is_deleted(damaged, tmp_path):
    with SessionManager(tmp_path / "chats") as m:
        assert m.delete(KEY) is True
        assert KEY not in m
        m.add_message(KEY, "user", "a new life")
        m.save(KEY)
    kept = [name for name in os.listdir(tmp_path / "chats") if name.startswith(".quarantine-")]
    assert len(kept) == 1
    assert kept[0].endswith(NAME)


def test_what_goes_to_quarantine_leaves_there_what_went_there_before(stored, tmp_path):
    for damage in (b"first", b"second"):
        (tmp_path / "chats" / NAME).write_bytes(damage)
        assert stored.delete(KEY)
    kept = (tmp_path / "chats").glob(".quarantine-*")
    assert sorted(one.read_bytes() for one in kept) == [b"first", b"second"]


def test_a_save_of_unknown_outcome_that_landed_is_no_failure_any_more(tmp_path):
    class Unknown(Files):
        fails = False

        def sync_directory(self):
            if Unknown.fails:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            super().sync_directory()

    with closing(SnapshotStore(tmp_path / "chats", files=Unknown)) as store, SessionManager(store) as m:
        m.add_message(KEY, "user", "a")
        Unknown.fails = True
        with pytest.raises(SaveOutcomeUnknownError):
            m.save(KEY)
        assert (list(m.health().failures), m.health().ok) == ([KEY], False)
        Unknown.fails = False
        assert m.save(KEY) is True
        assert (m.health().failures, m.health().dirty, m.health().ok) == ({}, (), True)


def test_a_file_damaged_while_its_session_is_in_ram_is_not_overwritten(stored, tmp_path):
    path = tmp_path / "chats" / NAME
    stored.add_message(KEY, "user", "a")
    stored.save(KEY)
    stored.add_message(KEY, "user", "b")
    path.write_bytes(b"damaged")
    with pytest.raises(CorruptSessionError):
        stored.save(KEY)
    assert path.read_bytes() == b"damaged"
    assert texts(stored) == ["a", "b"]
    assert stored.health().dirty == (KEY,)


def test_a_file_replaced_by_a_good_one_is_reconciled_not_overwritten(stored, tmp_path):
    path = tmp_path / "chats" / NAME
    stored.add_message(KEY, "user", "a")
    stored.save(KEY)
    old = path.read_bytes()
    stored.add_message(KEY, "user", "b")
    stored.save(KEY)
    stored.add_message(KEY, "user", "c")
    path.write_bytes(old)
    assert stored.save(KEY) is True
    assert texts(stored) == ["a", "c"]
    stored.reload(KEY)
    assert texts(stored) == ["a", "c"]


def test_a_file_rewritten_at_the_same_revision_is_not_overwritten(stored, tmp_path):
    """Another program wrote it; a cache of its lines must not write them back."""
    path = tmp_path / "chats" / NAME
    stored.add_message(KEY, "user", "mine")
    stored.save(KEY)
    session, _ = snapshot_format.decode(path.read_bytes(), "")
    theirs = changes.apply(session, changes.Edit(at=session.updated, position=0, message=Message("user", "theirs")))
    path.write_bytes(b"".join(snapshot_format.encode(theirs, snapshot_format.Lines().appended(theirs.messages, 1))))
    stored.add_message(KEY, "user", "next")
    assert stored.save(KEY) is True
    stored.reload(KEY)
    assert texts(stored) == ["theirs", "next"]


def test_a_new_summary_at_the_same_revision_is_not_overwritten(stored, tmp_path):
    """Only the messages' CRC was compared."""
    path = tmp_path / "chats" / NAME
    stored.add_message(KEY, "user", "one")
    stored.save(KEY)
    session, _ = snapshot_format.decode(path.read_bytes(), "")
    theirs = changes.apply(session, changes.SetSummary(at=session.updated, text="theirs"))
    path.write_bytes(b"".join(snapshot_format.encode(theirs, snapshot_format.Lines().appended(theirs.messages, 1))))
    stored.add_message(KEY, "user", "two")
    assert stored.save(KEY) is True
    stored.reload(KEY)
    assert (texts(stored), stored.get_summary(KEY)) == (["one", "two"], "theirs")


def test_a_file_that_was_copied_back_unchanged_is_still_the_same(stored, tmp_path):
    path = tmp_path / "chats" / NAME
    stored.add_message(KEY, "user", "a")
    stored.save(KEY)
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data)
    stored.add_message(KEY, "user", "b")
    assert stored.save(KEY) is True
    assert texts(stored) == ["a", "b"]


def test_a_file_of_a_newer_format_is_unsupported_and_left_alone(tmp_path):
    (tmp_path / "chats").mkdir(0o700)
    path = tmp_path / "chats" / NAME
    path.write_bytes(b'{"format":"session_manager/2","anything":"else"}\n')
    with SessionManager(tmp_path / "chats") as m:
        with pytest.raises(UnsupportedFormatError) as raised:
            m.get(KEY)
        assert raised.value.found == "session_manager/2"
        assert KEY in m
        assert isinstance(m.list_sessions()[0].error, UnsupportedFormatError)
    assert path.read_bytes().startswith(b'{"format":"session_manager/2"')


def test_a_name_of_ours_that_is_no_keys_is_reported(stored, tmp_path):
    stored.close()
    (tmp_path / "chats" / "UPPER.session.json").write_text("?")
    with SessionManager(tmp_path / "chats") as m:
        assert list(m) == []
        (finding,) = m.verify()
        assert finding.path.endswith("UPPER.session.json")


# Listing


def test_list_sessions_sorts_by_newest_message_and_reads_no_history(stored, tmp_path, clock):
    for number, key in enumerate(["a:1", "a:2", "b:1"]):
        clock.advance(hours=1)
        stored.add(key, *[{"role": "user", "content": "x"}] * number)
    clock.advance(hours=1)
    stored.set_summary("a:1", "later, but not a message")
    stored.close()
    with SessionManager(tmp_path / "chats", clock=clock) as m:
        infos = m.list_sessions()
        assert [info.key for info in infos] == ["a:1", "b:1", "a:2"]  # without messages, the last change counts
        assert [info.count for info in infos] == [0, 2, 1]
        assert [info.has_summary for info in infos] == [True, False, False]
        assert [info.key for info in m.list_sessions("a:")] == ["a:1", "a:2"]
        assert m.health().resident == 0
        clock.advance(seconds=1)
        m.add_message("a:2", "user", "new")
        assert m.list_sessions()[0].key == "a:2"


def test_a_long_key_is_listed_by_the_key_in_its_file(stored, tmp_path):
    long = "日本" * 150
    stored.add_message(long, "user", "a")
    stored.close()
    with SessionManager(tmp_path / "chats") as m:
        assert list(m) == [long]
        assert texts(m, long) == ["a"]


# Opening and closing


def test_close_saves_is_idempotent_and_then_refuses(stored, tmp_path):
    stored.add_message(KEY, "user", "a")
    stored.close()
    stored.close()
    for call in (
        lambda: stored.get(KEY),
        lambda: stored.add_message(KEY, "user"),
        lambda: stored.save(KEY),
        lambda: stored.save_all(),
        lambda: KEY in stored,
        lambda: list(stored),
        lambda: stored.list_sessions(),
        lambda: stored.health(),
        lambda: stored.delete(KEY),
        lambda: stored.verify(),
    ):
        with pytest.raises(ClosedError):
            call()
    with SessionManager(tmp_path / "chats") as again:
        assert texts(again) == ["a"]


def test_close_that_cannot_save_raises_and_stays_open(stored, tmp_path):
    stored.add_message(KEY, "user", "a")
    (tmp_path / "chats" / NAME).write_text("damaged")
    with pytest.raises(SaveFailedError):
        stored.close()
    assert texts(stored) == ["a"]
    stored.close(save=False)
    with pytest.raises(ClosedError):
        stored.get(KEY)


def test_a_close_that_was_interrupted_is_finished_by_the_next(stored, tmp_path, monkeypatch):
    store = stored._residents.store

    def interrupted():
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store, "close", interrupted)
        with pytest.raises(KeyboardInterrupt):
            stored.close()
    stored.close()
    SessionManager(tmp_path / "chats").close()


def test_an_integer_that_this_process_may_not_write_is_refused_at_the_call(m):
    if not hasattr(sys, "set_int_max_str_digits"):
        pytest.skip("this Python has no limit")
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(640)
    try:
        with pytest.raises(InvalidMessageError, match="more than 640 digits"):
            m.add(KEY, {"role": "user", "n": 10**640})
    finally:
        sys.set_int_max_str_digits(before)
    assert KEY not in m


def test_a_store_that_was_given_is_not_closed(tmp_path):
    store = SnapshotStore(tmp_path / "chats")
    with SessionManager(store) as m:
        m.add_message(KEY, "user", "a")
    assert store.load(KEY).messages[0].content == "a"
    store.close()
    with pytest.raises(ClosedError):
        store.load(KEY)


@pytest.mark.parametrize("storage", [None, ""])
def test_an_unset_storage_keeps_everything_in_ram_with_a_warning(storage):
    with pytest.warns(UserWarning, match="nothing is saved"):
        m = SessionManager(storage)
    m.add_message(KEY, "user", "a")
    assert m.save(KEY) is False


def test_nothing_or_memory_is_in_ram_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SessionManager()
        SessionManager("memory:")


def test_a_manager_collected_while_dirty_warns_and_releases_the_storage(tmp_path):
    """The warning has the number of unsaved sessions."""
    m = SessionManager(tmp_path / "chats")
    m.add_message("a", "user")
    m.add_message("b", "user")
    with pytest.warns(ResourceWarning, match="2 unsaved sessions"):
        del m
        gc.collect()
    SessionManager(tmp_path / "chats").close()


def test_a_naive_clock_is_refused():
    m = SessionManager(clock=lambda: datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(InvalidMessageError, match="clock"):
        m.add_message(KEY, "user")


def test_opening_a_directory_reads_no_session(tmp_path, monkeypatch):
    with SessionManager(tmp_path / "chats") as m:
        for number in range(50):
            m.add_message(f"k:{number}", "user", "x")
    reads = []
    original = Files.open_read
    monkeypatch.setattr(Files, "open_read", lambda self, name: reads.append(name) or original(self, name))
    with SessionManager(tmp_path / "chats") as m:
        assert len(m) == 50
        assert m.get("missing") is None
        assert reads == []
        m.get("k:7")
        assert reads == ["k~3a7.session.json"]


# Privacy


def test_files_are_0600_in_a_directory_0700_under_any_umask(tmp_path):
    for umask in (0o000, 0o777):
        old = os.umask(umask)
        try:
            path = tmp_path / f"deep{umask}" / "chats"
            with SessionManager(path) as m:
                m.add_message(KEY, "user", "a")
        finally:
            os.umask(old)
        assert path.stat().st_mode & 0o777 == 0o700
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert {name: os.stat(path / name).st_mode & 0o777 for name in os.listdir(path)} == {
            ".lock": 0o600,
            NAME: 0o600,
        }


def test_no_key_leads_outside_the_storage(tmp_path):
    with SessionManager(tmp_path / "chats") as m:
        for key in ("../escape", "/etc/passwd", "a/../../b", "~root", "..\\x", "x\0y"):
            m.add_message(key, "user", "a")
        m.save_all()
        assert len(m) == 6
    assert os.listdir(tmp_path) == ["chats"]


def test_no_text_of_a_message_in_any_repr_error_or_log(damaged, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    shown = []
    with SessionManager(tmp_path / "chats") as m:
        m.add_message("live", "user", CANARY, metadata={"n": CANARY})
        m.set_summary("live", CANARY)
        m.update_metadata("live", {"n": CANARY})
        for call in (
            lambda: m.get(KEY),
            lambda: m.add("live", {"role": "user", "content": CANARY, "x": {1}}),
            lambda: m.add("live", {"role": "user", "content": CANARY + "\ud83d\ude00"}),
            lambda: m.add("live", CANARY),
            lambda: m.update_metadata("live", {"x": CANARY + "\ud83d\ude00"}),
            lambda: m.set_summary("live", [CANARY]),
        ):
            with pytest.raises(SessionManagerError) as raised:
                call()
            error = raised.value
            shown += [repr(error), str(error), "".join(traceback.format_exception(error)), pickle.dumps(error)]
            assert error.__context__ is None or CANARY not in str(vars(error.__context__))
        shown += map(repr, [m, m.get("live"), *m.get_history("live"), m.list_sessions(), m.health(), m.verify()])
        shown += map(repr, m._residents.entries().values())
        shown += map(repr, m.reload("live"))
    shown += [record.getMessage() for record in caplog.records]
    for text in shown:
        assert CANARY not in (text if isinstance(text, str) else text.decode("latin-1"))


@pytest.mark.parametrize("kind", ["snapshot", "log", "sqlite"])
def test_a_list_reads_no_history(kind, tmp_path):
    """Messages that cannot be read are no business of a list, an expiry, or a prefix."""
    url = f"{kind}:{tmp_path / 'chats'}"
    with SessionManager(url) as m:
        m.add(KEY, *[{"role": "user", "content": f"{number} " + "x" * 500} for number in range(50)])
        m.save(KEY)
        m.add_message(KEY, "user", "last")
    if kind == "sqlite":
        with closing(sqlite3.connect(tmp_path / "chats")) as connection, connection:
            connection.execute("UPDATE messages SET line = 'damaged'")
    else:
        path = tmp_path / "chats" / (NAME if kind == "snapshot" else f"{NAME}l")
        path.write_bytes(path.read_bytes().replace(b'"content":"0 x', b'"content":"0 y'))
    with SessionManager(url) as m:
        assert [(info.count, info.error) for info in m.list_sessions("telegram:")] == [(51, None)]
        assert m.expire(timedelta(days=1)) == []
        assert m.list_sessions("discord:") == []
        with pytest.raises(CorruptSessionError):
            m.get(KEY)


def test_turns_are_found_without_the_lock(monkeypatch):
    """With 10,000 messages that takes 10 ms and more: every other session waited for it."""
    with SessionManager() as m:
        m.add("k", *({"role": "user", "content": str(number)} for number in range(10)))
        locked = []
        find = cuts.cut

        def asked(messages, keep_last):
            locked.append(m._residents.lock.is_mine)
            return find(messages, keep_last)

        monkeypatch.setattr(cuts, "cut", asked)
        assert m.truncate_history("k", 4, whole_turns=True) == 6
        assert locked == [False]
