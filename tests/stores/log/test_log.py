"""A directory of logs: appends, compaction, torn records, conflicts, readers beside the writer, and kill -9."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import given

from session_manager import (
    ClosedError,
    ConflictError,
    CorruptSessionError,
    Message,
    ReadOnlyError,
    SaveError,
    SaveFailedError,
    SaveOutcomeUnknownError,
    SessionManager,
    StorageError,
    StorageLockedError,
)
from session_manager.manager.cache.entry import Entry
from session_manager.model.changes import Append, apply
from session_manager.stores.contract import Commit
from session_manager.stores.log import LogStore
from session_manager.stores.log import rewriter as log_rewriter
from session_manager.stores.log.format import MAX_STATE, encode_first
from session_manager.stores.log.replay import decode
from tests.support.faulty_files import FaultyFiles, open_descriptors
from tests.support.laws import examples
from tests.support.log_lines import record
from tests.support.log_saves import chains
from tests.support.processes import DEADLINE, start
from tests.support.strategies import facts

KEY = "telegram:42"
NAME = "telegram~3a42.session.jsonl"
AT = datetime(2026, 1, 2, tzinfo=timezone.utc)
CALLS = 45


@pytest.fixture
def opened(tmp_path):
    """Opens stores and managers on directories under `tmp_path`, and closes them."""
    with contextlib.ExitStack() as stack:

        def open_one(name="chats", **options):
            store = LogStore(tmp_path / name, **options)
            stack.callback(store.close)
            m = SessionManager(store)
            stack.callback(m.close, save=False)
            return m

        yield open_one


def store_of(m) -> LogStore:
    return m._residents.store


def reopen(m, **options):
    store = store_of(m)
    m.close(save=False)
    store.close()
    return SessionManager(LogStore(store.path, **options))


def texts(m, key=KEY):
    return [message.content for message in m.get_history(key)]


def say(m, *said, key=KEY):
    for text in said:
        m.add_message(key, "user", text)
        m.save(key)


def stored(path):
    """Return what another process would find, by copying the file to a directory of its own."""
    with tempfile.TemporaryDirectory() as directory:
        shutil.copy(path, Path(directory) / NAME)
        with contextlib.closing(LogStore(directory, read_only=True)) as store:
            session = store.load(KEY)
    return [message.content for message in session.messages]


def quarantined(directory):
    return [name for name in os.listdir(directory) if name.startswith(".quarantine")]


# Saving and loading


def test_a_save_appends_one_line_and_keeps_what_is_there(opened, tmp_path):
    m = opened()
    say(m, "one")
    path = tmp_path / "chats" / NAME
    before, inode = path.read_bytes(), path.stat().st_ino
    say(m, "two")
    after = path.read_bytes()
    assert after.startswith(before)
    assert after.count(b"\n") == 2
    assert (path.stat().st_ino, path.stat().st_mode & 0o777) == (inode, 0o600)
    assert texts(reopen(m)) == ["one", "two"]


def test_every_call_of_a_manager_survives(opened):
    m = opened()
    say(m, "a", "b", "c", "d")
    m.update_last(KEY, {"role": "user", "content": "D"})
    m.save(KEY)
    m.set_summary(KEY, "before")
    m.update_metadata(KEY, {"tier": 1})
    m.save(KEY)
    m.truncate_history(KEY, 2)
    m.remove_last(KEY)
    m.save(KEY)
    shown = facts(m.get(KEY))
    m = reopen(m)
    assert facts(m.get(KEY)) == shown
    m.set_history(KEY, [{"role": "user", "content": "new"}])
    m.fork(KEY, "copy")
    assert (texts(m, "copy"), m.save(KEY)) == (["new"], True)
    m.clear(KEY)
    m.save(KEY)
    shown = facts(m.get(KEY))
    m = reopen(m)
    assert facts(m.get(KEY)) == shown
    assert sorted(m) == ["copy", KEY]
    assert (m.delete(KEY), m.delete(KEY), KEY in m) == (True, False, False)
    assert m.verify() == []
    store_of(m).close()


@examples(3)
@given(chains())
def test_any_chain_of_changes_saved_step_by_step_comes_back_exactly(chain):
    session, saves = chain
    with tempfile.TemporaryDirectory() as directory:
        store = LogStore(directory)
        entry = Entry(session, session._with(revision=0))
        store.write(commit := Commit(session, (), None))
        entry = Entry.of(commit.session)
        for made in saves:
            for change in made:
                entry = entry.changed(change, keep=True)
            if entry.dirty:
                store.write(commit := entry.commit("t"))
                entry = entry.writing(commit).landed(commit)
        path = Path(directory) / store._logs[session.key].name
        assert facts(store.load(session.key)) == facts(entry.session)
        store.close()
        store = LogStore(directory)
        assert facts(store.load(session.key)) == facts(entry.session)
        info = store.describe(session.key)
        assert (info.count, info.version, info.metadata) == (
            len(entry.session.messages),
            entry.session.version,
            entry.session.metadata,
        )
        store.compact(session.key)
        assert path.read_bytes() == b"".join(encode_first(entry.session).buffers)
        assert facts(store.load(session.key)) == facts(entry.session)
        store.close()


def test_the_contract_of_versions(opened):
    store = store_of(m := opened())
    say(m, "one")
    session = store.load(KEY)
    change = Append(at=AT, messages=(Message("user", "x"),))
    after = apply(session, change)._with(revision=2)
    with pytest.raises(ConflictError):
        store.write(Commit(session, (), None))
    store.write(Commit(after, (change,), session.version))
    with pytest.raises(ConflictError) as caught:
        store.write(Commit(after, (change,), session.version))
    assert caught.value.actual == after.version
    assert (store.version(KEY), store.version("other")) == (after.version, None)
    assert store.delete(KEY, session.version) is False
    assert store.delete(KEY, after.version) is True
    with pytest.raises(ConflictError):
        store.write(Commit(after, (change,), session.version))
    assert store.load(KEY) is None


def test_closed_locked_and_read_only(opened, tmp_path):
    m = opened()
    say(m, "one")
    with pytest.raises(StorageLockedError):
        LogStore(tmp_path / "chats")
    reader = LogStore(tmp_path / "chats", read_only=True)
    assert (reader.shared, store_of(m).shared) == (True, False)
    for call in (lambda: reader.delete(KEY), lambda: reader.compact(KEY)):
        with pytest.raises(ReadOnlyError):
            call()
    reader.close()
    reader.close()
    for call in (lambda: reader.load(KEY), reader.keys, lambda: reader.describe(KEY), reader.repairs, reader.strays):
        with pytest.raises(ClosedError):
            call()
    assert repr(reader) == f"<LogStore {str(tmp_path / 'chats')!r}>"


def test_another_programs_file_is_never_overwritten(opened, tmp_path):
    m = opened()
    say(m, "one", "two")
    path = tmp_path / "chats" / NAME
    whole = path.read_bytes()
    m.add_message(KEY, "user", "three")
    path.write_bytes(whole[: whole.index(b"\n") + 1])
    assert m.save(KEY) is True  # rebased on the older state
    assert texts(m) == stored(path) == ["one", "three"]
    other = path.with_suffix(".other")
    other.write_bytes(whole)
    os.utime(path, (1, 1))
    say(m, "four")  # touched, but the same
    other.replace(path)
    m.add_message(KEY, "user", "five")
    m.save(KEY)
    assert texts(m) == stored(path)
    path.write_bytes(whole.replace(b"one", b"ONE"))
    m.add_message(KEY, "user", "six")
    with pytest.raises(CorruptSessionError):
        m.save(KEY)
    path.unlink()
    m.add_message(KEY, "user", "seven")
    m.save(KEY)
    assert stored(path)[-1] == "seven"


def test_the_file_of_another_session_is_damage_also_to_a_list(opened, tmp_path):
    m = opened()
    say(m, "one")
    (tmp_path / "chats" / "other.session.jsonl").write_bytes((tmp_path / "chats" / NAME).read_bytes())
    m = reopen(m)
    with pytest.raises(CorruptSessionError, match="another session"):
        m.get("other")
    assert {info.key: bool(info.error) for info in m.list_sessions()} == {KEY: False, "other": True}
    assert m.delete("other") is True
    assert len(quarantined(tmp_path / "chats")) == 1
    store_of(m).close()


def test_long_keys_are_listed_from_their_files(opened):
    m = opened()
    long = '\x01"\\é' * 200
    say(m, "one", key=long)
    m = reopen(m)
    assert sorted(m) == [long]
    assert texts(m, long) == ["one"]
    store_of(m).close()


@pytest.mark.parametrize("again", [False, True], ids=["open", "opened again"])
def test_a_log_that_has_a_second_name_is_replaced_and_not_written_to(tmp_path, again):
    """A backup of hard links was appended to with every save: it showed what came after it."""
    m = SessionManager(f"log:{tmp_path / 'chats'}", archive=True)
    m.add(KEY, *[{"role": "user", "content": text} for text in "abc"])
    m.save(KEY)
    m.truncate_history(KEY, 2)
    m.save(KEY)
    (tmp_path / "backup").mkdir()
    for file in (tmp_path / "chats").glob("*.jsonl"):
        os.link(file, tmp_path / "backup" / file.name)
    before = {file.name: file.read_bytes() for file in (tmp_path / "backup").iterdir()}
    assert len(before) == 2
    if again:
        m.close()
        m = SessionManager(f"log:{tmp_path / 'chats'}", archive=True)
    with m:
        for text in "de":
            m.add_message(KEY, "user", text)
            m.truncate_history(KEY, 2)
            m.save(KEY)
        assert [message.content for message in m.get_archive(KEY)] == ["a", "b", "c"]
        assert [message.content for message in m.get_history(KEY)] == ["d", "e"]
        assert m.verify() == []
    assert {file.name: file.read_bytes() for file in (tmp_path / "backup").iterdir()} == before
    assert {file.stat().st_nlink for file in (tmp_path / "chats").glob("*.jsonl")} == {1}


# Torn records


def tear(path, tail=b'{"changes":[{"ch'):
    with open(path, "ab") as file:
        file.write(tail)


@pytest.mark.parametrize("tail", [b"{", b'{"changes":[{"change"\n', b"\x00" * 5000, b"\n", b"\xff\n"], ids=range(5))
def test_a_torn_record_is_reported_and_cut_before_the_next_append(opened, tmp_path, tail):
    """The session is read without it. Its bytes are kept in quarantine."""
    m = opened()
    say(m, "one", "two")
    path = tmp_path / "chats" / NAME
    whole = path.read_bytes()
    store_of(m).close()
    tear(path, tail)
    m = reopen(m)
    assert texts(m) == ["one", "two"]
    assert path.read_bytes() == whole + tail
    (finding,) = store_of(m).verify(KEY)
    assert (finding.key, finding.path, finding.offset) == (KEY, str(path), len(whole))
    assert store_of(m).repairs() == [finding]
    info = m.list_sessions()[0]
    assert (info.count, info.error) == (2, None)
    say(m, "three")
    assert path.read_bytes().startswith(whole + b'{"changes"')
    assert stored(path) == ["one", "two", "three"]
    (name,) = quarantined(tmp_path / "chats")
    kept = tmp_path / "chats" / name
    assert (kept.read_bytes(), kept.stat().st_mode & 0o777) == (tail, 0o600)
    assert (store_of(m).verify(KEY), len(store_of(m).repairs())) == ([], 1)
    m = reopen(m)
    assert texts(m) == ["one", "two", "three"]
    store_of(m).close()


def test_a_record_whose_line_feed_is_zero_after_a_power_cut_is_torn(opened, tmp_path):
    """The file's length was there, its last page was not. The session was called damaged."""
    m = opened()
    say(m, "one", "two")
    path = tmp_path / "chats" / NAME
    store_of(m).close()
    whole = path.read_bytes()
    for zeros in (b"\0", b"\0" * 4096):
        path.write_bytes(whole[:-1] + zeros)
        m = reopen(m)
        assert texts(m) == ["one"]
        say(m, "three")
        assert stored(path) == ["one", "three"]
        store_of(m).close()
        path.write_bytes(whole)
    path.write_bytes(whole[:-1] + b"\0{")
    m = reopen(m)
    with pytest.raises(CorruptSessionError, match="line feed"):
        m.get(KEY)
    store_of(m).close()


