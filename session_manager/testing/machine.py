"""A state machine that drives a manager by all of its calls, against the fold of `session_manager.model.changes.apply`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from session_manager.history.cuts import behind_reasoning
from session_manager.model.changes import (
    Append,
    Clear,
    Edit,
    Remove,
    Replace,
    SetSummary,
    Truncate,
    UpdateMetadata,
)
from session_manager.model.message import Message
from session_manager.testing.comparison import difference, message_difference
from session_manager.testing.known import known_key, some_key
from session_manager.testing.machine_storage import StorageMachine
from session_manager.testing.strategies import json_objects, message_objects, nasty_text, refs

__all__ = ["SessionMachine", "known_key", "some_key"]

_keys = some_key()
_known_keys = known_key()
_objects = message_objects()
_prefixes = st.sampled_from(["", "telegram", "caf", "x"])
_queries = st.one_of(st.sampled_from(["a", "x", " ", "\u6f22", "12:00"]), nasty_text(min_size=1, max_size=3))
_meanwhile = st.lists(st.sampled_from(["add", "save", "clear", "delete"]), max_size=4)
_contents = st.one_of(nasty_text(), st.just("x" * 10_000), st.none())


def _position_in(messages: list[Message], where: int | str | None) -> int | None:
    """Return the position that is meant: of several messages of a ref, the last one's."""
    if not isinstance(where, str):
        return where
    return next(one.position for one in reversed(messages) if one.ref == where)


