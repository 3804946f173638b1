"""A directory that picoclaw wrote is opened as it is, and nothing of it is lost."""

from __future__ import annotations

import json
import os
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from session_manager import Commit, ConflictError, CorruptSessionError, Message, Session, SessionManager, Version
from session_manager.codec.json import DecodeError
from session_manager.model.changes import Append
from session_manager.model.view import View
from session_manager.stores.files.names import file_name
from session_manager.stores.snapshot import SnapshotStore
from session_manager.stores.snapshot import picoclaw_format as picoclaw
from session_manager.stores.snapshot.format import SUFFIX, Lines, encode
from tests.support.go_files import GOLDEN, KEY, SAID, go_file
from tests.support.strategies import CANARY, facts, held_text, keys, message_objects

OURS = file_name(KEY, SUFFIX)
CREATED = datetime(2026, 1, 2, 2, 4, 5, 123456, timezone.utc)
UPDATED = datetime(2026, 1, 2, 6, 4, 6, 999999, timezone.utc)
WRITTEN = datetime(2026, 3, 4, 5, 6, 7, tzinfo=timezone.utc)
ASKED = "Is 1 < 2 && 2 > 1?\u2028漢字 é 👩‍👩‍👧"


def our_file(key: str, text: str, generation: str = "9f") -> bytes:
    message = Message("user", text, created_at=WRITTEN)._placed(0, None)
    session = Session(
        key=key, generation=generation, created=WRITTEN, updated=WRITTEN, messages=View([message]), end=1, revision=5
    )
    return b"".join(encode(session, Lines().appended(session.messages, 1)))


def names(directory: Path) -> set[str]:
    """The names in a directory, but for those of the lock."""
    return {name for name in os.listdir(directory) if name not in (".lock", ".holder")}


def said(m: SessionManager, key: str = KEY) -> list[Any]:
    return [message.content for message in m.get_history(key)]


# What Go writes


def test_the_golden_file_loads_for_ever(tmp_path):
    (tmp_path / "telegram_42.json").write_bytes(GOLDEN)
    with SessionManager(tmp_path) as m:
        session = m.get(KEY)
    arguments = '{"expression":"1<2","big":18446744073709551616}'
    call = {"id": "call_1", "type": "function", "function": {"name": "calculate", "arguments": arguments}}
    assert [message.to_dict() for message in session.messages] == [
        {"role": "user", "content": ASKED},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "true\t\ufffd", "tool_call_id": "call_1"},
    ]
    assert [message.created_at for message in session.messages] == [UPDATED] * 3
    assert [message.position for message in session.messages] == [0, 1, 2]
    assert (session.key, session.summary, session.end) == (KEY, "They <b>love</b> maths.", 3)
    assert (session.created, session.updated) == (CREATED, UPDATED)
    assert session.version == Version("f143df9be0f9a2177bd3fc4aff2c1eb6", 1)
    assert (session.metadata, session.refs) == ({}, ())


TIMES = {
    "2026-01-02T03:04:05Z": "2026-01-02T03:04:05+00:00",
    "2026-01-02T03:04:05.1Z": "2026-01-02T03:04:05.100000+00:00",
    "2026-01-02T03:04:05.123456Z": "2026-01-02T03:04:05.123456+00:00",
    "2026-01-02T03:04:05.123456999Z": "2026-01-02T03:04:05.123456+00:00",
    "2026-01-02T03:04:05.000000999Z": "2026-01-02T03:04:05+00:00",
    "2026-01-02T03:04:05+05:45": "2026-01-01T21:19:05+00:00",
    "2026-01-02T03:04:05.5-09:30": "2026-01-02T12:34:05.500000+00:00",
    "2026-01-02T03:04:05+00:00": "2026-01-02T03:04:05+00:00",
    "2024-02-29T23:59:59.999999999-00:01": "2024-03-01T00:00:59.999999+00:00",
    "0001-01-02T00:00:00Z": "0001-01-02T00:00:00+00:00",
    "9999-12-31T23:59:59.999999999Z": "9999-12-31T23:59:59.999999+00:00",
}