def test_what_is_in_quarantine_is_not_reported_for_ever(tmp_path):
    """It was taken for a file whose name or header is not that of a session, from the next opening on."""
    storage = f"log:{tmp_path / 'chats'}"
    for text in ("a", "b"):
        with SessionManager(storage) as m:
            m.add_message("k", "user", text)
            m.save("k")
            assert m.verify() == []
        with (tmp_path / "chats" / "k.session.jsonl").open("ab") as file:
            file.write(b'{"torn')
    with SessionManager(storage) as m:
        assert [finding.key for finding in m.verify()] == ["k"]
        m.delete("k")
        assert m.verify() == []
    with SessionManager(storage) as m:
        assert m.verify() == []
        assert list(m) == []


@pytest.mark.parametrize("call", ["clear", "compact", "delete"])
def test_a_torn_record_is_not_destroyed_by_a_replacement_either(opened, tmp_path, call):
    m = opened()
    say(m, "one", "two")
    tear(tmp_path / "chats" / NAME, b"torn")
    m = reopen(m)
    if call == "clear":
        m.clear(KEY)
        m.save(KEY)
    elif call == "compact":
        m.compact(KEY)
        assert texts(m) == ["one", "two"]
    else:
        m.delete(KEY)
    kept = [(tmp_path / "chats" / name).read_bytes() for name in quarantined(tmp_path / "chats")]
    assert kept == ([] if call == "delete" else [b"torn"])
    store_of(m).close()


