"""Copies between stores: equal in everything, resumable, and nothing that is there is touched."""

from __future__ import annotations

import gc
import os
import weakref
from contextlib import closing
from datetime import datetime, timedelta, timezone

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager import (
    Commit,
    CopyReport,
    CorruptSessionError,
    Finding,
    InvalidStorageError,
    Message,
    ReadOnlyError,
    SaveFailedError,
    SaveOutcomeUnknownError,
    Session,
    SessionManager,
    StorageError,
    StorageLockedError,
    UnsupportedFormatError,
)
from session_manager.model.view import View
from session_manager.stores import copy
from session_manager.stores.files.filesystem import Files
from session_manager.stores.log import LogStore
from session_manager.stores.memory import MemoryStore
from session_manager.stores.snapshot import SnapshotStore
from tests.support.laws import examples
from tests.support.strategies import CANARY, facts, sessions

AT = datetime(2026, 1, 1, tzinfo=timezone.utc)


def session(key, *contents, generation="9f", revision=3):
    """A session that a store may be given."""
    messages = View([Message("user", text, created_at=AT)._placed(n, None) for n, text in enumerate(contents)])
    return Session(
        key=key,
        generation=generation,
        created=AT,
        updated=AT,
        messages=messages,
        end=len(messages),
        revision=revision,
    )


def noted(one, metadata):
    """Return a session whose messages have metadata."""
    messages = [Message("user", m.content, created_at=AT, metadata=metadata) for m in one.messages]
    return attrs.evolve(one, messages=View([m._placed(n, None) for n, m in enumerate(messages)]))


def store_of(*held, store=None):
    store = MemoryStore() if store is None else store
    for one in held:
        store.write(Commit(one, (), None))
    return store


def all_of(store):
    return {key: facts(store.load(key)) for key in list(store.keys())}


def three():
    return store_of(*[session(key, "x", key) for key in "abc"])


def tree(path):
    """The bytes and the state of all files in a directory."""
    return {
        name: (os.stat(path / name).st_mtime_ns, os.stat(path / name).st_mode, (path / name).read_bytes())
        for name in sorted(os.listdir(path))
    }


# Equal in everything


@pytest.mark.long
@examples(7)
@given(st.lists(sessions(), max_size=4, unique_by=lambda one: one.key))
def test_a_copy_from_store_to_store_and_back_is_the_same_in_everything(tmp_path_factory, held):
    source, back = store_of(*held), MemoryStore()
    path = tmp_path_factory.mktemp("chats")
    report = CopyReport(copied=tuple(sorted(one.key for one in held)))
    snapshot, log, sqlite = (f"{kind}:{path / kind}" for kind in ("snapshot", "log", "sqlite"))
    for one, other in ((source, snapshot), (snapshot, log), (log, sqlite), (sqlite, back)):
        assert copy(one, other) == report
        assert report.ok
    assert all_of(back) == all_of(source) == {one.key: facts(one) for one in held}
    again = copy(source, back)
    assert again == CopyReport(present=report.copied)
    assert again.ok


def test_a_session_goes_on_in_the_target_where_it_was(tmp_path):
    with SessionManager(tmp_path / "source") as m:
        m.add_message("k", "user", "one", ref="r", metadata={"n": 1})
        m.save("k")
        m.set_summary("k", "s")
        m.update_metadata("k", {"lang": "de"})
        m.remove_last("k")
        m.add_message("k", "user", "two")
        m.save("k")
        before = m.get("k")
    copy(tmp_path / "source", f"snapshot:{tmp_path / 'target'}")
    with SessionManager(tmp_path / "target") as m:
        assert m.get("k") == before
        assert m.add_message("k", "user", "three").position == 2
        m.save("k")
        assert m.get("k").revision == before.revision + 1


def test_one_session_at_a_time_is_in_ram():
    """The traceback of what was damaged in the target held on to the source's session."""
    made, most = [], 0

    class Many(MemoryStore):
        """Makes each session when it is asked for."""

        def keys(self, prefix=""):
            return (f"k:{number}" for number in range(100))

        def load(self, key):
            nonlocal most
            one = session(key, "x" * 1000)
            made.append(weakref.ref(one))
            most = max(most, sum(reference() is not None for reference in made))
            return one

    class Forgetting(MemoryStore):
        """Keeps the last one only."""

        def write(self, commit):
            self._sessions.clear()
            super().write(commit)

    class Damaged(MemoryStore):
        def load(self, key):
            raise CorruptSessionError(key, "p", 0, "is damaged")

    for target in (Forgetting(), Damaged()):
        report = copy(Many(), target)
        assert len(report.copied) + len(report.damaged) == 100
        gc.collect()
    assert most <= 3


# Again and again