@pytest.mark.parametrize(("text", "expected"), TIMES.items())
def test_a_time_of_go_is_cut_to_microseconds_in_utc(text, expected):
    session = picoclaw.decode(go_file(created=text, updated=text), WRITTEN)
    for time in (session.created, session.updated, session.messages[0].created_at):
        assert time.isoformat() == expected
        assert time.tzinfo is timezone.utc


ZEROS = ["0001-01-01T00:00:00Z", "0001-01-01T00:53:28+00:53", "0000-12-31T16:07:02-07:52", None, ...]


@pytest.mark.parametrize("zero", ZEROS)
def test_an_unknown_time_is_the_other_one_or_else_the_files(zero, tmp_path):
    known, then = "2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    cases = {"created": (zero, known, then), "updated": (known, zero, then), "both": (zero, zero, WRITTEN)}
    for key, (created, updated, _) in cases.items():
        fields = {name: time for name, time in (("created", created), ("updated", updated)) if time is not ...}
        whole = json.loads(go_file(key))
        path = tmp_path / f"{key}.json"
        path.write_text(json.dumps({"key": key, "messages": whole["messages"], **fields}))
        os.utime(path, (0, WRITTEN.timestamp()))
    with SessionManager(tmp_path) as m:
        for key, (_, _, expected) in cases.items():
            session = m.get(key)
            assert (session.created, session.updated) == (expected, expected)
            assert session.last_message_at == expected


NO_TIMES = ["", "yesterday", 5, "2026-01-02", "2026-01-02T03:04:05", "2026-01-02 03:04:05Z", "2026-02-30T00:00:00Z"]
NO_TIMES += ["2026-01-02T25:00:00Z", "2026-01-02T03:04:05Zx", "2026-01-02T03:04:05+1:00", "9999-12-31T23:59:59-01:00"]


@pytest.mark.parametrize("text", NO_TIMES)
def test_a_time_that_is_none_is_damage(text):
    for field in ("created", "updated"):
        with pytest.raises(DecodeError):
            picoclaw.decode(go_file(**{field: text}), WRITTEN)


@pytest.mark.parametrize("messages", [None, []])
@pytest.mark.parametrize("fields", [{}, {"summary": ""}, {"summary": None}])
def test_no_messages_and_no_summary_are_an_empty_session(messages, fields):
    session = picoclaw.decode(go_file(messages=messages, **fields), WRITTEN)
    assert (session.messages, session.summary, session.start, session.end) == ([], "", 0, 0)
    assert session.last_message_at is None


@given(keys(), message_objects())
def test_any_message_comes_out_as_it_is(key, value):
    session = picoclaw.decode(json.dumps({"key": key, "messages": [value, value]}).encode(), WRITTEN)
    assert session.key == key
    assert [repr(message.to_dict()) for message in session.messages] == [repr(value)] * 2


def test_a_file_that_changes_is_another_session():
    one, same, other = (picoclaw.decode(go_file(summary=text), WRITTEN) for text in ("a", "a", "b"))
    assert one.version == same.version
    assert one.generation != other.generation
    assert (len(one.generation), one.revision) == (32, 1)


@pytest.mark.parametrize(
    ("key", "stem"),
    [
        ("telegram:42", "telegram_42"),
        ("telegram_42", "telegram_42"),
        ("a:b/c\\d:e", "a_b_c_d_e"),
        ("agent:main:main", "agent_main_main"),
        ("Ü x.y", "Ü x.y"),
    ],
)
def test_the_stem_of_a_key_is_the_one_that_picoclaw_gives_it(key, stem):
    assert picoclaw.stem_of(key) == stem


# Opening


FILES = {
    "telegram_42.json": KEY,
    "a_b_c.json": "a/b:c",
    "telegram_43.json": "telegram:43",
    "renamed.json": "discord:1:x",
}


def legacy_directory(path: Path) -> None:
    for name, key in FILES.items():
        (path / name).write_bytes(go_file(key, ({"role": "user", "content": f"in {key}"},)))