def test_a_torn_record_that_cannot_be_cut_fails_the_save_unchanged(tmp_path):
    for operation in ("open_new", "write", "sync", "rename", "sync_directory", "open_append", "truncate"):
        path = tmp_path / operation / NAME
        m = SessionManager(LogStore(tmp_path / operation, files=FaultyFiles))
        say(m, "one", "two")
        tear(path)
        m = reopen(m, files=FaultyFiles)
        assert texts(m) == ["one", "two"]
        before = path.read_bytes()
        m.add_message(KEY, "user", "three")
        files = store_of(m)._files
        real = getattr(files, operation)
        setattr(files, operation, lambda *_: (_ for _ in ()).throw(OSError(5, "I/O")))
        with pytest.raises(SaveFailedError):
            m.save(KEY)
        assert path.read_bytes() == before
        setattr(files, operation, real)
        assert m.save(KEY) is True
        assert stored(path) == ["one", "two", "three"]
        store_of(m).close()


# Compaction


class Unsynced(FaultyFiles):
    """A disk that loses everything with the power, and is quick."""

    def sync(self, fd):
        pass

    sync_data = sync


def sliding(m, _):
    m.add_message(KEY, "user", "x" * 700)
    m.truncate_history(KEY, 60)


def editing(m, number):
    m.update_last(KEY, {"role": "assistant", "content": "x" * (number % 50) * 100})


