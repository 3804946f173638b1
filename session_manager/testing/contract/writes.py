"""Writes: what is based on what, and that each kind of change is read back exactly."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import Any

import attrs
import pytest
from hypothesis import strategies as st

from session_manager.errors import ConflictError
from session_manager.model.changes import (
    Append,
    Change,
    Clear,
    Edit,
    Remove,
    Replace,
    SetSummary,
    Summarize,
    Truncate,
    UpdateMetadata,
    digest,
)
from session_manager.model.message import ITEM_TYPE, Item, Message
from session_manager.model.session import MAX_REFS, Session, Version
from session_manager.stores.contract import Commit, Store
from session_manager.testing.contract.base import (
    ContractBase,
    Storage,
    check_holds,
    check_holds_none,
    check_same,
    for_all,
)
from session_manager.testing.contract.chats import EPOCH, KEY, Chat, Step, said, steps
from session_manager.testing.strategies import NASTY_FLOATS, NASTY_INTS, NASTY_TEXTS, sessions

__all__ = ["WriteContract"]

_AT = EPOCH + timedelta(minutes=1)
_ONE = said("one", ref="tg:1")

#: One change of each kind, and of what each can leave out, for a session with messages at positions 0 to 5.
_CHANGES: dict[str, Callable[[Session], Change]] = {
    "Append": lambda _: Append(at=_AT, messages=(_ONE, said("two"))),
    "Append with a turn": lambda _: Append(at=_AT, messages=(_ONE,), turn="update-1"),
    "Append of a turn without messages": lambda _: Append(at=_AT, turn="update-1"),
    "Append with a guard": lambda session: Append(at=_AT, messages=(_ONE,), guard=session.generation),
    "Truncate": lambda _: Truncate(at=_AT, start=4),
    "Truncate all": lambda _: Truncate(at=_AT, start=6),
    "Truncate with spare": lambda _: Truncate(at=_AT, start=5, spare=(2, 4)),
    "Remove the last": lambda _: Remove(at=_AT, position=5),
    "Remove the first": lambda _: Remove(at=_AT, position=0),
    "Remove from the middle": lambda _: Remove(at=_AT, position=3),
    "Edit": lambda _: Edit(at=_AT, position=3, message=_ONE),
    "Edit that keeps the ref": lambda _: Edit(at=_AT, position=1, message=said("new")),
    "Replace": lambda _: Replace(at=_AT, messages=(_ONE,)),
    "Replace by nothing": lambda _: Replace(at=_AT),
    "Replace with spare": lambda _: Replace(at=_AT, messages=(_ONE,), spare=(4, 6)),
    "Clear": lambda _: Clear(at=_AT, generation="another"),
    "Clear with spare": lambda _: Clear(at=_AT, generation="another", spare=(4, 6)),
    "Summarize": lambda session: Summarize(at=_AT, summary="so far", start=0, stop=4, digest=digest(session, 0, 4)),
    "Summarize from the middle": lambda session: Summarize(
        at=_AT, summary="", start=2, stop=4, digest=digest(session, 2, 4)
    ),
    "SetSummary": lambda _: SetSummary(at=_AT, text="so far"),
    "SetSummary to nothing": lambda _: SetSummary(at=_AT, text=""),
    "UpdateMetadata": lambda _: UpdateMetadata(at=_AT, items={"b": [1.0, True, None]}),
    "UpdateMetadata with an expiry": lambda _: UpdateMetadata(at=_AT, expires_after=timedelta(days=90)),
    "UpdateMetadata without an expiry": lambda _: UpdateMetadata(at=_AT, expires_after=None),
    "UpdateMetadata that removes": lambda _: UpdateMetadata(at=_AT, items={}, removed=("a",)),
}


def _six(store: Store) -> Chat:
    """Write a session of six messages, with a summary, metadata and a turn."""
    chat = Chat().add("0").did(Append(at=EPOCH, messages=(said("1", ref="tg:0"), said("2")), turn="update-0"))
    chat.add("3", "4", "5").did(SetSummary(at=EPOCH, text="before"), UpdateMetadata(at=EPOCH, items={"a": 1, "c": {}}))
    chat.did(UpdateMetadata(at=EPOCH, expires_after=timedelta(seconds=1.5)))
    chat.write(store)
    return chat


def _nasty(number: int, value: object) -> Message:
    text = value if isinstance(value, str) else str(number)
    given = {"role": "user", "content": text, "value": value, f"key {text}": [value, {text: value}]}
    return Message.from_dict(given, created_at=EPOCH, metadata={text: value}, ref=text or None)


class WriteContract(ContractBase):
    """`Store.write`, `write_many`, and what `load` and `describe` then return."""

    def test_a_session_that_was_never_written_is_not_there(self, store: Store) -> None:
        check_holds_none(store, KEY)
        assert list(store.keys()) == []
        assert store.delete(KEY) is False

    def test_a_new_session_is_there_once_it_is_written(self, storage: Storage) -> None:
        session = Chat().add("hello", "world").write(storage.store)
        assert session.version == Version("generation", 1)
        check_holds(storage.store, session)
        check_holds(storage.reopen(), session)

    def test_a_session_without_messages_is_a_session(self, storage: Storage) -> None:
        session = Chat().write(storage.store)
        check_holds(storage.store, session)
        check_holds(storage.reopen(), session)

    def test_a_write_takes_the_place_of_the_version_that_it_is_based_on(self, storage: Storage) -> None:
        chat = Chat()
        for number in range(5):
            session = chat.add(f"{number}").write(storage.store)
            assert session.revision == number + 1
            check_holds(storage.store, session)
        check_holds(storage.reopen(), session)
        check_holds(storage.store, chat.add("after it was opened again").write(storage.store))

    def test_a_picture_stays_what_it_was(self, store: Store) -> None:
        chat = Chat()
        first = chat.add("a").write(store)
        picture = store.load(KEY)
        chat.add("b").step(lambda _, at: Edit(at=at, position=0, message=said("c"))).write(store)
        check_same(picture, first)

    @pytest.mark.parametrize("revision", [1, 2, 7, 2**40])
    def test_a_session_is_written_whole_at_any_revision(self, storage: Storage, revision: int) -> None:
        whole = attrs.evolve(_six(storage.store).session, key="copy", generation="copied", revision=revision)
        storage.store.write(Commit(whole, (), None, token="copy"))
        check_holds(storage.store, whole)
        check_holds(storage.reopen(), whole)
        more = Chat("copy", "copied")
        more.entry = more.entry.of(whole)
        check_holds(storage.store, more.add("more").write(storage.store))
        assert storage.store.version("copy") == Version("copied", revision + 1)

    def test_a_write_does_not_need_the_picture_before(self, storage: Storage) -> None:
        chat = _six(storage.store)
        for _ in range(3):
            commit = attrs.evolve(chat.add("more").commit(), before=None)
            storage.reopen().write(commit)
            check_holds(storage.store, chat.written(commit))

    @pytest.mark.parametrize("kind", _CHANGES)
    def test_each_kind_of_change_is_read_back_exactly(self, storage: Storage, kind: str) -> None:
        chat = _six(storage.store)
        commit = chat.did(_CHANGES[kind](chat.session)).commit()
        assert commit.changes, "the change has an effect"
        storage.store.write(commit)
        session = chat.written(commit)
        check_holds(storage.store, session)
        check_holds(storage.reopen(), session)
        check_holds(storage.store, chat.add("more").write(storage.store))

    def test_changes_of_every_kind_are_read_back_from_one_write(self, storage: Storage) -> None:
        chat = _six(storage.store)
        for make in _CHANGES.values():
            chat.did(make(chat.session)).add("between", "them")
        session = chat.write(storage.store)
        check_holds(storage.store, session)
        check_holds(storage.reopen(), session)

    def test_any_chain_of_writes_is_read_back_exactly(self, storage: Storage) -> None:
        def check(first: Session | None, chain: list[list[Step]], known: bool) -> None:  # noqa: FBT001 - drawn
            chat = Chat()
            storage.store.delete(KEY)
            if first is not None:
                whole = attrs.evolve(first, key=KEY)
                storage.store.write(Commit(whole, (), None, token="whole"))
                chat.entry = chat.entry.of(whole)
            for some in chain:
                commit = chat.step(*some).commit()
                storage.store.write(commit if known else attrs.evolve(commit, before=None))
                check_holds(storage.store, chat.written(commit))
            check_same(storage.reopen().load(KEY), chat.entry.durable if chat.entry.durable.revision else None)

        for_all(check, st.none() | sessions(), st.lists(st.lists(steps(), max_size=4), max_size=4), st.booleans())

    def test_any_session_is_kept_exactly(self, storage: Storage) -> None:
        def check(session: Session) -> None:
            storage.store.delete(session.key)
            storage.store.write(Commit(session, (), None, token="whole"))
            check_holds(storage.store, session)
            check_same(storage.reopen().load(session.key), session)

        for_all(check, sessions())

    def test_nasty_values_are_kept_exactly(self, storage: Storage) -> None:
        chat = Chat()
        values: list[object] = [*NASTY_TEXTS, *NASTY_INTS, *NASTY_FLOATS, None, True, False, [], {}, [[]], [{}]]
        nasty = tuple(_nasty(number, value) for number, value in enumerate(values))
        chat.did(Append(at=_AT, messages=nasty), UpdateMetadata(at=_AT, items={"values": values}))
        for text in NASTY_TEXTS:
            chat.did(Append(at=_AT, messages=(said(text),), turn=text or None))
            chat.did(SetSummary(at=_AT, text=text), UpdateMetadata(at=_AT, items={text: text}))
            chat.write(storage.store)
            found = storage.store.load(KEY)
            assert found is not None
            assert found.summary == text
        check_holds(storage.store, chat.session)
        check_holds(storage.reopen(), chat.session)

    def test_a_role_or_type_may_be_any_text(self, storage: Storage) -> None:
        given = [{field: text} for text in NASTY_TEXTS if text for field in ("role", "type")]
        chat = Chat().did(Append(at=_AT, messages=tuple(Message.from_dict(one, created_at=EPOCH) for one in given)))
        session = chat.write(storage.store)
        check_holds(storage.store, session)
        check_holds(storage.reopen(), session)

    def test_an_item_is_kept_as_one(self, storage: Storage) -> None:
        """`Message.to_dict` gives an item's own object: by that alone, it is taken for a message, or for damage."""
        given: tuple[dict[str, Any], ...] = (
            {"role": "user", "content": "x"},
            {"type": "x"},
            {"event": "vote", "at": None},
            {},
        )
        items = [Item(one, created_at=EPOCH) for one in (*given, {"type": ITEM_TYPE, "item": {}})]
        chat = Chat().did(Append(at=_AT, messages=tuple(items)))
        session = chat.write(storage.store)
        check_holds(storage.store, session)
        check_holds(storage.reopen(), session)
        chat.did(Edit(at=_AT, position=0, message=items[2]), Edit(at=_AT, position=2, message=said("hi")))
        check_holds(storage.store, chat.write(storage.store))
        check_holds(storage.reopen(), chat.session)

    def test_times_are_kept_to_the_microsecond_from_the_first_year_to_the_last(self, storage: Storage) -> None:
        first = datetime.min.replace(tzinfo=timezone.utc)
        last = datetime.max.replace(tzinfo=timezone.utc)
        micro = timedelta(microseconds=1)
        times = [first, first + micro, EPOCH, EPOCH - micro, EPOCH + 999_999 * micro, last - micro, last]
        for number, time in enumerate(times):
            messages = tuple(Message("user", "", created_at=one)._placed(at, None) for at, one in enumerate(times))
            session = Session(
                key=f"{number}",
                generation="g",
                created=time,
                updated=time,
                messages=messages,
                end=len(times),
                revision=1,
            )
            storage.store.write(Commit(session, (), None, token=f"{number}"))
            check_holds(storage.store, session)
            check_same(storage.reopen().load(session.key), session)

    def test_a_long_history_is_kept(self, storage: Storage) -> None:
        chat = Chat().add(*(f"message {number} " + "x" * (number % 300) for number in range(2000)))
        chat.write(storage.store)
        check_holds(storage.store, chat.add("one more").write(storage.store))
        chat.step(lambda session, at: Truncate(at=at, start=session.end - 10)).write(storage.store)
        check_holds(storage.reopen(), chat.session)

    def test_a_large_message_is_kept(self, storage: Storage) -> None:
        session = Chat().add("\u2028" * 300_000, "x" * 3_000_000, "after").write(storage.store)
        check_holds(storage.store, session)
        check_holds(storage.reopen(), session)

    def test_as_many_answered_deliveries_are_kept_as_a_session_has(self, storage: Storage) -> None:
        chat = Chat()
        for number in range(MAX_REFS + 4):
            chat.did(Append(at=_AT, turn=f"update-{number}"))
            if number % 16 == 0:
                chat.write(storage.store)
        session = chat.write(storage.store)
        assert len(session.refs) == MAX_REFS
        check_holds(storage.reopen(), session)

    # Conflicts

    @pytest.mark.parametrize(
        "base",
        [None, Version("another", 2), Version("generation", 1), Version("generation", 3), Version("", 2)],
        ids=["none while it is there", "another generation", "an older revision", "a newer revision", "no generation"],
    )
    def test_a_write_on_another_base_is_a_conflict_and_changes_nothing(
        self, storage: Storage, base: Version | None
    ) -> None:
        chat = Chat()
        chat.add("a").write(storage.store)
        session = chat.add("b").write(storage.store)
        revision = 1 if base is None else base.revision + 1
        wrong = attrs.evolve(chat.add("c").commit("wrong"), base=base, before=None)
        wrong = attrs.evolve(wrong, session=attrs.evolve(wrong.session, revision=revision))
        for store in storage.now_and_reopened():
            with pytest.raises(ConflictError) as raised:
                store.write(wrong)
            error = raised.value
            assert (error.key, error.expected, error.actual) == (KEY, base, session.version)
            check_holds(store, session)
        check_holds(storage.reopen(), session)
        check_holds(storage.store, chat.write(storage.store))

    def test_a_write_on_a_missing_session_is_a_conflict_and_creates_nothing(self, storage: Storage) -> None:
        chat = Chat().add("a")
        based = attrs.evolve(chat.commit(), base=Version("generation", 1), before=None)
        with pytest.raises(ConflictError) as raised:
            storage.store.write(attrs.evolve(based, session=attrs.evolve(based.session, revision=2)))
        assert (raised.value.expected, raised.value.actual) == (Version("generation", 1), None)
        check_holds_none(storage.store, KEY)
        check_holds_none(storage.reopen(), KEY)

    # Many at once

    def test_many_writes_at_once_tell_of_each_what_it_raised_in_order(self, storage: Storage) -> None:
        chats = [Chat(f"chat:{number}", f"g{number}").add(f"{number}") for number in range(9)]
        chats[4].write(storage.store)
        commits = [chat.commit() for chat in chats]
        commits[4] = attrs.evolve(commits[4], base=None)
        commits[7] = attrs.evolve(commits[7], base=Version("g7", 3))
        errors = storage.store.write_many(commits)
        assert [type(error) for error in errors] == [
            ConflictError if number in (4, 7) else type(None) for number in range(9)
        ]
        for store in storage.now_and_reopened():
            for number, commit in enumerate(commits):
                if number == 7:
                    check_holds_none(store, "chat:7")
                else:
                    check_same(store.load(commit.session.key), chats[4].session if number == 4 else commit.session)

    def test_many_writes_at_once_may_be_none_or_hundreds(self, storage: Storage) -> None:
        assert storage.store.write_many([]) == []
        chats = [Chat(f"chat:{number}").add("a") for number in range(300)]
        commits = [chat.commit() for chat in chats]
        assert storage.store.write_many(commits) == [None] * 300
        for chat, commit in zip(chats, commits, strict=True):
            chat.written(commit)
        again = [chat.add("b").commit() for chat in chats]
        assert storage.store.write_many(again) == [None] * 300
        store = storage.reopen()
        for commit in again:
            check_same(store.load(commit.session.key), commit.session)

    # Threads

    def test_calls_for_different_keys_may_run_at_once(self, storage: Storage) -> None:
        store = storage.store
        chats = [Chat(f"chat:{number}", f"g{number}") for number in range(6)]
        start = threading.Barrier(len(chats) + 1)

        def work(chat: Chat) -> None:
            start.wait()
            for number in range(12):
                session = chat.add(f"{number}").write(store)
                check_holds(store, session)
                assert store.search(f"{number}", key=chat.key)
                if number == 6:
                    assert store.delete(chat.key, session.version)
                    chat.entry = Chat(chat.key, f"{chat.generation}-again").entry

        with ThreadPoolExecutor(len(chats)) as threads:
            running = [threads.submit(work, chat) for chat in chats]
            start.wait()
            while not all(one.done() for one in running):
                assert set(store.keys()) <= {chat.key for chat in chats}
            for one in running:
                one.result()
        for opened in storage.now_and_reopened():
            for chat in chats:
                check_holds(opened, chat.session)