def test_keys_are_read_from_the_files_and_not_from_their_names(tmp_path):
    legacy_directory(tmp_path)
    with SessionManager(tmp_path) as m:
        assert list(m) == sorted(FILES.values())
        assert {key: said(m, key) for key in m} == {key: [f"in {key}"] for key in FILES.values()}
        assert "telegram_42" not in m
        assert [info.key for info in m.list_sessions("telegram:")] == ["telegram:42", "telegram:43"]
        assert m.verify() == []


def test_reading_a_directory_of_picoclaws_changes_nothing_in_it(tmp_path):
    legacy_directory(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with SessionManager(tmp_path) as m:
        assert [m.get(key).revision for key in m] == [1, 1, 1, 1]
        assert [info.count for info in m.list_sessions()] == [1, 1, 1, 1]
        assert m.health().dirty == ()
        assert (m.save(KEY), m.save_all()) == (False, 0)
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before


OTHERS = {
    "telegram_42.meta.json": b'{"key": "telegram:42", "messages": []}',
    "broken.meta.json": b"{",
    "package.json": b'{"name": "bot", "version": "1.0.0", "dependencies": {}}',
    "tsconfig.json": b"[]",
    "key.json": b'{"key": "telegram:42"}',
    "messages.json": b'{"messages": []}',
    "null.json": b"null",
    "number.json": b"5",
    ".hidden.json": b"{",
    "session-123.tmp": b"{",
    "notes.txt": b"{",
    "telegram_42.JSON": b"{",
    "telegram_42.jsonl": b"{",
    "telegram_42.json.bak": b"{",
}


def test_files_of_other_programs_are_left_alone(tmp_path):
    for name, data in OTHERS.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "cache.json").mkdir()
    with SessionManager(tmp_path) as m:
        assert (list(m), KEY in m, m.get(KEY), m.verify(), m.delete("cache")) == ([], False, None, [], False)
        m.add_message(KEY, "user", "hi")
        m.add_message("package", "user", "hi")
        m.save_all()
        m.delete("package")
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path) - {OURS, "cache.json"}} == OTHERS
    assert (tmp_path / "cache.json").is_dir()


# The first save


def test_the_first_save_writes_our_file_removes_theirs_and_loses_nothing(tmp_path):
    (tmp_path / "telegram_42.json").write_bytes(GOLDEN)
    with SessionManager(tmp_path) as m:
        before = m.get(KEY)
        m.add_message(KEY, "user", "and now?")
        assert names(tmp_path) == {"telegram_42.json"}
        assert m.save(KEY) is True
        assert names(tmp_path) == {OURS}
        after = m.get(KEY)
        assert m.save(KEY) is False
    assert [facts(one) for one in after.messages][:3] == [facts(one) for one in before.messages]
    assert (after.generation, after.revision, after.created) == (before.generation, 2, before.created)
    with SessionManager(tmp_path) as m:
        assert facts(m.get(KEY)) == facts(after)
        assert list(m) == [KEY]


@pytest.mark.parametrize("key", ["x" * 1024, "漢:" * 40, "con", "Ü/../..", "a b"])
def test_any_key_moves_to_the_file_that_is_its_own(key, tmp_path):
    (tmp_path / "somewhere.json").write_bytes(go_file(key))
    with SessionManager(tmp_path) as m:
        m.add_message(key, "user", "more")
    assert names(tmp_path) == {file_name(key, SUFFIX)}
    with SessionManager(tmp_path) as m:
        assert (list(m), said(m, key)) == ([key], ["hi", "more"])


def test_a_save_killed_before_theirs_is_removed_leaves_ours(tmp_path):
    """The next save removes theirs."""
    (tmp_path / "telegram_42.json").write_bytes(GOLDEN)
    (tmp_path / OURS).write_bytes(our_file(KEY, "ours", picoclaw.generation_of(GOLDEN)))
    with SessionManager(tmp_path) as m:
        assert (list(m), len(m)) == ([KEY], 1)
        assert said(m) == ["ours"]
        assert [(info.count, info.version) for info in m.list_sessions()] == [
            (1, Version(picoclaw.generation_of(GOLDEN), 5))
        ]
        m.add_message(KEY, "user", "more")
        m.save(KEY)
    assert names(tmp_path) == {OURS}
    with SessionManager(tmp_path) as m:
        assert said(m) == ["ours", "more"]