def noting(m, number):
    m.add_message(KEY, "user", "x" * 100)
    m.update_metadata(KEY, {"state": f"{number} " + "x" * 2000})


def summarizing(m, number):
    m.set_summary(KEY, f"{number} " + "x" * 3000)


def chatting(m, number):
    m.add_message(KEY, "user", f"{number}")


def half_and_half(m, number):
    """Each record is half dead: a log that is about to be compacted at each save."""
    m.add_message(KEY, "user", "x" * 400)
    m.update_metadata(KEY, {"n": number})


def truncating(m, number):
    m.add_message(KEY, "user", "x" * 900)
    if number % 150 == 149:
        m.truncate_history(KEY, 1)


def removing(m, number):
    m.add_message(KEY, "user", "x" * 900)
    if number % 2:
        m.remove_last(KEY)


SHAPES = (sliding, editing, noting, summarizing, chatting, half_and_half, truncating, removing)


@pytest.mark.parametrize("reopened", [False, True], ids=["open", "reopened"])
@pytest.mark.parametrize("change", SHAPES, ids=lambda change: change.__name__)
def test_a_log_is_compacted_before_most_of_it_is_dead(change, reopened, size, tmp_path, monkeypatch):
    """However a chat is written, about half of its log is alive, and what compaction writes was paid for by appends."""
    if not (reopened or size):
        pytest.skip("the reopened log meets the same: --faults")
    lines = []
    monkeypatch.setattr(log_rewriter, "encode_first", lambda *one: lines.append(encode_first(*one)) or lines[-1])
    m = SessionManager(LogStore(tmp_path, files=Unsynced))
    say(m, *["x" * 100] * 20)
    path = tmp_path / NAME
    appended, compactions = path.stat().st_size, 0
    before, inode = appended, path.stat().st_ino
    lines.clear()
    for number in range(size.of(300, 600, 600)):
        change(m, number)
        m.save(KEY)
        status, whole = path.stat(), encode_first(m.get(KEY)).size
        if status.st_ino != inode:
            compactions, inode = compactions + 1, status.st_ino
            assert status.st_size == whole
            assert before > 64 * 1024 - 8192, "before a record of the longest"
        else:
            appended += status.st_size - before
        before = status.st_size
        assert status.st_size <= max(64 * 1024, 3 * whole)
        if reopened and number % 100 == 50:
            m = reopen(m, files=Unsynced)
    assert compactions > 0
    assert sum(line.size for line in lines) <= 4 * appended
    assert len(lines) - compactions < 20
    store_of(m).close()


def test_a_log_that_only_grows_is_hardly_ever_compacted(opened, tmp_path):
    m = opened()
    inodes = set()
    for number in range(300):
        say(m, f"{number} " + "x" * 1000)
        inodes.add((tmp_path / "chats" / NAME).stat().st_ino)
    assert len(inodes) == 1


def test_a_compaction_changes_neither_revision_nor_content(opened, tmp_path):
    """A log of one line stays as it is."""
    m = opened()
    say(m, "one", "two")
    path = tmp_path / "chats" / NAME
    shown = facts(m.get(KEY))
    m.compact(KEY)
    inode = path.stat().st_ino
    assert path.read_bytes().count(b"\n") == 1
    m.compact(KEY)
    assert path.stat().st_ino == inode
    store_of(m).compact("missing")
    say(m, "three")
    assert path.stat().st_ino == inode
    m.reload(KEY)
    assert texts(m) == ["one", "two", "three"]
    assert shown in facts(m.get(KEY)) or shown.split("\n")[2:] == facts(m.get(KEY)).split("\n")[2:4]


def test_a_compaction_does_not_hide_that_another_program_wrote_the_log(opened, tmp_path):
    """A compaction reads the file. The next save must not take what was read for what this process had written."""
    m = opened()
    say(m, "one", "two")
    store, before = store_of(m), m.get(KEY)
    change = Append(at=AT, messages=(Message("user", "mine"),))
    commit = Commit(apply(before, change)._with(revision=before.revision + 1), (change,), before.version, before=before)
    path = tmp_path / "chats" / NAME
    first = path.read_bytes().splitlines(keepends=True)[0]
    theirs = Append(at=AT, messages=(Message("user", "theirs"),))
    after = apply(decode(first, NAME).session, theirs)._with(revision=before.revision)
    path.write_bytes(first + record(after, [theirs]))
    store.compact(KEY)
    with pytest.raises(ConflictError, match="another program"):
        store.write(commit)
    assert stored(path) == ["one", "theirs"]
    assert path.read_bytes().count(b"\n") == 1