class SessionMachine(StorageMachine):
    """Makes calls in any order, and compares what the manager shows with what they mean.

    Inherit from it, and say which store is to be driven by `open_store`, or which manager by `open`; then
    run its ``TestCase``. Each is called again after the last manager and its store were closed, and must find what was saved.
    The rule `crash_and_reopen` closes them in the middle of unsaved changes. ::

        class MyMachine(SessionMachine):
            def __init__(self):
                super().__init__()
                self.path = tempfile.mkdtemp()

            def open_store(self):
                return MyStore(self.path)

        TestMyStore = MyMachine.TestCase

    With ``archive = True`` its manager keeps what is truncated, and the archives are compared as well.
    A rule of your own may call `manager`, and tells the model by `did` what its calls mean; a key is drawn by
    `some_key`. A rule that is not wanted is switched off by a class attribute: ``fork = None``.
    """

    # Time

    @rule(seconds=st.integers(-3, 10))
    def time_passes(self, seconds: int) -> None:
        """Set the clock."""
        self.clock.set(self.clock() + timedelta(seconds=seconds))

    # Calls that change what is in RAM

    @initialize(texts=st.lists(nasty_text(), min_size=1, max_size=6), count=st.integers(0, 3))
    def conversations(self, texts: list[str], count: int) -> None:
        """Begin with some sessions that are stored."""
        for key in self.session_keys[:count]:
            self._converse(key, texts)
            self.manager.save(key)
            self.known[key].saved()

    @rule(key=_keys, texts=st.lists(nasty_text(), min_size=1, max_size=6))
    def converse(self, key: str, texts: list[str]) -> None:
        """Call `SessionManager.add_message` several times."""
        self._converse(key, texts)

    def _converse(self, key: str, texts: list[str]) -> None:
        for text in texts:
            self._add_message(key, text, None)

    @rule(key=_keys)
    def get_or_create(self, key: str) -> None:
        """Call `SessionManager.get_or_create`."""
        shown = self.manager.get_or_create(key)
        assert difference(shown, self.expected(key, create=True).session) == ""

    @rule(key=_keys, content=_contents, ref=st.none() | refs())
    def add_message(self, key: str, content: str | None, ref: str | None) -> None:
        """Call `SessionManager.add_message`."""
        self._add_message(key, content, ref)

    def _add_message(self, key: str, content: str | None, ref: str | None) -> None:
        stored = self.manager.add_message(key, "user", content, ref=ref)
        message = Message("user", content, created_at=self.clock(), ref=ref)
        self.did(key, Append(at=self.clock(), messages=(message,)))
        assert message_difference(stored, self.expected(key).messages[-1]) == ""

    @rule(key=_keys, values=st.lists(_objects, max_size=4), metadata=json_objects())
    def add(self, key: str, values: list[dict[str, Any]], metadata: dict[str, Any]) -> None:
        """Call `SessionManager.add`."""
        given = [Message.from_dict(value, created_at=self.clock(), metadata=metadata) for value in values]
        stored = self.manager.add(key, *given)
        self.did(key, Append(at=self.clock(), messages=tuple(given)))
        after = self.expected(key).messages
        assert len(stored) == len(given)
        assert not any(map(message_difference, stored, after[len(after) - len(given) :]))

    @rule(key=_known_keys | _keys, number=st.integers(0, 9), names=st.lists(refs(), max_size=2))
    def add_if_absent(self, key: str, number: int, names: list[str]) -> None:
        """Call `SessionManager.add` with refs that may be there: in the history, in the archive, or twice in the call."""
        known = self.known.get(key)
        there = [] if known is None else [one for one in (*known.archive.values(), *known.messages) if one.ref]
        wanted = [*names, *(one.ref for one in there[number : number + 2] if one.ref), *names[:1]]
        given = [Message("user", name, created_at=self.clock(), ref=name) for name in wanted]
        stored = self.manager.add(key, *given, if_absent=True)
        found = {one.ref for one in there}
        new = {one.ref: one for one in reversed(given) if one.ref not in found}
        self.did(key, Append(at=self.clock(), messages=tuple(one for one in given if new.get(one.ref) is one)))
        shown = {one.ref: one for one in (*self.expected(key).archive.values(), *self.expected(key).messages)}
        assert [one.ref for one in stored] == wanted
        assert not any(message_difference(one, shown[one.ref]) for one in stored)

    @rule(key=_known_keys, text=nasty_text())
    def set_summary(self, key: str, text: str) -> None:
        """Call `SessionManager.set_summary`."""
        assert self.manager.set_summary(key, text) == (key in self.known)
        if key in self.known:
            self.did(key, SetSummary(at=self.clock(), text=text))

    @rule(key=_known_keys, values=st.lists(_objects, max_size=3))
    def set_history(self, key: str, values: list[dict[str, Any]]) -> None:
        """Call `SessionManager.set_history`."""
        assert self.manager.set_history(key, values) == (key in self.known)
        if key in self.known:
            new = tuple(Message.from_dict(value, created_at=self.clock()) for value in values)
            self.did(key, Replace(at=self.clock(), messages=new))

    @rule(key=_known_keys, keep_last=st.integers(0, 6))
    def truncate_history(self, key: str, keep_last: int) -> None:
        """Call `SessionManager.truncate_history`. A reasoning item stays with what it led to."""
        known = self.expected(key)
        messages = known.messages
        dropped = behind_reasoning(messages, max(0, len(messages) - keep_last))
        assert self.manager.truncate_history(key, keep_last) == dropped
        if dropped:
            start = messages[dropped].position if dropped < len(messages) else known.session.end
            assert start is not None
            self.did(key, Truncate(at=self.clock(), start=start))

    @rule(key=_known_keys)
    def remove_last(self, key: str) -> None:
        """Call `SessionManager.remove_last`."""
        known = self.expected(key)
        last = known.messages[-1] if known.messages else None
        removed = self.manager.remove_last(key)
        if last is None or last.position is None:
            assert removed is None
        else:
            assert removed is not None
            assert message_difference(removed, last) == ""
            known.did(Remove(at=self.clock(), position=last.position))

    @rule(key=_known_keys, value=_objects)
    def update_last(self, key: str, value: dict[str, Any]) -> None:
        """Call `SessionManager.update_last`."""
        messages = self.expected(key).messages
        assert self.manager.update_last(key, value) == bool(messages)
        self._edited(key, messages[-1] if messages else None, value)

    @rule(key=_known_keys, value=_objects, data=st.data())
    def update_message(self, key: str, value: dict[str, Any], data: st.DataObject) -> None:
        """Call `SessionManager.update_message`."""
        messages = self.expected(key).messages
        wheres: list[int | str] = [10**6, "no such ref"]
        wheres += [where for one in messages for where in (one.position, one.ref) if where is not None]
        where = data.draw(st.sampled_from(wheres), label="where")
        target = next((one for one in reversed(messages) if where in (one.position, one.ref)), None)
        assert self.manager.update_message(key, where, value) == (target is not None)
        self._edited(key, target, value)

    def _edited(self, key: str, target: Message | None, value: dict[str, Any]) -> None:
        if target is not None and target.position is not None:
            message = Message.from_dict(value, created_at=target.created_at, metadata=target.metadata, ref=target.ref)
            self.did(key, Edit(at=self.clock(), position=target.position, message=message))

    @rule(key=_known_keys, items=json_objects(), removed=st.lists(st.sampled_from(["a", "type", "text"]), max_size=2))
    def update_metadata(self, key: str, items: dict[str, Any], removed: list[str]) -> None:
        """Call `SessionManager.update_metadata`."""
        assert self.manager.update_metadata(key, items, removed) == (key in self.known)
        if key in self.known:
            self.did(key, UpdateMetadata(at=self.clock(), items=items, removed=tuple(removed)))

    @rule(key=_known_keys, after=st.none() | st.timedeltas(timedelta(microseconds=1), timedelta(seconds=20)))
    def set_expiry(self, key: str, after: timedelta | None) -> None:
        """Call `SessionManager.set_expiry`."""
        assert self.manager.set_expiry(key, after) == (key in self.known)
        if key in self.known:
            self.did(key, UpdateMetadata(at=self.clock(), expires_after=after))

    @rule(key=_known_keys, ref=st.none() | refs())
    def clear(self, key: str, ref: str | None = None) -> None:
        """Call `SessionManager.clear`."""
        known = self.known.get(key)
        if known is not None and ref in known.session.refs:
            assert self.manager.clear(key, ref=ref) == 0
            return
        assert self.manager.clear(key, ref=ref) == len(self.expected(key).messages)
        if known is None and ref is not None:
            self.did(key, Append(at=self.clock(), turn=ref))
        elif key in self.known:
            shown = self.manager.get(key)
            assert shown is not None
            self.did(key, Clear(at=self.clock(), generation=self._new_generation(shown.generation)))
            if ref is not None:
                self.did(key, Append(at=self.clock(), turn=ref))

    # Turns

    @rule(key=_known_keys, ref=st.none() | refs(), meanwhile=_meanwhile, texts=st.lists(nasty_text(), max_size=2))
    def turn(self, key: str, ref: str | None, meanwhile: list[str], texts: list[str]) -> None:
        """Take a `SessionManager.turn`, and make other calls meanwhile: a session that they reset stays so."""
        known = self.known.get(key)
        first = known.session.generation if known is not None else None
        answered = known is not None and ref is not None and ref in known.session.refs
        if answered and ref is not None:
            self._settled(key, ref)
        with self.manager.turn(key, ref) as turn:
            assert turn.done == answered
            for text in texts:
                turn.add_message("user", text)
            for call in meanwhile:
                self._call(key, call)
                if first is None and key in self.known:
                    first = self.known[key].session.generation
        is_same = first is None or (key in self.known and self.known[key].session.generation == first)
        assert turn.applied == (is_same and not answered and bool(texts or ref is not None))
        if turn.applied:
            said = tuple(Message("user", text, created_at=self.clock()) for text in texts)
            self.did(key, Append(at=self.clock(), messages=said, turn=ref))
            self.expected(key).saved()

    def _call(self, key: str, call: str) -> None:
        match call:
            case "add":
                self._add_message(key, "meanwhile", None)
            case "save":
                self.manager.save(key)
                self.expected(key).saved()
            case "clear":
                self.clear(key)
            case _:
                self.delete(key)