def test_a_file_of_ours_that_is_damaged_is_never_replaced_by_theirs(tmp_path):
    (tmp_path / "telegram_42.json").write_bytes(GOLDEN)
    (tmp_path / OURS).write_bytes(go_file())
    with SessionManager(tmp_path) as m:
        with pytest.raises(CorruptSessionError) as caught:
            m.add_message(KEY, "user", "hi")
        assert caught.value.path == str(tmp_path / OURS)
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == {
        "telegram_42.json": GOLDEN,
        OURS: go_file(),
    }


def test_a_session_of_theirs_is_deleted_for_good(tmp_path):
    legacy_directory(tmp_path)
    with SessionManager(tmp_path) as m:
        assert m.delete(KEY) is True
        assert (m.delete(KEY), KEY in m, m.get(KEY)) == (False, False, None)
    assert names(tmp_path) == FILES.keys() - {"telegram_42.json"}


def test_deleting_removes_theirs_and_ours_so_that_nothing_comes_back(tmp_path):
    (tmp_path / "telegram_42.json").write_bytes(GOLDEN)
    (tmp_path / OURS).write_bytes(our_file(KEY, "ours", picoclaw.generation_of(GOLDEN)))
    with SessionManager(tmp_path) as m:
        assert m.delete(KEY) is True
    assert names(tmp_path) == set()


# Damage

UNREADABLE = {
    "empty": b"",
    "zeros": bytes(4096),
    "cut off": go_file(messages=({"role": "user", "content": CANARY},))[:-30],
    "garbage": CANARY.encode(),
    "NaN": b'{"key": "telegram:42", "messages": [NaN]}',
    "not UTF-8": b'{"key": "telegram:42", "messages": ["\xff' + CANARY.encode() + b'"]}',
    "byte order mark": b"\xef\xbb\xbf" + go_file(),
    "two documents": go_file() * 2,
    "key of an int": go_file(5, (CANARY,)),
    "no key": go_file("", (CANARY,)),
    "key that is a directory's name": go_file(".."),
    "key that is too long": go_file("x" * 1025),
    "deep": b"[" * 100_000,
}
#: The keys that picoclaw put into telegram_42.json, and their neighbours, which it did not.
THOSE = ["telegram:42", "telegram/42", "telegram\\42", "telegram_42"]
NEIGHBOURS = [
    "telegram:4",
    "telegram:421",
    "Telegram:42",
    "telegram-42",
    "telegram 42",
    "telegram:42.json",
    "telegram:43",
]


@pytest.mark.parametrize("data", UNREADABLE.values(), ids=UNREADABLE)
def test_a_file_without_its_key_damages_only_the_keys_it_may_belong_to(data, tmp_path):
    legacy_directory(tmp_path)
    (tmp_path / "telegram_42.json").write_bytes(data)
    with SessionManager(tmp_path) as m:
        assert list(m) == ["a/b:c", "discord:1:x", "telegram:43", "telegram_42"]
        for key in THOSE:
            assert key in m
            for call in (
                m.get,
                m.get_or_create,
                lambda key: m.add_message(key, "user", "hi"),
                lambda key: m.add(key, SAID),
            ):
                with pytest.raises(CorruptSessionError) as caught:
                    call(key)
                assert (caught.value.key, caught.value.path) == (key, str(tmp_path / "telegram_42.json"))
                assert CANARY not in held_text(caught.value)
        for key in NEIGHBOURS:
            m.add_message(key, "user", "hi")
        m.save_all()
        errors = {info.key: type(info.error) for info in m.list_sessions() if info.error}
        assert errors == {"telegram_42": CorruptSessionError}
        assert [(finding.key, finding.path) for finding in m.verify()] == [("telegram_42", caught.value.path)]
    assert (tmp_path / "telegram_42.json").read_bytes() == data