def test_a_save_leaves_no_descriptor_and_writes_to_no_old_file(opened, tmp_path):
    """A descriptor that was opened before a compaction would be written to, and the record lost."""
    m = opened()
    before = open_descriptors()
    say(m, "one", "two")
    assert open_descriptors() <= before
    path = tmp_path / "chats" / NAME
    held = os.open(path, os.O_RDONLY)
    m.compact(KEY)
    size = os.fstat(held).st_size
    say(m, "three")
    assert os.fstat(held).st_size == size
    assert stored(path) == ["one", "two", "three"]
    copy = path.with_suffix(".copy")
    copy.write_bytes(path.read_bytes())
    copy.replace(path)  # the same bytes, another file
    say(m, "four")
    assert stored(path) == ["one", "two", "three", "four"]
    os.close(held)


def test_a_compaction_that_fails_after_an_append_is_only_logged(tmp_path, caplog):
    m = SessionManager(store := LogStore(tmp_path, files=FaultyFiles))
    say(m, *["x" * 5000] * 20)
    m.truncate_history(KEY, 1)
    real = store._files.rename
    store._files.rename = lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    with caplog.at_level(logging.WARNING):
        assert m.save(KEY) is True
    assert "not compacted" in caplog.text
    assert "xxx" not in caplog.text
    caplog.clear()
    say(m, "one")
    assert "not compacted" not in caplog.text
    with pytest.raises(SaveFailedError):
        m.compact(KEY)
    store._files.rename = real
    real = store._files.sync_directory
    store._files.sync_directory = lambda: (_ for _ in ()).throw(OSError(5, "I/O"))
    with pytest.raises(SaveOutcomeUnknownError):
        m.compact(KEY)
    store._files.sync_directory = real
    inode = (tmp_path / NAME).stat().st_ino
    say(m, "two")
    assert (tmp_path / NAME).stat().st_ino != inode, "nothing is appended to a name that is not durable"
    assert [len(text) for text in stored(tmp_path / NAME)] == [5000, 3, 3]
    store.close()


# Faults


def os_error(name):
    number = getattr(errno, name)
    return OSError(number, os.strerror(number))


@pytest.fixture
def faulty(tmp_path):
    """A manager with saved messages and an unsaved one, its files, and the saved file's path."""
    with contextlib.ExitStack() as stack:

        def open_one(name, *, large=False):
            store = LogStore(tmp_path / name, files=FaultyFiles)
            stack.callback(store.close)
            m = SessionManager(store)
            stack.callback(m.close, save=False)
            say(m, "saved")
            if large:
                say(m, *["x" * 9000] * 8)
                m.truncate_history(KEY, 1)
                m.update_last(KEY, {"role": "user", "content": "saved"})
                m.add_message(KEY, "user", "unsaved")
            else:
                m.add_message(KEY, "user", "unsaved")
            return m, store._files, tmp_path / name / NAME

        yield open_one


def test_a_short_write_is_cut_back_and_the_session_written_whole(faulty):
    m, files, path = faulty("one")
    inode = path.stat().st_ino
    files.short = True
    assert m.save(KEY) is True
    assert "truncate" in files.log
    assert path.stat().st_ino != inode
    assert path.read_bytes().count(b"\n") == 1
    assert stored(path) == ["saved", "unsaved"]


def broken(files, monkeypatch, *names):
    for name in names:
        monkeypatch.setattr(files, name, lambda *_: (_ for _ in ()).throw(os_error("EIO")))


def test_a_descriptor_whose_sync_failed_is_never_used_again(faulty, monkeypatch):
    m, files, path = faulty("one")
    m.save(KEY)
    m.add_message(KEY, "user", "more")
    whole, inode = path.read_bytes(), path.stat().st_ino
    files.fail(0, None)
    with monkeypatch.context() as patched:
        broken(files, patched, "sync_data", "open_new")
        with pytest.raises(SaveFailedError):
            m.save(KEY)
    assert files.log[:7] == ["open_append", "fstat", "write", "fstat", "truncate", "sync", "close"]
    assert path.read_bytes() == whole
    assert [message.content for message in store_of(m).load(KEY).messages] == ["saved", "unsaved"]
    assert m.save(KEY) is True
    assert path.stat().st_ino != inode, "nothing is appended to it again"
    assert stored(path) == ["saved", "unsaved", "more"]
    store_of(m).close()
    assert (path.parent / ".clean").exists()


def test_a_record_that_cannot_be_cut_is_doubtful_and_then_written_whole(faulty, monkeypatch):
    """It is written whole before a reader sees it."""
    m, files, path = faulty("one")
    m.save(KEY)
    m.add_message(KEY, "user", "last")
    whole, inode = path.read_bytes(), path.stat().st_ino
    with monkeypatch.context() as patched:
        broken(files, patched, "truncate", "sync_data", "open_new")
        with pytest.raises(SaveOutcomeUnknownError):
            m.save(KEY)
        assert path.read_bytes().startswith(whole)
        with pytest.raises(SaveError):
            store_of(m).load(KEY)
    assert [message.content for message in store_of(m).load(KEY).messages] == ["saved", "unsaved", "last"]
    assert path.stat().st_ino != inode
    assert m.save(KEY) is True
    assert stored(path) == ["saved", "unsaved", "last"]