class InterruptedCopyError(Exception):
    """Raised in the middle of a copy."""


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_copy_interrupted_by_its_progress_goes_on_where_it_was(tmp_path, number):
    source = three()

    def progress(done, total, key):
        if done == number:
            raise InterruptedCopyError

    with pytest.raises(InterruptedCopyError):
        copy(source, tmp_path / "target", progress=progress)
    report = copy(source, tmp_path / "target")
    assert report == CopyReport(present=tuple("abc"[:number]), copied=tuple("abc"[number:]))
    assert copy(source, tmp_path / "target") == CopyReport(present=("a", "b", "c"))


class Breaking(MemoryStore):
    """Raises in its n-th operation, before or after it was done."""

    def __init__(self, number, error, *, after):
        super().__init__()
        self.left, self.error, self.after = number, error, after

    def operate(self, operation, *arguments):
        self.left -= 1
        if self.left == 0 and not self.after:
            raise self.error
        result = operation(*arguments)
        if self.left == 0:
            raise self.error
        return result

    def load(self, key):
        return self.operate(super().load, key)

    def write(self, commit):
        return self.operate(super().write, commit)


@pytest.mark.parametrize(
    "error", [InterruptedCopyError(), StorageError("p", "broken"), SaveOutcomeUnknownError("a", "?")]
)
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("number", range(1, 10))
def test_a_copy_interrupted_by_its_target_at_any_point_goes_on(number, after, error):
    source, target = three(), Breaking(number, error, after=after)
    before = all_of(source)
    with pytest.raises(type(error)) as raised:
        copy(source, target)
    assert raised.value is error
    report = copy(source, target)
    assert report.ok
    assert sorted((*report.copied, *report.present)) == ["a", "b", "c"]
    assert all_of(target) == all_of(source) == before


def test_a_copy_goes_on_when_the_source_has_got_more():
    source, target = three(), MemoryStore()
    copy(source, target)
    store_of(session("d", "x"), store=source)
    assert copy(source, target) == CopyReport(present=("a", "b", "c"), copied=("d",))


# What is there is not touched


@pytest.mark.parametrize(
    "other",
    [
        session("b", "x", "b", revision=4),
        session("b", "x", "b", generation="other"),
        session("b", "x"),
        session("b", "x", "other"),
        attrs.evolve(session("b", "x", "b"), summary="s"),
        attrs.evolve(session("b", "x", "b"), metadata={"n": 1}),
        attrs.evolve(session("b", "x", "b"), refs=("r",)),
        attrs.evolve(session("b", "x", "b"), end=7),
        attrs.evolve(session("b", "x", "b"), updated=AT.replace(year=2027)),
        noted(session("b", "x", "b"), {"read": True}),
    ],
)
def test_another_state_in_the_target_is_reported_and_left(other):
    source, target = three(), store_of(other, session("more", "y"))
    report = copy(source, target)
    assert report == CopyReport(copied=("a", "c"), different=("b",))
    assert not report.ok
    assert facts(target.load("b")) == facts(other)
    assert facts(target.load("more")) == facts(session("more", "y"))


def archived(*contents):
    """Return a store with a session of one message, behind archived ones."""
    gone = [Message("user", text, created_at=AT)._placed(n, None) for n, text in enumerate(contents)]
    last = Message("user", "last", created_at=AT)._placed(5, None)
    store = MemoryStore()
    one = attrs.evolve(session("k"), messages=View([last]), end=6)
    store.write(Commit(one, (), None, archived=tuple((message.position, message) for message in gone)))
    return store


@pytest.mark.parametrize("theirs", [[], ["a"], ["a", "other"], ["a", "b", "c"]])
def test_another_archive_in_the_target_is_reported_and_left(theirs):
    source, target = archived("a", "b"), archived(*theirs)
    assert copy(source, target).different == ("k",)
    assert [message.content for message in target.archive("k")] == theirs
    assert copy(source, archived("a", "b")).present == ("k",)


def test_a_target_that_keeps_no_archive_is_found_out():
    class Lossy(MemoryStore):
        def write(self, commit):
            super().write(attrs.evolve(commit, archived=()))

    assert copy(archived("a"), Lossy()).different == ("k",)


def test_true_and_1_are_different():
    one, other = (
        attrs.evolve(session("k"), messages=View([message._placed(0, None)]), end=1)
        for message in (Message("user", [True], created_at=AT), Message("user", [1], created_at=AT))
    )
    assert copy(store_of(one), store_of(other)).different == ("k",)
    assert copy(
        store_of(attrs.evolve(session("k"), metadata={"n": 1})),
        store_of(attrs.evolve(session("k"), metadata={"n": 1.0})),
    ).different == ("k",)


