"""A state machine that drives a manager by all of its calls, against the fold of `session_manager.model.changes.apply`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from session_manager.errors import SessionExistsError, SessionManagerError, SessionNotFoundError
from session_manager.history.search import best
from session_manager.model.changes import (
    Append,
    Clear,
    Edit,
    Remove,
    Replace,
    SetSummary,
    Truncate,
    UpdateMetadata,
    fold,
)
from session_manager.model.message import Message
from session_manager.model.session import Session
from session_manager.stores.contract import SessionInfo
from session_manager.stores.order import Order, in_order
from session_manager.testing.comparison import difference, message_difference, value_difference
from session_manager.testing.known import Known, known_key, some_key
from session_manager.testing.machine_turns import TurnMachine
from session_manager.testing.strategies import json_objects, message_objects, nasty_text, refs

__all__ = ["SessionMachine", "known_key", "some_key"]

_keys = some_key()
_known_keys = known_key()
_objects = message_objects()
_prefixes = st.sampled_from(["", "telegram", "caf", "x"])
_queries = st.one_of(st.sampled_from(["a", "x", " ", "\u6f22", "12:00"]), nasty_text(min_size=1, max_size=3))
_meanwhile = st.lists(st.sampled_from(["add", "save", "clear", "delete"]), max_size=4)
_contents = st.one_of(nasty_text(), st.just("x" * 10_000), st.none())


def _is_old(session: Session, now: datetime, age: timedelta | None) -> bool:
    """Say whether a session is older than an age, or, without one, than its own expiry."""
    limit = session.expires_after if age is None else age
    return limit is not None and now - (session.last_message_at or session.updated) > limit


def _position_in(messages: list[Message], where: int | str | None) -> int | None:
    """Return the position that is meant: of several messages of a ref, the last one's."""
    if not isinstance(where, str):
        return where
    return next(one.position for one in reversed(messages) if one.ref == where)