@pytest.mark.parametrize("when", ["once", "after"])
@pytest.mark.parametrize("action", ["delete", "fork", "load", "damaged delete", "compact", "list", "verify"])
def test_other_calls_fail_with_a_typed_error_and_work_again(faulty, action, when):
    number, clean = 0, False
    while not clean:
        number += 1
        assert number < CALLS
        m, files, path = faulty(f"{number}")
        m.save(KEY)
        store = store_of(m)
        if action in ("load", "damaged delete", "list", "verify", "compact"):
            m.close()
            m = SessionManager(store)
        if action == "damaged delete":
            path.write_bytes(b"damaged")
        descriptors = open_descriptors()
        files.fail(number, os_error("EIO"), after=when == "after")
        call = {
            "delete": lambda m=m: m.delete(KEY),
            "damaged delete": lambda m=m: m.delete(KEY),
            "fork": lambda m=m: m.fork(KEY, "copy") and True,
            "load": lambda m=m: bool(m.get(KEY)),
            "compact": lambda m=m: m.compact(KEY) is None,
            "list": lambda m=m: m.list_sessions()[0].error is None,
            "verify": lambda m=m: m.verify() == [],
        }[action]
        failed = False
        try:
            failed = not call()
            assert not failed or action in ("list", "verify")
        except StorageError:
            failed = True
        clean = not files.struck
        files.heal()
        assert open_descriptors() <= descriptors
        if failed and not (action == "fork" and "copy" in m):
            assert call() is True
        if "delete" in action:
            assert KEY not in m
            assert not path.exists()
        elif action == "fork":
            assert texts(m, "copy") == ["saved", "unsaved"]
        assert texts(m) == ([] if "delete" in action else ["saved", "unsaved"])
        m.close(save=False)


def test_opening_and_closing_fail_typed_at_every_call_and_lock_nothing(tmp_path):
    number, clean = 0, False
    while not clean:
        number += 1
        assert number < CALLS
        with contextlib.closing(LogStore(tmp_path / "chats")) as store:
            m = SessionManager(store)
            m.set_history(KEY, [])
            m.get_or_create(KEY)
            m.set_history(KEY, [{"role": "user", "content": "a"}])
            m.save(KEY)
        descriptors = open_descriptors()

        def breaking(path, number=number):
            files = FaultyFiles(path)
            files.fail(number, os_error("EIO"))
            return files

        with contextlib.suppress(StorageError):
            LogStore(tmp_path / "chats", files=breaking).close()
        clean = not FaultyFiles.opened.struck
        assert open_descriptors() <= descriptors
    with contextlib.closing(LogStore(tmp_path / "chats")) as store:
        assert [message.content for message in store.load(KEY).messages] == ["a"]


# What is read back is durable


def test_after_an_unclean_end_a_file_is_synced_before_it_is_believed(opened, tmp_path):
    m = opened()
    say(m, "one", "two")
    directory = tmp_path / "chats"
    assert not (directory / ".clean").exists()
    shutil.copytree(directory, tmp_path / "killed", ignore=shutil.ignore_patterns(".lock", ".holder"))
    store = LogStore(tmp_path / "killed", files=FaultyFiles)
    store._files.fail(0, None)
    assert store.describe("missing") is None
    assert store.load(KEY) is not None
    assert store._files.log[:5] == ["open_read", "sync", "close", "open_read", "fstat"]
    store._files.fail(0, None)
    store.load(KEY)
    assert "sync" not in store._files.log
    store.close()
    assert (tmp_path / "killed" / ".clean").exists()
    store = LogStore(tmp_path / "killed", files=FaultyFiles)
    assert not (tmp_path / "killed" / ".clean").exists()
    store._files.fail(0, None)
    store.load(KEY)
    assert "sync" not in store._files.log
    store.close()


def test_untouched_logs_after_an_unclean_end_are_synced_by_the_next_close(opened, tmp_path):
    m = opened()
    say(m, "one")
    say(m, "one", key="b")
    for clean in (True, False):
        name = f"killed {clean}"
        shutil.copytree(tmp_path / "chats", tmp_path / name, ignore=shutil.ignore_patterns(".lock", ".holder"))
        store = LogStore(tmp_path / name, files=FaultyFiles)
        store.load(KEY)
        store._files.fail(2, None if clean else os_error("EIO"))
        store.close()
        assert store._files.log[:3] == ["open_read", "sync", "close"]
        assert (tmp_path / name / ".clean").exists() is clean


def test_a_log_whose_sync_fails_at_close_is_written_anew_not_synced_again(opened, tmp_path):
    m = opened()
    say(m, "one", "two")
    path = tmp_path / "killed" / NAME
    shutil.copytree(path.parent.parent / "chats", path.parent, ignore=shutil.ignore_patterns(".lock", ".holder"))
    m = SessionManager(store := LogStore(path.parent, files=FaultyFiles))
    inode = path.stat().st_ino
    store._files.fail(2, os_error("EIO"), sticky=True)
    for _ in range(2):
        with pytest.raises(StorageError):
            m.get(KEY)
    store._files.heal()
    assert texts(m) == ["one", "two"]
    assert path.stat().st_ino != inode
    say(m, "three")
    assert stored(path) == ["one", "two", "three"]
    store.close()
    assert (path.parent / ".clean").exists()