@pytest.mark.parametrize("where", ["source", "target"])
@pytest.mark.parametrize("data", [b"", CANARY.encode(), b'{"format":"session_manager/2"}\n'])
def test_what_cannot_be_read_is_reported_and_left_on_both_sides(tmp_path, where, data):
    copy(three(), tmp_path / "chats")
    damaged = tmp_path / "chats" / "b.session.json"
    damaged.write_bytes(data)
    before = damaged.read_bytes()
    source, target = (tmp_path / "chats", MemoryStore()) if where == "source" else (three(), tmp_path / "chats")
    report = copy(source, target)
    assert list(report.damaged) == ["b"]
    assert isinstance(report.damaged["b"], UnsupportedFormatError if b"format" in data else CorruptSessionError)
    assert (report.copied or report.present, report.ok) == (("a", "c"), False)
    assert damaged.read_bytes() == before
    assert CANARY not in repr(report)
    if where == "source":
        assert sorted(target.keys()) == ["a", "c"]


def test_a_source_is_opened_read_only_beside_its_live_writer(tmp_path):
    with SessionManager(tmp_path / "chats") as writer:
        writer.add_message("k", "user", "saved")
        writer.save("k")
        writer.add_message("k", "user", "unsaved")
        before = tree(tmp_path / "chats")
        target = MemoryStore()
        assert copy(f"snapshot:{tmp_path / 'chats'}", target).copied == ("k",)
        assert [message.content for message in target.load("k").messages] == ["saved"]
        assert tree(tmp_path / "chats") == before
        writer.save("k")
        assert copy(tmp_path / "chats", target).different == ("k",)


def test_a_session_deleted_meanwhile_is_in_no_list():
    class Vanishing(MemoryStore):
        def load(self, key):
            return None if key == "b" else super().load(key)

    seen = []
    source = store_of(*[session(key) for key in "abc"], store=Vanishing())
    assert copy(source, MemoryStore(), progress=lambda done, total, key: seen.append((key, done))) == CopyReport(
        copied=("a", "c")
    )
    assert seen == [("a", 1), ("b", 2), ("c", 3)]


def test_a_session_that_somebody_else_puts_there_meanwhile_is_different():
    class Contested(MemoryStore):
        def write(self, commit):
            if commit.session.key == "b":
                super().write(attrs.evolve(commit, session=session("b", "theirs")))
            super().write(commit)

    target = Contested()
    assert copy(three(), target) == CopyReport(copied=("a", "c"), different=("b",))
    assert facts(target.load("b")) == facts(session("b", "theirs"))


def test_a_target_that_does_not_keep_what_it_is_given_is_found_out():
    class Lossy(MemoryStore):
        def write(self, commit):
            super().write(attrs.evolve(commit, session=attrs.evolve(commit.session, summary="")))

    source = store_of(attrs.evolve(session("k", "x"), summary="s"))
    assert copy(source, Lossy()).different == ("k",)


def test_progress_is_called_after_each_session_with_its_key_and_the_count(tmp_path):
    (tmp_path / "chats").mkdir()
    seen = []
    copy(three(), tmp_path / "chats", progress=lambda *told: seen.append(told))
    assert seen == [(1, 3, "a"), (2, 3, "b"), (3, 3, "c")]
    (tmp_path / "chats" / "b.session.json").write_bytes(b"")
    seen.clear()
    copy(tmp_path / "chats", MemoryStore(), progress=lambda *told: seen.append(told))
    assert seen == [(1, 3, "a"), (2, 3, "b"), (3, 3, "c")]


def test_a_copy_of_a_prefix_leaves_the_others(tmp_path):
    source = store_of(*[session(key, "x") for key in ("a:1", "a:10", "b:1")])
    seen = []
    report = copy(source, tmp_path / "chats", prefix="a:", progress=lambda *told: seen.append(told))
    assert report == CopyReport(copied=("a:1", "a:10"))
    assert seen == [(1, 2, "a:1"), (2, 2, "a:10")]
    with SessionManager(tmp_path / "chats", read_only=True) as m:
        assert list(m) == ["a:1", "a:10"]
    for wrong in ({"prefix": None}, {"progress": 1}):
        with pytest.raises(TypeError, match=next(iter(wrong))):
            copy(source, tmp_path / "other", **wrong)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("how", ["objects", "urls", "a url and the open store"])
def test_a_store_copied_to_itself_has_all_of_it(tmp_path, how):
    copy(three(), tmp_path / "chats")
    with SessionManager(tmp_path / "chats") as m:
        assert len(m) == 3
    if how == "urls":
        report = copy(tmp_path / "chats", tmp_path / "chats")
    else:
        store = SnapshotStore(tmp_path / "chats")
        report = copy(store if how == "objects" else tmp_path / "chats", store)
        assert store.load("a") is not None
        store.close()
    assert report == CopyReport(present=("a", "b", "c"))


# Errors