class SessionMachine(TurnMachine):
    """Makes calls in any order, and compares what the manager shows with what they mean.

    Inherit from it, and say which store is to be driven by `open_store`, or which manager by `open`; then
    run its ``TestCase``. Each is called again after the last manager and its store were closed (also in the middle of
    unsaved changes, by `crash`), and must find what was saved. ::

        class MyMachine(SessionMachine):
            def __init__(self):
                super().__init__()
                self.path = tempfile.mkdtemp()

            def open_store(self):
                return MyStore(self.path)

        TestMyStore = MyMachine.TestCase

    With ``archive = True`` its manager keeps what is truncated, and the archives are compared, too.
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
        """Call `SessionManager.truncate_history`."""
        known = self.expected(key)
        messages = known.messages
        dropped = max(0, len(messages) - keep_last)
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

    # Calls that reach the store

    @rule(key=_known_keys, ref=st.none() | refs(), meanwhile=_meanwhile, texts=st.lists(nasty_text(), max_size=2))
    def turn(self, key: str, ref: str | None, meanwhile: list[str], texts: list[str]) -> None:
        """Take a `SessionManager.turn`, and make other calls meanwhile: a session that they reset stays so."""
        known = self.known.get(key)
        first = known.session.generation if known is not None else None
        answered = known is not None and ref is not None and ref in known.session.refs
        self._settle_generation(key)
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
        elif ref is not None and not answered:
            self._settle_generation(key)

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

    @rule(key=_known_keys, look=st.booleans())
    def save(self, key: str, look: bool) -> None:  # noqa: FBT001 - drawn
        """Call `SessionManager.save`, which finds nothing to save the second time."""
        known = self.expected(key)
        assert self.manager.save(key) == (key in self.known and known.dirty)
        known.saved()
        assert self.manager.save(key) is False
        if look:
            self._check_stored(key)

    @rule(look=st.booleans())
    def save_all(self, look: bool) -> None:  # noqa: FBT001 - drawn
        """Call `SessionManager.save_all`."""
        assert self.manager.save_all() == sum(known.dirty for known in self.known.values())
        self._all_saved()
        if look:
            self._check_all_stored()

    @rule(key=_known_keys)
    def reload(self, key: str) -> None:
        """Call `SessionManager.reload`."""
        given_up, known = self.manager.reload(key), self.expected(key)
        assert difference(fold(known.durable, given_up), known.session) == ""  # superseded ones may be missing
        self._gave_up(key)

    @rule(key=_keys)
    def delete(self, key: str) -> None:
        """Call `SessionManager.delete`."""
        self._touched.add(key)
        assert self.manager.delete(key) == (key in self.known)
        self.known.pop(key, None)

    @rule(prefix=_keys, dry_run=st.booleans())
    def delete_prefix(self, prefix: str, dry_run: bool) -> None:  # noqa: FBT001 - drawn
        """Call `SessionManager.delete_prefix`."""
        gone = sorted(key for key in self.known if key.startswith(prefix))
        assert self.manager.delete_prefix(prefix, dry_run=dry_run) == gone
        self._touched.update(gone)
        if not dry_run:
            for key in gone:
                del self.known[key]

    @rule(key=_known_keys, new_key=_keys)
    def fork(self, key: str, new_key: str) -> None:
        """Call `SessionManager.fork`."""
        self._touched |= {key, new_key}
        if key not in self.known or new_key in self.known:
            refused = SessionNotFoundError if key not in self.known else SessionExistsError
            assert self._refusal(key, new_key) is refused
            return
        shown = self.manager.fork(key, new_key)
        time = self.clock()
        copy = attrs.evolve(
            self.known[key].session,
            key=new_key,
            generation=self._new_generation(shown.generation),
            created=time,
            updated=time,
            revision=1,
        )
        self.known[new_key] = Known(copy)

    @rule(key=_known_keys, new_key=_keys)
    def rename(self, key: str, new_key: str) -> None:
        """Call `SessionManager.rename`: what is unsaved goes with the session."""
        self._touched |= {key, new_key}
        if key not in self.known or new_key in self.known:
            refused = SessionNotFoundError if key not in self.known else SessionExistsError
            assert self._refusal(key, new_key, self.manager.rename) is refused
            return
        shown = self.manager.rename(key, new_key)
        known = self.known.pop(key)
        known.saved()
        known.durable = attrs.evolve(known.durable, key=new_key)
        self.known[new_key] = known
        assert difference(shown, known.session) == ""

    def _refusal(
        self, key: str, new_key: str, call: Callable[[str, str], object] | None = None
    ) -> type[SessionManagerError] | None:
        try:
            (call or self.manager.fork)(key, new_key)
        except SessionManagerError as error:
            return type(error)
        return None

    @rule(
        age=st.none() | st.timedeltas(timedelta(0), timedelta(seconds=20)),
        key=st.none() | _known_keys,
        prefix=st.just("") | _keys,
        moment=st.booleans(),
    )
    def expire(self, age: timedelta | None, key: str | None, prefix: str, moment: bool) -> None:  # noqa: FBT001 - drawn
        """Call `SessionManager.expire`: a session goes if it is too old both as it is shown and as it is stored."""
        now = self.clock()
        older_than = age if age is None or not moment else now - age
        named = [one for one in self.known if one.startswith(prefix) and key in (None, one)]
        old = {one for one in named if _is_old(self.known[one].session, now, age)}
        gone = {one for one in old if not self._stays_stored(one, now, age)}
        expired = self.manager.expire(older_than, key=key, prefix=prefix, dry_run=True)
        assert expired == sorted(gone)
        assert self.manager.expire(older_than, key=key, prefix=prefix) == sorted(gone)
        for one in gone:
            del self.known[one]
        self._touched |= old

    def _stays_stored(self, key: str, now: datetime, age: timedelta | None) -> bool:
        durable = self.known[key].durable
        return durable.revision > 0 and not _is_old(durable, now, age)

    @rule(text=_queries, key=st.none() | _keys, prefix=_prefixes, limit=st.integers(1, 5))
    def search(self, text: str, key: str | None, prefix: str, limit: int) -> None:
        """Call `SessionManager.search`, in one session and in all."""
        found = self.manager.search(text, key=key, prefix="" if key is not None else prefix, limit=limit)
        keys = [key] if key is not None else [one for one in self.known if one.startswith(prefix)]
        known = [(one, self.known[one]) for one in keys if one in self.known]
        messages = [(one, message) for one, of in known for message in (*of.messages, *of.archive.values())]
        assert found == best(text, messages, limit)

    @rule(key=_known_keys)
    def compact(self, key: str) -> None:
        """Call `SessionManager.compact`, which changes nothing that is to be seen, nor what is stored."""
        self.manager.compact(key)
        self._touched.add(key)
        self._check_stored(key)

    @rule()
    def verify(self) -> None:
        """Call `SessionManager.verify`, which finds nothing wrong."""
        assert self.manager.verify() == []

    @rule(look=st.booleans())
    def reopen(self, look: bool) -> None:  # noqa: FBT001 - drawn
        """Close the manager, which saves everything, and open the storage again."""
        self.manager.close()
        self._all_saved()
        self._opened_again(look=look)

    @rule(look=st.booleans())
    def crash_and_reopen(self, look: bool) -> None:  # noqa: FBT001 - drawn
        """Lose what is not saved, and open the storage again."""
        for key in list(self.known):
            self._gave_up(key)
        self._opened_again(look=look)

    @rule(prefix=_prefixes, order=st.sampled_from(["recent", "key"]), size=st.integers(1, 5), data=st.data())
    def list_sessions(self, prefix: str, order: Order, size: int, data: st.DataObject) -> None:
        """Call `SessionManager.list_sessions`: as a whole, by pages, and by metadata."""
        described = [SessionInfo.of(known.session) for key, known in self.known.items() if key.startswith(prefix)]
        expected = in_order(described, order)
        assert self.manager.list_sessions(prefix, order=order) == expected
        pages: list[SessionInfo] = []
        after = None
        while page := self.manager.list_sessions(prefix, order=order, limit=size, after=after):
            pages += page
            after = page[-1]
        assert pages == expected
        items = [{key: value} for info in expected for key, value in info.metadata.items()]
        where: dict[str, Any] = data.draw(st.sampled_from([{"a": 1}, *items]), label="where")
        wanted = [info for info in expected if all(key in info.metadata for key in where)]
        wanted = [info for info in wanted if not value_difference("", _part(info.metadata, where), where)]
        assert self.manager.list_sessions(prefix, where=where, order=order, limit=size) == wanted[:size]


def _part(metadata: Mapping[str, object], where: dict[str, Any]) -> dict[str, object]:
    return {key: metadata[key] for key in where}