def test_a_directory_with_a_file_whose_sync_failed_is_not_marked_as_clean(opened, tmp_path):
    """A close created the mark all the same, and the next process believed what may not be durable."""
    m = opened()
    say(m, "one", "two")
    killed = tmp_path / "killed"
    shutil.copytree(tmp_path / "chats", killed, ignore=shutil.ignore_patterns(".lock", ".holder"))
    with contextlib.closing(LogStore(killed, files=FaultyFiles)) as store:
        store._files.fail(2, os_error("EIO"))
        with pytest.raises(StorageError):
            store.load(KEY)
        store._files.heal()
    assert not (killed / ".clean").exists()
    with contextlib.closing(LogStore(killed, files=FaultyFiles)) as store:
        store._files.fail(0, None)
        store.load(KEY)
        assert "sync" in store._files.log


def test_the_state_at_the_end_of_a_torn_record_is_not_believed(opened, tmp_path):
    """A power cut may leave the end of a record without its beginning: the state there is of a save that is lost."""
    m = opened()
    say(m, "one", "two")
    m.add_message(KEY, "user", "x" * 3 * MAX_STATE)
    m.save(KEY)
    killed = tmp_path / "killed"
    shutil.copytree(tmp_path / "chats", killed, ignore=shutil.ignore_patterns(".lock", ".holder"))
    data = (killed / NAME).read_bytes()
    start = data.rindex(b"\n", 0, len(data) - 1) + 1
    (killed / NAME).write_bytes(data[:start] + bytes(2 * MAX_STATE) + data[start + 2 * MAX_STATE :])
    LogStore(killed).close()  # which touches nothing, and must not let the next one believe it
    for _ in range(2):
        with contextlib.closing(LogStore(killed)) as store:
            for _ in range(2):
                assert (store.describe(KEY).count, store.version(KEY).revision) == (2, 2)
            assert [message.content for message in store.load(KEY).messages] == ["one", "two"]
    with contextlib.closing(LogStore(killed)) as store:
        say(SessionManager(store), "three")
        assert store.describe(KEY).count == 3
    assert (killed / ".clean").exists()


def test_nothing_is_believed_while_it_cannot_be_opened_to_be_synced(opened, tmp_path):
    m = opened()
    say(m, "one", "two")
    shutil.copytree(tmp_path / "chats", tmp_path / "killed", ignore=shutil.ignore_patterns(".lock", ".holder"))
    with contextlib.closing(LogStore(tmp_path / "killed", files=FaultyFiles)) as store:
        store._files.fail(1, os_error("EMFILE"))
        with pytest.raises(StorageError):
            store.load(KEY)
        store._files.fail(0, None)
        assert len(store.load(KEY).messages) == 2
        assert "sync" in store._files.log
        (tmp_path / "killed" / "link.session.jsonl").symlink_to(NAME)
    (tmp_path / "killed" / ".clean").unlink()
    with contextlib.closing(LogStore(tmp_path / "killed")) as store, pytest.raises(CorruptSessionError):
        store.load("link")


# Readers


class Counting(FaultyFiles):
    bytes_read = 0

    def read(self, fd, size):
        data = super().read(fd, size)
        Counting.bytes_read += len(data)
        return data

    def read_at(self, fd, size, offset):
        data = super().read_at(fd, size, offset)
        Counting.bytes_read += len(data)
        return data


def test_lists_and_versions_read_no_history(tmp_path):
    with contextlib.closing(LogStore(tmp_path)) as store:
        m = SessionManager(store)
        say(m, *["x" * 5000] * 40)
        say(m, *["x" * 5000] * 40, key="compact")
        m.update_metadata(KEY, {"tier": 1})
        m.set_summary(KEY, "s")
        m.save(KEY)
        m.compact("compact")
        shown = {info.key: info for info in m.list_sessions()}
    for read_only in (False, True):
        store = LogStore(tmp_path, files=Counting, read_only=read_only)
        Counting.bytes_read = 0
        for key in (KEY, "compact"):
            assert store.describe(key) == shown[key]
            assert store.version(key) == shown[key].version
        assert sorted(store.keys()) == ["compact", KEY]
        assert Counting.bytes_read < 4 * 5000
        store.close()


def test_large_metadata_is_not_repeated_in_each_record_but_described(opened, tmp_path):
    m = opened()
    say(m, "one")
    m.update_metadata(KEY, {"large": "x" * 2000})
    m.save(KEY)
    say(m, "two", "three")
    assert (tmp_path / "chats" / NAME).read_bytes().count(b"x" * 2000) == 1
    assert store_of(m).describe(KEY).metadata == {"large": "x" * 2000}
    m = reopen(m)
    assert m.list_sessions()[0].metadata == m.get(KEY).metadata == {"large": "x" * 2000}
    store_of(m).close()