def test_a_source_that_is_not_there_creates_nothing(tmp_path):
    with pytest.raises(StorageError):
        copy(tmp_path / "missing", tmp_path / "target")
    with pytest.raises(InvalidStorageError):
        copy("nosuch:x", tmp_path / "target")
    assert os.listdir(tmp_path) == []


def test_errors_of_the_target_are_typed_and_what_was_copied_stays(tmp_path):
    class Full(MemoryStore):
        def write(self, commit):
            if commit.session.key == "b":
                raise SaveFailedError("b", "disk full")
            super().write(commit)

    target = Full()
    with pytest.raises(SaveFailedError):
        copy(three(), target)
    assert list(target.keys()) == ["a"]
    with SessionManager(tmp_path / "chats") as m:
        with pytest.raises(StorageLockedError):
            copy(three(), tmp_path / "chats")
        assert list(m) == []
    reader = SnapshotStore(tmp_path / "chats", read_only=True)
    with pytest.raises(ReadOnlyError):
        copy(three(), reader)
    reader.close()
    (tmp_path / "file").write_text("x")
    with pytest.raises(InvalidStorageError):
        copy(three(), f"snapshot:{tmp_path / 'file'}")


def test_stores_that_a_copy_opened_are_closed(tmp_path):
    store = SnapshotStore(tmp_path / "source")
    store_of(session("a", "x"), store=store)
    copy(store, tmp_path / "target")
    assert store.load("a") is not None
    SessionManager(tmp_path / "target").close()

    def interrupt(done, total, key):
        raise InterruptedCopyError

    with pytest.raises(InterruptedCopyError):
        copy(store, tmp_path / "other", progress=interrupt)
    SessionManager(tmp_path / "other").close()
    store.close()


# What a manager says of its storage


def test_one_session_is_verified_and_nothing_else_is_read(tmp_path):
    copy(three(), tmp_path / "chats")
    (tmp_path / "chats" / "b.session.json").write_bytes(b"damaged")
    (tmp_path / "chats" / "UPPER.session.json").write_text("?")
    with SessionManager(tmp_path / "chats") as m:
        assert m.verify("a") == m.verify("missing") == []
        (finding,) = m.verify("b")
        assert (finding.key, finding.path) == ("b", str(tmp_path / "chats" / "b.session.json"))
        assert [one.key for one in m.verify()] == ["b", None]
        assert m.health().resident == 0
        with pytest.raises(ValueError, match="key"):
            m.verify("")


def failing_delete(m, monkeypatch):
    def refuse(self, name):
        raise OSError(5, "injected")

    with monkeypatch.context() as patch:
        patch.setattr(Files, "unlink", refuse)
        with pytest.raises(SaveFailedError):
            m.delete("k")


@pytest.mark.parametrize(
    "look",
    [
        lambda m, _: m.verify("k"),
        lambda m, _: m.verify(),
        lambda m, _: m.compact("k"),
        lambda m, _: m.list_sessions(),
        lambda m, _: "k" in m,
        lambda m, _: m.search("theirs"),
        lambda m, _: m.search("theirs", key="k"),
        lambda m, _: m.expire(timedelta(days=1)),
        failing_delete,
    ],
    ids=["verify", "verify all", "compact", "list", "in", "search", "search one", "expire", "failing delete"],
)
@pytest.mark.parametrize("kind", [SnapshotStore, LogStore])
def test_a_save_notices_a_file_rewritten_by_another_program(tmp_path, monkeypatch, kind, look):
    """What was only checked, compacted, or not deleted counted as read: the next save went over it, or was added to it."""
    name = "k.session.json" if kind is SnapshotStore else "k.session.jsonl"
    with closing(kind(tmp_path / "chats")) as store, SessionManager(store, clock=lambda: AT) as m:
        m.add_message("k", "user", "mine")
        m.save("k")
        mine = m.get("k")
        other = kind(tmp_path / "other")
        message = Message("user", "theirs", created_at=AT)._placed(0, None)
        store_of(attrs.evolve(mine, messages=View([message])), store=other)
        other.close()
        (tmp_path / "chats" / name).write_bytes((tmp_path / "other" / name).read_bytes())
        m.add_message("k", "user", "next")
        look(m, monkeypatch)
        assert m.save("k") is True
        assert [message.content for message in m.get_history("k")] == ["theirs", "next"]
        m.reload("k")
        assert [message.content for message in m.get_history("k")] == ["theirs", "next"]


def test_health_shows_what_a_store_has_mended():
    class Mended(MemoryStore):
        def repairs(self):
            return [Finding("k", "chats/k.session.jsonl", 42, "a torn record was cut")]

    with SessionManager(Mended()) as m:
        assert m.health().repairs == (Finding("k", "chats/k.session.jsonl", 42, "a torn record was cut"),)
        assert m.health().ok
    for storage in ([], [MemoryStore()]):
        with SessionManager(*storage) as m:
            assert m.health().repairs == ()