@pytest.mark.parametrize("key", THOSE)
def test_deleting_an_unreadable_session_moves_its_file_to_quarantine(key, tmp_path):
    (tmp_path / "telegram_42.json").write_bytes(b"{" + CANARY.encode())
    with SessionManager(tmp_path) as m:
        assert m.delete(key) is True
        (left,) = names(tmp_path)
        assert left.startswith(".quarantine-")
        assert left.endswith("-telegram_42.json")
        assert (tmp_path / left).read_bytes() == b"{" + CANARY.encode()
        assert (list(m), m.delete(key)) == ([], False)
        for other in THOSE:
            m.add_message(other, "user", "hi")
    with SessionManager(tmp_path) as m:
        assert list(m) == sorted(THOSE)
        assert m.verify() == []


DAMAGED = {
    "messages of an object": go_file(messages={"role": "user", "content": CANARY}),
    "messages of a text": go_file(messages=CANARY),
    "message of a text": go_file(messages=(SAID, CANARY)),
    "message without a role": go_file(messages=(SAID, {"content": CANARY})),
    "message with role null": go_file(messages=({"role": None, "content": CANARY},)),
    "message of 300 levels": go_file(messages=({"role": "user"},)).replace(
        b'"user"', b'"user", "x": ' + b"[" * 300 + b"]" * 300
    ),
    "summary of a list": go_file(summary=[CANARY]),
    "time that is none": go_file(created=CANARY),
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
def test_a_file_that_tells_its_key_and_is_damaged_damages_that_key_only(data, tmp_path):
    (tmp_path / "telegram_42.json").write_bytes(data)
    with SessionManager(tmp_path) as m:
        assert list(m) == [KEY]
        assert KEY in m
        with pytest.raises(CorruptSessionError) as caught:
            m.add_message(KEY, "user", "hi")
        assert (caught.value.key, caught.value.path) == (KEY, str(tmp_path / "telegram_42.json"))
        assert CANARY not in held_text(caught.value)
        assert [m.get(key) for key in THOSE[1:]] == [None, None, None]
        assert [(finding.key, finding.path) for finding in m.verify()] == [(KEY, caught.value.path)]
        assert names(tmp_path) == {"telegram_42.json"}
        assert m.delete(KEY) is True
        assert m.get(KEY) is None
    (left,) = names(tmp_path)
    assert (tmp_path / left).read_bytes() == data


def test_two_files_with_one_key_are_both_damaged_and_both_kept(tmp_path):
    files = {"a.json": go_file(summary="one"), "telegram_42.json": go_file(summary="two")}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    with SessionManager(tmp_path) as m:
        assert list(m) == [KEY]
        assert KEY in m
        for call in (m.get, m.get_or_create, lambda key: m.add_message(key, "user", "hi")):
            with pytest.raises(CorruptSessionError) as caught:
                call(KEY)
            assert caught.value.path == str(tmp_path / "a.json")
            assert "telegram_42.json" in caught.value.reason
        assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == files
        assert m.delete(KEY) is True
        assert (list(m), m.get(KEY)) == ([], None)
    assert {(tmp_path / name).read_bytes() for name in names(tmp_path)} == set(files.values())
    assert all(name.startswith(".quarantine-") for name in names(tmp_path))


def test_a_link_in_the_place_of_a_file_is_not_followed(tmp_path):
    outside = tmp_path / "outside"
    outside.write_bytes(GOLDEN)
    chats = tmp_path / "chats"
    chats.mkdir(0o700)
    (chats / "telegram_42.json").symlink_to(outside)
    with SessionManager(chats) as m, pytest.raises(CorruptSessionError):
        m.get(KEY)
    assert outside.read_bytes() == GOLDEN


# Somebody else writes


def test_a_file_changed_since_it_was_read_is_a_conflict(tmp_path):
    path = tmp_path / "telegram_42.json"
    path.write_bytes(GOLDEN)
    store = SnapshotStore(tmp_path)
    try:
        session = store.load(KEY)
        newer = go_file()
        path.write_bytes(newer)
        commit = Commit(session, (), session.version)
        with pytest.raises(ConflictError) as caught:
            store.write(commit)
        assert caught.value.expected == session.version
        assert caught.value.actual == picoclaw.decode(newer, WRITTEN).version
        assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == {"telegram_42.json": newer}
    finally:
        store.close()


def test_messages_of_another_writer_are_kept_beside_those_added_here(tmp_path):
    path = tmp_path / "telegram_42.json"
    path.write_bytes(GOLDEN)
    with SessionManager(tmp_path) as m:
        m.add_message(KEY, "user", "ours")
        path.write_bytes(go_file(messages=({"role": "user", "content": "theirs"},)))
        assert m.save(KEY) is True
        assert said(m) == ["theirs", "ours"]
    with SessionManager(tmp_path) as m:
        assert said(m) == ["theirs", "ours"]
    assert names(tmp_path) == {OURS}


def test_a_file_that_was_damaged_since_it_was_read_is_not_overwritten(tmp_path):
    path = tmp_path / "telegram_42.json"
    path.write_bytes(GOLDEN)
    with SessionManager(tmp_path) as m:
        m.add_message(KEY, "user", "ours")
        path.write_bytes(GOLDEN[:100])
        with pytest.raises(CorruptSessionError):
            m.save(KEY)
        assert m.health().dirty == (KEY,)
        assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == {"telegram_42.json": GOLDEN[:100]}
        path.write_bytes(GOLDEN)
        assert m.save(KEY) is True
        assert said(m)[-1] == "ours"


def test_a_file_that_became_another_sessions_is_not_overwritten(tmp_path):
    path = tmp_path / "telegram_42.json"
    path.write_bytes(GOLDEN)
    with SessionManager(tmp_path) as m:
        m.add_message(KEY, "user", "ours")
        path.write_bytes(go_file("telegram/42"))
        with pytest.raises(CorruptSessionError):
            m.save(KEY)
        assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == {
            "telegram_42.json": go_file("telegram/42")
        }
        m.close(save=False)


def test_a_write_that_expects_no_session_finds_theirs(tmp_path):
    (tmp_path / "telegram_42.json").write_bytes(GOLDEN)
    store = SnapshotStore(tmp_path)
    try:
        new = Session(key=KEY, generation="9f", created=WRITTEN, updated=WRITTEN, revision=1)
        with pytest.raises(ConflictError):
            store.write(Commit(new, (Append(at=WRITTEN),), None))
        assert names(tmp_path) == {"telegram_42.json"}
        assert store.version(KEY) == Version("f143df9be0f9a2177bd3fc4aff2c1eb6", 1)
        assert store.delete(KEY, Version("9f", 1)) is False
        assert names(tmp_path) == {"telegram_42.json"}
    finally:
        store.close()


def test_what_picoclaw_wrote_after_we_took_over_is_never_deleted_unread(tmp_path):
    """A save used to unlink the file under picoclaw's name, whatever stood in it by then."""
    directory = tmp_path / "chats"
    directory.mkdir(0o700)
    legacy = directory / "telegram_42.json"
    legacy.write_text('{"key":"telegram:42","messages":[{"role":"user","content":"one"}]}')
    with SessionManager(directory) as m:
        m.add_message("telegram:42", "user", "two")
    assert not legacy.exists()
    later = '{"key":"telegram:42","messages":[{"role":"user","content":"picoclaw again"}]}'
    for action in ("save", "delete"):
        legacy.write_text(later)
        with SessionManager(directory) as m:
            m.add_message("telegram:42", "user", "three")
            m.save("telegram:42")
            if action == "delete":
                m.delete("telegram:42")
        assert not legacy.exists()
        (kept,) = directory.glob(".quarantine-*")
        assert kept.read_text() == later
        kept.unlink()


def test_a_damaged_file_with_the_longest_name_goes_to_quarantine(tmp_path):
    directory = tmp_path / "chats"
    directory.mkdir(0o700)
    stem = "漢" * 80
    (directory / f"{stem}.json").write_text("{")
    with SessionManager(directory) as m:
        assert m.delete(stem) is True
        assert stem not in m
    assert len(list(directory.glob(".quarantine-*"))) == 1