def test_a_reader_ignores_a_torn_record_and_cuts_nothing(opened, tmp_path):
    m = opened()
    say(m, "one", "two")
    path = tmp_path / "chats" / NAME
    with contextlib.closing(LogStore(tmp_path / "chats", read_only=True)) as reader:
        tear(path)
        before = path.read_bytes()
        assert len(reader.load(KEY).messages) == 2
        assert len(reader.verify(KEY)) == 1
        assert reader.repairs() == []
        assert path.read_bytes() == before
        assert quarantined(path.parent) == []


def test_a_reader_reads_again_before_it_calls_something_damage(opened, tmp_path):
    m = opened()
    say(m, "one", "two")
    path = tmp_path / "chats" / NAME
    good = path.read_bytes()

    class Torn(FaultyFiles):
        reads = 0

        def read(self, fd, size):
            data = super().read(fd, size)
            Torn.reads += 1
            if Torn.reads == 1:
                os.utime(path, (Torn.reads, 1))
                return data.replace(b"one", b"two")
            return data

    with contextlib.closing(LogStore(tmp_path / "chats", read_only=True, files=Torn)) as reader:
        assert [message.content for message in reader.load(KEY).messages] == ["one", "two"]
        path.write_bytes(good.replace(b"one", b"two"))
        Torn.reads = 1
        with pytest.raises(CorruptSessionError) as caught:
            reader.load(KEY)
        assert caught.value.offset == 0
        assert Torn.reads < 5
    path.write_bytes(good)


BESIDE = """
    import sys
    from session_manager import SessionManager
    from session_manager.stores.log import LogStore
    store = LogStore(sys.argv[1])
    m = SessionManager(store)
    for number in range(1500):
        m.add_message("k", "user", str(number))
        m.update_metadata("k", {"last": number})
        if number % 3 == 0:
            m.truncate_history("k", 20)
        m.save("k")
        if number % 5 == 0:
            store.compact("k")
        if number == 0:
            print("open", flush=True)
    store.close()
"""


def test_a_reader_beside_a_saving_and_compacting_writer_sees_no_mixture(tmp_path):
    with start(BESIDE, tmp_path / "chats") as writer:
        assert writer.stdout.readline() == "open\n"
        seen = []
        with contextlib.closing(LogStore(tmp_path / "chats", read_only=True)) as reader:
            while writer.poll() is None or seen[-1] != 1499:
                session = reader.load("k")
                numbers = [int(message.content) for message in session.messages]
                assert numbers == list(range(numbers[0], numbers[-1] + 1))
                assert session.metadata == {"last": numbers[-1]}
                assert session.revision == numbers[-1] + 1
                info = reader.describe("k")
                assert info.metadata["last"] + 1 == info.version.revision == info.end
                assert reader.version("k").revision >= session.revision
                seen.append(numbers[-1])
        assert writer.wait(DEADLINE) == 0
        assert seen == sorted(seen)
        assert len(set(seen)) > 5


# Processes


TRACED = """
    import os, sys
    from session_manager import SessionManager
    from session_manager.stores.log import LogStore
    m = SessionManager(LogStore(sys.argv[1]))
    m.add_message("k", "user", "one")
    m.save("k")
    m.add_message("k", "user", "two")
    m.save("k")
    m.add_message("k", "user", "three")
    os.write(2, b"BEGIN")
    m.save("k")
    os.write(2, b"ACKNOWLEDGED")
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_save_is_one_write_and_one_sync(tmp_path):
    trace = tmp_path / "trace"
    calls = "openat,write,writev,pwrite64,fsync,fdatasync,close,rename,renameat,renameat2,fchmod,ftruncate"
    command = ["strace", "-f", "-o", trace, "-e", f"trace={calls}", sys.executable, "-c", textwrap.dedent(TRACED)]
    done = subprocess.run([*command, tmp_path / "chats"], capture_output=True, timeout=DEADLINE, check=False)
    if b"PTRACE" in done.stderr or b"ptrace" in done.stderr:
        pytest.skip("this machine does not let strace trace")
    lines = trace.read_text().split("BEGIN", 1)[1].split("\n")[1:]
    last = next(number for number, line in enumerate(lines) if "ACKNOWLEDGED" in line)
    between = [line for line in lines[:last] if not line.strip().endswith("resumed>)")]
    steps = [re.search(r"(\w+)\((\d+)", line).groups() for line in between if "(" in line]
    assert [name for name, _ in steps] == ["openat", "writev", "fdatasync", "close"]
    assert len({fd for _, fd in steps[1:]}) == 1
    opened = [line for line in between if "k.session.jsonl" in line]
    assert len(opened) == 1
    assert "O_APPEND" in opened[0]
    for flag in ("O_WRONLY", "O_NOFOLLOW", "O_CLOEXEC"):
        assert flag in opened[0]
    assert "O_CREAT" not in opened[0]
